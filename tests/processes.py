"""What tests need of the machine: to wait for a condition, and ports that nobody listens on."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

import httpx

PATIENCE = 120.0


def wait_until(
    condition: Callable[[], object], seconds: float = PATIENCE, reason: Callable[[], str] = str
) -> None:
    """Waits until a condition is true; the limit is generous, because the machine may be busy.

    Args:
        condition: polled. An exception in it fails the test.
        seconds: the most to wait.
        reason: gives what to say when the time is over, such as a log.

    Raises:
        AssertionError: the condition was not true in time.
    """
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"the condition was not true within {seconds:g} s. {reason()}"
        time.sleep(0.02)


def answers(url: str) -> bool:
    """Whether a URL answers with success now: a condition for `wait_until`."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    with ExitStack() as stack:
        return [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)
        ]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    return free_ports(1)[0]
