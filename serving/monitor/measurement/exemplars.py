"""Stores example requests with all rankings: of every hour and level the costliest, and a uniform sample.

One Parquet file an hour and stream, written anew by a rename. The uniform sample is the requests with the smallest
hashes of that hour, so that it can be drawn from any number of rounds without remembering how many there were.
"""

from __future__ import annotations

import hashlib
import json
import time as clock
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ranker.divergence import RequestMeasures
from ranker.files import replacing
from ranker.json_text import json_text
from ranker.storage import is_remote
from serving.monitor.requests.probe import Array
from serving.monitor.store.schema import DAY, HOUR

if TYPE_CHECKING:
    import pyarrow as pa

COSTLIEST, UNIFORM = "costliest", "uniform"


@dataclass(frozen=True)
class RequestExemplar:
    """One request with every replica's ranking.

    Attributes:
        time: of its round, seconds since 1970.
        stream: `probe` or `live`.
        level: of the noise ladder, over whose pairs the cost is taken.
        why: `costliest` or `uniform`.
        request: its id.
        cost: mean consensus regret over the level's pairs, a share of expected clicks; where scores only order, the share of
            visible pairs of items that are inverted.
        replicas, versions: who answered.
        items: each replica's items, the best first.
        scores: in the order of `items`.
        context: the request's context features; empty where ids are hashed or it is not known.
        candidates: item -> its other features; empty where ids are hashed, and of the probe, which has them itself.
    """

    time: int
    stream: str
    level: str
    why: str
    request: str
    cost: float
    replicas: tuple[str, ...]
    versions: tuple[int, ...]
    items: tuple[tuple[str, ...], ...]
    scores: tuple[tuple[float, ...], ...]
    context: Mapping[str, Any]
    candidates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


NOT_KEPT = "example requests are not kept: that needs pip install 'steady-ranker[parquet]'"
"""What a monitor says that runs without pyarrow."""


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        {
            "time": pa.int64(),
            "stream": pa.string(),
            "level": pa.string(),
            "why": pa.string(),
            "request": pa.string(),
            "cost": pa.float64(),
            "replicas": pa.list_(pa.string()),
            "versions": pa.list_(pa.int64()),
            "items": pa.list_(pa.list_(pa.string())),
            "scores": pa.list_(pa.list_(pa.float32())),
            "context": pa.string(),
            "candidates": pa.string(),
        }
    )


@dataclass(frozen=True)
class Names:
    """What a batch's numbers stand for.

    Attributes:
        requests: id of each request of the round [N], by the batch's request code.
        items: id of each row [R], by the batch's row position.
        contexts: request id -> context features.
        versions: replica -> served version.
        levels: pair of replicas -> level.
        candidates: features of the candidates to keep: name -> value of each row [R].
    """

    requests: Sequence[str]
    items: Array
    contexts: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, int]
    levels: Mapping[tuple[str, str], str]
    candidates: Mapping[str, Sequence[Any]] = field(default_factory=dict)


class Exemplars:
    """The directory of example requests, on a disk or in an object store.

    Args:
        directory: made when the first is kept.
        each: how many of each kind an hour and level.
        keep: seconds that files are kept.
        salt: hash ids with it; None: keep them as they are.

    Attributes:
        can_write: pyarrow is installed. Without it nothing can be kept.
    """

    def __init__(
        self, directory: Path, *, each: int = 20, keep: float = 14 * DAY, salt: str | None = None
    ) -> None:
        self.directory, self.each, self.keep, self.salt = directory, each, keep, salt
        self.can_write = find_spec("pyarrow") is not None

    def add(self, stream: str, time: int, measured: RequestMeasures, names: Names) -> None:
        """Puts a round's requests among those of its hour, and drops files that are too old."""
        if not is_remote(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{stream}-{datetime.fromtimestamp(time, timezone.utc):%Y%m%dT%H}.parquet"
        examples = {(example.level, example.why, example.request): example for example in _read(path)}
        for example in self._candidates(stream, time, measured, names):
            examples[example.level, example.why, example.request] = example
        best: list[RequestExemplar] = []
        for level in sorted({example.level for example in examples.values()}):
            at_level = [example for example in examples.values() if example.level == level]
            costly = [example for example in at_level if example.why == COSTLIEST]
            best += sorted(costly, key=lambda example: (-example.cost, example.request))[: self.each]
            uniform = [example for example in at_level if example.why == UNIFORM]
            best += sorted(uniform, key=lambda example: random_key(example.request, time))[: self.each]
        _write(path, best)
        for old in self.directory.glob(f"{stream}-*.parquet"):
            if _hour_of(old) < time - self.keep - HOUR:
                old.unlink(missing_ok=True)

    def _candidates(
        self, stream: str, time: int, measured: RequestMeasures, names: Names
    ) -> Iterator[RequestExemplar]:
        batch = measured.batch
        cost = measured.values[measured.settings.cost]
        replicas = [batch.replicas[i] for i in range(len(batch.replicas))]
        by_level: dict[str, list[int]] = {}
        for row, (i, j) in enumerate(measured.pairs):
            by_level.setdefault(names.levels[replicas[i], replicas[j]], []).append(row)
        for level, rows in by_level.items():
            is_measured = ~np.isnan(cost[rows])
            count = is_measured.sum(axis=0)
            mean = np.where(is_measured, cost[rows], 0.0).sum(axis=0) / np.maximum(count, 1)
            usable = np.flatnonzero(count > 0)
            draws = {int(n): random_key(self._id(names.requests[batch.requests[n]]), time) for n in usable}
            chosen = (
                (COSTLIEST, usable[np.argsort(-mean[usable], kind="stable")][: self.each]),
                (UNIFORM, sorted(draws, key=draws.__getitem__)[: self.each]),
            )
            for why, positions in chosen:
                for n in positions:
                    yield self._exemplar(
                        stream=stream,
                        time=time,
                        level=level,
                        why=why,
                        n=int(n),
                        cost=float(mean[n]),
                        measured=measured,
                        names=names,
                    )

    def _exemplar(
        self,
        stream: str,
        time: int,
        level: str,
        why: str,
        n: int,
        cost: float,
        measured: RequestMeasures,
        names: Names,
    ) -> RequestExemplar:
        batch = measured.batch
        span = slice(batch.offsets[n], batch.offsets[n + 1])
        ids = np.array([self._id(item) for item in names.items[batch.rows[span]]], dtype=object)
        request = names.requests[batch.requests[n]]
        rankings = []
        for m, replica in enumerate(batch.replicas):
            if batch.valid[m, n]:
                scores = batch.scores[m, span]
                order = np.argsort(
                    -scores, kind="stable"
                )  # rows stand in the order of their item ids: the tie-break
                rankings.append(
                    (replica, names.versions[replica], tuple(ids[order]), tuple(scores[order].tolist()))
                )
        return RequestExemplar(
            time=time,
            stream=stream,
            level=level,
            why=why,
            request=self._id(request),
            cost=cost,
            replicas=tuple(row[0] for row in rankings),
            versions=tuple(row[1] for row in rankings),
            items=tuple(row[2] for row in rankings),
            scores=tuple(row[3] for row in rankings),
            context={} if self.salt is not None else names.contexts.get(request, {}),
            candidates={} if self.salt is not None else _features(names, batch.rows[span]),
        )

    def _id(self, text: str) -> str:
        if self.salt is None:
            return text
        return hashlib.blake2b(text.encode(), key=self.salt.encode()[:64], digest_size=8).hexdigest()


def _features(names: Names, rows: Array) -> dict[str, dict[str, Any]]:
    if not names.candidates:
        return {}
    return {
        names.items[row]: {name: values[row] for name, values in names.candidates.items()}
        for row in rows.tolist()
    }


def read_exemplars(
    directory: Path,
    stream: str,
    start: float,
    end: float,
    *,
    level: str | None = None,
    request: str | None = None,
    limit: int = 200,
) -> tuple[RequestExemplar, ...]:
    """Kept requests of [start, end), the newest hour first, in it the costliest first; at most `limit`."""
    examples: list[RequestExemplar] = []
    paths = [path for path in directory.glob(f"{stream}-*.parquet") if start - HOUR < _hour_of(path) < end]
    for path in sorted(paths, reverse=True):
        in_hour = [
            example
            for example in _read(path)
            if start <= example.time < end
            and level in (None, example.level)
            and request in (None, example.request)
        ]
        examples += sorted(in_hour, key=lambda example: (example.why, -example.cost, example.request))
        if len(examples) >= limit:
            break
    return tuple(examples[:limit])


def random_key(request: str, time: int) -> str:
    """The hash of a request in the hour of `time`, in seconds. The smallest hashes are the hour's uniform sample.

    Each hour has other hashes, so that a day of a frozen probe samples more requests than an hour.
    """
    hour = (int(time) // HOUR).to_bytes(8, "big")
    return hashlib.blake2b(request.encode(), digest_size=8, salt=hour, person=b"exemplar").hexdigest()


def _hour_of(path: Path) -> float:
    try:
        stamp = datetime.strptime(path.stem.rpartition("-")[2], "%Y%m%dT%H")
    except ValueError:
        return clock.time()  # not one of ours: neither read nor deleted for its age
    return stamp.replace(tzinfo=timezone.utc).timestamp()


def _write(path: Path, exemplars: Sequence[RequestExemplar]) -> None:
    rows = [
        asdict(example) | {"context": json_text(example.context), "candidates": json_text(example.candidates)}
        for example in exemplars
    ]
    import pyarrow as pa
    import pyarrow.parquet as pq

    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=_schema()), temporary, compression="zstd")


def _read(path: Path) -> list[RequestExemplar]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as stream:
            rows = pq.read_table(stream, schema=_schema()).to_pylist()
    except (FileNotFoundError, pa.ArrowException, OSError):
        return []
    return [
        RequestExemplar(
            **(
                row
                | {
                    "replicas": tuple(row["replicas"]),
                    "versions": tuple(row["versions"]),
                    "items": tuple(map(tuple, row["items"])),
                    "scores": tuple(map(tuple, row["scores"])),
                    "context": json.loads(row["context"]),
                    "candidates": json.loads(row["candidates"] or "{}"),  # files of before have none
                }
            )
        )
        for row in rows
    ]
