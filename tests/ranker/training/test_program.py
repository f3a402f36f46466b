"""The training program against the Keras model, against itself alone, and against arithmetic."""

import numpy as np
import pytest

from ranker.architecture import design
from ranker.backend import keras, tf
from ranker.config import Model, Optimizer, Training
from ranker.inputs import plan
from ranker.layout import shard_paths
from ranker.model import RankingModel
from ranker.seeds import derive
from ranker.training.predict import predict
from ranker.training.rows.batches import batches
from ranker.training.rows.examples import read
from ranker.training.rows.feed import Part
from ranker.training.step.program import Program
from ranker.training.step.schedule import schedule
from ranker.training.step.stack import Stack
from ranker.training.step.stacking import Member, stack
from ranker.training.trainer import train
from tests.ranker.conftest import ROWS

FORMS = {
    "concat": {"hidden": (8, 4)},
    "cross": {"hidden": (8,), "interaction": "cross"},
    "dot": {"hidden": (8,), "interaction": "dot", "dense_hidden": (6,)},
    "plain relu": {"hidden": (8, 4), "wide": False, "normalization": "none", "activation": {"name": "relu"}},
    "rms": {
        "hidden": (8, 4),
        "normalization": "rms",
        "interaction": "dot",
        "dense_hidden": (6,),
        "activation": {"name": "smelu", "beta": 0.5, "centred": True},
    },
}


@pytest.fixture(scope="module")
def inputs(tiny, prepared):
    return plan(tiny, prepared)


@pytest.fixture(scope="module")
def examples(inputs, prepared):
    return read(shard_paths(prepared, "train"), inputs, weighted=False)


def model_of(form, **extra):
    return Model(**{"embedding_dim": 4, "embedding_stddev": 0.1, **FORMS[form], **extra})


def seeds(replica):
    return derive(7, replica, ["init", "shuffle"])


ONE_STEP = 2e-6
"""How far two programs for one arithmetic may be apart after one step from equal weights: they sum in different orders,
and so do two kinds of processors. A weight of size 1 has float32 spacing 1.2e-7. An Adagrad step moves it by at most 0.16
(0.05 over the root of the accumulator's start 0.1) times the gradient, whose terms LayerNorm multiplies by up to 32
(1 over the root of its epsilon 1e-3): 0.16 * 32 * 1.2e-7 = 6e-7 for one rounding, of which a sum has a few.

Several steps have no such bound. A bias before LayerNorm has a gradient that is nearly 0 by cancellation, and its
rounding grows several times a step. So these tests compare step by step, each from equal weights.
"""


def sequential(step, batch):
    """The rows of a step in their base order, for one tower."""
    return tf.range(step * batch, (step + 1) * batch, dtype=tf.int32)[tf.newaxis, tf.newaxis]


RULES = {
    "adagrad": ({}, lambda: keras.optimizers.Adagrad(0.05, initial_accumulator_value=0.1)),
    "sgd": ({"name": "sgd"}, lambda: keras.optimizers.SGD(0.05)),
    "momentum": ({"name": "sgd", "momentum": 0.9}, lambda: keras.optimizers.SGD(0.05, momentum=0.9)),
    "adam": ({"name": "adam", "beta_2": 0.99}, lambda: keras.optimizers.Adam(0.05, beta_2=0.99, epsilon=0.1)),
    "rmsprop": (
        {"name": "rmsprop", "rho": 0.8},
        lambda: keras.optimizers.RMSprop(0.05, rho=0.8, epsilon=0.1),
    ),
}


@pytest.mark.parametrize(
    ("form", "optimizer"), [*((form, "adagrad") for form in FORMS), *(("concat", o) for o in list(RULES)[1:])]
)
def test_steps_equal_keras_fit(form, optimizer, inputs, examples):
    architecture = design(inputs, model_of(form))
    settings, rule = RULES[optimizer]
    # An epsilon above the rounding of gradients: Adam divides by it where a gradient cancels to nearly 0.
    epsilon = {"epsilon": 0.1} if optimizer in ("adam", "rmsprop") else {}
    training = Training(epochs=1, batch_size=50, average_last=0, optimizer=Optimizer(**settings, **epsilon))
    start = architecture.initialise(seeds(0))
    program = Program(architecture, training, [start], averages=0)
    rates = schedule(training, 12)

    reference = RankingModel(architecture)
    reference.compile(optimizer=rule())
    for step in range(12):
        reference.assign(program.weights(None)[0])
        rows = sequential(step, 50)
        batch = examples.take(rows[0, 0])
        reference.train_on_batch({"ids": batch["ids"], "dense": batch["dense"]}, batch["label"])
        program.run(examples, rows, rates.tensors(step, step + 1))
        ours = program.weights(None)[0]
        for name, variable in reference.named_variables().items():
            # After a batch without a row, Keras' momentum of that row has decayed; ours is lazy.
            if name.startswith("embedding/") and optimizer in ("momentum", "adam") and step > 0:
                continue
            np.testing.assert_allclose(ours[name], variable.numpy(), atol=ONE_STEP, err_msg=f"{step} {name}")
    assert not np.allclose(ours["output/kernel"], start["output/kernel"])


@pytest.mark.parametrize("form", FORMS)
def test_batched_towers_equal_alone(form, inputs, examples):
    architecture = design(inputs, model_of(form))
    training = Training(epochs=1, batch_size=100, shuffle_window=64, average_last=0.3)
    started = [architecture.initialise(seeds(r)) for r in range(3)]
    together = Program(architecture, training, started)
    alone = Program(architecture, training, started[:1])
    order = batches(Part(0, 0, ROWS, 0, examples), ROWS, [training] * 3, [seeds(r) for r in range(3)])
    rates = schedule(training, len(order))
    for step in range(len(order)):
        before, now = together.state(), rates.tensors(step, step + 1)
        together.run(examples, tf.constant(order[step : step + 1]), now)
        for tower in range(3):
            # Of every variable a tower's part, towers one after the other: weights, slots, corrections, table rows.
            alone.restore({name: np.split(value, 3)[tower] for name, value in before.items()})
            alone.run(examples, tf.constant(order[step : step + 1, tower : tower + 1]), now)
            for average in (0, None):
                ours, theirs = together.weights(average)[tower], alone.weights(average)[0]
                for name in ours:
                    np.testing.assert_allclose(ours[name], theirs[name], atol=ONE_STEP, err_msg=name)
    final = together.weights(None)
    assert not np.allclose(final[0]["output/kernel"], final[1]["output/kernel"])


class _EndsOne:
    """Ends the second of three towers after its first epoch, and the others after their third."""

    def __init__(self, rows):
        self.held_out = np.zeros((3, rows), bool)
        self.measured = []

    @property
    def active(self):
        return np.array([len(self.measured) < 3, not self.measured, len(self.measured) < 3])

    def measure(self, weights, averages):
        self.measured.append(weights)

    def state(self):
        return {"measured": np.array(len(self.measured))}

    def restore(self, state):
        raise NotImplementedError


def test_a_tower_that_has_ended_stays_as_it_is(inputs, examples):
    """The others have the bytes that they have without it."""
    architecture = design(inputs, model_of("concat"))
    training = Training(epochs=9, batch_size=100, shuffle_window=64, average_last=0)
    members = [Member(architecture, training, seeds(i)) for i in range(3)]
    ends_one = _EndsOne(ROWS)
    trained = train(stack(members, 2), examples, training, [seeds(i) for i in range(3)], validation=ends_one)
    after = [epoch[1] for epoch in ends_one.measured]
    for name, value in after[0].items():
        np.testing.assert_array_equal(after[-1][name], value)
        np.testing.assert_array_equal(trained.weights[1][name], value)
    assert np.isnan(trained.curve[1:, 1]).all()
    assert np.isfinite(np.delete(trained.curve, 1, axis=1)).all()
    assert len(trained.curve) == 3
    short = training.model_copy(update={"epochs": 3})
    alone = train(stack(members[2:]), examples, short, [seeds(2)])
    for name, value in alone.weights[0].items():
        np.testing.assert_array_equal(trained.weights[2][name], value)


def test_a_stack_of_different_trainings_gives_each_the_bytes_it_has_alone(inputs, examples):
    architecture = design(inputs, model_of("concat"))
    trainings = [
        Training(epochs=1, batch_size=50, shuffle_window=64, average_last=0.3),
        Training(epochs=1, batch_size=50, shuffle_window="full", optimizer=Optimizer(learning_rate=0.1)),
        Training(epochs=1, batch_size=50, shuffle_window=1, average_last=0, ema=0.9),
    ]

    def programs():
        made: list[Program] = []
        for r, training in enumerate(trainings):
            start = architecture.initialise(seeds(r))
            made.append(Program(architecture, training, [start], like=made[0] if made else None))
        return made

    together = train(Stack(programs(), lanes=2), examples, trainings, [seeds(r) for r in range(3)]).weights
    for r, (program, training) in enumerate(zip(programs(), trainings, strict=True)):
        alone = train(program, examples, training, [seeds(r)]).weights[0]
        assert all(together[r][name].tobytes() == value.tobytes() for name, value in alone.items())


def test_same_seeds_give_the_same_bytes(inputs, examples):
    architecture = design(inputs, model_of("concat"))
    training = Training(epochs=1, batch_size=50)

    def once():
        program = Program(architecture, training, [architecture.initialise(seeds(0))])
        return train(program, examples, training, [seeds(0)]).weights[0]

    first, second = once(), once()
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_averages_are_those_of_the_iterates(inputs, examples):
    """One program keeps several averages; each is compared with the weights that the same program had after each step."""
    architecture = design(inputs, model_of("concat"))
    recipes = [{"average_last": 0.4}, {"average_last": 0.0, "ema": 0.8}, {"average_last": 0.1}]
    averages = [Training(epochs=1, batch_size=60, **recipe) for recipe in recipes]
    start = architecture.initialise(seeds(0))
    member = Member(architecture, averages[0], seeds(0), tuple(averages))
    program = stack([member, Member(architecture, averages[1], seeds(1))], lanes=2).programs[0]
    rates = schedule(averages[0], 10, averages)
    iterates = [start]
    for step in range(10):
        program.run(examples, sequential(step, 60), rates.tensors(step, step + 1))
        iterates.append(program.weights(None)[0])
    # Sums of ten float32 updates in another order: a few spacings of a weight, 1.2e-7 at size 1.
    for name in start:
        moving = start[name]
        for iterate in iterates[1:]:
            moving = 0.8 * moving + 0.2 * iterate[name]
        expected = [np.mean([w[name] for w in iterates[-4:]], axis=0), moving, iterates[-1][name]]
        for average, value in enumerate(expected):
            np.testing.assert_allclose(program.weights(average)[0][name], value, atol=2e-6, err_msg=name)


def test_training_returns_the_average_of_its_recipe(inputs, examples):
    architecture = design(inputs, model_of("concat"))
    averages = [
        Training(epochs=1, batch_size=60, average_last=0.4),
        Training(epochs=1, batch_size=60, average_last=0, ema=0.8),
    ]
    kept = stack([Member(architecture, averages[0], seeds(0), tuple(averages))])
    trained = train(kept, examples, averages[0], [seeds(0)], averages=[averages])
    last, first, second = (kept.programs[0].weights(average)[0]["output/kernel"] for average in (None, 0, 1))
    np.testing.assert_array_equal(trained.weights[0]["output/kernel"], first)
    assert len({last.tobytes(), first.tobytes(), second.tobytes()}) == 3


def test_a_killed_training_resumes_to_the_same_bytes(inputs, examples, tmp_path, monkeypatch):
    monkeypatch.setattr("ranker.training.trainer._STEPS_A_CALL", 3)
    architecture = design(inputs, model_of("concat"))
    training = Training(batch_size=50, epochs=2, checkpoint_minutes=1e-9)
    whole = train(
        Program(architecture, training, [architecture.initialise(seeds(0))]), examples, training, [seeds(0)]
    )

    class KilledError(Exception):
        pass

    def kill_late(progress):
        if progress.step >= 15:
            raise KilledError

    monkeypatch.setattr("ranker.training.trainer._REPORT_SECONDS", 0.0)
    checkpoint = tmp_path / "checkpoint.npz"
    program = Program(architecture, training, [architecture.initialise(seeds(0))])
    with pytest.raises(KilledError):
        train(program, examples, training, [seeds(0)], checkpoint, kill_late)
    assert checkpoint.exists()
    fresh = Program(architecture, training, [architecture.initialise(seeds(0))])
    resumed = train(fresh, examples, training, [seeds(0)], checkpoint)
    assert all(resumed.weights[0][n].tobytes() == v.tobytes() for n, v in whole.weights[0].items())


def test_weights_weigh(inputs, examples):
    """A row of weight 2 pulls like two rows; rows of weight 0 do not pull at all."""
    architecture = design(inputs, model_of("concat", activation={"name": "smelu", "beta": 1.0}))
    training = Training(
        epochs=1, batch_size=4, average_last=0, optimizer=Optimizer(name="sgd", learning_rate=1.0)
    )
    start = architecture.initialise(seeds(0))

    def step(positions, weights):
        from ranker.training.rows.examples import Examples

        rows = np.array(positions)
        part = Examples(
            ids=examples.ids.numpy()[rows],
            dense=examples.dense.numpy()[rows],
            label=examples.label.numpy()[rows],
            weight=np.array(weights, np.float32),
        )
        program = Program(architecture, training, [start], averages=0)
        order = np.arange(len(rows), dtype=np.int32).reshape(1, 1, -1)
        program.run(part, tf.constant(order), schedule(training, 1).tensors(0, 1))
        return program.weights()[0]["output/kernel"]

    doubled, repeated = step([0, 1, 2, 3], [2, 1, 1, 0]), step([0, 0, 1, 2], [1, 1, 1, 1])
    np.testing.assert_allclose(doubled, repeated, atol=1e-6)
    assert not np.allclose(doubled, step([0, 1, 2, 3], [1, 1, 1, 1]), atol=1e-6)


def test_shared_tables_are_one_table(inputs, examples):
    architecture = design(inputs, model_of("concat"))
    training = Training(epochs=1, batch_size=50)
    started = [architecture.initialise(seeds(r)) for r in range(2)]
    program = Program(architecture, training, started, tables=[0, 0])
    first, second = train(program, examples, training, [seeds(0)] * 2).weights
    assert first["embedding/item"].tobytes() == second["embedding/item"].tobytes()
    assert not np.allclose(first["output/kernel"], second["output/kernel"])


def test_weight_decay_shrinks_the_kernels_alone(inputs, examples):
    architecture = design(inputs, model_of("cross"))
    start = architecture.initialise(seeds(0))

    def step(weight_decay):
        optimizer = Optimizer(name="sgd", learning_rate=0.5, weight_decay=weight_decay)
        training = Training(epochs=1, batch_size=50, optimizer=optimizer)
        program = Program(architecture, training, [start])
        program.run(examples, sequential(0, 50), schedule(training, 1).tensors(0, 1))
        return program.weights(None)[0]

    plain, decayed = step(0.0), step(0.2)
    for name, value in start.items():
        shrunk = 0.5 * 0.2 * value if name.endswith("/kernel") else 0.0
        np.testing.assert_allclose(plain[name] - decayed[name], shrunk, atol=ONE_STEP, err_msg=name)


def test_sharpness_takes_the_gradient_uphill(inputs, examples):
    architecture = design(inputs, model_of("cross"))
    start = architecture.initialise(seeds(0))
    rate, length = 0.5, 0.3

    def step(weights, sharpness):
        optimizer = Optimizer(name="sgd", learning_rate=rate, sharpness=sharpness)
        training = Training(epochs=1, batch_size=50, optimizer=optimizer)
        program = Program(architecture, training, [weights])
        program.run(examples, sequential(0, 50), schedule(training, 1).tensors(0, 1))
        after = program.weights(None)[0]
        return {name: after[name] - value for name, value in weights.items()}

    downhill = step(start, 0.0)
    size = np.sqrt(sum(np.square(change).sum() for change in downhill.values()))
    uphill = {name: value - length * downhill[name] / size for name, value in start.items()}
    expected, changes = step(uphill, 0.0), step(start, length)
    for name in start:
        # Differences of weights near 1 lose 1e-7 of their gradient, twice; LayerNorm multiplies by up to 32.
        np.testing.assert_allclose(changes[name], expected[name], atol=1e-5, err_msg=name)
    assert max(np.abs(changes[name] - downhill[name]).max() for name in start) > 1e-3


def test_dropout_is_seeded_by_replica_and_step_and_ends_with_training(inputs, examples):
    architecture = design(inputs, model_of("concat", dropout=0.5))
    training = Training(epochs=1, batch_size=100, average_last=0)
    start = architecture.initialise(seeds(0))

    def trained(noise):
        programs = Program(architecture, training, [start] * len(noise), noise=noise)
        return train(programs, examples, training, [seeds(0)] * len(noise)).weights

    (first,), (again,), (other,) = trained([1]), trained([1]), trained([2])
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    assert not np.allclose(first["output/kernel"], other["output/kernel"])
    # A tower of a batch drops what it drops alone: six steps without dropout in common would end elsewhere.
    batched = trained([2, 1])
    np.testing.assert_allclose(batched[1]["output/kernel"], first["output/kernel"], atol=1e-3)
    assert not np.allclose(batched[0]["output/kernel"], batched[1]["output/kernel"], atol=1e-3)
    model = RankingModel(architecture)
    model.assign(first)
    features = {"ids": examples.ids, "dense": examples.dense}
    np.testing.assert_array_equal(model(features), model(features))
    assert not np.array_equal(model(features, training=True), model(features, training=True))
    np.testing.assert_allclose(model(features)[:, 0], predict(architecture, first, examples), atol=1e-6)
