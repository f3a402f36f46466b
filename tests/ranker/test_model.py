"""The Keras model: shapes at every batch size, weights that weigh, every interaction."""

import numpy as np
import pytest

from ranker.architecture import design
from ranker.backend import keras, tf
from ranker.config import Model
from ranker.errors import UserError
from ranker.inputs import plan
from ranker.model import RankingModel
from ranker.seeds import derive

FORMS = {
    "concat": {},
    "cross": {"interaction": "cross", "cross_layers": 2},
    "dot": {"interaction": "dot", "dense_hidden": (6,)},
    "no wide part": {"wide": False},
    "no normalization": {"normalization": "none", "activation": {"name": "relu"}},
    "rms": {"normalization": "rms", "interaction": "dot", "dense_hidden": (6,)},
}


@pytest.fixture(scope="module")
def inputs(tiny, prepared):
    return plan(tiny, prepared)


def built(inputs, **form):
    return RankingModel(design(inputs, Model(embedding_dim=4, hidden=(8, 4), **form)))


def rows(inputs, count, seed=0):
    random = np.random.default_rng(seed)
    sizes = np.concatenate([[c.size] * c.width for c in inputs.embedded])
    return {
        "ids": tf.constant(random.integers(0, sizes, (count, len(sizes))), tf.int32),
        "dense": tf.constant(random.normal(size=(count, inputs.dense_width)), tf.float32),
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_predictions_are_probabilities_of_shape_batch_by_one(inputs, form, batch):
    predictions = built(inputs, **FORMS[form])(rows(inputs, batch)).numpy()
    assert predictions.shape == (batch, 1)
    assert np.all((predictions > 0) & (predictions < 1))


@pytest.mark.parametrize("form", FORMS)
def test_every_weight_has_a_name_and_is_assigned(inputs, form):
    model = built(inputs, **FORMS[form])
    weights = model.architecture.initialise(derive(1, 0, ["init"]))
    assert {n: tuple(v.shape) for n, v in model.named_variables().items()} == model.architecture.shapes()
    assert len(model.named_variables()) == len(model.trainable_variables)
    model.assign(weights)
    assert all(np.array_equal(v.numpy(), weights[n]) for n, v in model.named_variables().items())


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_sample_weights_weigh_in_both_shapes(inputs, shape):
    model = built(inputs)
    features = rows(inputs, 4)
    labels = np.array([1, 0, 1, 0], np.float32)
    weights = np.array([3, 0, 1, 0.5], np.float32)
    loss = model.compute_loss((features, labels.reshape(shape), weights.reshape(shape))).numpy()
    p = model(features).numpy()[:, 0].astype(np.float64)
    each = -(labels * np.log(p) + (1 - labels) * np.log(1 - p))
    assert loss == pytest.approx((weights * each).mean(), rel=1e-5)
    assert model.compute_loss((features, labels)).numpy() == pytest.approx(each.mean(), rel=1e-5)


def test_fit_learns_with_batches_of_one(inputs):
    model = built(inputs)
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    data = tf.data.Dataset.from_tensor_slices((rows(inputs, 5), np.ones(5, np.float32))).batch(1)
    first, last = model.fit(data, epochs=6, verbose=0).history["loss"][::5]
    assert last < first


def test_dot_needs_vectors_of_one_length(tiny, prepared):
    tree = tiny.model_dump(mode="json")
    tree["features"]["user"]["embedding_dim"] = 8
    from ranker.config import build

    mixed = build(tree, "mixed")
    with pytest.raises(UserError, match=r"one length. Received: \[4, 8\]"):
        design(plan(mixed, prepared), Model(embedding_dim=4, interaction="dot"))
    assert design(plan(mixed, prepared), Model(embedding_dim=4)).shapes()["embedding/user"][1] == 8
