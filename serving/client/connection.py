"""How the client connects: address, TLS, channel options, and when it tries again."""

from __future__ import annotations

import math
import random
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from ranker.address import parse_address
from ranker.errors import UserError

MAX_MESSAGE = 1 << 30


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

    def context(self) -> ssl.SSLContext:
        """Returns the same for a connection without gRPC's own transport.

        Raises:
          UserError: a file can't be read or holds no certificate, or only one of `certificate` and `key` is given.
        """
        self._check()
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except ssl.SSLError as error:
            files = ", ".join(str(file) for file in (self.ca, self.certificate, self.key) if file is not None)
            raise UserError(
                f"TLS files {files} must hold PEM certificates and the matching key: {error.reason or error}"
            ) from None
        # As gRPC: certificates of small private authorities seldom have all that the strict reading asks for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.set_alpn_protocols(["h2"])
        return context

    def _check(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise UserError(
                f"TLS needs `certificate` and `key` together. Received: {self.certificate} and {self.key}"
            )
        for file in (self.ca, self.certificate, self.key):
            _read(file)


def channel_options(tls: Tls | None) -> list[tuple[str, int | str]]:
    """Returns gRPC channel arguments: answers up to 1 GiB, quick reconnects."""
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
    if tls and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


def check_target(target: str) -> str:
    """Returns `target` if it reads `host:port` or names a gRPC scheme (`unix:...`, `dns:...`).

    Raises:
      UserError: it doesn't.
    """
    if not target.startswith(("unix:", "dns:", "ipv4:", "ipv6:", "xds:")):
        parse_address(target, "a server's address")
    return target


def check_limits(deadline: float, retries: int) -> None:
    """Checks a client's deadline and retries.

    Raises:
      UserError: a deadline that is not a finite number above 0, or negative retries.
    """
    if not (math.isfinite(deadline) and deadline > 0):
        raise UserError(f"`deadline` must be a number of seconds > 0. Received: deadline={deadline}")
    if retries < 0:
        raise UserError(f"`retries` must be >= 0. Received: retries={retries}")


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
