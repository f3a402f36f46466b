"""What listeners and clusters of Envoy's configuration share: names, addresses, endpoints.

The fields are those of Envoy's v3 API, in the JSON form of its protobuf messages.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from ranker.address import parse_address

Tree = dict[str, Any]
REPLICAS, MONITOR, ADMIN = "replicas", "monitor", "admin"
METADATA = "ranker.replica"
TYPE = "type.googleapis.com/envoy"


def socket_address(host: str, port: int) -> Tree:
    """Returns an address."""
    return {"socket_address": {"address": host, "port_value": port}}


def admin_address(admin: str) -> Tree:
    """Returns the address of Envoy's administration: a unix socket for a path, else `host:port`."""
    if "/" in admin:
        return {"pipe": {"path": admin, "mode": 0o600}}
    return socket_address(*parse_address(admin, "`admin`"))


def assignment(cluster: str, endpoints: list[Tree]) -> Tree:
    """Returns the endpoints of a cluster, a ClusterLoadAssignment."""
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": endpoints}]}


def endpoint(host: str, port: int, *, hostname: str = "") -> Tree:
    """Returns an endpoint.

    Args:
      host: an IP address, or a name where Envoy resolves names.
      port: from 1 to 65535.
      hostname: the name to find in its certificate.
    """
    return {
        "endpoint": {"address": socket_address(host, port), **({"hostname": hostname} if hostname else {})}
    }


def is_ip(host: str) -> bool:
    """Whether a host is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def data_source(path: Any) -> Tree:
    """Returns a file that Envoy reads."""
    return {"filename": str(path)}
