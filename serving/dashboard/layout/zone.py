"""The reader's time zone: times are stored in UTC and shown in the zone that the reader chose, for one rendering."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone, tzinfo
from zoneinfo import ZoneInfo

_shown: ContextVar[tzinfo] = ContextVar("zone", default=timezone.utc)


def zone_of(name: str) -> tzinfo | None:
    """A zone by its IANA name; empty: UTC; None: there is no such zone.

    Example:
        >>> zone_of("") is timezone.utc, zone_of("Nowhere/At all")
        (True, None)
    """
    if not name:
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (OSError, ValueError):  # ZoneInfoNotFoundError is a KeyError where no file of it is found
        return None
    except KeyError:
        return None


@contextmanager
def shown_in(name: str) -> Iterator[None]:
    """Shows times in a zone until the block ends; a zone that does not exist is UTC."""
    token = _shown.set(zone_of(name) or timezone.utc)
    try:
        yield
    finally:
        _shown.reset(token)


def zone_name() -> str:
    """The zone that times are shown in."""
    return str(getattr(_shown.get(), "key", "UTC"))


def text_of(time: float) -> str:
    """A moment in the shown zone, to the second.

    Example:
        >>> text_of(1_750_000_000)
        '2025-06-15 15:06:40'
        >>> with shown_in("Europe/Zurich"):
        ...     text_of(1_750_000_000)
        '2025-06-15 17:06:40'
    """
    return datetime.fromtimestamp(time, _shown.get()).strftime("%Y-%m-%d %H:%M:%S")


def iso_of(time: float) -> str:
    """A moment as exports have it: ISO 8601, UTC, to the second.

    Example:
        >>> iso_of(1_750_000_000)
        '2025-06-15T15:06:40Z'
    """
    return datetime.fromtimestamp(int(time), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(text: str, name: str) -> float | None:
    """Seconds since 1970 of a date and time as text: with its own offset (`Z` too), else in a zone; None: it is neither.

    Example:
        >>> seconds_of("2025-06-15T15:06:40Z", ""), seconds_of("2025-06-15 17:06", "Europe/Zurich"), seconds_of("soon", "")
        (1750000000.0, 1749999960.0, None)
    """
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00").replace(" ", "T", 1))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone_of(name) or timezone.utc)
    return moment.timestamp()
