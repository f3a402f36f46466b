"""The state of the dashboard as an address: whoever gets the link sees the same."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from urllib.parse import parse_qsl, urlencode

from serving.dashboard.layout.zone import iso_of, seconds_of, shown_in, text_of, zone_name, zone_of

WINDOWS = {
    "1h": 3600,
    "6h": 6 * 3600,
    "24h": 86_400,
    "7d": 7 * 86_400,
    "30d": 30 * 86_400,
    "90d": 90 * 86_400,
}
"""Look-backs of the charts by name, in seconds."""
BROWSER_ZONE = "browser"
"""What stands for the browser's own zone in a link, until the browser has put its name there."""
COMPARISONS = ("24h", "7d")
"""How long before a range another one may stand beside it."""
STREAMS = ("probe", "live")
_LONGEST = 400
_LONGEST_RANGE, _LAST_TIME = 400 * 86_400, 10**11
_EVERYWHERE = ("stream", "measure", "window", "start", "end", "zone", "compare")
"""What is kept when the reader goes to another page."""


@dataclass(frozen=True)
class Address:
    """One view.

    Attributes:
        page: the page's name, as in the path.
        stream: `probe` or `live`.
        measure: label of a measure.
        window: key of `WINDOWS`, up to now.
        start, end: a fixed range instead of the window, ISO 8601; empty: none. Without an offset they are in `zone`.
        zone: IANA name of the zone that times are shown in; empty: UTC.
        compare: key of `COMPARISONS`: the range so long before stands beside this one; empty: none.
        a: name of a replica.
        b: name of another.
        request: a kept request.
        feature: a slice's feature.
        value: a slice's value.
    """

    page: str = "overview"
    stream: str = "probe"
    measure: str = "top1_swap"
    window: str = "24h"
    a: str = ""
    b: str = ""
    request: str = ""
    feature: str = ""
    value: str = ""
    start: str = ""
    end: str = ""
    zone: str = ""
    compare: str = ""

    @property
    def fixed(self) -> tuple[float, float] | None:
        """The fixed range, seconds since 1970; None: the window up to now."""
        start, end = seconds_of(self.start, self.zone), seconds_of(self.end, self.zone)
        return (start, end) if start is not None and end is not None else None

    @property
    def seconds(self) -> float:
        """Length of the range."""
        return self.fixed[1] - self.fixed[0] if self.fixed is not None else WINDOWS[self.window]

    @property
    def range_name(self) -> str:
        """The range in words, for titles."""
        if self.fixed is None:
            return f"last {self.window}"
        with shown_in(self.zone):
            return f"{text_of(self.fixed[0])} to {text_of(self.fixed[1])} {zone_name()}"

    def fix(self, start: float, end: float) -> Address:
        """This view of a range that stays: whoever opens the link tomorrow sees the same."""
        return replace(self, start=iso_of(start), end=iso_of(end))

    def to(self, page: str | None = None, **changes: str) -> Address:
        """This view with changes; on another page only stream, measure and times stay."""
        base = self
        if page is not None and page != self.page:
            base = Address(page, **{name: getattr(self, name) for name in _EVERYWHERE})
        return replace(base, **changes)

    @property
    def href(self) -> str:
        """Path and query, without what is as usual; relative, because the dashboard may stand below a path.

        Example:
            >>> Address("pair", a="r 0", b="r<1>").href
            'pair?a=r+0&b=r%3C1%3E'
        """
        path = "./" if self.page == "overview" else self.page
        return f"{path}?{self.query}" if self.query else path

    @property
    def query(self) -> str:
        """The query alone."""
        changed = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "page" and getattr(self, field.name) != field.default
        }
        return urlencode(changed)


def parse(path: str | None, query: str | None) -> Address:
    """Reads an address; what it cannot read is as usual.

    Example:
        >>> parse("/pair", "?a=r0&window=7d&stream=nonsense&other=1").href
        'pair?window=7d&a=r0'
    """
    page = re.sub(r"[^a-z-]", "", (path or "").strip("/").lower()) or "overview"
    names = {field.name for field in fields(Address)} - {"page"}
    texts_by_name = {
        name: value[:_LONGEST]
        for name, value in parse_qsl((query or "").lstrip("?"), max_num_fields=50)
        if name in names
    }
    if texts_by_name.get("window") not in WINDOWS:
        texts_by_name.pop("window", None)
    if texts_by_name.get("stream") not in STREAMS:
        texts_by_name.pop("stream", None)
    if zone_of(texts_by_name.get("zone", "")) is None:
        texts_by_name.pop("zone")
    if texts_by_name.get("compare") not in COMPARISONS:
        texts_by_name.pop("compare", None)
    times = [
        seconds_of(texts_by_name.get(name, ""), texts_by_name.get("zone", "")) for name in ("start", "end")
    ]
    if None in times or not 0 <= times[0] < times[1] <= min(times[0] + _LONGEST_RANGE, _LAST_TIME):  # type: ignore[operator]
        texts_by_name.pop("start", None)
        texts_by_name.pop("end", None)
    return Address(page, **texts_by_name)
