"""What the dashboard is told: where the store is, what counts as too much, too old, too few."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ranker import layout
from ranker.address import parse_address
from ranker.errors import UserError
from serving.deployment import Deployment
from serving.monitor.judgement.status import label_in_store


@dataclass(frozen=True)
class DashboardSettings:
    """Settings of one dashboard.

    Attributes:
        store: the monitor's store, a SQLite file or a database URL.
        run: the run directory, for the report on arms and the kept requests; None: those pages say so.
        probe: the file of probe requests, for the commands that replay one; None: the run directory's.
        exemplars: where the monitor keeps requests whole; None: `exemplars` in the run directory.
        deployment: what serves, for the commands that replay a request; None: without addresses.
        gateways: `host:port` of the metrics page of each gateway in front of the replicas.
        plotly_js: a Plotly bundle with scatter and bar charts, to be sent instead of the whole library; None: the whole.
        siblings: name and path of every deployment of a dashboard of several; empty: it is the only one.
        name: of the deployment, as the header, titles and file names have it; empty: none.
        path_prefix: path below which a proxy shows the dashboard, such as `/ranker`; empty: none.
        trust_header: request header in which a proxy says who calls; None: people say it themselves.
        token: what a caller must present; None: nobody is asked. For anything but loopback, set one.
        refresh: seconds between refreshes of an open page.
        budget: measure's label -> how much excess over the floor is tolerated; the first one leads the verdict.
        k: depth of the top of a list, as the monitor measures it.
        enough: requests below which nothing is concluded.
        monitor_window: seconds that say how it is now.

    Raises:
        UserError: a number out of range, an empty token, a gateway without a port, no such bundle.
    """

    store: str | Path
    run: Path | None = None
    probe: Path | None = None
    exemplars: Path | None = None
    deployment: Deployment | None = None
    gateways: tuple[str, ...] = ()
    plotly_js: Path | None = None
    siblings: tuple[tuple[str, str], ...] = ()
    name: str = ""
    path_prefix: str = ""
    trust_header: str | None = None
    token: str | None = None
    refresh: float = 30.0
    budget: Mapping[str, float] = field(
        default_factory=lambda: {"top1_swap": 0.05, "consensus_regret": 0.005}
    )
    k: int = 10
    enough: int = 100
    monitor_window: float = 900.0

    def __post_init__(self) -> None:
        for name in ("refresh", "monitor_window", "k", "enough"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UserError(f"`{name}` must be a positive number. Received: {name}={value!r}")
        for label, value in self.budget.items():
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"`budget.{label}` must be a number >= 0. Received: {value!r}")
        if self.path_prefix and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", self.path_prefix):
            raise UserError(
                "`path_prefix` must begin with `/`, not end with one, and hold letters, digits, `.`, `_`, `~`, `-`. "
                f"Received: {self.path_prefix!r}"
            )
        for gateway in self.gateways:
            parse_address(gateway, "a gateway's metrics page")
        if self.plotly_js is not None and not self.plotly_js.is_file():
            raise UserError(f"`plotly_js` must be a file. Received: {self.plotly_js}")
        if self.token is not None and not self.token.strip():
            raise UserError("`token` must not be empty: leave it out to ask nobody. Received: ''")
        # the configuration may leave the depth out of a measure's name; the store never does
        labels = {label_in_store(name, self.k): value for name, value in self.budget.items()}
        object.__setattr__(self, "budget", labels)

    @property
    def slug(self) -> str:
        """The name as file names have it."""
        return re.sub(r"[^A-Za-z0-9]+", "-", self.name).strip("-").lower()

    @property
    def probe_path(self) -> Path | None:
        """The file of probe requests."""
        return self.probe or (layout.probe_path(self.run) if self.run is not None else None)

    @property
    def exemplar_directory(self) -> Path | None:
        """The directory of kept requests."""
        return self.exemplars or (self.run / "exemplars" if self.run is not None else None)
