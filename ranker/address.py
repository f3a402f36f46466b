"""Network addresses as users write them: `host:port`, an IPv6 address in brackets."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from ranker.errors import UserError

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_PORT = re.compile(r"[0-9]{1,5}")


class HostPort(NamedTuple):
    """A host, without brackets, and a port; as text it reads `host:port` again."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is a literal IPv6 address."""
        return ":" in self.host

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine's own: `localhost`, 127.0.0.0/8 or ::1."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.rstrip(".").lower() == "localhost"


def parse_address(text: object, name: str = "an address", *, lowest_port: int = 1) -> HostPort:
    """Reads `host:port`.

    Args:
        text: what the user wrote.
        name: what the address is, for the error.
        lowest_port: 0 where port 0 means any that is free.

    Raises:
        UserError: another form, no IPv6 address within brackets, a port out of range.

    >>> parse_address("[::1]:8500")
    HostPort(host='::1', port=8500)
    >>> str(parse_address("ranker-0.models:8500"))
    'ranker-0.models:8500'
    """
    host, _, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    is_bracketed = host.startswith("[") and host.endswith("]")
    is_host = _is_ipv6(host[1:-1]) if is_bracketed else _HOST.fullmatch(host) is not None
    if not is_host or not _PORT.fullmatch(port) or not lowest_port <= int(port) <= 65535:
        raise UserError(
            f"{name} must read host:port, the port from {lowest_port} to 65535, an IPv6 address in brackets. "
            f"Received: {text!r}"
        )
    return HostPort(host[1:-1] if is_bracketed else host, int(port))


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
