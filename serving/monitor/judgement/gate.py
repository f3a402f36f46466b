"""The gate: may this version go live? Asks the models, or reads their scores from files."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ranker.errors import UserError
from ranker.scored.scale import to_probabilities
from serving.deployment import Replica
from serving.monitor.collection.answers import Answers
from serving.monitor.collection.collect import Expected, collect
from serving.monitor.collection.offline import answer_offline, saved_model
from serving.monitor.collection.send import RoundLimits
from serving.monitor.judgement.decisions import judge_answers, labels_of
from serving.monitor.judgement.gate_result import GateResult, Options
from serving.monitor.requests.probe import ProbeSet
from serving.targets.scoring import ScoringClient
from serving.targets.scoring import connect as connect_to
from serving.targets.target import parse_target

if TYPE_CHECKING:
    from ranker.scored.align import ModelScores

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):\d{1,5}")


def gate(
    candidate: str, baseline: Sequence[str], probe: ProbeSet, options: Options | None = None
) -> GateResult:
    """Compares a candidate with what serves.

    Every side must answer the requests. With two baselines or more the limit of churn is what they differ by; many are
    compared by a design of pairs. With one it is what it differs by from itself, asked twice. Quality must not be worse
    than the baselines' by more than a margin.

    Args:
        candidate: `HOST:PORT` or URL of a server as `serving.targets.target` reads it, or a SavedModel's directory (or a
            base path: its newest version).
        baseline: the same, of what serves now.
        probe: the requests.
        options: how strict.

    Raises:
        UserError: there is no such source, it takes another schema, the candidate is in the place of a baseline,
            a measure is none of the gate's, or no measure can decide on these requests.
    """
    options = options or Options()
    sources = [candidate, *baseline]
    if not baseline:
        raise UserError("the gate must have at least one baseline. Received: none")
    if len(set(sources)) != len(sources):
        raise UserError(f"candidate and baselines must be different. Received: {', '.join(sources)}")
    churn, quality = labels_of(options, probe)
    for source in baseline:
        if _places(candidate) & _places(source):
            raise UserError(
                f"the candidate must be another model than the baselines. Received: {candidate} and {source}, one place"
            )
    if len(baseline) == 1 and _is_path(baseline[0]):
        raise UserError(
            f"one baseline must be a server, to be asked twice; or give two. Received: {baseline[0]}"
        )
    answers = [_ask(source, probe, options) for source in sources]
    return judge_answers(
        sources=sources, answers=answers, probe=probe, options=options, churn=churn, quality=quality
    )


def gate_scored(
    sources: Sequence[str], models: Sequence[ModelScores], scale: str, options: Options | None = None
) -> GateResult:
    """Compares a candidate with what serves by what they scored.

    The requests are those of all files together. A file is the same when it is read twice, so with one baseline the limit
    of churn is the allowance; with two or more it is what they differ by.

    Args:
        sources: where the candidate's scores are, then the baselines'.
        models: their scores.
        scale: what the scores are, one of `ranker.scored.scale.SCALES`.
        options: how strict; `call` and `deadline` are not used.

    Raises:
        UserError: a source twice, scores outside the scale, labels that are not 0 or 1, a measure that is none of the
            gate's, or no measure can decide on these requests.
    """
    from ranker.scored.align import align
    from serving.monitor.collection.scored_answers import scored_answers

    options = options or Options()
    if len(sources) < 2:
        raise UserError("the gate must have at least one baseline. Received: none")
    if len({Path(source).resolve() for source in sources}) != len(sources):
        raise UserError(f"candidate and baselines must be different. Received: {', '.join(sources)}")
    aligned = align(models)
    scaled = to_probabilities(aligned.scores, scale)
    options = replace(options, call=replace(options.call, scale=scaled.scale))
    probe, answers = scored_answers(aligned, scaled.scores, options.call.item)
    churn, quality = labels_of(options, probe)
    notes = [scaled.note] if scaled.note else []
    if len(sources) == 2:
        notes.append(
            "a file of scores is the same when it is read twice: the limit of churn is --allowance; with two baselines or "
            "more it is what they differ by"
        )
    result = judge_answers(
        sources=sources, answers=answers, probe=probe, options=options, churn=churn, quality=quality
    )
    return replace(result, notes=(*notes, *result.notes))


def _is_path(source: str) -> bool:
    return "://" not in source and (not _ADDRESS.fullmatch(source) or Path(source).exists())


def _places(source: str) -> set[str]:
    """Where a source is: the addresses of a server's name with its port, or the directory of its SavedModel."""
    if _is_path(source):
        return {str(saved_model(Path(source))[0].resolve())}
    target = parse_target(source)
    (host, port), path = target.address, target.path + target.query
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return {f"{host}:{port}{path}"}
    return {f"{entry[4][0]}:{port}{path}" for entry in entries}


def _ask(source: str, probe: ProbeSet, options: Options) -> Answers:
    if _is_path(source):
        return answer_offline("model", Path(source), probe, options.call)

    def connect(replica: Replica) -> ScoringClient:
        return connect_to(
            replica.target, replace(options.call, item=probe.item), deadline=options.deadline, retries=2
        )

    limits = RoundLimits(
        deadline=options.deadline, round=max(60.0, options.deadline * 10), floor=len(probe), batched=False
    )
    (answers,) = collect(
        [Replica("model", str(parse_target(source)))], probe, connect, Expected(), limits
    ).answers
    if not answers.answered.any() and set(answers.errors) <= {"down", "wrong_model"}:
        kinds = ", ".join(f"{kind} {count}" for kind, count in answers.errors.items())
        raise UserError(
            f"there must be a server that serves `{options.call.model_name}`. Received: {source} ({kinds})"
        )
    return answers
