"""Where every random number of a replica comes from: two seeds, derived, passed in, never global."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_INIT, _SHUFFLE, _NOISE = 1, 2, 3


@dataclass(frozen=True)
class Seeds:
    """The sources of randomness in one replica's training.

    Attributes:
        init: decides the initial weights.
        shuffle: decides the order of the rows.
    """

    init: int
    shuffle: int

    def initialisation(self) -> np.random.Generator:
        """A fresh generator for the initial weights."""
        return np.random.default_rng([_INIT, self.init])

    @property
    def noise(self) -> int:
        """The seed of the dropout, in [0, 2^31): replicas that differ in any seed drop other values."""
        return int(np.random.SeedSequence([_NOISE, self.init, self.shuffle]).generate_state(1)[0] >> 1)

    def order(self, epoch: int) -> np.random.Generator:
        """A fresh generator for one epoch's row order."""
        return np.random.default_rng([_SHUFFLE, self.shuffle, epoch])


def derive(run_seed: int, replica: int, vary: Iterable[str]) -> Seeds:
    """The seeds of one replica.

    Args:
        run_seed: the experiment's seed, >= 0.
        replica: the replica's index, >= 0.
        vary: which sources differ between replicas, of `init` and `shuffle`; the others are the same in all.

    Returns:
        Seeds in [0, 2^31). Replica i has the same seeds in every arm, so that arms are compared in pairs.
    """

    def seed(source: int, name: str) -> int:
        index = replica + 1 if name in vary else 0
        return int(np.random.SeedSequence([run_seed, source, index]).generate_state(1)[0] >> 1)

    vary = set(vary)
    return Seeds(init=seed(_INIT, "init"), shuffle=seed(_SHUFFLE, "shuffle"))


@dataclass(frozen=True)
class ReplicaSpec:
    """One replica to train: its arm, its index in the arm, and its seeds."""

    arm: str
    replica: int
    seeds: Seeds

    @property
    def name(self) -> str:
        """The replica's name in a deployment, for example `smelu-0`."""
        return f"{self.arm}-{self.replica}"
