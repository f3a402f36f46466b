"""Which columns the configuration needs, and what for."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.prepare.clean import expressions
from ranker.config import Experiment, expression


@dataclass(frozen=True)
class Needs:
    """Columns by the use they have.

    Attributes:
        text: column to the key of the configuration that reads it as text.
        numbers: the same for columns read as numbers or times.
    """

    text: dict[str, str]
    numbers: dict[str, str]

    def __contains__(self, column: str) -> bool:
        return column in self.text or column in self.numbers

    def reason(self, column: str) -> str:
        """The key of the configuration that needs a column."""
        return self.text.get(column) or self.numbers[column]

    def with_text(self, columns: dict[str, str]) -> Needs:
        """These needs and more columns as text; one that was read as a number is text from now on."""
        text = {**columns, **self.text}
        return Needs(text, {column: why for column, why in self.numbers.items() if column not in text})

    @property
    def all(self) -> tuple[str, ...]:
        """Every needed column, in a fixed order."""
        return tuple(dict.fromkeys([*self.text, *self.numbers]))


def needs(experiment: Experiment) -> Needs:
    """The columns an experiment needs, derived ones by their own names."""
    data = experiment.data
    text: dict[str, str] = {}
    numbers: dict[str, str] = {}
    for name, stored in experiment.columns.items():
        key = "data.item" if stored.kind == "identifier" else f"features.{name}"
        (numbers if stored.kind in ("numeric", "time") else text)[name] = key
    for key, expression_text in data.expressions.items():
        numeric = expressions.reads_numbers(expression_text)
        for column in expression.columns(expression_text):
            (numbers if column in numeric else text).setdefault(column, f"data.{key}")
    for name in data.request or ():
        text.setdefault(name, "data.request")
    if data.split.by == "time":
        numbers.setdefault(str(data.timestamp), "data.timestamp")
    elif data.split.by != "file":
        of = (data.split.of,) if isinstance(data.split.of, str) else data.split.of
        for column in of:
            text.setdefault(column, "data.split.of")
    return Needs(text, {column: why for column, why in numbers.items() if column not in text})
