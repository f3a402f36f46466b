"""The gate: may this version go live? What it answers, how far its lists differ from what serves, how good they are.

The models are asked, or their scores are read from files; what follows is the same.
"""

from __future__ import annotations

import re
import socket
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from ranker import layout
from ranker.divergence import (
    AnswerCoverage,
    Comparison,
    Decision,
    Design,
    GateOutcome,
    PairedDifference,
    RequestBatch,
    Settings,
    Statistic,
    answer_coverage,
    aside,
    auc,
    decide,
    decide_coverage,
    decide_quality,
    definition,
    estimate_fleet,
    logloss,
    measure_requests,
    overall_verdict,
)
from ranker.divergence.fleet import ALL_PAIRS_UP_TO
from ranker.divergence.quality import auc_components, request_ndcg, row_logloss
from ranker.errors import UserError
from ranker.files import write_whole
from ranker.json_text import json_text
from ranker.scored.scale import NEEDS_PROBABILITIES, ValueRange, to_probabilities
from serving.deployment import Replica
from serving.monitor.collection.collect import Answers, Expected, RoundLimits, collect
from serving.monitor.collection.offline import answer_offline, saved_model
from serving.monitor.measurement.measure import request_batch
from serving.monitor.requests.probe import Array, ProbeSet
from serving.targets.scoring import ModelCall, ScoringClient
from serving.targets.scoring import connect as connect_to
from serving.targets.target import parse_target

if TYPE_CHECKING:
    from ranker.scored.align import ModelScores

CHURN = ("top1_swap", "set_churn", "consensus_regret")
"""What is held to the baseline's own churn unless said otherwise."""
QUALITY = ("auc", "logloss", "ndcg")
"""What must not be worse than the baseline's, by default where the probe has labels."""

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):\d{1,5}")
_COMPARED_KEYS = {"vocabulary": "vocabularies", "encoding": "statistics of the features"}


@dataclass(frozen=True)
class Options:
    """How strict the gate is.

    Attributes:
        measures: names or labels of measures where lower is steadier, and of quality measures; none: `CHURN`, and
            `QUALITY` where the probe has labels of two classes (a soft one counts as that it is nearer to).
        margin: how much more churn than the baseline's is tolerated, as a share of it.
        allowance: what an intended change may add, in the measures' unit.
        quality_margin: how much worse than the baselines' a quality measure may be, in its unit.
        min_coverage: share of the requests that each side must answer, in [0, 1].
        level: of the intervals.
        k: how deep the top of a list is.
        deadline: seconds a request to a server may take.
        call: how servers are asked; the item is the probe's.
    """

    measures: tuple[str, ...] = ()
    margin: float = 0.1
    allowance: float = 0.0
    quality_margin: float = 0.01
    min_coverage: float = 1.0
    level: float = 0.95
    k: int = 10
    deadline: float = 5.0
    call: ModelCall = field(default_factory=ModelCall)


@dataclass(frozen=True)
class Side:
    """One model that took part.

    Attributes:
        source: its address or directory.
        version: the version that answered; 0 where there are none.
        coverage: what it was asked, answered, left out.
        fingerprint: of everything that decides its weights, as it says; empty: it does not.
    """

    source: str
    version: int
    coverage: AnswerCoverage
    fingerprint: str = ""

    @property
    def name(self) -> str:
        """The source with its version."""
        return f"{self.source} (version {self.version})" if self.version else self.source

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        coverage = self.coverage
        return {
            "source": self.source,
            "version": self.version,
            "fingerprint": self.fingerprint,
            "asked": coverage.asked,
            "answered": coverage.answered,
            "coverage": coverage.share,
            "left_out": {kind: vars(entry) for kind, entry in coverage.left_out.items()},
        }


@dataclass(frozen=True)
class GateResult:
    """The gate's answer with its evidence.

    Attributes:
        verdict: pass, fail or more requests needed.
        decisions: one a measure.
        coverage: one a side, the candidate's first.
        candidate, baseline: who was compared.
        probe: hash of the requests.
        requests: how many were compared: every side answered them.
        baseline_kind: `replicas` (between the serving replicas) or `floor` (one replica asked twice).
        notes: what else to know, such as another vocabulary.
    """

    verdict: GateOutcome
    decisions: tuple[Decision, ...]
    coverage: tuple[Decision, ...]
    candidate: Side
    baseline: tuple[Side, ...]
    probe: str
    requests: int
    baseline_kind: str
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 2 more requests needed."""
        return self.verdict.exit_code

    @property
    def more_requests(self) -> int | None:
        """How many more requests should decide every measure; None where none are needed or none would do."""
        counts = [decision.more_requests for decision in self.decisions if decision.more_requests]
        return max(counts) if counts else None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for `ranker.json_text`; what is not defined is nan here and null there."""
        return {
            "verdict": self.verdict.value,
            "exit_code": self.exit_code,
            "more_requests": self.more_requests,
            "probe": self.probe,
            "requests": self.requests,
            "candidate": self.candidate.as_dict(),
            "baseline": [side.as_dict() for side in self.baseline],
            "baseline_kind": self.baseline_kind,
            "notes": list(self.notes),
            "coverage": {decision.measure: _evidence(decision) for decision in self.coverage},
            "measures": {decision.measure: _evidence(decision) for decision in self.decisions},
        }

    def junit(self) -> str:
        """JUnit's XML: a test a decision; undecided ones are errors, those that stand aside are skipped."""
        decisions = [*self.coverage, *self.decisions]
        tags = {GateOutcome.FAIL: "failure", GateOutcome.MORE: "error", GateOutcome.ASIDE: "skipped"}
        counts = {tag: sum(d.verdict is verdict for d in decisions) for verdict, tag in tags.items()}
        suite = ElementTree.Element(
            "testsuite",
            name="ranker gate",
            tests=str(len(decisions)),
            failures=str(counts["failure"]),
            errors=str(counts["error"]),
            skipped=str(counts["skipped"]),
        )
        for decision in decisions:
            case = ElementTree.SubElement(
                suite, "testcase", classname="ranker.gate", name=decision.measure, time="0"
            )
            if decision.verdict in tags:
                ElementTree.SubElement(case, tags[decision.verdict], message=decision.reason)
        return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)

    def report(self) -> str:
        """The answer for a person, a line a decision."""
        against = (
            "the serving replicas differ by"
            if self.baseline_kind == "replicas"
            else "one replica differs from itself by"
        )
        lines = [
            f"{self.verdict.value.upper()}: {self.candidate.name} against "
            + ", ".join(side.name for side in self.baseline),
            f"{self.requests} requests compared, probe {self.probe}; the limit of churn is what {against}, with the margin",
        ]
        decisions = [*self.coverage, *self.decisions]
        lines += [f"  {decision.verdict.value:>21}  {decision.reason}" for decision in decisions]
        lines += [f"note: {note}" for note in self.notes]
        if self.more_requests and self.verdict is GateOutcome.MORE:
            lines.append(f"give at least {self.more_requests} more requests to decide")
        return "\n".join(lines)


def _evidence(decision: Decision) -> dict[str, Any]:
    return {
        "verdict": decision.verdict.value,
        "reason": decision.reason,
        "candidate": decision.candidate._asdict(),
        "baseline": decision.baseline._asdict(),
        "limit": decision.limit,
        "requests": decision.requests,
        "more_requests": decision.more_requests,
    }


def save_result(result: GateResult, run: Path, now: float | None = None) -> bool:
    """Keeps the answer as `gates/<time>.json` in a run directory; False if it cannot be written.

    Args:
        result: the answer.
        run: the run directory.
        now: seconds since 1970; default: the clock's.
    """
    seconds = time.time() if now is None else now
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"
    text = json_text({"time": seconds, **result.as_dict()}, indent=1)
    try:
        if not run.is_dir():
            return False
        write_whole(layout.gates_dir(run) / f"{stamp}.json", text + "\n")
    except (OSError, UserError):
        return False
    return True


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
    churn, quality = _labels(options, probe)
    for source in baseline:
        if _places(candidate) & _places(source):
            raise UserError(
                f"the candidate must be another model than the baselines. Received: {candidate} and {source}, one place"
            )
    answers = [_ask(source, probe, options) for source in sources]
    return _judge(sources, answers, probe, options, churn, quality)


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
    churn, quality = _labels(options, probe)
    notes = [scaled.note] if scaled.note else []
    if len(sources) == 2:
        notes.append(
            "a file of scores is the same when it is read twice: the limit of churn is --allowance; with two baselines or "
            "more it is what they differ by"
        )
    result = _judge(sources, answers, probe, options, churn, quality)
    return replace(result, notes=(*notes, *result.notes))


def _judge(
    sources: Sequence[str],
    answers: Sequence[Answers],
    probe: ProbeSet,
    options: Options,
    churn: Sequence[str],
    quality: Sequence[str],
) -> GateResult:
    """Decides on the candidate's answers, the first, against the baselines'."""
    baseline = sources[1:]
    _check_comparable(sources, answers)
    names = ["candidate", *(f"baseline-{place}" for place in range(len(baseline)))]
    batch = request_batch(
        probe, {name: (entry.scores, entry.answered) for name, entry in zip(names, answers, strict=True)}
    )
    sides = [
        Side(source, entry.version, _coverage(batch, name, entry, probe), _fingerprint(entry))
        for source, name, entry in zip(sources, names, answers, strict=True)
    ]
    coverage = tuple(
        decide_coverage(name if place == 0 else side.source, side.coverage, options.min_coverage)
        for place, (name, side) in enumerate(zip(names, sides, strict=True))
    )
    decisions = [
        *_churn_decisions(churn, batch, answers, baseline, probe, options),
        *_quality_decisions(quality, batch, probe, options),
    ]
    if all(decision.verdict is GateOutcome.ASIDE for decision in decisions) and all(
        decision.verdict is GateOutcome.PASS for decision in coverage
    ):
        raise UserError(f"no measure can decide: {'; '.join(decision.reason for decision in decisions)}")
    return GateResult(
        overall_verdict([*coverage, *decisions]),
        tuple(decisions),
        coverage,
        sides[0],
        tuple(sides[1:]),
        probe.hash,
        int(batch.valid.all(axis=0).sum()),
        "replicas" if len(baseline) > 1 else "floor",
        _notes(sources, answers, probe, options),
    )


def _churn_decisions(
    labels: Sequence[str],
    batch: RequestBatch,
    answers: Sequence[Answers],
    baseline: Sequence[str],
    probe: ProbeSet,
    options: Options,
) -> list[Decision]:
    settings = Settings(k=options.k)
    versus = measure_requests(
        batch, settings, pairs=[(0, place) for place in range(1, len(batch.replicas))]
    ).summarise()
    if len(baseline) > 1:
        # against the same consensus: that of fewer models would be nearer to each of them, and the limit too low
        design = (
            Design.complete(len(baseline))
            if len(baseline) <= ALL_PAIRS_UP_TO
            else Design.regular(len(baseline), zlib.crc32(probe.hash.encode()))
        )
        between = [(int(i) + 1, int(j) + 1) for i, j in design.pairs]
        measured = measure_requests(batch, settings, pairs=between)
        among = estimate_fleet(measured.select(batch.replicas[1:]), effects=False).means
    else:
        entry = answers[1]
        if not entry.again_answered.any() and _is_path(baseline[0]):
            raise UserError(
                f"one baseline must be a server, to be asked twice; or give two. Received: {baseline[0]}"
            )
        twice = {
            "alone": (entry.scores, entry.answered & entry.again_answered),
            "again": (entry.again, entry.again_answered),
        }
        among = measure_requests(request_batch(probe, twice), settings).summarise().means
    longest = int(probe.sizes.max())
    decisions = []
    for label in labels:
        if label.startswith("set_churn@") and longest <= options.k:
            why = f"no request has more than {longest} candidates, and nothing can leave a top {options.k} of them"
            decisions.append(aside(label, why))
            continue
        if options.call.scale == "order" and settings.measures[label][0].needs_probabilities:
            decisions.append(aside(label, NEEDS_PROBABILITIES))
            continue
        decisions.append(
            decide(
                label,
                _candidate_churn(versus, label, len(baseline)),
                among[label],
                margin=options.margin,
                allowance=options.allowance,
                level=options.level,
            )
        )
    return decisions


def _candidate_churn(comparison: Comparison, label: str, baselines: int) -> Statistic:
    # over the candidate's pairs only, a request at a time
    if baselines > 1:
        return comparison.replicas["candidate"][label]
    return next(iter(comparison.pairs.values()))[label]


def _quality_decisions(
    labels: Sequence[str], batch: RequestBatch, probe: ProbeSet, options: Options
) -> list[Decision]:
    """Each quality measure of the candidate against the baselines' mean, on the requests that every side answered."""
    if not labels or probe.labels is None:
        return []
    answered = batch.take(batch.valid.all(axis=0))
    y = probe.labels[answered.rows]
    labelled = np.isfinite(y)
    owner = np.repeat(np.arange(len(answered)), answered.sizes)[labelled]
    y, scores = (y[labelled] >= 0.5).astype(np.float64), answered.scores[:, labelled]
    decisions = []
    for label in labels:
        if options.call.scale == "order" and label == "logloss":
            decisions.append(aside(label, NEEDS_PROBABILITIES))
            continue
        candidate, serving, loss = _loss(label, y, scores, owner)
        decisions.append(
            decide_quality(
                label, loss, candidate, serving, margin=options.quality_margin, level=options.level
            )
        )
    return decisions


def _loss(
    label: str, y: Array, scores: Array, owner: Array
) -> tuple[float, float, PairedDifference | Statistic]:
    """Value of the candidate (the first row of scores), mean value of the others, and how much worse the first is."""
    if label == "auc":
        values = [auc(y, row) for row in scores]
        parts = [auc_components(y, row, owner) for row in scores]
        worse = np.mean(values[1:]) - values[0]
        # Influences sum to 0: with the difference added, their mean is the difference and their spread its error.
        influence = len(parts[0]) * (np.mean(parts[1:], axis=0) - parts[0]) + worse
        return values[0], float(np.mean(values[1:])), Statistic.of(influence)
    if label == "logloss":
        values = [logloss(y, row) for row in scores]
        size = np.bincount(owner)
        sums = [np.bincount(owner, weights=row_logloss(y, row)) for row in scores]
        rows = size > 0
        means = [total[rows] / size[rows] for total in sums]
        loss = PairedDifference.of(
            means[0], np.mean(means[1:], axis=0), size[rows], bound=definition("logloss").bounds[1]
        )
        return values[0], float(np.mean(values[1:])), loss
    gains = [request_ndcg(y, row, owner, k=int(label.partition("@")[2]))[0] for row in scores]
    loss = PairedDifference.of(np.mean(gains[1:], axis=0), gains[0])
    value, serving = (float(np.nanmean(g)) if loss.n else float("nan") for g in (gains[0], gains[1:]))
    return value, serving, loss


def _coverage(batch: RequestBatch, name: str, answers: Answers, probe: ProbeSet) -> AnswerCoverage:
    return answer_coverage(batch, name, probe.requests, answers.kinds)


def _fingerprint(answers: Answers) -> str:
    return str(answers.description.get("fingerprint", ""))


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


def _check_comparable(sources: Sequence[str], answers: Sequence[Answers]) -> None:
    schemas = _described("feature_spec", sources, answers)
    if len(set(schemas.values())) > 1:
        shown = ", ".join(f"{source} {value}" for source, value in schemas.items())
        raise UserError(f"models must have the same schema (feature_spec) to be compared. Received: {shown}")


def _notes(
    sources: Sequence[str], answers: Sequence[Answers], probe: ProbeSet, options: Options
) -> tuple[str, ...]:
    """What is no obstacle, but part of why a refresh on new data churns; and how deep the lists are."""
    notes = []
    fingerprint, version = _fingerprint(answers[0]), answers[0].version
    for source, entry in zip(sources[1:], answers[1:], strict=True):
        if fingerprint and _fingerprint(entry) == fingerprint and entry.version == version:
            notes.append(
                f"the candidate is itself a baseline: {sources[0]} and {source} are both version {version} with"
                f" fingerprint {fingerprint}; to let it through changes nothing"
            )
    notes += [
        f"{source}: {message}"
        for source, entry in zip(sources, answers, strict=True)
        for message in entry.messages.values()
    ]
    for key, name in _COMPARED_KEYS.items():
        values = _described(key, sources, answers)
        if len(set(values.values())) > 1:
            shown = ", ".join(f"{source} {value}" for source, value in values.items())
            notes.append(f"the models have different {name}: {shown}")
    longest = int(probe.sizes.max())
    if longest < options.k:
        notes.append(f"no request has more than {longest} candidates: a top {options.k} is the whole list")
    return tuple(notes)


def _described(key: str, sources: Sequence[str], answers: Sequence[Answers]) -> dict[str, str]:
    return {
        source: str(entry.description[key])
        for source, entry in zip(sources, answers, strict=True)
        if entry.description.get(key)
    }


def _labels(options: Options, probe: ProbeSet) -> tuple[list[str], list[str]]:
    """Labels of the churn measures and of the quality measures that are asked for."""
    settings = Settings(k=options.k)
    has_classes = probe.labels is not None and ValueRange.parse(options.call.scale) is None
    names = options.measures or (*CHURN, *(QUALITY if has_classes else ()))
    churn, quality = [], []
    for name in dict.fromkeys(names):
        stem, _, depth = name.partition("@")
        if stem in ("auc", "logloss") and not depth:
            quality.append(name)
        elif stem == "ndcg" and (depth in ("", "k") or (depth.isdecimal() and int(depth) > 0)):
            quality.append(f"ndcg@{int(depth) if depth.isdecimal() else options.k}")
        else:
            churn.append(_churn_label(name, settings))
    if quality and probe.labels is not None and not has_classes:
        raise UserError(
            f"quality measures of the gate are of labels with two classes, and a regression has values. Received:"
            f" {', '.join(quality)}"
        )
    if quality and probe.labels is None:
        raise UserError(f"the probe must have labels for {', '.join(quality)}. Received: none")
    return churn, quality


def _churn_label(name: str, settings: Settings) -> str:
    for label in (name, f"{name}@{settings.k}"):
        if label in settings.measures:
            if settings.measures[label][0].better != "lower":
                raise UserError(f"the gate takes measures where lower is steadier. Received: {name!r}")
            return label
    measures = ", ".join([*settings.measures, *QUALITY[:2], "ndcg@k"])
    raise UserError(f"the gate's measures must be of {measures}. Received: {name!r}")
