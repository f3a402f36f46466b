"""Mirrored requests: from the gateway's spool to the store, each once."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ranker.divergence import RequestBatch, Settings, compare
from serving.mirrored import MirroredRequest, ReplicaAnswer, from_json, to_json
from serving.monitor.exemplars import Exemplars, read_exemplars
from serving.monitor.live import ingest, live_round
from serving.monitor.requests import probe_set
from serving.monitor.slices import cuts
from serving.monitor.store import query
from serving.monitor.store.rollup import roll_up
from serving.spool import SpoolWriter, finished


def mirrored(n, time, scores, versions=(1, 1), errors=("", "")):
    answers = tuple(
        ReplicaAnswer(
            name,
            name == "a",
            version if not error else None,
            0.01,
            3,
            None if error else np.array(row, np.float32),
            error,
        )
        for name, version, row, error in zip("ab", versions, scores, errors, strict=True)
    )
    return MirroredRequest(f"q{n}", time, "rank", ("x", "y", "z"), answers)


def fill(directory, start, count=10, **options):
    writer = SpoolWriter(directory)
    random = np.random.default_rng(1)
    for n in range(count):
        writer(mirrored(n, start + n, random.uniform(0.1, 0.9, (2, 3)), **options))
    writer.hand_over()


def test_a_file_is_a_round_and_is_gone_afterwards(store, tmp_path, start):
    fill(tmp_path / "spool", start)
    assert ingest(store, tmp_path / "spool", Settings(), {}) == 10
    assert finished(tmp_path / "spool") == []
    verdict = query.snapshot(store, start + 60, stream="live")
    assert verdict.measures["top1_swap"].n == 10
    assert verdict.coverage == {"a": 1.0, "b": 1.0}
    assert query.freshness(store, start + 60, "probe").time is None  # the streams are kept apart


def test_live_measures_are_those_of_the_scores(start):
    random = np.random.default_rng(2)
    scores = random.uniform(0.1, 0.9, (20, 2, 3)).astype(np.float32)
    record = live_round(
        "k", [mirrored(n, start + n, row) for n, row in enumerate(scores)], Settings(), {}
    ).record
    rows = RequestBatch.from_rows(
        np.repeat(np.arange(20), 3), np.tile(["x", "y", "z"], 20), scores.transpose(1, 0, 2).reshape(2, 60)
    )
    direct = compare(rows).means
    (found,) = [s for key, s in record.statistics.items() if key.kind == "all"]
    assert list(found) == list(direct)
    for label, statistic in found.items():
        assert statistic.interval() == pytest.approx(direct[label].interval())


def test_example_requests_of_the_live_stream_are_kept(sqlite_store, tmp_path, start):
    fill(tmp_path / "spool", start, count=50)
    ingest(sqlite_store, tmp_path / "spool", Settings(), {}, Exemplars(tmp_path / "kept", each=5))
    kept = read_exemplars(tmp_path / "kept", "live", start, start + 3600)
    assert len(kept) == 10
    assert {one.replicas for one in kept} == {("a", "b")}
    assert all(set(items) == {"x", "y", "z"} for one in kept for items in one.items)


def test_a_spool_that_nobody_read_for_days_is_left_out(sqlite_store, tmp_path, start, caplog):
    fill(tmp_path / "new", start)
    ingest(sqlite_store, tmp_path / "new", Settings(), {})
    roll_up(sqlite_store, start + 3600)
    fill(tmp_path / "old", start - 9 * 86_400)
    assert ingest(sqlite_store, tmp_path / "old", Settings(), {}) == 0
    assert "left out" in caplog.text
    assert finished(tmp_path / "old") == []


def test_a_kill_between_storing_and_deleting_doubles_nothing(store, tmp_path, start):
    fill(tmp_path / "spool", start)
    (path,) = finished(tmp_path / "spool")
    kept = path.read_bytes()
    ingest(store, tmp_path / "spool", Settings(), {})
    path.write_bytes(kept)  # as if the kill had come before the delete
    assert ingest(store, tmp_path / "spool", Settings(), {}) == 0
    assert finished(tmp_path / "spool") == []
    assert query.snapshot(store, start + 60, stream="live").measures["top1_swap"].n == 10


def test_errors_versions_and_bad_scores_are_counted_and_left_out(start):
    requests = [
        mirrored(0, start, [[0.1, 0.2, 0.3]] * 2),
        mirrored(1, start + 1, [[0.1, 0.2, 0.3]] * 2, errors=("", "UNAVAILABLE")),
        mirrored(2, start + 2, [[0.1, 0.2, 0.3]] * 2, errors=("", "DEADLINE_EXCEEDED")),
        mirrored(3, start + 3, [[0.1, 0.2, 0.3]] * 2, errors=("", "MALFORMED")),
        mirrored(4, start + 4, [[0.1, 0.2, 0.3], [0.1, np.nan, 0.3]]),
        mirrored(5, start + 5, [[0.1, 0.2, 0.3]] * 2, versions=(1, 2)),
    ]
    record = live_round("k", requests, Settings(), {}).record
    counts = {kind: n for (replica, kind), n in record.counts.items() if replica == "b"}
    assert counts == {
        "asked": 6, "answered": 1, "down": 1, "deadline": 1, "coverage_mismatch": 1, "invalid_score": 1, "version_change": 1
    }  # fmt: skip
    (pair,) = [s for key, s in record.statistics.items() if key.kind == "pair"]
    assert pair["top1_swap"].n == 1
    assert {subject.version for subject in record.subjects} == {1}


def test_a_torn_file_gives_what_it_has(sqlite_store, tmp_path, start):
    fill(tmp_path / "spool", start)
    (path,) = finished(tmp_path / "spool")
    path.write_text(path.read_text() + '{"half": ')
    assert ingest(sqlite_store, tmp_path / "spool", Settings(), {}) == 10
    (tmp_path / "spool" / "0-1-1.jsonl").write_text("")
    assert ingest(sqlite_store, tmp_path / "spool", Settings(), {}) == 0
    assert finished(tmp_path / "spool") == []


def test_live_requests_are_sliced_as_the_probe_is(sqlite_store, tmp_path, start):
    probe = probe_set(
        np.repeat([f"p{n}" for n in range(12)], 2),
        {
            "item_id": ["x", "y"] * 12,
            "device": np.repeat([f"d{n % 3}" for n in range(12)], 2).astype(object),
            "price": np.tile([1.0, 2.0], 12),
        },
        "item_id",
    )
    cut = cuts(probe, ("device", "price"))
    random = np.random.default_rng(3)
    told = (("d0",), ("d1",), ("new",), ("",), ())
    writer = SpoolWriter(tmp_path)
    requests = []
    for n in range(40):
        plain = mirrored(n, start + n, random.uniform(0.1, 0.9, (2, 3)))
        kept = {"device": told[n % 5], "price": (1.0, 2.0, float("nan"))} if n % 5 < 4 else {}
        requests.append(replace(plain, features=kept))
        writer(requests[-1])
    writer.hand_over()
    ingest(sqlite_store, tmp_path, Settings(), {}, Exemplars(tmp_path / "kept"), cut)
    rows = query.slices(sqlite_store, "pair_inversion", start + 60, stream="live")
    assert {(row.feature, row.value): row.n for row in rows if row.feature == "device"} == {
        ("device", "d0"): 8, ("device", "d1"): 8, ("device", "(other)"): 8, ("device", "(missing)"): 16,
    }  # fmt: skip
    alone = live_round(
        "k", [one for one in requests if one.features.get("device") == ("d0",)], Settings(), {}
    )
    (direct,) = [s for key, s in alone.record.statistics.items() if key.kind == "all"]
    (mine,) = [row for row in rows if row.value == "d0"]
    assert mine.measured == pytest.approx(direct["pair_inversion"].interval())
    by_item = query.slices(sqlite_store, "rpd_sym", start + 60, stream="live")
    # one candidate a request and price; a request that told nothing has all three missing
    assert {row.value: row.n for row in by_item if row.feature == "price"} == {
        "1": 32,
        "2": 32,
        "(missing)": 40,
    }
    kept = read_exemplars(tmp_path / "kept", "live", start, start + 3600)
    assert {one.context.get("device") for one in kept if one.request == "q0"} == {"d0"}
    (first,) = {json.dumps(one.candidates, sort_keys=True) for one in kept if one.request == "q0"}
    names = requests[0].item_ids
    assert json.loads(first) == {
        names[0]: {"price": 1.0},
        names[1]: {"price": 2.0},
        names[2]: {"price": None},
    }
    alike = replace(requests[0], features={"price": (5.0,)})
    assert live_round("k", [alike], Settings(), {}).names.candidates == {"price": [5.0] * 3}
    hidden = Exemplars(tmp_path / "hidden", salt="s")
    done = live_round("k", requests, Settings(), {}, cut, context=("device",))
    hidden.add("live", start, done.measured, done.names)
    kept = read_exemplars(tmp_path / "hidden", "live", start, start + 3600)
    assert kept
    assert not any(one.candidates or one.context for one in kept)


def test_features_survive_the_spool_and_old_files_have_none(start):
    plain = mirrored(0, start, [[0.1, 0.2, 0.3]] * 2)
    told = replace(plain, features={"device": ("tv",), "price": (1.5, float("nan"), 2.0)})
    assert from_json(to_json(told)).features == {"device": ("tv",), "price": (1.5, None, 2.0)}
    assert "features" not in to_json(plain)
    assert from_json(to_json(plain)).features == {}
