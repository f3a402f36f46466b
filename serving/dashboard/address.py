"""The state of the dashboard as an address: whoever gets the link sees the same."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from urllib.parse import parse_qsl, urlencode

WINDOWS = {
    "1h": 3600,
    "6h": 6 * 3600,
    "24h": 86_400,
    "7d": 7 * 86_400,
    "30d": 30 * 86_400,
    "90d": 90 * 86_400,
}
"""Look-backs of the charts by name, in seconds."""
STREAMS = ("probe", "live")
_LONGEST = 400
_EVERYWHERE = ("stream", "measure", "window")
"""What is kept when the reader goes to another page."""


@dataclass(frozen=True)
class Address:
    """One view.

    Attributes:
        page: the page's name, as in the path.
        stream: `probe` or `live`.
        measure: label of a measure.
        window: key of `WINDOWS`.
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

    @property
    def seconds(self) -> int:
        """The look-back."""
        return WINDOWS[self.window]

    def to(self, page: str | None = None, **changes: str) -> Address:
        """This view with changes; on another page only stream, measure and window stay."""
        kept = self
        if page is not None and page != self.page:
            kept = Address(page, **{name: getattr(self, name) for name in _EVERYWHERE})
        return replace(kept, **changes)

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
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name != "page" and getattr(self, one.name) != one.default
        }
        return urlencode(changed)


def parse(path: str | None, query: str | None) -> Address:
    """Reads an address; what it cannot read is as usual.

    Example:
        >>> parse("/pair", "?a=r0&window=7d&stream=nonsense&other=1").href
        'pair?window=7d&a=r0'
    """
    page = re.sub(r"[^a-z-]", "", (path or "").strip("/").lower()) or "overview"
    names = {one.name for one in fields(Address)} - {"page"}
    given = {
        name: value[:_LONGEST]
        for name, value in parse_qsl((query or "").lstrip("?"), max_num_fields=50)
        if name in names
    }
    if given.get("window") not in WINDOWS:
        given.pop("window", None)
    if given.get("stream") not in STREAMS:
        given.pop("stream", None)
    return Address(page, **given)
