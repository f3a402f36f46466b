"""Requests kept whole: the costliest and a uniform sample, an hour and level; hashed if asked; two weeks."""

from __future__ import annotations

import numpy as np
import pytest

from ranker import storage
from ranker.divergence import RequestBatch, measure_requests
from serving.monitor.measurement.exemplars import Exemplars, Names, read_exemplars
from tests.object_store import keys

HOUR, DAY = 3600, 86_400


def measured(seed, requests=100, candidates=5, first=0):
    random = np.random.default_rng(seed)
    truth = random.normal(0, 1, requests * candidates)
    scores = 1 / (1 + np.exp(-(truth + random.normal(0, 0.5, (3, truth.size)))))
    batch = RequestBatch.from_rows(
        np.repeat(np.arange(requests), candidates),
        np.tile(np.arange(candidates), requests),
        scores,
        replicas=["a", "b", "c"],
    )
    names = Names(
        requests=[f"r{first + n}" for n in range(requests)],
        items=np.array([f"<b>item {i}</b>" for i in np.tile(np.arange(candidates), requests)], dtype=object),
        contexts={f"r{first + n}": {"age": n} for n in range(requests)},
        versions={"a": 1, "b": 1, "c": 2},
        levels={("a", "b"): "L3", ("a", "c"): "L6", ("b", "c"): "L6"},
    )
    return measure_requests(batch), names


def test_the_costliest_and_a_uniform_sample_of_each_level(tmp_path, start):
    measures, names = measured(0)
    Exemplars(tmp_path, each=7).add("probe", start, measures, names)
    exemplars = read_exemplars(tmp_path, "probe", start, start + HOUR)
    assert {(exemplar.level, exemplar.why) for exemplar in exemplars} == {
        (x, y) for x in ("L3", "L6") for y in ("costliest", "uniform")
    }
    assert len(exemplars) == 4 * 7
    cost = measures.values["consensus_regret"][measures.pairs.index((0, 1))]
    costly = [
        exemplar.cost for exemplar in exemplars if (exemplar.level, exemplar.why) == ("L3", "costliest")
    ]
    assert costly == pytest.approx(sorted(cost, reverse=True)[:7])
    exemplar = exemplars[0]
    n = names.requests.index(exemplar.request)
    for place, replica in enumerate(exemplar.replicas):
        m = measures.batch.replicas.index(replica)
        scores = measures.batch.scores[m, n * 5 : n * 5 + 5]
        assert exemplar.items[place] == tuple(names.items[i] for i in np.argsort(-scores, kind="stable"))
        assert exemplar.scores[place] == pytest.approx(sorted(scores, reverse=True))
    assert exemplar.versions == (1, 1, 2)
    assert exemplar.context == {"age": n}


def test_rounds_of_an_hour_merge_and_the_sample_stays_uniform(tmp_path, start):
    together, apart = Exemplars(tmp_path / "one", each=10), Exemplars(tmp_path / "two", each=10)
    whole = measured(1, requests=100)
    together.add("live", start, *whole)
    for first in (0, 50):
        part, names = measured(2, requests=50, first=first)
        apart.add("live", start + first, part, names)
    uniform = [
        {
            exemplar.request
            for exemplar in read_exemplars(path, "live", start, start + HOUR, level="L3")
            if exemplar.why == "uniform"
        }
        for path in (tmp_path / "one", tmp_path / "two")
    ]
    assert uniform[0] == uniform[1]
    assert len(uniform[0]) == 10


def test_exemplars_in_an_object_store_are_those_on_a_disk(bucket, tmp_path, start):
    stored = storage.location("s3://logs/exemplars")
    for directory in (tmp_path, stored):
        exemplars = Exemplars(directory, each=3, keep=DAY)
        for time in (start, start + 60, start + 3 * DAY):
            exemplars.add("live", time, *measured(3))
    expected = read_exemplars(tmp_path, "live", start, start + 4 * DAY)
    assert expected
    assert read_exemplars(stored, "live", start, start + 4 * DAY) == expected
    assert keys(bucket, "exemplars/") == sorted(path.name for path in tmp_path.iterdir())


def test_ids_are_hashed_if_asked_and_tell_nothing(tmp_path, start):
    measures, names = measured(3)
    Exemplars(tmp_path, salt="pepper").add("probe", start, measures, names)
    exemplars = read_exemplars(tmp_path, "probe", start, start + HOUR)
    text = repr(exemplars)
    assert "item" not in text.replace("items=", "")
    assert not {exemplar.request for exemplar in exemplars} & set(names.requests)
    assert all(exemplar.context == {} for exemplar in exemplars)
    assert all(b"item 1" not in path.read_bytes() for path in tmp_path.glob("*"))


def test_files_go_after_two_weeks(tmp_path, start):
    keeper = Exemplars(tmp_path, each=2)
    for day in (0, 1, 13, 15):
        keeper.add("probe", start + day * DAY, *measured(day))
    (tmp_path / "probe-notes.parquet").write_text("not ours")
    exemplars = read_exemplars(tmp_path, "probe", 0, start + 30 * DAY)
    assert sorted({(exemplar.time - start) // DAY for exemplar in exemplars}) == [1, 13, 15]
    assert (tmp_path / "probe-notes.parquet").exists()


def test_reading_is_bounded_and_by_request(tmp_path, start):
    measures, names = measured(5)
    Exemplars(tmp_path).add("probe", start, measures, names)
    assert len(read_exemplars(tmp_path, "probe", start, start + HOUR, limit=3)) == 3
    request = read_exemplars(tmp_path, "probe", start, start + HOUR)[0].request
    assert {
        exemplar.request
        for exemplar in read_exemplars(tmp_path, "probe", start, start + HOUR, request=request)
    } == {request}
    assert read_exemplars(tmp_path / "none", "probe", start, start + HOUR) == ()
    assert read_exemplars(tmp_path, "probe", start - DAY, start) == ()


def test_every_hour_draws_its_own_sample_of_a_frozen_probe(tmp_path, start):
    exemplars = Exemplars(tmp_path, each=10)
    measures, names = measured(4)
    for hour in range(6):
        exemplars.add("probe", start + hour * HOUR, measures, names)
    newest = read_exemplars(tmp_path, "probe", start, start + 6 * HOUR, level="L3", limit=1000)
    drawn = [(exemplar.time, exemplar.request) for exemplar in newest if exemplar.why == "uniform"]
    assert len(drawn) == 60
    assert len({request for _, request in drawn}) > 35
