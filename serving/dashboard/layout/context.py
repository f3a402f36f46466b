"""What a page is made from: the store at one moment, seen from one address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from dash.development.base_component import Component

from serving.dashboard.figures.style import Figure, Palette
from serving.dashboard.layout.address import Address
from serving.dashboard.queries.gateway import GatewayReader
from serving.dashboard.settings import DashboardSettings
from serving.monitor.judgement.status import Status, read_status
from serving.monitor.judgement.verdict import Verdict
from serving.monitor.plain import Rows
from serving.monitor.store import Store
from serving.monitor.store.results import Snapshot
from serving.monitor.store.selection import Selection


@dataclass(frozen=True, eq=False)
class Context:
    """One rendering.

    Attributes:
        store: the monitor's store.
        settings: of the dashboard.
        address: what is looked at.
        palette: light or dark.
        now: seconds since 1970; the end of a fixed range, if that is past: all of a page is as of then.
        gateways: what stands in front of the replicas; None: not known.
    """

    store: Store
    settings: DashboardSettings
    address: Address
    palette: Palette
    now: float
    gateways: GatewayReader | None = None

    @cached_property
    def status(self) -> Status:
        """How it is now; read once a rendering."""
        settings = self.settings
        return read_status(
            self.store,
            settings.budget,
            self.present,
            k=settings.k,
            enough=settings.enough,
        )

    @property
    def present(self) -> Selection:
        """What the verdict adds up: the newest rounds of the address's stream and measure."""
        return Selection(
            self.now,
            window=self.settings.monitor_window,
            stream=self.address.stream,
            measure=self.address.measure,
        )

    @property
    def charted(self) -> Selection:
        """The range of the charts, of the address's stream and measure."""
        return Selection.between(
            self.start, self.end, stream=self.address.stream, measure=self.address.measure
        )

    @property
    def verdict(self) -> Verdict:
        """The first sentence."""
        return self.status.verdict

    @property
    def snapshot(self) -> Snapshot:
        """Every measure now."""
        return self.status.snapshot

    @property
    def end(self) -> float:
        """Where the charts end: now, or the newest round where that is long ago; where the range is fixed, its end."""
        if self.address.fixed is not None:
            return self.address.fixed[1]
        fresh = self.snapshot.freshness
        return fresh.time + 60 if fresh.stale and fresh.time is not None else self.now

    @property
    def start(self) -> float:
        """Where the charts begin."""
        return self.end - self.address.seconds


@dataclass(frozen=True)
class Panel:
    """One view on a page, and its data for whoever wants to take it away.

    Attributes:
        key: its name on the page.
        title: its heading.
        body: what is shown.
        rows: its data.
        figure: for a picture; None: a table of the rows.
        note: how to read it, one line.
        size: `full`, `wide`, `half`, `narrow`.
    """

    key: str
    title: str
    body: Component | Sequence[Component]
    rows: Rows = ()
    figure: Figure | None = None
    note: str = ""
    size: str = "full"


@dataclass(frozen=True)
class Content:
    """A page: what stands on top, then the panels."""

    head: Sequence[Component] = ()
    panels: Sequence[Panel] = ()


def moment_shown(address: Address, now: float) -> float:
    """The moment that a view is of: now, or the end of its fixed range where that is past."""
    return now if address.fixed is None else min(now, address.fixed[1])


Build = Callable[[Context], Content]


@dataclass(frozen=True)
class Page:
    """A page by name. `controls`: which of stream, measure and window it listens to."""

    name: str
    title: str
    build: Build
    controls: tuple[str, ...] = ("stream", "measure", "window")
