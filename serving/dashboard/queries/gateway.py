"""How many mirrored requests the gateway had to drop: it says so on its metrics page and nowhere else."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPException

_FOR = 15.0
_PATIENCE = 0.5
_LONGEST = 1 << 20
_NAME = "ranker_gateway_mirror_dropped_total"
_remembered: dict[str, tuple[float, int | None]] = {}
_lock = threading.Lock()


def dropped_mirrors(metrics: str | None) -> int | None:
    """The count since the gateway started, at most 15 seconds old; None: no gateway, or it does not answer.

    Args:
        metrics: the address of its metrics page, `host:port`.
    """
    if metrics is None:
        return None
    with _lock:
        asked, count = _remembered.get(metrics, (-_FOR, None))
        if time.monotonic() - asked >= _FOR:
            count = _ask(metrics)
            _remembered[metrics] = (time.monotonic(), count)
    return count


def _ask(metrics: str) -> int | None:
    try:
        with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=_PATIENCE) as answer:
            return counted(answer.read(_LONGEST).decode("utf-8", "replace"))
    except (urllib.error.URLError, OSError, HTTPException, ValueError):
        return None


def counted(page: str) -> int | None:
    r"""The count on a metrics page, over all reasons; None where it is not.

    Example:
        >>> counted('ranker_gateway_mirror_dropped_total{reason="queue"} 3.0\nother 1')
        3
    """
    lines = [line for line in page.splitlines() if line.startswith((_NAME + "{", _NAME + " "))]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines)) if lines else None
