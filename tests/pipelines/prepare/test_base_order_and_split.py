"""Hashes, the external sort, the split by time: against the plain way to say the same."""

from fractions import Fraction
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.prepare.order import hashing, runs
from pipelines.prepare.order.threshold import is_held_out, threshold
from pipelines.prepare.rows import EVAL, ORDER
from ranker.layout import REQUEST


@given(st.lists(st.one_of(st.none(), st.text(max_size=40)), max_size=30), st.integers(0, 2**32))
def test_a_hash_depends_on_the_text_and_the_seed_alone(values, seed):
    array = pa.array(values, pa.string())
    whole = hashing.hash_text(array, seed)
    one_by_one = [hashing.hash_text(pa.array([value or ""]), seed)[0] for value in values]
    assert whole.tolist() == [int(value) for value in one_by_one]
    assert hashing.hash_text(array.dictionary_encode(), seed).tolist() == whole.tolist()
    assert hashing.hash_text(array[1:], seed).tolist() == whole[1:].tolist()
    assert len(set(whole.tolist())) == len({value or "" for value in values})


def test_hashes_never_change():
    # Golden values: another hash would silently move rows between splits when the software is upgraded.
    known = hashing.hash_text(pa.array(["", "a", "user-123", "a text longer than eight bytes"]), 7)
    assert [f"{value:016x}" for value in known] == [
        "b8b4c2977eabce45",
        "33713903c2fab7a9",
        "ff0b6028cab859fc",
        "a0cceb171f699912",
    ]
    assert hashing.mix(np.array([0, 1], np.uint64)).tolist() == [0xE220A8397B1DCDAF, 0x910A2DEC89025CC1]


def test_hashes_spread_evenly():
    hashed = hashing.hash_text(pa.array([f"user{i}" for i in range(20_000)]))
    counts = np.bincount((hashed % np.uint64(10)).astype(int), minlength=10)
    assert abs(counts - 2000).max() < 200
    share = (hashed < np.uint64(2**64 // 10)).mean()
    assert abs(share - 0.1) < 0.01


ROWS = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), st.booleans(), st.text("abé", max_size=2)),
    max_size=60,
    unique_by=lambda r: r[0],
)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 4), st.integers(1, 3), st.integers(1, 30), st.sampled_from([1, 500, 1 << 20]))
def test_the_external_sort_sorts(tmp_path_factory, rows, shards, parts, range_rows, read_bytes):
    directory = tmp_path_factory.mktemp("runs")
    paths = []
    for part in range(parts):
        chosen = rows[part::parts]
        if chosen:
            order, held, request = (list(values) for values in zip(*chosen, strict=True))
            batch = pa.RecordBatch.from_pydict(
                {
                    ORDER: pa.array(order, pa.uint64()),
                    EVAL: pa.array(held),
                    REQUEST: pa.array(request).dictionary_encode(),
                }
            )
            paths.append(directory / f"{part}.arrow")
            runs.write_run(runs.divide(batch, shards), paths[-1])
    with patch.multiple(runs, RANGE_ROWS=range_rows, READ_BYTES=read_bytes):
        of_train, of_eval = (
            [
                [runs.RunPart(path, runs.part_index(split, shard, shards)) for path in paths]
                for shard in range(shards)
            ]
            for split in ("train", "eval")
        )
        train = [_keys(runs.merge_train(of_train[shard], shard, shards), ORDER) for shard in range(shards)]
        held = [_keys(runs.merge_eval(of_eval[shard]), REQUEST, ORDER) for shard in range(shards)]
    assert [key for shard in train for (key,) in shard] == sorted(
        order for order, is_held, _ in rows if not is_held
    )
    expected = sorted((request.encode(), order) for order, is_held, request in rows if is_held)
    assert sorted((request.encode(), order) for shard in held for request, order in shard) == expected
    for shard in held:
        assert shard == sorted(shard, key=lambda row: (row[0].encode(), row[1]))
    requests = [request for shard in held for request in {request for request, _ in shard}]
    assert len(set(requests)) == len(requests), "a request is in two shards"
    for index, shard in enumerate(train):
        assert all(Fraction(order, 2**64) * shards // 1 == index for (order,) in shard)


def _keys(batches, *names):
    return [
        row for batch in batches for row in zip(*(batch[name].to_pylist() for name in names), strict=True)
    ]


TIMES = st.one_of(
    st.integers(-3, 3).map(float), st.floats(allow_nan=False, allow_infinity=False), st.just(-0.0)
)


@given(
    st.lists(TIMES, min_size=1, max_size=80), st.floats(0.01, 0.99), st.integers(0, 2**32), st.integers(1, 5)
)
def test_the_split_by_time_is_the_exact_quantile_with_ties_by_order(times, share, seed, pieces):
    order = hashing.mix(np.arange(len(times), dtype=np.uint64) + np.uint64(seed))
    values = np.array(times)
    chunks = lambda: zip(np.array_split(values, pieces), np.array_split(order, pieces), strict=True)  # noqa: E731
    first = threshold(chunks, share)
    held = is_held_out(values, order, first)
    count = round(share * len(times))
    ranked = np.lexsort((order, values + 0.0))
    assert set(np.flatnonzero(held)) == set(ranked[len(times) - count :])
