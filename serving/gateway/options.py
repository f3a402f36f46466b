"""What a gateway is told."""

from __future__ import annotations

import math
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from ranker.errors import UserError
from serving.client.connection import Tls
from serving.deployment import Deployment


@dataclass(frozen=True)
class ServerTls:
    """PEM files of the gateway's own address: its chain, its key, and whom its callers' certificates must be from.

    With `client_ca` callers must bring a certificate (mutual TLS).
    """

    certificate: Path | str
    key: Path | str
    client_ca: Path | str | None = None

    def context(self) -> ssl.SSLContext:
        """Returns what a listening socket needs.

        Raises:
          UserError: a file can't be read, or holds no certificate or key.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            for file in (self.certificate, self.key, self.client_ca):
                if file is not None:
                    Path(file).read_bytes()  # the errors of the calls below do not name it
            context.load_cert_chain(self.certificate, self.key)
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except ssl.SSLError as error:
            files = ", ".join(str(f) for f in (self.certificate, self.key, self.client_ca) if f is not None)
            raise UserError(
                f"TLS files {files} must hold PEM certificates and the matching key: {error.reason or error}"
            ) from None
        except OSError as error:
            raise UserError(f"TLS file {error.filename} can't be read: {error.strerror}") from None
        context.set_alpn_protocols(["h2"])
        return context


@dataclass(frozen=True)
class MirrorOptions:
    """How live traffic is compared.

    Attributes:
      rate: the part of requests, by hash of their id, that the other replicas answer too, 0 to 1.
      deadline: seconds for one mirrored call.
      queue: calls that may wait; more are dropped and counted.
      workers: mirrored calls under way at a time.
      spool: the directory that comparisons are written to.
      spool_bytes: what its files may take; the oldest go first.
      features: the features whose raw values are kept beside the answers, so that live traffic can be sliced by them.
    """

    rate: float = 0.01
    deadline: float = 1.0
    queue: int = 1000
    workers: int = 4
    spool: Path | str = "mirrored"
    spool_bytes: int = 256 << 20
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check("mirror rate", self.rate, 0.0 <= self.rate <= 1.0, "a number from 0 to 1")
        _check("mirror deadline", self.deadline, 0 < self.deadline < math.inf, "a number of seconds > 0")
        _check("mirror queue", self.queue, self.queue >= 1, "at least 1")
        _check("mirror workers", self.workers, 1 <= self.workers <= 256, "from 1 to 256")
        _check("spool bytes", self.spool_bytes, self.spool_bytes > 0, "> 0")


@dataclass(frozen=True)
class GatewayOptions:
    """Where the gateway listens and what it does.

    Attributes:
      deployment: the replicas behind it.
      listen: `host:port` for callers; port 0: any free one.
      metrics: `host:port` for Prometheus; None: none.
      sticky: the metadata key whose value decides the replica; calls without it go in turn. None: all do.
      slow: seconds; an answer is late after this in any case (usually sooner, see `pace`); a replica that is
        late five times in a row is left alone for a while.
      drain: seconds that calls under way have after SIGTERM.
      tls: the gateway's own TLS; None: none.
      upstream_tls: how it connects to the replicas; None: no TLS.
      mirror: how live traffic is compared.
    """

    deployment: Deployment
    listen: str = "127.0.0.1:8600"
    metrics: str | None = "127.0.0.1:8601"
    sticky: str | None = None
    slow: float = 1.0
    drain: float = 10.0
    tls: ServerTls | None = None
    upstream_tls: Tls | None = None
    mirror: MirrorOptions = field(default_factory=MirrorOptions)

    def __post_init__(self) -> None:
        for name, address in (("listen", self.listen), ("metrics", self.metrics)):
            if address is not None:
                split_address(name, address)
        _check("slow", self.slow, 0 < self.slow < math.inf, "a number of seconds > 0")
        _check("drain", self.drain, 0 <= self.drain < math.inf, "a number of seconds >= 0")
        if self.sticky is not None and (self.sticky != self.sticky.lower() or not self.sticky.isascii()):
            raise UserError(f"`sticky` must be a metadata key in lower case. Received: {self.sticky!r}")


def split_address(name: str, address: str) -> tuple[str, int]:
    """Returns host and port of `host:port`.

    Raises:
      UserError: it does not read so.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UserError(f"`{name}` must read host:port. Received: {address!r}")
    return host, int(port)


def _check(name: str, value: float, holds: bool, rule: str) -> None:
    if not holds:
        raise UserError(f"`{name}` must be {rule}. Received: {value}")
