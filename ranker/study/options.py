"""Options and result of a study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ranker.errors import UserError

Report = Callable[[str], None]
SMOKE_ROWS = 20_000
"""Training rows at most where a run only shows that everything computes."""


@dataclass(frozen=True)
class StudyOptions:
    """How much to train.

    Attributes:
        replicas: of every recipe, >= 2; pairs of them are compared.
        lanes: how many processes train.
        rows: take at most so many training rows; None takes all.
        quick: fewer recipes, for a first look and for tests.
        cache: a directory for trained points; studies of one run may share it. Default: inside the output.
    """

    replicas: int = 5
    lanes: int = 1
    rows: int | None = None
    quick: bool = False
    cache: Path | None = field(default=None)

    def __post_init__(self) -> None:
        if self.replicas < 2:
            raise UserError(
                f"--replicas must be at least 2: a difference needs a pair. Received: {self.replicas}"
            )

    def smoke(self) -> StudyOptions:
        """As little as lets every computation run: a pair of replicas, few rows, a part of the recipes."""
        return replace(self, replicas=2, rows=min(self.rows or SMOKE_ROWS, SMOKE_ROWS), quick=True)

    def cache_in(self, out: Path) -> Path:
        """The directory of trained points."""
        return self.cache or out / "cache"


@dataclass(frozen=True)
class Answer:
    """The result of a study: its answer in words, and its page."""

    text: str
    page: Path
