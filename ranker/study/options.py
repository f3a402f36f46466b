"""Options and result of a study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ranker.errors import UserError

Report = Callable[[str], None]


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

    def cache_in(self, out: Path) -> Path:
        """The directory of trained points."""
        return self.cache or out / "cache"


@dataclass(frozen=True)
class Answer:
    """The result of a study: its answer in words, and its page."""

    text: str
    page: Path
