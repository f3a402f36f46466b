"""The file of replicas that Envoy watches (EDS): which there are, where they listen, which are drained.

Envoy reads the file again when another is renamed over it. It takes addresses, not names, so names are resolved here.
A drained replica stays in the file with the health status DRAINING: calls under way finish, new ones go to the
other replicas.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ranker.address import parse_address
from ranker.errors import UserError
from ranker.files import write_whole
from ranker.json_text import json_text
from serving.deployment import Deployment
from serving.gateway import fields

_ASSIGNMENT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


@dataclass(frozen=True)
class Endpoint:
    """A replica as Envoy reaches it.

    Attributes:
      name: the replica's.
      addresses: IP addresses, or one name where Envoy resolves names itself.
      port: from 1 to 65535.
      hostname: the host of its target, to find in its certificate.
      is_drained: whether it gets no new calls.
    """

    name: str
    addresses: tuple[str, ...]
    port: int
    hostname: str
    is_drained: bool = False


def unresolved(deployment: Deployment) -> tuple[Endpoint, ...]:
    """The replicas of a deployment by their names, for Envoy to resolve."""
    endpoints = []
    for replica in deployment.replicas:
        host, port = parse_address(replica.target, f"replica {replica.name}")
        endpoints.append(Endpoint(replica.name, (host,), port, host))
    return tuple(endpoints)


def resolve(endpoints: Collection[Endpoint], last: Mapping[str, Endpoint]) -> tuple[Endpoint, ...]:
    """Replaces hosts by their IP addresses.

    Args:
      endpoints: with hosts.
      last: name -> what was found before; counts where a host's name does not resolve now.

    Raises:
      UserError: a name does not resolve, and did not before.
    """
    return tuple(_resolve(endpoint, last.get(endpoint.name)) for endpoint in endpoints)


def _resolve(endpoint: Endpoint, last: Endpoint | None) -> Endpoint:
    (host,) = endpoint.addresses
    if fields.is_ip(host):
        return endpoint
    try:
        answers = socket.getaddrinfo(host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        if last is not None and (last.hostname, last.port) == (endpoint.hostname, endpoint.port):
            return last
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"replica {endpoint.name}: the host {host} has no address: {reason}") from None
    addresses = {str(address[0]) for _, _, _, _, address in answers}
    # A server on one machine listens on one of the two addresses of `localhost`.
    v4 = {address for address in addresses if ":" not in address}
    return replace(endpoint, addresses=tuple(sorted(v4 or addresses)))


def assignment(endpoints: Collection[Endpoint]) -> dict[str, Any]:
    """Returns the replicas as Envoy's ClusterLoadAssignment."""
    return fields.assignment(
        fields.REPLICAS,
        [
            {
                **fields.endpoint(address, endpoint.port, hostname=endpoint.hostname),
                "metadata": {
                    "filter_metadata": {
                        fields.METADATA: {"name": endpoint.name},
                        # Its place on the ring: a replica that moves keeps its callers.
                        "envoy.lb": {"hash_key": f"{endpoint.name} {place}" if place else endpoint.name},
                        # Which of the cluster's TLS settings hold for it.
                        "envoy.transport_socket_match": {"ip": endpoint.hostname},
                    }
                },
                "health_status": "DRAINING" if endpoint.is_drained else "UNKNOWN",
            }
            for endpoint in endpoints
            for place, address in enumerate(endpoint.addresses)
        ],
    )


def document(endpoints: Collection[Endpoint]) -> dict[str, Any]:
    """Returns the contents of the file."""
    return {"resources": [{"@type": _ASSIGNMENT, **assignment(endpoints)}]}


def parse(tree: Any) -> tuple[Endpoint, ...]:
    """Returns the replicas in a file's contents.

    Raises:
      UserError: it is not such a file.
    """
    endpoints: dict[str, Endpoint] = {}
    try:
        for place in tree["resources"][0]["endpoints"][0]["lb_endpoints"]:
            name = place["metadata"]["filter_metadata"][fields.METADATA]["name"]
            address = place["endpoint"]["address"]["socket_address"]
            drained = place.get("health_status") == "DRAINING"
            before = endpoints.get(name)
            addresses = (*(before.addresses if before else ()), address["address"])
            hostname = place["endpoint"].get("hostname", "")
            endpoints[name] = Endpoint(name, addresses, address["port_value"], hostname, drained)
    except (LookupError, TypeError, AttributeError):
        raise UserError("not a file of replicas that `ranker gateway` wrote") from None
    return tuple(endpoints.values())


class ReplicasFile:
    """The file on disk; every change reads, changes and renames under a lock, so that none is lost.

    Args:
      path: the file; its directory is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[Endpoint, ...]:
        """Returns the replicas; none where the file is not there.

        Raises:
          UserError: it can't be read, or is something else.
        """
        try:
            return parse(json.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path}: cannot read the file of replicas: {error}") from None
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from None

    def follow(self, deployment: Deployment) -> tuple[Endpoint, ...]:
        """Writes a deployment's replicas where they changed; those that were drained stay so.

        Returns:
          The replicas in the file.

        Raises:
          UserError: the host of a new replica does not resolve, or the file can't be read or written.
        """
        with self._locked():
            last = {endpoint.name: endpoint for endpoint in self.read()}
            endpoints = tuple(
                replace(endpoint, is_drained=endpoint.name in last and last[endpoint.name].is_drained)
                for endpoint in resolve(unresolved(deployment), last)
            )
            if endpoints != tuple(last.values()):
                self._write(endpoints)
            return endpoints

    def set_drained(self, name: str, is_drained: bool, healthy: Collection[str] | None, force: bool) -> bool:
        """Drains a replica, or takes it back.

        Args:
          name: the replica's.
          is_drained: what it shall be.
          healthy: the replicas that answer, as far as it is known; None: not known.
          force: also drain the last one.

        Returns:
          Whether that changed anything.

        Raises:
          UserError: there is no such replica, or no healthy one would be left.
        """
        if not self.path.exists():
            raise UserError(f"{self.path}: no gateway keeps its replicas here")
        with self._locked():
            endpoints = self.read()
            names = [endpoint.name for endpoint in endpoints]
            if name not in names:
                raise UserError(
                    f"the gateway has no such replica (it has {', '.join(names)}). Received: {name}"
                )
            remaining = [
                endpoint.name
                for endpoint in endpoints
                if not endpoint.is_drained
                and endpoint.name != name
                and (healthy is None or endpoint.name in healthy)
            ]
            if is_drained and not remaining and not force:
                raise UserError(
                    f"{name} is the last healthy replica: without it every call fails. Drain it anyway with --force"
                )
            changed = tuple(
                replace(endpoint, is_drained=is_drained) if endpoint.name == name else endpoint
                for endpoint in endpoints
            )
            if changed != endpoints:
                self._write(changed)
            return changed != endpoints

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, endpoints: Collection[Endpoint]) -> None:
        write_whole(self.path, json_text(document(endpoints), indent=1) + "\n")
