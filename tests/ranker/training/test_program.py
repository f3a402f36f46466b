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
from ranker.training.examples import read
from ranker.training.program import Program
from ranker.training.schedule import schedule
from ranker.training.stack import Stack
from ranker.training.stacking import Member, stack
from ranker.training.trainer import train

FORMS = {
    "concat": {"hidden": (8, 4)},
    "cross": {"hidden": (8,), "interaction": "cross"},
    "dot": {"hidden": (8,), "interaction": "dot", "dense_hidden": (6,)},
    "plain relu": {"hidden": (8, 4), "normalization": "none", "activation": {"name": "relu"}},
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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("optimizer", ["adagrad", "sgd"])
def test_steps_equal_keras_fit(form, optimizer, inputs, examples):
    architecture = design(inputs, model_of(form))
    training = Training(batch_size=50, shuffle_window=1, average_last=0, optimizer=Optimizer(name=optimizer))
    start = architecture.initialise(seeds(0))
    program = Program(architecture, training, [start], averages=0)
    ours = train(program, examples, training, [seeds(0)]).weights[0]

    reference = RankingModel(architecture)
    reference.assign(start)
    rule = {
        "adagrad": lambda: keras.optimizers.Adagrad(0.05, initial_accumulator_value=0.1),
        "sgd": lambda: keras.optimizers.SGD(0.05),
    }[optimizer]()
    reference.compile(optimizer=rule)
    features = {"ids": examples.ids, "dense": examples.dense}
    rows = tf.data.Dataset.from_tensor_slices((features, examples.label)).batch(50)
    reference.fit(rows, epochs=1, verbose=0)
    for name, variable in reference.named_variables().items():
        np.testing.assert_allclose(ours[name], variable.numpy(), atol=2e-5, err_msg=name)
    assert not np.allclose(ours["output/kernel"], start["output/kernel"])


@pytest.mark.parametrize("form", FORMS)
def test_batched_towers_equal_alone(form, inputs, examples):
    architecture = design(inputs, model_of(form))
    # One short epoch, and not the last digits: the two programs round differently in the last bit, and training
    # amplifies rounding. A stack of programs, below, is exact.
    training = Training(batch_size=100, shuffle_window=64, average_last=0.3)
    started = [architecture.initialise(seeds(r)) for r in range(3)]
    program = Program(architecture, training, started)
    together = train(program, examples, training, [seeds(r) for r in range(3)]).weights
    model = RankingModel(architecture)

    def predict(weights):
        model.assign(weights)
        return model({"ids": examples.ids, "dense": examples.dense}).numpy()

    like = None
    for r in range(3):
        like = Program(architecture, training, [started[r]], like=like)
        alone = train(like, examples, training, [seeds(r)]).weights[0]
        np.testing.assert_allclose(predict(together[r]), predict(alone), atol=1e-4)
    assert not np.allclose(together[0]["output/kernel"], together[1]["output/kernel"])


def test_a_stack_of_different_trainings_gives_each_the_bytes_it_has_alone(inputs, examples):
    architecture = design(inputs, model_of("concat"))
    trainings = [
        Training(batch_size=50, shuffle_window=64, average_last=0.3),
        Training(batch_size=50, shuffle_window="full", optimizer=Optimizer(learning_rate=0.1)),
        Training(batch_size=50, shuffle_window=1, average_last=0, ema=0.9),
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
    training = Training(batch_size=50)

    def once():
        program = Program(architecture, training, [architecture.initialise(seeds(0))])
        return train(program, examples, training, [seeds(0)]).weights[0]

    first, second = once(), once()
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


@pytest.mark.parametrize("recipe", [{"average_last": 0.4}, {"average_last": 0, "ema": 0.8}])
def test_averaged_weights_are_the_average_of_the_iterates(recipe, inputs, examples):
    architecture = design(inputs, model_of("concat"))
    training = Training(batch_size=60, shuffle_window=1, **recipe)
    start = architecture.initialise(seeds(0))
    averaged = train(Program(architecture, training, [start]), examples, training, [seeds(0)]).weights[0]

    program = Program(architecture, training, [start])
    iterates = [start]
    for step in range(10):
        order = np.arange(60 * step, 60 * step + 60, dtype=np.int32).reshape(1, 1, 60)
        program.run(examples, tf.constant(order), schedule(training, 10).tensors(step, step + 1))
        iterates.append(program.weights(None)[0])
    for name in start:
        if "ema" in recipe:
            expected = start[name]
            for iterate in iterates[1:]:
                expected = 0.8 * expected + 0.2 * iterate[name]
        else:
            expected = np.mean([iterate[name] for iterate in iterates[-4:]], axis=0)
        np.testing.assert_allclose(averaged[name], expected, atol=1e-5, err_msg=name)


def test_one_training_keeps_several_averages(inputs, examples):
    architecture = design(inputs, model_of("concat"))
    recipes = [{"average_last": 0.4}, {"average_last": 0.0, "ema": 0.8}, {"average_last": 0.1}]
    averages = [Training(batch_size=60, **recipe) for recipe in recipes]
    members = [Member(architecture, averages[0], seeds(0), tuple(averages))]
    members.append(Member(architecture, averages[1], seeds(1)))
    kept = stack(members, lanes=2)
    train(kept, examples, [averages[0], averages[1]], [seeds(0), seeds(1)], averages=[averages, []])
    for i, own in enumerate(averages):
        alone = stack([Member(architecture, own, seeds(0))])
        train(alone, examples, own, [seeds(0)])
        for average in (i, None):
            ours = kept.programs[0].weights(average)[0]
            theirs = alone.weights(None if average is None else 0)[0]
            for name, value in theirs.items():
                np.testing.assert_allclose(ours[name], value, atol=1e-6, err_msg=name)


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
    training = Training(batch_size=4, average_last=0, optimizer=Optimizer(name="sgd", learning_rate=1.0))
    start = architecture.initialise(seeds(0))

    def step(positions, weights):
        from ranker.training.examples import Examples

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
    training = Training(batch_size=50)
    started = [architecture.initialise(seeds(r)) for r in range(2)]
    program = Program(architecture, training, started, tables=[0, 0])
    first, second = train(program, examples, training, [seeds(0)] * 2).weights
    assert first["embedding/item"].tobytes() == second["embedding/item"].tobytes()
    assert not np.allclose(first["output/kernel"], second["output/kernel"])
