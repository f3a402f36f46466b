"""Which column of a log is the label, and which columns give it away."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.init.columns import FEW, ColumnGuess, is_answer, positive_value, yes_value
from pipelines.init.logs import FileGuess, numbers_of
from pipelines.init.names import LABEL_NAMES, RATING_NAMES, words_of

PROPENSITY_NAMES = {"propensity", "pscore"}
_MOST_GRADES = 11  # distinct whole numbers that may be grades
_MOST_EVENTS = 12  # distinct words of a column of events
_MOST_CLASSES = 20  # distinct words of a column of classes
_ROWS_OF_A_CLASS = 10
_ACTIONS = frozenset(
    [
        *(
            "click",
            "clicks",
            "clicked",
            "buy",
            "bought",
            "purchase",
            "purchased",
            "order",
            "orders",
            "ordered",
        ),
        *("transaction", "booking"),
        *(
            "cart",
            "carts",
            "addtocart",
            "fav",
            "favorite",
            "favourite",
            "like",
            "liked",
            "conversion",
            "follow",
            "share",
        ),
        *("comment", "play", "played", "download", "install", "subscribe", "save", "watch", "listen"),
    ]
)
_NO_ACTIONS = frozenset(["remove", "removed", "unlike", "dislike", "skip", "hide", "not", "un"])
_AMOUNT_OF_USE = frozenset(["ratio", "watched", "plays", "playcount", "listens", "playtime", "listencount"])
_USE = frozenset(["play", "watch", "dwell", "stay", "active", "listen", "read", "view"])
_DURATION = frozenset(["time", "duration", "seconds", "secs", "ms", "dwell"])
_PERFECT = 0.99  # AUC from which one column alone gives the label away
_CERTAIN = -20.0  # log of the probability that rows of one value have one label by chance


@dataclass(frozen=True)
class LabelGuess:
    """The label.

    Attributes:
        expression: of the configuration; None for a log of positives.
        columns: that it reads.
        evidence: why, in words.
        positive: for each row, whether the label is 1.
        alternatives: columns that could be it by their names.
        is_sure: whether a name says that it is the label.
    """

    expression: str | None
    columns: tuple[str, ...]
    evidence: str
    positive: np.ndarray
    alternatives: tuple[str, ...] = ()
    is_sure: bool = True


def label_rank(column: ColumnGuess) -> float:
    """How likely a column is the label: from 3 on by its name, below by its values, 0 not at all."""
    words = words_of(column.name)
    is_whole = column.kind == "number" and column.distinct <= FEW and "whole numbers" in column.evidence
    if column.kind == "flag" and words & LABEL_NAMES:
        return 4
    if words & set(RATING_NAMES) and not words & PROPENSITY_NAMES and column.kind in ("number", "flag"):
        return 3
    if is_whole and words & LABEL_NAMES:
        return 3
    if column.kind == "category" and column.distinct == 2 and words & LABEL_NAMES:
        return 3
    if column.kind == "category" and actions(column):
        return 2.5
    if column.kind == "flag" or (column.kind == "category" and is_answer(column.values)):
        return 2
    if is_whole and column.distinct <= _MOST_GRADES:
        return 1 if _is_scale(column) else 0.5
    return 0.8 if column.kind == "number" and words & _AMOUNT_OF_USE else 0


def actions(column: ColumnGuess) -> list[str]:
    """The values of a column of events that say that something was done with what was shown; none for other columns."""
    if not 2 <= column.distinct <= min(_MOST_EVENTS, len(column.values)):
        return []
    # The commonest event is that something was shown, whatever it is called.
    parts = {value: set(re.findall("[a-z]+", value.lower())) for value in column.values[1:]}
    return [value for value, words in parts.items() if words & _ACTIONS and not words & _NO_ACTIONS]


def _is_scale(column: ColumnGuess) -> bool:
    """Whether the values are whole numbers without gaps, as grades are."""
    values = sorted(float(value) for value in column.values if _is_plain(value))
    return len(values) < 2 or bool(np.diff(values).max() <= 1)


def _is_plain(value: str) -> bool:
    return re.fullmatch(r"-?\d+(\.0*)?", value.strip()) is not None


def guess_label(guess: FileGuess) -> LabelGuess | None:
    """The likeliest label of a log, None if no column can be one."""
    if guess.chosen is not None:
        entry, chosen = guess.chosen
        positive = pc.equal(guess.texts[entry], guess.texts[chosen]).to_numpy(zero_copy_only=False)
        evidence = f"{positive.mean():.1%} of the candidates are the one in {chosen}"
        return LabelGuess(
            f"{_in_expression(entry)} == {_in_expression(chosen)}", (entry, chosen), evidence, positive
        )
    ranks = {name: label_rank(column) for name, column in guess.columns.items()}
    if guess.clicks is not None:
        ranks[guess.clicks] = 5
    last = list(guess.columns)[-1]
    if _is_class(guess.columns[last]):
        ranks[last] = max(ranks[last], 0.7)
    name = max(ranks, key=lambda name: ranks[name])
    if not ranks[name]:
        return None
    column, rank = guess.columns[name], ranks[name]
    # By its values alone, one column is as likely as the next: only names make alternatives. Beside a click, a rating
    # that belongs to something (`hotel_rating`) describes it.
    alternatives = tuple(
        other_name
        for other_name, other_rank in ranks.items()
        if other_name != name
        and (
            (other_rank >= 3 and (other_rank == 4 or rank < 4 or other_name.lower() in RATING_NAMES))
            or (other_rank == rank and not _is_in_series(other_name, guess))
        )
    )
    expression, positive, evidence = _label_of(guess, column)
    is_sure = rank >= 3 and (column.kind != "category")
    return LabelGuess(expression, (name,), evidence, positive, alternatives, is_sure)


def positives_only(guess: FileGuess) -> LabelGuess:
    """The label of a log whose rows are all positives."""
    return LabelGuess(None, (), "", np.ones(guess.rows, bool), (), False)


def _label_of(guess: FileGuess, column: ColumnGuess) -> tuple[str, np.ndarray, str]:
    """(the expression, for each row whether it is 1, the evidence) of the column that is the label."""
    name, text = column.name, guess.texts[column.name]
    if column.kind == "number":
        values = numbers_of(guess, name)
        present = values[~np.isnan(values)]
        levels = np.unique(present)
        cut = next((level for level in levels[1:] if (present >= level).mean() <= 0.6), levels[-1])
        evidence = f"{column.evidence}; {(present >= cut).mean():.1%} are at least {cut:g}"
        return f"{_in_expression(name)} >= {cut:g}", values >= cut, evidence
    if column.kind == "flag":
        yes = [positive_value(column.values)]
    elif is_answer(column.values):
        yes = [yes_value(column.values)]
    else:
        # Of several classes the commonest, of two the rarer.
        yes = actions(column) if column.distinct > 2 else column.values[-1:]
        yes = yes or column.values[:1]
    positive = pc.is_in(text, pa.array(yes)).to_numpy(zero_copy_only=False)
    evidence = f"{positive.mean():.1%} are {_listed_values(yes)}"
    if column.kind == "flag":
        return f"{_in_expression(name)} == 1", positive, f"{column.evidence}; {evidence}"
    shown = _listed_values(column.values)
    expression = f"== {yes[0]!r}" if len(yes) == 1 else f"in ({', '.join(map(repr, yes))})"
    return f"{_in_expression(name)} {expression}", positive, f"{shown}; {evidence}"


def _is_class(column: ColumnGuess) -> bool:
    """Whether a last column may say which class its row is of, as in many tables."""
    return (
        column.kind == "category"
        and 2 <= column.distinct <= _MOST_CLASSES
        and column.rows >= _ROWS_OF_A_CLASS * column.distinct
    )


def _is_in_series(name: str, guess: FileGuess) -> bool:
    """Whether a column is one of a numbered series: `f1`, `f2`, `f3`."""
    stem = name.rstrip("0123456789")
    return stem != name and sum(column.rstrip("0123456789") == stem for column in guess.columns) > 2


def _listed_values(values: list[str]) -> str:
    return " or ".join(map(repr, values))


def _in_expression(name: str) -> str:
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"`{name}`"


def outcome(log: FileGuess, name: str, positive: np.ndarray) -> str | None:
    """Why a column of the log is probably known after the label only; None if nothing says so."""
    words, column = words_of(name), log.columns[name]
    if not positive.all() and _orders(log, name, positive):
        return "it alone gives the label away: is it known before the label is?"
    if log.form.settings.get("format") != "libsvm" and any(
        _is_certain(mask, positive) for mask in _marks(log, name)
    ):
        return "with some of its values the label is always, or never, 1: is it known before the label is?"
    if column.kind == "number" and words & _USE and words & _DURATION:
        return "how long it was used, by its name, is known after the label"
    return None


def _orders(log: FileGuess, name: str, positive: np.ndarray) -> bool:
    """Whether a column alone orders the rows by the label nearly perfectly."""
    column = log.columns[name]
    if column.kind == "number":
        values = numbers_of(log, name)
        scores = [np.nan_to_num(values, nan=-np.inf), np.isnan(values)]
    elif column.distinct <= FEW and column.kind in ("flag", "category", "id"):
        codes = log.texts[name].dictionary_encode().indices.to_numpy(zero_copy_only=False)
        counts = np.bincount(codes)
        scores = [(np.bincount(codes, weights=positive) / counts)[codes]]
    else:
        return False
    return any(abs(_auc(score, positive) - 0.5) > _PERFECT - 0.5 for score in scores)


def _marks(log: FileGuess, name: str) -> Iterator[np.ndarray]:
    """Where a column says yes, where it has a value at all, and where it has another than its most frequent one."""
    column, text = log.columns[name], log.texts[name]
    if column.kind == "flag":
        yield pc.equal(text, positive_value(column.values)).to_numpy(zero_copy_only=False)
    if column.missing:
        yield pc.not_equal(text, "").to_numpy(zero_copy_only=False)
    if column.kind == "number" and column.values:
        is_most_frequent = pc.equal(text, column.values[0]).to_numpy(zero_copy_only=False)
        if is_most_frequent.mean() > 0.5:
            yield ~is_most_frequent


def _is_certain(mask: np.ndarray, positive: np.ndarray) -> bool:
    """Whether all rows of a mask, or all others, have one label, and are too many for chance."""
    share = float(positive.mean())
    if not 0 < share < 1:
        return False
    for part in (positive[mask], positive[~mask]):
        by_chance = len(part) * math.log(share if part.all() else 1 - share)
        if len(part) and (part.all() or not part.any()) and by_chance < _CERTAIN:
            return True
    return False


def _auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The area under the ROC curve; 0.5 if there is one class only."""
    _, ranks, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    hits = int(positive.sum())
    misses = len(positive) - hits
    if not hits or not misses:
        return 0.5
    return float((mean_ranks[ranks][positive].sum() - hits * (hits + 1) / 2) / (hits * misses))
