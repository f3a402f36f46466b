"""Scores from files as if servers had answered: the requests, and what each model answered."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np

from ranker.scored.align import AlignedScores
from serving.monitor.collection.answers import Answers
from serving.monitor.requests.probe import Array, ProbeSet


def scored_answers(aligned: AlignedScores, scores: Array, item: str) -> tuple[ProbeSet, list[Answers]]:
    """The requests of all models together, and each model's answers.

    A model's second answer to a request, for the floor, is its first.

    Args:
        aligned: the models' scores.
        scores: float64 [M, R], brought to [0, 1] in the order of those in `aligned`.
        item: the column that identifies a candidate.

    Raises:
        UserError: labels that are not 0 or 1.
    """
    offsets = aligned.request_bounds()
    items = aligned.item_ids.to_numpy(zero_copy_only=False)[aligned.item].astype(object)
    digest = hashlib.sha256(aligned.request.tobytes() + aligned.item.tobytes())
    for ids in (aligned.request_ids, aligned.item_ids):
        digest.update("\x1e".join(ids.to_pylist()).encode())
    probe = ProbeSet(
        requests=tuple(aligned.request_names()),
        offsets=offsets,
        columns={item: items},
        item=item,
        hash=digest.hexdigest()[:16],
        repeated=int(aligned.repeated.max()),
        labels=aligned.binary_labels(),
    )
    return probe, [
        _answers(model, aligned.scored[m], scores[m], offsets) for m, model in enumerate(aligned.models)
    ]


def _answers(model: str, scored: Array, scores: Array, offsets: Array) -> Answers:
    starts = offsets[:-1]
    some, complete = (reduce.reduceat(scored, starts) for reduce in (np.logical_or, np.logical_and))
    finite = np.logical_and.reduceat(np.isfinite(scores) | ~scored, starts)
    kinds = {
        int(n): "no_answer" if not some[n] else "coverage_mismatch" if not complete[n] else "invalid_score"
        for n in np.flatnonzero(~(complete & finite))
    }
    nothing = np.full(len(scores), np.nan)
    return Answers(
        replica=model,
        labels={},
        version=0,
        description={"fingerprint": hashlib.sha256(scores.tobytes()).hexdigest()[:16]},
        scores=scores,
        answered=some,
        again=scores,
        again_answered=some,
        batched=nothing,
        batched_answered=np.zeros(len(starts), bool),
        errors=Counter(kinds.values()),
        kinds=kinds,
    )
