"""What is served is what was trained: the SavedModel's signatures on raw rows."""

import json

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from ranker.architecture import design
from ranker.backend import tf
from ranker.export import byte_order
from ranker.features import FeatureEncoder
from ranker.inputs import plan
from ranker.model import RankingModel
from ranker.seeds import ReplicaSpec, derive
from ranker.training.replica import describe
from tests.ranker.conftest import export_weights, raw_rows


@pytest.fixture(scope="module")
def exported(tiny, prepared, tmp_path_factory):
    inputs = plan(tiny, prepared)
    spec = ReplicaSpec("smelu", 0, derive(1, 0, ["shuffle"]))
    weights = design(inputs, tiny.model).initialise(spec.seeds)
    # Larger than fresh embeddings, so that scores differ clearly.
    weights = {name: 30 * v if name.startswith("embedding") else v for name, v in weights.items()}
    directory = tmp_path_factory.mktemp("export") / "1"
    identity = describe(tiny, spec, inputs, {"fingerprint": "tiny"}, 1)
    export_weights(tiny, prepared, inputs, weights, identity, directory)
    model = RankingModel(design(inputs, tiny.model))
    model.assign(weights)
    encoder = FeatureEncoder(inputs)
    return directory, lambda raw: model(encoder(tensors(raw))).numpy()


def tensors(raw):
    return {n: tf.constant(v, tf.float32 if isinstance(v, np.ndarray) else tf.string) for n, v in raw.items()}


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_scores_equal_the_models(exported, batch):
    directory, score = exported
    served = tf.saved_model.load(str(directory)).signatures["serving_default"]
    raw = raw_rows(batch, seed=batch)
    result = served(**tensors(raw))["score"].numpy()
    assert result.shape == (batch, 1)
    np.testing.assert_allclose(result, score(raw), atol=1e-6)


def test_missing_and_unknown_values_have_scores(exported):
    directory, _ = exported
    served = tf.saved_model.load(str(directory)).signatures["serving_default"]
    raw = {
        "user": ["", "nobody"],
        "age": np.array([np.nan, 1e9], np.float32),
        "item": ["", "?"],
        "tags": ["", "|||"],
        "price": np.array([np.nan, -5], np.float32),
    }
    assert np.all(np.isfinite(served(**tensors(raw))["score"].numpy()))


def test_rank_sorts_by_score_then_item(exported):
    directory, score = exported
    served = tf.saved_model.load(str(directory)).signatures["rank"]
    raw = raw_rows(40, seed=3)
    raw["item"] = [f"unknown-item-{i % 23}-{'x' * (i % 5)}" for i in range(40)]  # unknown items tie
    context = {"user": raw["user"][:1], "age": raw["age"][:1]}
    result = served(**tensors({**raw, **context}))
    rows = {**raw, "user": context["user"] * 40, "age": np.repeat(context["age"], 40)}
    expected = sorted(zip(-score(rows)[:, 0], raw["item"], strict=True))
    assert [item.decode() for item in result["item_id"].numpy()] == [item for _, item in expected]
    assert np.all(np.diff(result["score"].numpy()) <= 0)
    assert len({s for s, _ in expected}) < 40


def test_byte_order_is_code_point_order():
    texts = ["", "b", "a", "ab", "abcdefgh", "abcdefga", "z" * 50, "z" * 49, "é", "e", "日本", "a"]
    order = tf.function(byte_order)(tf.constant(texts)).numpy()
    assert [texts[i] for i in order] == sorted(texts)
    assert tf.function(byte_order)(tf.constant([], tf.string)).numpy().tolist() == []


def test_regress_reads_examples(exported):
    directory, score = exported
    served = tf.saved_model.load(str(directory)).signatures["regress"]
    raw = raw_rows(5, seed=4)

    def example(i):
        feature = {}
        for name, values in raw.items():
            if isinstance(values, np.ndarray):
                feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=[values[i]]))
            elif values[i]:  # an empty value may also be left out
                feature[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[values[i].encode()]))
        return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()

    result = served(inputs=tf.constant([example(i) for i in range(5)]))["outputs"].numpy()
    np.testing.assert_allclose(result, score(raw), atol=1e-6)
    meta = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes()).meta_graphs[0]
    assert meta.signature_def["regress"].method_name == "tensorflow/serving/regress"


def test_signatures_take_raw_columns_and_no_label(exported, tiny):
    loaded = tf.saved_model.load(str(exported[0]))
    assert set(loaded.signatures) == {"serving_default", "rank", "regress", "describe"}
    taken = loaded.signatures["serving_default"].structured_input_signature[1]
    assert {n: s.dtype for n, s in taken.items()} == {
        "user": tf.string,
        "item": tf.string,
        "tags": tf.string,
        "age": tf.float32,
        "price": tf.float32,
    }


def test_says_who_it_is(exported):
    directory, _ = exported
    description = tf.saved_model.load(str(directory)).signatures["describe"]()["description"].numpy()
    told = json.loads(description)
    assert (told["arm"], told["replica"], told["version"], told["data"]) == ("smelu", 0, 1, "tiny")
    assert told == json.loads((directory / "assets.extra" / "replica.json").read_text())


def test_warm_up_records_are_requests_the_signature_takes(exported):
    directory, _ = exported
    served = tf.saved_model.load(str(directory)).signatures["serving_default"]
    path = str(directory / "assets.extra" / "tf_serving_warmup_requests")
    logs = [prediction_log_pb2.PredictionLog.FromString(r.numpy()) for r in tf.data.TFRecordDataset(path)]
    sizes = []
    for log in logs:
        inputs = log.predict_log.request.inputs
        raw = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in inputs.items()}
        sizes.append(served(**raw)["score"].shape[0])
    assert sizes == [1, 8]
