"""Ids without a vocabulary, parts of times, and lists of items that share the item's embeddings."""

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from pipelines.prepare import prepare
from ranker import layout
from ranker.architecture import design
from ranker.backend import tf
from ranker.config import build
from ranker.errors import UserError
from ranker.features import FeatureEncoder, time_part
from ranker.inputs import plan
from ranker.model import RankingModel
from ranker.seeds import derive
from ranker.training.predict import predict
from ranker.training.rows.examples import Examples, read
from ranker.training.rows.packing import Packing
from ranker.training.step import program
from ranker.training.step.program import Program
from ranker.training.step.schedule import schedule
from tests.pipelines.prepare.small_log import read_rejected, read_rows
from tests.shapes.conftest import tree

USER = {"kind": "categorical", "role": "context", "hash_buckets": 16}
TIME = {"kind": "time", "role": "context", "utc_offset": 1}
HISTORY = {"kind": "sequence", "role": "context", "of": "doc", "last": 3}
ALL = {"features__user": USER, "features__time": TIME, "features__history": HISTORY}
ATTENTION = {**ALL, "features__history": {**HISTORY, "pool": "attention"}}


@pytest.fixture(scope="module")
def worked(work):
    return work(**ATTENTION)


@pytest.fixture(scope="module")
def encoder(worked):
    return FeatureEncoder(plan(worked.experiment, worked.run))


def ids_of(encoder, **raw):
    """The ids of one row, by column of the plan."""
    columns = {
        name: tf.constant([raw.get(name, "" if spec.dtype == tf.string else 0.0)], spec.dtype)
        for name, spec in encoder.raw_signature().items()
    }
    ids, result = encoder(columns)["ids"][0].numpy().tolist(), {}
    for column in encoder.inputs.embedded:
        result[column.name], ids = ids[: column.width], ids[column.width :]
    return result


def test_values_are_hashed_as_tensorflow_hashes_them(worked, encoder):
    assert not layout.vocabulary_path(worked.run, "user").exists()
    for user in ("u1", "u2", "never seen"):
        expected = 1 + int(tf.strings.to_hash_bucket_fast([user], 16)[0])
        assert ids_of(encoder, user=user)["user"] == [expected]
    assert ids_of(encoder, user="")["user"] == [0]
    [column] = [column for column in encoder.inputs.columns if column.name == "user"]
    assert column.size == 17


def test_a_sequence_holds_the_last_items_in_the_items_ids(encoder):
    doc = {name: ids_of(encoder, doc=name)["doc"][0] for name in ("d1", "d2", "d3", "d4", "new")}
    assert len(set(doc.values())) == 5
    history = ids_of(encoder, history="d4|d1||d2|d3|new")["history"]
    assert history == [doc["d2"], doc["d3"], doc["new"]]
    assert ids_of(encoder, history="d1")["history"] == [doc["d1"], 0, 0]
    assert ids_of(encoder, history="")["history"] == [0, 0, 0]


def test_prepared_times_are_seconds(worked):
    assert {row["time"] for row in read_rows(worked.run, "eval")} <= {
        str(1_700_000_000 + 3600 * request + 60 * place) for request in range(240) for place in range(1, 7)
    }


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0", datetime(1970, 1, 1)),
        ("1700000000", datetime(2023, 11, 14, 22, 13, 20)),
        ("-1", datetime(1969, 12, 31, 23, 59, 59)),
        ("1700000000.75", datetime(2023, 11, 14, 22, 13, 20)),
        ("2024-02-29", datetime(2024, 2, 29)),
        ("2024-02-29T23:59", datetime(2024, 2, 29, 23, 59)),
        ("2000-12-31 07:08:09.5", datetime(2000, 12, 31, 7, 8, 9)),
        ("2024-03-01T00:30:00+02:00", datetime(2024, 2, 29, 22, 30)),
        ("2024-03-01T23:30:00-0130", datetime(2024, 3, 2, 1)),
        ("2024-03-01T05:00:00Z", datetime(2024, 3, 1, 5)),
        ("1600-03-01T05:00:00Z", datetime(1600, 3, 1, 5)),
    ],
)
@pytest.mark.parametrize("offset", [0.0, 1.0, -5.5])
def test_parts_of_a_time(text, moment, offset):
    local = moment.replace(tzinfo=timezone.utc) + timedelta(hours=offset)
    assert time_part("hour", tf.constant([text]), offset).numpy().tolist() == [[1 + local.hour]]
    assert time_part("weekday", tf.constant([text]), offset).numpy().tolist() == [[1 + local.weekday()]]


def test_what_is_no_time_is_missing():
    texts = ["", "noon", "2024", "1700000000000", "2024-03", "12:30", "2024-03-01T", "nan", "inf", "--1"]
    for part in ("hour", "weekday"):
        ids = time_part(part, tf.constant(texts)).numpy()[:, 0].tolist()
        assert [bool(i) for i in ids] == [text == "2024" for text in texts]


def test_they_train_are_served_and_compared(worked):
    assert worked.quality["auc"] > 0.7
    rows = {
        "user": ["u1"] * 2,
        "age": [21.0] * 2,
        "doc": ["d1", "d11"],
        "topic": ["t1", "t3"],
        "price": [1.0, 11.0],
        "time": ["2024-03-01T05:00:00Z"] * 2,
        "history": [["d1", "d2"], []],
    }
    low, high = worked.scores(rows)
    assert 0 <= low < high <= 1
    assert worked.scores({**rows, "history": ["d1|d2", ""], "time": ["1709269200"] * 2}).tolist() == [
        low,
        high,
    ]
    candidates = {"doc": ["d1", "d11"], "topic": ["t1", "t3"], "price": [1.0, 11.0]}
    assert worked.ranking({"user": "u1", "history": ["d1"]}, candidates) == ["d11", "d1"]


@pytest.mark.parametrize("pool", ["mean", "attention"])
@pytest.mark.parametrize("interaction", ["concat", "dot", "cross"])
def test_the_trainer_and_the_served_model_compute_the_same(worked, pool, interaction):
    changes = {**ALL, "features__history": {**HISTORY, "pool": pool}}
    model = {"embedding_dim": 4, "hidden": [8], "interaction": interaction, "embedding_stddev": 1.0}
    experiment = build(tree(**changes, model=model), "test")
    inputs = plan(experiment, worked.run)
    architecture = design(inputs, experiment.model)
    weights = architecture.initialise(derive(1, 0, ()))
    served = RankingModel(architecture)
    served.assign(weights)
    shards = layout.shard_paths(worked.run, "train")
    rows = read(shards, inputs, weighted=False)
    some = Examples(ids=rows.ids[:50], dense=rows.dense[:50], label=rows.label[:50], weight=rows.weight[:50])
    expected = served({"ids": some.ids, "dense": some.dense}).numpy()[:, 0]
    # One forward computation, compiled twice.
    np.testing.assert_allclose(predict(architecture, weights, some), expected, atol=1e-6)
    packing = Packing(architecture, 128)
    assert ("doc" in packing.whole) == (pool == "mean")
    [again] = Program(architecture, experiment.training, [weights]).weights()
    assert all(np.array_equal(again[name], weights[name]) for name in weights)
    assert "embedding/history" not in weights


def test_attention_is_the_softmax_of_products(worked, encoder):
    architecture = design(encoder.inputs, worked.experiment.model)
    model = RankingModel(architecture)
    table = np.random.default_rng(0).normal(size=model.embeddings["doc"].embeddings.shape)
    model.embeddings["doc"].embeddings.assign(table)
    ids = {**ids_of(encoder, doc="d5", history="d1|d2")}
    row = tf.constant([[i for column in encoder.inputs.embedded for i in ids[column.name]]])
    place = [column.name for column in encoder.inputs.embedded].index("history")
    pooled = model.embed(row)[place].numpy()[0]
    values, query = table[ids["history"][:2]], table[ids["doc"][0]]
    shares = np.exp(values @ query / 2) / np.exp(values @ query / 2).sum()
    np.testing.assert_allclose(pooled, shares @ values, rtol=1e-5)
    empty = {**ids, "history": [0, 0, 0]}
    row = tf.constant([[i for column in encoder.inputs.embedded for i in empty[column.name]]])
    np.testing.assert_allclose(model.embed(row)[place].numpy()[0], table[0], rtol=1e-6)


def test_times_that_cannot_be_read_are_rejected(log_directory, tmp_path):
    text = (
        (log_directory / "log.csv")
        .read_text()
        .replace(",1700003660,", ",soon,")
        .replace(",1700007260,", ",,")
    )
    (tmp_path / "log.csv").write_text(text.replace(",1700010860,", ",1700010860000,"))
    prepare(build(tree(tmp_path, features__time=TIME), "test"), tmp_path / "run")
    reasons = [row["reason"] for row in read_rejected(tmp_path / "run")]
    assert reasons == [
        "time is not a time (seconds since 1970, or a date): 'soon'",
        "time is not a time (seconds since 1970, or a date): '1700010860000'",
    ]


def test_a_small_shared_table_trains_as_a_large_one(worked, monkeypatch):
    """Tables of a few rows are updated whole, inside the compiled step; both ways are the same sums in another order."""
    training = {"epochs": 1, "batch_size": 50, "optimizer": {"name": "adagrad", "learning_rate": 0.05}}
    experiment = build(tree(**ALL, model={"embedding_dim": 4, "hidden": [8]}, training=training), "test")
    inputs = plan(experiment, worked.run)
    architecture = design(inputs, experiment.model)
    start = architecture.initialise(derive(1, 0, ()))
    rows = read(layout.shard_paths(worked.run, "train"), inputs, weighted=False)
    order = tf.reshape(tf.range(50), [1, 1, 50])
    ends = []
    for whole in (128, 0):
        monkeypatch.setattr(program, "_WHOLE", whole)
        trained = Program(architecture, experiment.training, [start], averages=0)
        trained.run(rows, order, schedule(experiment.training, 1).tensors(0, 1))
        ends += trained.weights(None)
    changed = np.abs(ends[0]["embedding/doc"] - start["embedding/doc"]).max(axis=1)
    assert (changed > 0).sum() > 5
    for name, value in ends[0].items():
        np.testing.assert_allclose(value, ends[1][name], atol=2e-6, err_msg=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features__history": {**HISTORY, "of": "topics"}}, "features.history.of: must name"),
        ({"features__history": {**HISTORY, "of": "price"}}, "features.history.of: must name"),
        ({"features__history": {**HISTORY, "pool": "max"}}, "features.history.pool"),
        ({"features__user": {**USER, "min_count": 3}}, "features.user: min_count: is for a vocabulary"),
        ({"features__user": {**USER, "hash_buckets": 1}}, "features.user.hash_buckets"),
        (
            {"features__time": {**TIME, "parts": ["hour", "hour"]}},
            "features.time.parts: must not name a part twice",
        ),
        ({"features__time": {**TIME, "parts": ["minute"]}}, "features.time.parts"),
    ],
)
def test_wrong_combinations_are_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        build(tree(**changes), "test")
    assert "\n" not in str(error.value)
