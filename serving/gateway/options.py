"""The options of a gateway, checked."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ranker.address import parse_address
from ranker.errors import UserError
from serving.client.connection import Tls

Balance = Literal["least-request", "round-robin"]


@dataclass(frozen=True)
class ServerTls:
    """PEM files of the gateway's own address: its chain, its key, and whom its callers' certificates must be from.

    With `client_ca` callers must bring a certificate (mutual TLS).
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def check(self) -> None:
        """Reads the files as Envoy will.

        Raises:
          UserError: a file can't be read, or holds no certificate, or the key is another certificate's.
        """
        _check_pem(self.client_ca, self.certificate, self.key)


@dataclass(frozen=True)
class GatewayOptions:
    """Where the gateway listens and how it sends calls on.

    Attributes:
      listen: `host:port` for callers; port 0: any free one.
      metrics: `host:port` for Prometheus; port 0: any free one.
      admin: Envoy's administration: `host:port` on loopback, or the path of a unix socket.
      sticky: the metadata key whose value decides the replica; None: `balance` does.
      balance: which replica a call goes to.
      hedge_ms: milliseconds after which an unanswered call is also asked of another replica; 0: never.
      mirror: the share of Predict calls that the monitor receives too, 0 to 1.
      monitor: `host:port` where the monitor takes mirrored calls.
      tls: the gateway's own TLS; None: none.
      replica_tls: how it connects to the replicas; None: no TLS.
      drain_seconds: how long calls under way may take after SIGTERM.
    """

    listen: str = "127.0.0.1:8600"
    metrics: str = "127.0.0.1:8601"
    admin: str = "127.0.0.1:9901"
    sticky: str | None = None
    balance: Balance = "least-request"
    hedge_ms: int = 1000
    mirror: float = 0.0
    monitor: str = "127.0.0.1:8602"
    tls: ServerTls | None = None
    replica_tls: Tls | None = None
    drain_seconds: float = 10.0

    def __post_init__(self) -> None:
        parse_address(self.listen, "`listen`", lowest_port=0)
        parse_address(self.metrics, "`metrics`", lowest_port=0)
        parse_address(self.monitor, "`monitor`")
        if "/" not in self.admin and not parse_address(self.admin, "`admin`").is_loopback:
            raise UserError(f"`admin` must be on loopback, or the path of a socket. Received: {self.admin!r}")
        _check_option(
            "balance", self.balance, self.balance in get_args(Balance), "least-request or round-robin"
        )
        _check_option(
            "hedge_ms",
            self.hedge_ms,
            0 <= self.hedge_ms <= 600_000,
            "a number of milliseconds from 0 to 600000",
        )
        _check_option("mirror", self.mirror, 0 <= self.mirror <= 1, "a share from 0 to 1")
        _check_option(
            "drain_seconds",
            self.drain_seconds,
            0 <= self.drain_seconds <= 3600,
            "a number of seconds from 0 to 3600",
        )
        if self.replica_tls is not None and self.replica_tls.ca is None:
            raise UserError(
                "`replica_tls` must have a `ca` to check the replicas' certificates by. Received: none"
            )
        if self.sticky is not None and not _is_metadata_key(self.sticky):
            raise UserError(
                "`sticky` must be a metadata key: lower-case letters, digits, `_`, `-`, `.`. "
                f"Received: {self.sticky!r}"
            )

    def check_files(self) -> None:
        """Reads the TLS files as Envoy will.

        Raises:
          UserError: a file can't be read, or holds no certificate, or a key is another certificate's.
        """
        if self.tls is not None:
            self.tls.check()
        if self.replica_tls is not None:
            tls = self.replica_tls
            _check_pem(tls.ca, tls.certificate, tls.key)


def _check_option(name: str, value: object, holds: bool, rule: str) -> None:
    if not holds:
        raise UserError(f"`{name}` must be {rule}. Received: {value}")


def _is_metadata_key(key: str) -> bool:
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789_-.")
    return bool(key) and set(key) <= allowed


def _check_pem(ca: Path | str | None, certificate: Path | str | None, key: Path | str | None) -> None:
    files = [Path(file) for file in (ca, certificate, key) if file is not None]
    try:
        for file in files:
            file.read_bytes()  # the errors of the calls below do not name it
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if ca is not None:
            context.load_verify_locations(ca)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        names = ", ".join(str(file) for file in files)
        raise UserError(
            f"TLS files {names} must hold PEM certificates and the matching key: {error.reason or error}"
        ) from None
    except OSError as error:
        raise UserError(f"TLS file {error.filename} can't be read: {error.strerror}") from None
