"""Which versions of a model should run, and what to do next. Pure functions; `manager` carries them out.

Source: TF Serving's file system source (discovery and policies) and its availability-preserving policy.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_INTEGER = re.compile(r"[+-]?[0-9]+")
_INT64_MAX = 2**63 - 1


class State(enum.IntEnum):
    """Life of a version; the numbers are those of the API's `ModelVersionStatus.State`."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions on disk to serve.

    Attributes:
        kind: `latest` (the `latest` highest), `all` or `specific` (those listed).
        latest: how many, for `latest`.
        specific: the versions, for `specific`; none means serve nothing.
    """

    kind: str = "latest"
    latest: int = 1
    specific: tuple[int, ...] = ()


@dataclass(frozen=True)
class VersionView:
    """What the policy sees of one loaded or waiting version."""

    version: int
    state: State
    aspired: bool


@dataclass(frozen=True)
class Step:
    """One thing to do: load or unload a version."""

    load: bool
    version: int


def parse_versions(names: Iterable[str]) -> dict[int, str]:
    """The children of a base path that are versions.

    Args:
        names: directory entries. One that is an integer of 64 bits counts, leading zeros allowed;
            anything else is ignored, so a copy in progress can be staged under any other name.

    Returns:
        Version number to entry name. Of two names for one number the first in sort order counts.
    """
    versions: dict[int, str] = {}
    for name in sorted(names):
        if _INTEGER.fullmatch(name) and abs(int(name)) <= _INT64_MAX:
            versions.setdefault(int(name), name)
    return versions


def aspired(versions: Iterable[int], policy: VersionPolicy) -> list[int]:
    """The versions that should be served, lowest first.

    >>> aspired([3, 1, 2], VersionPolicy())
    [3]
    >>> aspired([3, 1, 2], VersionPolicy(kind="latest", latest=2))
    [2, 3]
    >>> aspired([3, 1, 2], VersionPolicy(kind="specific", specific=(1, 7)))
    [1]
    """
    ordered = sorted(set(versions))
    if policy.kind == "all":
        return ordered
    if policy.kind == "specific":
        return [version for version in ordered if version in policy.specific]
    return ordered[-max(policy.latest, 1) :]


def next_step(versions: Sequence[VersionView]) -> Step | None:
    """What to do next for one model so that it never stops answering; None if nothing.

    A version that is no longer aspired is unloaded only when an aspired one is available, or when
    nothing is aspired; apart from that at most one old version is kept. The highest new one loads first.

    >>> old, new = VersionView(1, State.AVAILABLE, False), VersionView(2, State.START, True)
    >>> next_step([old, new])
    Step(load=True, version=2)
    >>> next_step([old, VersionView(2, State.AVAILABLE, True)])
    Step(load=False, version=1)
    """
    stale = sorted(v.version for v in versions if not v.aspired and v.state == State.AVAILABLE)
    aspired_versions = [v for v in versions if v.aspired]
    if stale and (
        not aspired_versions or any(v.state == State.AVAILABLE for v in aspired_versions) or len(stale) > 1
    ):
        return Step(load=False, version=stale[0])
    waiting = [v.version for v in aspired_versions if v.state == State.START]
    if waiting:
        return Step(load=True, version=max(waiting))
    return None
