"""The work every rival gets: the same rows, and the protocol by which the benchmark times it.

A worker says `ready` once it has trained a few steps, then trains `STEPS` steps for each line it reads and answers with
the seconds they took, by the clock and of the processor, and the loss. Between its turns it sleeps, so that rivals do
not disturb each other.
"""

import sys
import time
from collections.abc import Callable

import numpy as np

ROWS, BATCH, STEPS = 65_536, 1024, 16
DENSE, IDS, DIM = 13, 26, 16
BOTTOM, TOP = (256, 64, 16), (512, 256, 1)
RATE, ACCUMULATOR, EPSILON = 0.05, 0.1, 1e-7


def rows(vocabulary: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dense numbers [rows, 13], ids [rows, 26] (uniform, the worst case for a cache), labels [rows]."""
    random = np.random.default_rng(1)
    dense = random.standard_normal((ROWS, DENSE), dtype=np.float32)
    ids = random.integers(0, vocabulary, (ROWS, IDS), dtype=np.int32)
    label = (random.random(ROWS) < 1 / (1 + np.exp(-dense[:, 0] - 0.5))).astype(np.float32)
    return dense, ids, label


def serve(advance: Callable[[int], float]) -> None:
    """Obeys the benchmark; `advance(steps)` trains and returns the mean loss."""
    advance(STEPS)
    print("ready", flush=True)
    for _ in sys.stdin:
        start, used = time.perf_counter(), time.process_time()
        loss = advance(STEPS)
        print(time.perf_counter() - start, time.process_time() - used, loss, flush=True)
