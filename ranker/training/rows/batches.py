"""Which rows each step of a training takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranker.config import Training
from ranker.seeds import Seeds
from ranker.training.rows import order as row_order
from ranker.training.rows.feed import Part
from ranker.training.rows.order import request_order, windowed_order


def batches(part: Part, rows: int, trainings: Sequence[Training], orders: Sequence[Seeds]) -> np.ndarray:
    """The batches of a part.

    Args:
        part: what is trained on.
        rows: of an epoch.
        trainings: each tower's batch size (equal for all), shuffle window and whether epochs have base orders of their own.
        orders: the seeds that shuffle each tower's rows.

    Returns:
        Row positions in the part's examples, int32 [steps, towers, batch]; the last batch is filled up with -1.
    """
    batches_of = {}
    request = part.examples.request
    keys = [
        (seeds.shuffle, training.shuffle_window, training.reshuffle)
        for seeds, training in zip(orders, trainings, strict=True)
    ]
    for key, seeds, training in zip(keys, orders, trainings, strict=True):
        if key not in batches_of:
            generator = seeds.order(part.epoch)
            if request is None:
                order = windowed_order(rows, training.shuffle_window, generator, part.start, part.stop)
                if training.reshuffle:
                    order = row_order.epoch_rows(order, part.epoch, rows, row_order.EPOCH_BLOCK)
                order -= part.first
            else:  # all rows are in memory
                order = request_order(np.asarray(request), training.shuffle_window, generator)
                order = order[part.start : part.stop]
            padding = np.full(-len(order) % training.batch_size, -1)
            filled = np.concatenate([order, padding]).astype(np.int32)
            batches_of[key] = filled.reshape(-1, training.batch_size)
    return np.stack([batches_of[key] for key in keys], axis=1)
