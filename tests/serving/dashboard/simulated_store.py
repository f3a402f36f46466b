"""A store as a monitor would leave it: simulated replicas with known noise, measured by the monitor's own code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ranker.divergence import Settings
from serving.monitor.collection.answers import Answers, Collected
from serving.monitor.measurement.exemplars import Exemplars, Names, random_key
from serving.monitor.measurement.measure import MeasuredRound, Served, measure
from serving.monitor.measurement.record import LIVE, PROBE
from serving.monitor.measurement.slices import slices
from serving.monitor.requests.probe import ProbeSet, probe_set
from serving.monitor.store import Store, open_store
from serving.monitor.store.rollup import roll_up
from serving.monitor.store.write import write_round

NOW = 1_750_000_020
"""The end of simulated time: 2025-06-15 15:07:00 UTC."""
HOSTILE = (
    "<b>bold</b><script>window.hacked = true</script>",
    "\"quoted\" & 'single' \\ `back`",
    "x" * 10_000,
    "مرحبا \u202eright-to-left",
    "=HYPERLINK(1)",
)
"""Names that somebody else chose."""


@dataclass
class Simulation:
    """Replicas that serve noisy scores around a truth.

    Attributes:
        noise: replica -> standard deviation of its own noise on the log-odds.
        requests: of the frozen probe.
        candidates: of a request.
        seed: of everything random.
        items: names of the first candidates of one request (`special`), all of them near ties at its top.
        slices: features to measure by.
        down: replica -> share of requests it does not answer.
    """

    noise: Mapping[str, float]
    requests: int = 200
    candidates: int = 24
    seed: int = 7
    items: Sequence[str] = ()
    slices: Sequence[str] = ("device", "genre")
    down: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.probe = self._probe()
        self.truth = self.random.normal(-2.2, 1.0, int(self.probe.offsets[-1]))
        first = int(self.probe.offsets[self.special])
        self.truth[first : first + len(self.items)] = 1.5
        self.cuts = slices(self.probe, self.slices)
        self.versions = dict.fromkeys(self.noise, 1)
        self.logits = {name: self._trained(name) for name in self.noise}
        self.served: dict[str, Served] = {}
        self.changed = False

    @property
    def special(self) -> int:
        """A request that the uniform sample of the newest hour surely has."""
        return min(range(self.requests), key=lambda n: random_key(f"request-{n:03d}", NOW))

    def _probe(self) -> ProbeSet:
        rows = self.requests * self.candidates
        catalogue = np.array([f"item-{i:03d}" for i in range(150)], dtype=object)
        chosen = np.concatenate(
            [self.random.choice(150, self.candidates, replace=False) for _ in range(self.requests)]
        )
        owner = np.repeat(np.arange(self.requests), self.candidates)
        names = catalogue[chosen]
        first = self.special * self.candidates
        names[first : first + len(self.items)] = list(self.items)
        genres = np.array(["drama", "comedy", "action", "documentary"], dtype=object)
        devices = np.array(["phone", "desktop", "tv"], dtype=object)
        columns = {
            "user_id": np.array([f"user-{n % 90:02d}" for n in owner], dtype=object),
            "device": devices[self.random.integers(0, 3, self.requests)][owner],
            "item_id": names,
            "genre": genres[chosen % 4],
        }
        assert len(owner) == rows
        return probe_set([f"request-{n:03d}" for n in owner], columns, "item_id")

    def _trained(self, name: str) -> np.ndarray:
        return self.truth + self.random.normal(0.0, self.noise[name], len(self.truth))

    def refresh(self, name: str) -> None:
        """The replica serves a new version, with new noise."""
        self.versions[name] += 1
        self.changed = True
        self.logits[name] = self._trained(name)

    def live_round(self, time: float) -> MeasuredRound:
        """Asks new requests and measures once, as of mirrored calls."""
        live = Simulation(self.noise, requests=60, candidates=12, seed=int(time), slices=self.slices)
        live.versions = self.versions
        answers = tuple(live.answers(place, name) for place, name in enumerate(live.noise))
        requests = replace(live.probe, hash="")
        mirrored = {"seen": 900, "sampled": 62, "dropped": 3, "unreadable": 2}
        return measure(
            Collected(requests, float(time), 0.5, answers),
            Settings(),
            live.cuts,
            {},
            stream=LIVE,
            mirrored=mirrored,
        )

    def round(self, time: float) -> MeasuredRound:
        """Asks and measures once."""
        answers = tuple(self.answers(place, name) for place, name in enumerate(self.noise))
        measured = measure(
            Collected(self.probe, float(time), 0.8, answers), Settings(), self.cuts, self.served, gaps=True
        )
        self.served, self.changed = measured.served, False
        return measured

    def answers(self, place: int, name: str) -> Answers:
        count = len(self.probe)
        answered = self.random.random(count) >= self.down.get(name, 0.0)
        rows = answered[self.probe.owner]
        scores = np.where(rows, _probability(self.logits[name]), np.nan)
        wiggled = np.where(
            rows, _probability(self.logits[name] + self.random.normal(0, 2e-4, len(self.truth))), np.nan
        )
        labels = {
            "arm": "smelu",
            "replica": str(place),
            "init_seed": "11",
            "shuffle_seed": str(21 + place),
            "data": f"d{self.versions[name]}",
        }
        errors = Counter({"deadline": int((~answered).sum())}) if not answered.all() else Counter()
        return Answers(
            name,
            labels,
            self.versions[name],
            {"version": self.versions[name], "replica": str(place)},
            scores,
            answered,
            wiggled,
            answered,
            wiggled,
            answered,
            errors,
            tuple(np.full(int(answered.sum()), 0.004)),
        )


def _probability(logits: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-logits)))


def names_of(simulation: Simulation, measured: MeasuredRound) -> Names:
    """What the monitor tells the exemplars."""
    keys = [key for key in measured.record.statistics if key.kind == "pair"]
    levels = {(key.a.replica, key.b.replica): key.level for key in keys}
    contexts = simulation.probe.contexts(("user_id", "device"))
    return Names(simulation.probe.requests, simulation.probe.items, contexts, simulation.versions, levels)


def simulate(
    target: Path,
    simulation: Simulation,
    *,
    hours: float = 24,
    every: int = 600,
    refreshes: Mapping[float, Sequence[str]] | None = None,
    later: Mapping[str, float] | None = None,
    exemplars: Path | None = None,
    end: int = NOW - 20,
) -> Store:
    """Writes rounds up to `end` into a new store, which stays open.

    Args:
        target: the SQLite file.
        simulation: the replicas.
        hours: how far back.
        every: seconds from round to round.
        refreshes: hours before the end -> replicas that get a new version then.
        later: replica -> its noise from its last refresh on.
        exemplars: where requests are kept whole.
        end: of simulated time.
    """
    store = open_store(target)
    pending = sorted((refreshes or {}).items(), reverse=True)
    keeper = Exemplars(exemplars) if exemplars is not None else None
    measured: MeasuredRound | None = None
    hour = 0
    for time in range(end - int(hours * 3600), end + 1, every):
        while pending and time >= end - pending[0][0] * 3600:
            for name in pending.pop(0)[1]:
                if later and name in later and not any(name in names for _, names in pending):
                    simulation.noise = {**simulation.noise, name: later[name]}
                simulation.refresh(name)
        # a frozen probe gets the same answers until somebody refreshes: measuring once is enough
        refreshed = measured is None or measured.record.marks or simulation.changed
        measured = simulation.round(time) if refreshed else measured
        key = f"{PROBE}/{time}"
        write_round(store, replace(measured.record, key=key, time=time, interval=float(every)))
        last_hour, hour = hour, time // 3600
        if keeper is not None and measured.requests is not None and (refreshed or last_hour != hour):
            keeper.add(PROBE, time, measured.requests, names_of(simulation, measured))
    roll_up(store, end)
    return store


STABLE_NOISE = {f"smelu-{i}": sigma for i, sigma in enumerate((0.015, 0.017, 0.014, 0.018, 0.016))}
ODD_NOISE = {"smelu-3": 0.16}
EVENING = {hour: (name,) for hour, name in zip((20.0, 19.8, 19.6, 19.4, 19.2), STABLE_NOISE, strict=True)}
MORNING = {hour: (name,) for hour, name in zip((9.0, 8.8, 8.6, 8.4, 8.2), STABLE_NOISE, strict=True)}
