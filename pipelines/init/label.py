"""Which column of a log is the label, and which columns give it away."""

from __future__ import annotations

import keyword
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from pipelines.init.columns import FEW, LABEL_NAMES, RATING_NAMES, ColumnGuess, positive_value, words_of
from pipelines.init.logs import FileGuess, numbers_of

PROPENSITY_NAMES = {"propensity", "pscore"}
_MOST_GRADES = 11  # distinct whole numbers that may be grades
_PERFECT = 0.99  # AUC from which one column alone gives the label away


@dataclass(frozen=True)
class LabelGuess:
    """The label.

    Attributes:
        expression: of the configuration.
        columns: that it reads.
        evidence: why, in words.
        positive: for each row, whether the label is 1.
        alternatives: columns that could be it by their names.
        is_sure: whether a name says that it is the label.
    """

    expression: str
    columns: tuple[str, ...]
    evidence: str
    positive: np.ndarray
    alternatives: tuple[str, ...] = ()
    is_sure: bool = True


def label_rank(column: ColumnGuess) -> int:
    """How likely a column is the label: 4 and 3 by its name, 2 and 1 by its values, 0 not at all."""
    words = words_of(column.name)
    is_grade = column.kind == "number" and column.distinct <= FEW and "whole numbers" in column.evidence
    if column.kind == "flag" and words & set(LABEL_NAMES):
        return 4
    if words & set(RATING_NAMES) and not words & PROPENSITY_NAMES and column.kind in ("number", "flag"):
        return 3
    if is_grade and words & set(LABEL_NAMES):
        return 3
    if column.kind == "category" and column.distinct == 2 and words & set(LABEL_NAMES):
        return 3
    if column.kind == "flag":
        return 2
    return 1 if is_grade and column.distinct <= _MOST_GRADES else 0


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
    name = max(ranks, key=lambda name: ranks[name])
    if not ranks[name]:
        return None
    # By its values alone, one column is as likely as the next: only names make alternatives.
    alternatives = tuple(
        other_name
        for other_name, rank in ranks.items()
        if other_name != name
        and (rank >= 3 or (rank == ranks[name] and not _is_in_series(other_name, guess)))
    )
    column, is_sure = guess.columns[name], ranks[name] >= 3
    if column.kind == "flag":
        yes = positive_value(column.values)
        positive = pc.equal(guess.texts[name], yes).to_numpy(zero_copy_only=False)
        evidence = f"{column.evidence}; {positive.mean():.1%} are {yes!r}"
        return LabelGuess(f"{_in_expression(name)} == 1", (name,), evidence, positive, alternatives, is_sure)
    if column.kind == "category":
        rarer = column.values[-1]
        positive = pc.equal(guess.texts[name], rarer).to_numpy(zero_copy_only=False)
        evidence = f"{' or '.join(map(repr, column.values))}; {positive.mean():.1%} are {rarer!r}"
        expression = f"{_in_expression(name)} == {rarer!r}"
        return LabelGuess(expression, (name,), evidence, positive, alternatives, is_sure=False)
    values = numbers_of(guess, name)
    present = values[~np.isnan(values)]
    levels = np.unique(present)
    cut = next((level for level in levels[1:] if (present >= level).mean() <= 0.6), levels[-1])
    evidence = f"{column.evidence}; {(present >= cut).mean():.1%} are at least {cut:g}"
    return LabelGuess(
        f"{_in_expression(name)} >= {cut:g}", (name,), evidence, values >= cut, alternatives, is_sure
    )


def _is_in_series(name: str, guess: FileGuess) -> bool:
    """Whether a column is one of a numbered series: `f1`, `f2`, `f3`."""
    stem = name.rstrip("0123456789")
    return stem != name and sum(column.rstrip("0123456789") == stem for column in guess.columns) > 2


def _in_expression(name: str) -> str:
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"`{name}`"


def gives_away(log: FileGuess, name: str, positive: np.ndarray) -> bool:
    """Whether a column alone orders the rows by the label nearly perfectly."""
    column = log.columns[name]
    if column.kind == "number":
        values = numbers_of(log, name)
        scores = [np.nan_to_num(values, nan=-np.inf), np.isnan(values).astype(float)]
    elif column.distinct <= FEW and column.kind in ("flag", "category", "id"):
        codes = log.texts[name].dictionary_encode().indices.to_numpy(zero_copy_only=False)
        counts = np.bincount(codes)
        scores = [(np.bincount(codes, weights=positive) / counts)[codes]]
    else:
        return False
    return any(abs(_auc(score, positive) - 0.5) > _PERFECT - 0.5 for score in scores)


def _auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The area under the ROC curve; 0.5 if there is one class only."""
    _, ranks, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    hits = int(positive.sum())
    misses = len(positive) - hits
    if not hits or not misses:
        return 0.5
    return float((mean_ranks[ranks][positive].sum() - hits * (hits + 1) / 2) / (hits * misses))
