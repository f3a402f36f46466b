"""Drains a replica of the gateway, and takes it back."""

from __future__ import annotations

import json
import time
from pathlib import Path

from ranker.errors import UserError
from serving.gateway.admin import Admin, AdminError, Host
from serving.gateway.process import state_path
from serving.gateway.replicas import ReplicasFile

_APPLIED_SECONDS = 10.0


def set_drained(path: Path, name: str, is_drained: bool, *, force: bool = False) -> str:
    """Drains a replica or takes it back, and waits until a running gateway has done it.

    Args:
      path: the file of replicas that the gateway watches.
      name: the replica's.
      is_drained: what it shall be.
      force: also drain the last healthy one.

    Returns:
      What has happened, one line.

    Raises:
      UserError: there is no such replica, no healthy one would be left, or the gateway did not follow.
    """
    replicas = ReplicasFile(path)
    admin = _running_admin(replicas)
    hosts = _hosts(admin, replicas)
    healthy = None if hosts is None else {host for host, state in hosts.items() if state.is_healthy}
    changed = replicas.set_drained(name, is_drained, healthy, force)
    change = "is drained" if is_drained else "gets calls again"
    if hosts is None:
        return f"{name} {change}, for whatever reads {path}; no gateway runs here"
    deadline = time.monotonic() + _APPLIED_SECONDS
    while (host := (_hosts(admin, replicas) or {}).get(name)) is None or host.is_drained != is_drained:
        if time.monotonic() > deadline:
            raise UserError(
                f"{name}: the running gateway did not read {path} within {_APPLIED_SECONDS:g} seconds"
            )
        time.sleep(0.05)
    already = "" if changed else " (it was before)"
    under_way = f"; {host.active} of its calls are under way" if is_drained else ""
    return f"{name} {change}{already}{under_way}"


def _running_admin(replicas: ReplicasFile) -> Admin | None:
    try:
        return Admin(json.loads(state_path(replicas).read_text(encoding="utf-8"))["admin"])
    except (OSError, ValueError, LookupError):
        return None


def _hosts(admin: Admin | None, replicas: ReplicasFile) -> dict[str, Host] | None:
    if admin is None:
        return None
    names = {
        (address, endpoint.port): endpoint.name
        for endpoint in replicas.read()
        for address in endpoint.addresses
    }
    try:
        return admin.hosts(names)
    except AdminError:
        return None
