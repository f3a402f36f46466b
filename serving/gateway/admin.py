"""Envoy's administration: asked over its unix socket or on loopback."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any

from ranker.address import parse_address
from ranker.errors import UserError
from serving.gateway import fields

_SECONDS = 5.0


class AdminError(UserError):
    """Envoy's administration does not answer, or refuses."""


class Admin:
    """Asks a running Envoy.

    Args:
      address: the path of its unix socket, or `host:port`.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, method: str = "GET") -> str:
        """Returns a page.

        Raises:
          AdminError: no answer, or another than 200.
        """
        connection = _Connection(self.address)
        try:
            connection.request(method, path, headers={"host": "admin"})
            response = connection.getresponse()
            page = response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise AdminError(f"{self.address}: Envoy's administration does not answer: {error}") from None
        finally:
            connection.close()
        if response.status != 200:
            raise AdminError(f"{path}: {response.status} {page.strip()}")
        return page

    def post(self, path: str) -> str:
        """Changes something. Raises as `get`."""
        return self.get(path, "POST")

    def is_live(self) -> bool:
        """Whether Envoy has started."""
        try:
            return self.get("/ready").startswith("LIVE")
        except AdminError:
            return False

    def ports(self) -> dict[str, int]:
        """Returns the ports of the listeners, by name. Raises as `get`."""
        listeners = json.loads(self.get("/listeners?format=json")).get("listener_statuses", [])
        return {entry["name"]: entry["local_address"]["socket_address"]["port_value"] for entry in listeners}

    def hosts(self, names: Mapping[tuple[str, int], str]) -> dict[str, Host]:
        """Returns how the replicas stand; of several addresses of one replica, the best.

        Args:
          names: address and port -> the replica's name.

        Raises:
          AdminError: as `get`.
        """
        clusters = json.loads(self.get("/clusters?format=json")).get("cluster_statuses", [])
        hosts: dict[str, Host] = {}
        for cluster in clusters:
            if cluster["name"] != fields.REPLICAS:
                continue
            for entry in cluster.get("host_statuses", []):
                address = entry["address"]["socket_address"]
                name = names.get((address["address"], address["port_value"]))
                if name is None:
                    continue
                host = Host.parse(entry)
                before = hosts.get(name)
                hosts[name] = host if before is None else before.joined(host)
        return hosts

    def gauge(self, name: str) -> int:
        """Returns a statistic's value, 0 where there is none. Raises as `get`."""
        page = json.loads(self.get(f"/stats?format=json&filter=^{name.replace('.', '[.]')}$"))
        return sum(int(entry.get("value", 0)) for entry in page.get("stats", []))


class Host:
    """How Envoy sees one replica.

    Attributes:
      is_healthy: it gets calls.
      is_drained: Envoy has read that it is.
      active: calls under way.
    """

    def __init__(self, is_healthy: bool, is_drained: bool, active: int) -> None:
        self.is_healthy, self.is_drained, self.active = is_healthy, is_drained, active

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Host:
        """Reads a host's status on the page of clusters."""
        health = dict(entry.get("health_status", {}))
        status = health.pop("eds_health_status", "UNKNOWN")
        active = [int(s.get("value", 0)) for s in entry.get("stats", []) if s.get("name") == "rq_active"]
        return cls(
            not any(health.values()) and status in ("UNKNOWN", "HEALTHY"), status == "DRAINING", sum(active)
        )

    def joined(self, second: Host) -> Host:
        """The two addresses of one replica as one."""
        return Host(
            self.is_healthy or second.is_healthy,
            self.is_drained and second.is_drained,
            self.active + second.active,
        )


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: str) -> None:
        self._path = address if "/" in address else None
        host, port = ("localhost", 80) if self._path else parse_address(address, "`admin`")
        super().__init__(host, port, timeout=_SECONDS)

    def connect(self) -> None:
        if self._path is None:
            return super().connect()
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)
        return None
