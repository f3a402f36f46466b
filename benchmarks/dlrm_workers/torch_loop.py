"""What the rivals on torch have in common: the optimizer, and batch after batch."""

from collections.abc import Callable, Iterable

import torch
from load import ACCUMULATOR, BATCH, EPSILON, RATE, ROWS, serve
from torch import nn


def rule(optimizer: str, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Torch's own optimizer of that name."""
    if optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=RATE)
    return torch.optim.Adagrad(parameters, lr=RATE, initial_accumulator_value=ACCUMULATOR, eps=EPSILON)


def train(loss_of: Callable[[slice], torch.Tensor], update: torch.optim.Optimizer) -> None:
    """Obeys the benchmark; `loss_of(rows)` gives a batch's loss."""
    at = 0

    def advance(steps: int) -> float:
        nonlocal at
        total = 0.0
        for _ in range(steps):
            part = slice(at, at + BATCH)
            at = (at + BATCH) % ROWS
            update.zero_grad(set_to_none=True)
            loss = loss_of(part)
            loss.backward()
            update.step()
            total += loss.item()
        return total / steps

    serve(advance)
