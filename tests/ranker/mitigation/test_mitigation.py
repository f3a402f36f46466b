"""The recipes beside the activation: what they minimise, what they export, what they cost."""

import numpy as np
import pytest

from ranker import layout
from ranker.architecture import design
from ranker.backend import tf
from ranker.config import build
from ranker.divergence import auc
from ranker.errors import UserError
from ranker.inputs import plan
from ranker.mitigation import cost, learn, predict, serving
from ranker.mitigation.objectives import anti_distillation, codistillation
from ranker.mitigation.recipes import components
from ranker.seeds import Seeds, derive
from ranker.training.rows.examples import read
from ranker.training.step.objective import cross_entropy
from tests.ranker.conftest import tiny_tree

RECIPES = {
    "ensemble": {"name": "ensemble", "components": 2},
    "self_ensemble": {"name": "self_ensemble", "components": 2, "decorrelation": 0.1},
    "codistillation": {"name": "codistillation"},
    "distillation": {"name": "distillation", "components": 2},
    "anchor": {"name": "anchor"},
    "anchor chain": {"name": "anchor", "chain": 2},
}


def experiment(mitigation, **training):
    tree = tiny_tree() | {"mitigation": mitigation, "replicas": {"count": 2, "vary": ["init", "shuffle"]}}
    tree["training"] = {"epochs": 1, "batch_size": 100, "shuffle_window": 64} | training
    tree["model"] = tree["model"] | {"embedding_stddev": 0.1}
    return build(tree, "test")


@pytest.fixture(scope="module")
def inputs(tiny, prepared):
    return plan(tiny, prepared)


@pytest.fixture(scope="module")
def examples(inputs, prepared):
    return read(layout.shard_paths(prepared, "train"), inputs, weighted=False)


def rows_of(label, share=None):
    label = tf.constant(label, tf.float32)
    share = tf.fill(label.shape, 1 / label.shape[1]) if share is None else share
    return {"label": label, "weight": tf.ones_like(label), "share": share, "done": tf.constant(1.0)}


def test_anti_distillation_is_the_mean_squared_correlation():
    logits = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    rows = rows_of(np.tile(np.arange(50) % 2, (3, 1)))
    excess = tf.reduce_sum(anti_distillation(1.0)(tf.constant(logits), rows) - cross_entropy(logits, rows))
    correlation = np.corrcoef(logits)[np.triu_indices(3, 1)]
    assert float(excess) == pytest.approx(np.mean(correlation**2), abs=1e-5)


def test_anti_distillation_of_copies_is_its_strength():
    logits = tf.constant(np.tile(np.linspace(-1, 1, 20), (2, 1)), tf.float32)
    rows = rows_of(np.tile(np.arange(20) % 2, (2, 1)))
    excess = tf.reduce_sum(anti_distillation(0.7)(logits, rows) - cross_entropy(logits, rows))
    assert float(excess) == pytest.approx(0.7, abs=1e-4)


def test_codistillation_pulls_only_on_a_replicas_own_batch():
    random = np.random.default_rng(1)
    logits = tf.Variable(random.normal(size=(2, 6)).astype(np.float32))
    rows = rows_of(random.integers(0, 2, (1, 6)).repeat(2, axis=0))
    with tf.GradientTape() as tape:
        losses = codistillation(2, weight=2.0, burn_in=0.0)(logits, rows)
    gradient = tape.gradient(losses, logits).numpy()
    label, p = rows["label"].numpy(), tf.sigmoid(logits).numpy()
    expected = np.zeros((2, 6))
    for t, rows_of_tower in ((0, slice(0, 3)), (1, slice(3, 6))):
        expected[t, rows_of_tower] = (
            (p - label)[t, rows_of_tower] + 2.0 * (p[t, rows_of_tower] - p[1 - t, rows_of_tower])
        ) / 3
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_codistillation_burns_in():
    logits = tf.constant(np.random.default_rng(1).normal(size=(2, 6)), tf.float32)
    rows = rows_of(np.zeros((2, 6))) | {"done": tf.constant(0.05)}
    alone = codistillation(2, weight=5.0, burn_in=0.1)(logits, rows)
    np.testing.assert_allclose(alone, codistillation(2, weight=1e-9, burn_in=0.0)(logits, rows), atol=1e-6)


def test_components_differ_in_the_initialisation_only():
    first, *rest = components(Seeds(init=5, shuffle=6), 3)
    assert first == Seeds(5, 6)
    assert len({s.init for s in (first, *rest)}) == 3
    assert {s.shuffle for s in rest} == {6}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_learns_and_costs(name, prepared, inputs, examples):
    recipe = experiment(RECIPES[name], batch_size=10, epochs=6, optimizer={"learning_rate": 0.3})
    architecture = design(inputs, recipe.model)
    replicas = [derive(1, i, recipe.replicas.vary) for i in range(2)]
    learned = learn(recipe, prepared, architecture, examples, replicas)
    assert len(learned) == 2
    count = 2 if "ensemble" in name else 1
    parameters = sum(weight.size for weight in learned[0].components[0].values())
    embeddings = sum(v.size for n, v in learned[0].components[0].items() if n.startswith("embedding/"))
    label = examples.label.numpy()
    for replica in learned:
        scores = predict(architecture, replica.components, examples)
        assert auc(label, scores) > 0.55
        costs = cost(architecture, replica, serving(architecture, replica, examples, repeats=2))
        assert costs.parameters == count * parameters - (embeddings if name == "self_ensemble" else 0)
        assert 0 < costs.serving_milliseconds < 10_000
        assert costs.lookups == inputs.id_width * (2 if name == "ensemble" else 1)
    assert (
        np.abs(np.diff([predict(architecture, r.components, examples) for r in learned], axis=0)).max() > 1e-4
    )


def test_an_ensembles_first_component_is_the_plain_replica(prepared, inputs, examples):
    architecture = design(inputs, experiment(None).model)
    seeds = derive(1, 0, ["init"])
    plain = learn(experiment(None), prepared, architecture, examples, [seeds])[0].components[0]
    ensemble = learn(experiment(RECIPES["ensemble"]), prepared, architecture, examples, [seeds], lanes=2)[0]
    assert all(plain[name].tobytes() == ensemble.components[0][name].tobytes() for name in plain)


def test_an_anchor_that_is_a_replica_already_has_no_chain():
    with pytest.raises(UserError, match=r"chain must be 1 .*Received: chain=2"):
        experiment({"name": "anchor", "replica": "replicas/plain/0", "chain": 2})


def test_the_second_anchor_of_a_chain_learns_from_the_first(prepared, inputs, examples):
    architecture = design(inputs, experiment(None).model)
    seeds = derive(1, 0, ["init"])
    predictions = [
        predict(
            architecture,
            learn(
                experiment({"name": "anchor", "weight": 1.0, "chain": chain}),
                prepared,
                architecture,
                examples,
                [seeds],
            )[0].components,
            examples,
        )
        for chain in (1, 2)
    ]
    assert np.abs(predictions[0] - predictions[1]).max() > 1e-5


def test_an_anchor_that_is_not_there_is_named(prepared, inputs, examples):
    anchored = experiment({"name": "anchor", "replica": "replicas/nobody/0"})
    with pytest.raises(UserError, match="replicas/nobody/0"):
        learn(anchored, prepared, design(inputs, anchored.model), examples, [derive(1, 0, [])])
