"""A model server's address with the protocol it speaks, as users write it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ranker.address import HostPort, parse_address
from ranker.errors import UserError
from ranker.scored.scale import ValueRange

PROTOCOLS = {
    "grpc": "TF Serving, gRPC (also without a scheme)",
    "tfserving+http": "TF Serving, REST",
    "tfserving+https": "TF Serving, REST over TLS",
    "v2+http": "Open Inference Protocol (KServe v2), REST",
    "v2+https": "Open Inference Protocol (KServe v2), REST over TLS",
    "v2+grpc": "Open Inference Protocol (KServe v2), gRPC",
    "json+http": "plain JSON, sent by POST to the address as it stands",
    "json+https": "plain JSON over TLS",
}
"""Schemes of an address and what a server there speaks."""

SCALES = ("probability", "logit", "order")
"""What outputs are: probabilities, log-odds (made probabilities by the logistic function), or scores that only order.
Beside these there is `range:LOW:HIGH`, values of a regression, which become shares of their range."""

_URL = re.compile(r"(?P<scheme>[a-z0-9+.-]+)://(?P<address>[^/?#]*)(?P<path>/[^?#\s]*)?(?P<query>\?[^#\s]*)?")


@dataclass(frozen=True)
class Target:
    """Where a model server is and what it speaks; as text it reads as it was written.

    Attributes:
        scheme: one of `PROTOCOLS`.
        address: host and port.
        path: what comes before the protocol's own path, without a slash at the end; of `json+http` the whole path.
        query: of `json+http`, with its question mark; empty: none.
    """

    scheme: str
    address: HostPort
    path: str = ""
    query: str = ""

    def __str__(self) -> str:
        if self.scheme == "grpc":
            return str(self.address)
        return f"{self.scheme}://{self.address}{self.path}{self.query}"

    @property
    def protocol(self) -> str:
        """What is spoken: `grpc`, `tfserving`, `v2` or `json`."""
        return self.scheme.partition("+")[0]

    @property
    def is_grpc(self) -> bool:
        """Whether calls go by gRPC."""
        return self.scheme.endswith("grpc")

    @property
    def url(self) -> str:
        """The address for an HTTP client."""
        transport = self.scheme.partition("+")[2]
        return f"{transport}://{self.address}{self.path}{self.query}"


def parse_target(text: object) -> Target:
    """Reads `host:port` (TF Serving, gRPC) or a URL with one of the schemes of `PROTOCOLS`.

    Raises:
        UserError: another form, another scheme, or a path or query where the protocol has none.

    >>> parse_target("v2+http://triton:8000")
    Target(scheme='v2+http', address=HostPort(host='triton', port=8000), path='', query='')
    >>> str(parse_target("grpc://ranker-0:8500"))
    'ranker-0:8500'
    """
    if not isinstance(text, str) or "://" not in text:
        return Target("grpc", parse_address(text, "a target"))
    match = _URL.fullmatch(text)
    if match is None or match["scheme"] not in PROTOCOLS:
        raise UserError(
            f"a target must read host:port or begin with one of {', '.join(f'{name}://' for name in PROTOCOLS)}. "
            f"Received: {text!r}"
        )
    scheme, path, query = match["scheme"], match["path"] or "", match["query"] or ""
    address = parse_address(match["address"], f"a target {scheme}://")
    protocol = scheme.partition("+")[0]
    if protocol != "json":
        path = path.rstrip("/")
    if (scheme.endswith("grpc") and path) or (protocol != "json" and query):
        raise UserError(
            f"a target {scheme}:// must have no {'path' if path else 'query'}. Received: {text!r}"
        )
    return Target(scheme, address, path, query)


def check_scale(scale: str) -> None:
    """Raises UserError unless it is one of `SCALES`, or `range:LOW:HIGH`."""
    if ValueRange.parse(scale) is None and scale not in SCALES:
        raise UserError(f"`scale` must be one of {', '.join(SCALES)} or range:LOW:HIGH. Received: {scale!r}")
