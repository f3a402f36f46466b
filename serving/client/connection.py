"""How the client connects: address, TLS, channel options, and when it tries again."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from ranker.address import parse_address
from ranker.errors import UserError

MAX_MESSAGE = 1 << 30
_SCHEMES = ("unix", "dns", "ipv4", "ipv6", "xds")


@dataclass(frozen=True)
class Tls:
    """PEM files: whom to trust (None: the system's roots) and, for mutual TLS, who we are.

    Attributes:
      ca: certificates that sign the server's.
      certificate: our own chain; with `key`.
      key: our private key.
      server_name: the name to find in the server's certificate where it isn't the target's.
    """

    ca: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns gRPC credentials.

        Raises:
          UserError: a file can't be read, or only one of `certificate` and `key` is given.
        """
        self._check()
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.certificate))

    def _check(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise UserError(
                f"TLS needs `certificate` and `key` together. Received: {self.certificate} and {self.key}"
            )
        for file in (self.ca, self.certificate, self.key):
            _read(file)


def channel_options(target: str, tls: Tls | None) -> list[tuple[str, int | str]]:
    """Returns gRPC channel arguments: answers up to 1 GiB, quick reconnects, no proxy on the way to this machine."""
    options: list[tuple[str, int | str]] = [
        # Python's default of 4 MiB is less than a large request's answer.
        ("grpc.max_receive_message_length", MAX_MESSAGE),
        ("grpc.max_send_message_length", MAX_MESSAGE),
        # While a channel waits to reconnect every call fails at once, so a retry after less is in vain.
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # Clients of one process otherwise share connections, and a client's close would not be one.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if _is_loopback(target):
        options.append(("grpc.enable_http_proxy", 0))
    if tls and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


def proxy_of(target: str) -> str | None:
    """Returns the proxy that gRPC asks for a target, without its password, and the variable that names it; None: none."""
    if _is_loopback(target):
        return None
    # gRPC reads these names in lower case only.
    excluded = next(filter(None, map(os.environ.get, ("no_grpc_proxy", "no_proxy"))), "")
    host = _host_port(target).rpartition(":")[0].strip("[]")
    if any(suffix.strip() and host.endswith(suffix.strip()) for suffix in excluded.split(",")):
        return None
    for variable in ("grpc_proxy", "https_proxy", "http_proxy"):
        if os.environ.get(variable):
            scheme, separator, address = os.environ[variable].rpartition("://")
            return f"{scheme}{separator}{address.rpartition('@')[2]} of {variable}"
    return None


def _is_loopback(target: str) -> bool:
    if target.startswith("unix:"):
        return True
    try:
        return parse_address(_host_port(target)).is_loopback
    except UserError:
        return False


def _host_port(target: str) -> str:
    scheme, _, rest = target.partition(":")
    return rest.rpartition("/")[2] if scheme in _SCHEMES else target


def check_target(target: str) -> str:
    """Returns `target` if it reads `host:port` or names a gRPC scheme (`unix:...`, `dns:...`).

    Raises:
      UserError: it doesn't.
    """
    scheme, _, rest = target.partition(":") if isinstance(target, str) else ("", "", "")
    if scheme not in _SCHEMES or not rest.strip("/"):
        parse_address(target, "a server's address")
    return target


def check_limits(deadline: float, retries: int) -> None:
    """Checks a client's deadline and retries.

    Raises:
      UserError: a deadline that is not a finite number above 0, or negative retries.
    """
    if not (_is_number(deadline) and math.isfinite(deadline) and deadline > 0):
        raise UserError(f"`deadline` must be a number of seconds > 0. Received: deadline={deadline}")
    if not isinstance(retries, int) or retries < 0:
        raise UserError(f"`retries` must be a whole number >= 0. Received: retries={retries}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def backoff(retries: int) -> Iterator[float]:
    """Yields the seconds to wait before each retry: a random part of 0.1, 0.2, 0.4, ... up to 2."""
    for attempt in range(retries):
        yield random.uniform(0.5, 1.0) * min(0.1 * 2**attempt, 2.0)


def _read(path: Path | str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"TLS file {path} can't be read: {error.strerror}") from None
