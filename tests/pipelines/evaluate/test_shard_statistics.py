"""Statistics of shards: they merge to what one pass over all rows gives, and nothing is lost on the way."""

import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from pipelines.evaluate.exemplars import COUNT, DEPTH
from pipelines.evaluate.quality import CALIBRATION, MEASURES, quality_values, shard_sums
from pipelines.evaluate.shard import ShardResult, measure_shard, merge_shards
from ranker.divergence import RequestBatch, Settings, compare, gauc, logloss, ndcg, ranking_loss

ARMS = {arm: [f"{arm}/{replica}" for replica in range(3)] for arm in ("smelu", "relu")}


@pytest.fixture
def tables(predictions):
    return [predictions(40, 1), predictions(25, 2), predictions(60, 3)]


def test_quality_of_merged_shards_is_that_of_all_rows(tables):
    merged = merge_shards([measure_shard(table, ARMS) for table in tables])
    whole = pa.concat_tables(tables)
    label, score = whole["label"].to_numpy(), whole["relu/1"].to_numpy()
    request = whole["request"].to_numpy().astype(str)
    values = quality_values(merged.quality["relu/1"], [shard_sums(label, score)])
    assert tuple(values) == (*MEASURES, *CALIBRATION)
    assert values["logloss"] == pytest.approx(logloss(label, score), rel=1e-12)
    assert values["gauc"] == pytest.approx(gauc(label, score, request), rel=1e-12)
    assert values["ndcg@10"] == pytest.approx(ndcg(label, score, request, k=10), rel=1e-12)
    assert values["ranking_loss"] == pytest.approx(ranking_loss(label, score, request), rel=1e-12)


def test_comparison_of_merged_shards_is_that_of_all_rows(tables):
    merged = merge_shards([measure_shard(table, ARMS) for table in tables])
    whole = pl.from_arrow(pa.concat_tables(tables)).unique(
        ["request", "item"], keep="first", maintain_order=True
    )
    batch = RequestBatch.from_rows(
        np.array(whole["request"].to_list()),
        np.array(whole["item"].to_list()),
        whole.select(ARMS["smelu"]).to_numpy().T,
        replicas=ARMS["smelu"],
    )
    expected = compare(batch, Settings(k=10)).summary()
    summary = merged.comparisons["smelu"].summary()
    assert summary.keys() == expected.keys()
    for label, row in expected.items():
        assert summary[label] == pytest.approx(row, rel=1e-9, abs=1e-12), label


def test_contrast_is_the_difference_of_the_arms_and_tighter_than_two_separate_intervals(tables):
    merged = merge_shards([measure_shard(table, ARMS) for table in tables])
    means = {arm: merged.comparisons[arm].means for arm in ARMS}
    assert list(merged.contrasts) == ["relu"]
    assert "bias" not in merged.contrasts["relu"]
    assert "rpd_ratio" in merged.contrasts["relu"]
    for label, statistic in merged.contrasts["relu"].items():
        assert statistic.value == pytest.approx(
            means["relu"][label].value - means["smelu"][label].value, abs=1e-12
        )
    swap = merged.contrasts["relu"]["top1_swap"].interval()
    assert 0 < swap.low < swap.value < swap.high


def test_counts_add_up_and_repeated_items_stay_out_of_the_comparison(tables):
    merged = merge_shards([measure_shard(table, ARMS) for table in tables])
    frames = [pl.from_arrow(table) for table in tables]
    assert merged.counts["rows"] == sum(len(frame) for frame in frames)
    assert merged.counts["requests"] == 40 + 25 + 60
    assert merged.counts["repeated"] == 4 + 3 + 6
    assert merged.counts["positives"] == sum(frame["label"].sum() for frame in frames)
    assert merged.counts["rankable"] == sum(
        (f.group_by("request").agg(pl.col("item").n_unique())["item"] > 1).sum() for f in frames
    )
    assert set(merged.comparisons["smelu"].coverage.coverage_mismatch.values()) == {0}
    assert set(merged.comparisons["smelu"].coverage.paired.values()) == {125}


def test_swaps_by_gap_cover_every_rankable_request_once(tables):
    merged = merge_shards([measure_shard(table, ARMS) for table in tables])
    for arm in ARMS:
        bins = merged.gaps[arm]
        assert sum(s.n for s in bins) == merged.counts["rankable"]
        total = sum(s.total for s in bins)
        assert total == pytest.approx(merged.comparisons[arm].means["top1_swap"].total)
    assert merged.gaps["relu"][0].value > merged.gaps["relu"][-2].value


def test_the_order_of_rows_within_a_request_changes_nothing(predictions):
    frame = pl.from_arrow(predictions(50, 5)).unique(["request", "item"], keep="first", maintain_order=True)
    shuffled = frame.sample(fraction=1, shuffle=True, seed=0).sort("request", maintain_order=True)
    assert shuffled["item"].to_list() != frame["item"].to_list()
    ordered, unordered = (measure_shard(f.to_arrow(), ARMS) for f in (frame, shuffled))
    for label, row in ordered.comparisons["relu"].summary().items():
        assert unordered.comparisons["relu"].summary()[label] == pytest.approx(row, rel=1e-9, abs=1e-12), (
            label
        )
    assert unordered.quality["relu/0"] == {k: pytest.approx(v) for k, v in ordered.quality["relu/0"].items()}
    assert unordered.exemplars == ordered.exemplars


def test_ties_break_by_item_text_as_everywhere_else():
    table = pa.table(
        {
            "request": ["q", "q"],
            "item": ["b", "a"],
            "label": np.array([1, 0], np.float32),
            "m/0": np.array([0.5, 0.5], np.float32),
            "m/1": np.array([0.6, 0.5], np.float32),
        }
    )
    result = measure_shard(table, {"m": ["m/0", "m/1"]})
    assert result.comparisons["m"].means["top1_swap"].value == 1.0
    assert result.exemplars["m"][0].lists["m/0"][0][0] == "a"
    assert result.exemplars["m"][0].lists["m/1"][0][0] == "b"


def test_exemplars_are_the_costliest_of_all_shards(tables):
    results = [measure_shard(table, ARMS) for table in tables]
    merged = merge_shards(results)
    for arm in ARMS:
        exemplars = merged.exemplars[arm]
        everything = [e.regret for result in results for e in result.exemplars[arm]]
        assert [e.regret for e in exemplars] == sorted(everything, reverse=True)[:COUNT]
        for exemplar in exemplars:
            assert list(exemplar.lists) == ARMS[arm]
            assert len({top[0][0] for top in exemplar.lists.values()}) > 1
            for top in exemplar.lists.values():
                assert len(top) == min(DEPTH, exemplar.candidates)
                assert [score for _, score in top] == sorted((score for _, score in top), reverse=True)


def test_results_survive_json(tables):
    result = measure_shard(tables[0], ARMS)
    back = ShardResult.from_dict(json.loads(json.dumps(result.as_dict())))
    assert json.dumps(back.as_dict()) == json.dumps(result.as_dict())


def test_a_shard_without_rows_adds_nothing(tables):
    empty = measure_shard(tables[0].slice(0, 0), ARMS)
    shard = measure_shard(tables[0], ARMS)
    merged = merge_shards([empty, shard, empty])
    assert empty.counts["requests"] == 0
    assert json.dumps(merged.as_dict()) == json.dumps(merge_shards([shard]).as_dict())


def test_more_requests_than_a_chunk_measure_the_same(monkeypatch, tables):
    whole = measure_shard(tables[2], ARMS)
    monkeypatch.setattr("pipelines.evaluate.shard.CHUNK", 7)
    parts = measure_shard(tables[2], ARMS)
    assert parts.counts == whole.counts
    for exemplar, expected in zip(parts.exemplars["relu"], whole.exemplars["relu"], strict=True):
        assert (exemplar.request, exemplar.lists) == (expected.request, expected.lists)
        assert exemplar.regret == pytest.approx(expected.regret)
    for label, row in whole.comparisons["relu"].summary().items():
        assert parts.comparisons["relu"].summary()[label] == pytest.approx(row, rel=1e-9, abs=1e-12)
