"""Steady Ranker's compiled program: `ours.py OPTIMIZER VOCABULARY [trace]`."""

import sys

import numpy as np
from load import ACCUMULATOR, BATCH, BOTTOM, DENSE, DIM, EPSILON, IDS, RATE, ROWS, STEPS, TOP, rows, serve

from ranker.architecture import design
from ranker.backend import tf
from ranker.config import Categorical, Model, Numeric, Optimizer, Training
from ranker.inputs import Column, Inputs
from ranker.seeds import derive
from ranker.training.rows.examples import Examples
from ranker.training.step.program import Program
from ranker.training.step.schedule import schedule


def main(optimizer: str, vocabulary: int, trace: str | None = None) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    token, number = Categorical(kind="categorical", role="item"), Numeric(kind="numeric", role="item")
    columns = [Column(f"id{i}", token, 1, vocabulary, DIM) for i in range(IDS)]
    columns += [Column(f"number{i}", number, 0, 0, 0) for i in range(DENSE)]
    model = Model(
        embedding_dim=DIM,
        interaction="dot",
        dense_hidden=BOTTOM,
        hidden=TOP[:-1],
        wide=False,
        normalization="none",
        activation={"name": "relu"},
    )
    rule = Optimizer(name=optimizer, learning_rate=RATE, initial_accumulator=ACCUMULATOR, epsilon=EPSILON)
    training = Training(batch_size=BATCH, average_last=0, optimizer=rule)
    architecture = design(Inputs(tuple(columns), "", ""), model)
    dense, ids, label = rows(vocabulary)
    # A number comes with its missing indicator: 26 columns where the others have 13.
    data = Examples(
        ids=ids, dense=np.hstack([dense, np.zeros_like(dense)]), label=label, weight=np.ones_like(label)
    )
    weights = architecture.initialise(derive(1, 0, []))
    program = Program(architecture, training, [weights], averages=0)
    del weights
    order = np.arange(ROWS, dtype=np.int32).reshape(-1, 1, BATCH)
    times, at = schedule(training, 1_000_000), 0

    def advance(steps: int) -> float:
        nonlocal at
        chosen = order[np.arange(at, at + steps) % len(order)]
        loss = program.run(data, tf.constant(chosen), times.tensors(at, at + steps)).numpy()
        at += steps
        return float(loss.mean())

    if trace is not None:
        advance(STEPS)
        with tf.profiler.experimental.Profile(trace):
            advance(STEPS)
        return
    serve(advance)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
