"""The gate: may this version go live? Its churn against what serves, held to what the serving replicas differ by anyway."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ranker.address import parse_address
from ranker.divergence import (
    Comparison,
    Decision,
    Settings,
    Statistic,
    Verdict,
    decide,
    measure_requests,
    overall_verdict,
)
from ranker.errors import UserError
from ranker.files import replacing
from serving.client import RankerClient
from serving.deployment import Replica
from serving.monitor.collect import Answers, Expected, Limits, collect
from serving.monitor.measure import request_batch
from serving.monitor.offline import answer_offline
from serving.monitor.requests import ProbeSet

MEASURES = ("top1_swap", "set_churn", "consensus_regret")
"""What is held to the baseline unless said otherwise."""

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):\d{1,5}")


@dataclass(frozen=True)
class Options:
    """How strict the gate is.

    Attributes:
        measures: names or labels of measures where lower is steadier.
        margin: how much more than the baseline is tolerated, as a share of it.
        allowance: what an intended change may add, in the measures' unit.
        level: of the intervals.
        k: how deep the top of a list is.
        deadline: seconds a request to a server may take.
        model_name: the name that servers serve the model by.
    """

    measures: tuple[str, ...] = MEASURES
    margin: float = 0.1
    allowance: float = 0.0
    level: float = 0.95
    k: int = 10
    deadline: float = 5.0
    model_name: str = "ranker"


@dataclass(frozen=True)
class Side:
    """One model that took part: where, which version, how many of the requests it answered."""

    source: str
    version: int
    answered: int


@dataclass(frozen=True)
class GateResult:
    """The gate's answer with its evidence.

    Attributes:
        verdict: pass, fail or more requests needed.
        decisions: one a measure.
        candidate, baseline: who was compared.
        probe: hash of the requests.
        requests: how many there are.
        baseline_kind: `replicas` (between the serving replicas) or `floor` (one replica asked twice).
        notes: what else to know, such as another vocabulary.
    """

    verdict: Verdict
    decisions: tuple[Decision, ...]
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
        wanted = [decision.more_requests for decision in self.decisions if decision.more_requests]
        return max(wanted) if wanted else None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "verdict": self.verdict.value,
            "exit_code": self.exit_code,
            "more_requests": self.more_requests,
            "probe": self.probe,
            "requests": self.requests,
            "candidate": vars(self.candidate),
            "baseline": [vars(side) for side in self.baseline],
            "baseline_kind": self.baseline_kind,
            "notes": list(self.notes),
            "measures": {
                decision.measure: {
                    "verdict": decision.verdict.value,
                    "reason": decision.reason,
                    "candidate": decision.candidate._asdict(),
                    "baseline": decision.baseline._asdict(),
                    "limit": decision.limit,
                    "requests": decision.requests,
                    "more_requests": decision.more_requests,
                }
                for decision in self.decisions
            },
        }

    def junit(self) -> str:
        """JUnit's XML: a test a measure; undecided ones are errors."""
        failed = sum(decision.verdict is Verdict.FAIL for decision in self.decisions)
        undecided = sum(decision.verdict is Verdict.MORE for decision in self.decisions)
        suite = ElementTree.Element(
            "testsuite",
            name="ranker gate",
            tests=str(len(self.decisions)),
            failures=str(failed),
            errors=str(undecided),
        )
        for decision in self.decisions:
            case = ElementTree.SubElement(
                suite, "testcase", classname="ranker.gate", name=decision.measure, time="0"
            )
            if decision.verdict is Verdict.FAIL:
                ElementTree.SubElement(case, "failure", message=decision.reason)
            elif decision.verdict is Verdict.MORE:
                ElementTree.SubElement(case, "error", message=decision.reason)
        return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)

    def report(self) -> str:
        """The answer for a person, a line a measure."""
        against = (
            "the serving replicas differ by"
            if self.baseline_kind == "replicas"
            else "one replica differs from itself by"
        )
        lines = [
            f"{self.verdict.value.upper()}: {self.candidate.source} (version {self.candidate.version}) against "
            + ", ".join(f"{side.source} (version {side.version})" for side in self.baseline),
            f"{self.requests} requests, probe {self.probe}; the limit is what {against}, with the margin",
        ]
        lines += [f"  {decision.verdict.value:>21}  {decision.reason}" for decision in self.decisions]
        lines += [f"note: {note}" for note in self.notes]
        if self.more_requests:
            lines.append(f"give at least {self.more_requests} more requests to decide")
        return "\n".join(lines)


def keep(result: GateResult, run: Path) -> bool:
    """Keeps the answer as `gate.json` in a run directory, where the dashboard shows it; False if it cannot be written."""
    try:
        with replacing(run / "gate.json") as temporary:
            temporary.write_text(json.dumps(result.as_dict(), indent=1) + "\n", encoding="utf-8")
    except OSError:
        return False
    return True


def gate(
    candidate: str, baseline: Sequence[str], probe: ProbeSet, options: Options | None = None
) -> GateResult:
    """Compares a candidate with what serves.

    With two baselines or more the limit is what they differ by; with one it is what it differs by from itself,
    asked twice.

    Args:
        candidate: `HOST:PORT` of a server, or a SavedModel's directory (or a base path: its newest version).
        baseline: the same, of what serves now.
        probe: the requests.
        options: how strict.

    Raises:
        UserError: a source answers nothing, sees other features than the candidate, or is given twice.
    """
    options = options or Options()
    sources = [candidate, *baseline]
    if not baseline:
        raise UserError("the gate must have at least one baseline. Received: none")
    if len(set(sources)) != len(sources):
        raise UserError(f"candidate and baselines must be different. Received: {', '.join(sources)}")
    asked = [_ask(source, probe, options) for source in sources]
    _check_comparable(sources, asked)
    settings = Settings(k=options.k)
    names = ["candidate", *(f"baseline-{place}" for place in range(len(baseline)))]
    answers = {name: (one.scores, one.answered) for name, one in zip(names, asked, strict=True)}
    measured = measure_requests(request_batch(probe, answers), settings)
    versus = measured.summarise()
    if len(baseline) > 1:
        # against the same consensus: that of fewer models would be nearer to each of them, and the limit too low
        among = measured.select(names[1:]).summarise().means
    else:
        again = asked[1]
        if not again.again_answered.any():
            raise UserError(
                f"one baseline must be a server, to be asked twice; or give two. Received: {baseline[0]}"
            )
        twice = {
            "alone": (again.scores, again.answered & again.again_answered),
            "again": (again.again, again.again_answered),
        }
        among = measure_requests(request_batch(probe, twice), settings).summarise().means
    decisions = tuple(
        decide(label, _churn(versus, label, len(baseline)), among[label], margin=options.margin, allowance=options.allowance,
               level=options.level)
        for label in _labels(options, settings, probe)
    )  # fmt: skip
    sides = [
        Side(source, one.version, int(one.answered.sum())) for source, one in zip(sources, asked, strict=True)
    ]
    kind = "replicas" if len(baseline) > 1 else "floor"
    return GateResult(
        overall_verdict(decisions),
        decisions,
        sides[0],
        tuple(sides[1:]),
        probe.hash,
        len(probe),
        kind,
        _notes(sources, asked),
    )


def _ask(source: str, probe: ProbeSet, options: Options) -> Answers:
    if not _ADDRESS.fullmatch(source) or Path(source).exists():
        return answer_offline("model", Path(source), probe)

    def connect(target: Any) -> RankerClient:
        return RankerClient(
            target.target, model_name=options.model_name, deadline=options.deadline, item=probe.item
        )

    limits = Limits(
        deadline=options.deadline, round=max(60.0, options.deadline * 10), floor=len(probe), batched=False
    )
    (answers,) = collect(
        [Replica("model", str(parse_address(source, "a model")))], probe, connect, Expected(), limits
    ).answers
    if not answers.answered.any():
        kinds = ", ".join(f"{kind} {count}" for kind, count in answers.errors.items())
        raise UserError(f"every model must answer the probe. Received from {source}: {kinds}")
    return answers


def _check_comparable(sources: Sequence[str], asked: Sequence[Answers]) -> None:
    told = _told("feature_spec", sources, asked)
    if len(set(told.values())) > 1:
        shown = ", ".join(f"{source} {value}" for source, value in told.items())
        raise UserError(f"models must have the same feature_spec to be compared. Received: {shown}")


def _notes(sources: Sequence[str], asked: Sequence[Answers]) -> tuple[str, ...]:
    """Another vocabulary is no obstacle, raw features go in, but part of why a refresh on new data churns."""
    told = _told("vocabulary", sources, asked)
    if len(set(told.values())) < 2:
        return ()
    shown = ", ".join(f"{source} {value}" for source, value in told.items())
    return (f"the models have different vocabularies: {shown}",)


def _told(key: str, sources: Sequence[str], asked: Sequence[Answers]) -> dict[str, str]:
    return {
        source: one.description[key]
        for source, one in zip(sources, asked, strict=True)
        if one.description.get(key)
    }


def _churn(comparison: Comparison, label: str, baselines: int) -> Statistic:
    # over the candidate's pairs only, a request at a time
    if baselines > 1:
        return comparison.replicas["candidate"][label]
    return next(iter(comparison.pairs.values()))[label]


def _labels(options: Options, settings: Settings, probe: ProbeSet) -> list[str]:
    labels = [_label(name, settings) for name in options.measures]
    if (
        int(np.diff(probe.offsets).max()) <= options.k
    ):  # then the top k is the whole list, and nothing can leave it
        labels = [label for label in labels if not label.startswith("set_churn@")]
    if not labels:
        raise UserError(
            f"requests must have more than k={options.k} candidates for set_churn. Received: none has"
        )
    return labels


def _label(name: str, settings: Settings) -> str:
    for label in (name, f"{name}@{settings.k}"):
        if label in settings.measures:
            if settings.measures[label][0].better != "lower":
                raise UserError(f"the gate takes measures where lower is steadier. Received: {name!r}")
            return label
    raise UserError(f"the gate's measures must be of {', '.join(settings.measures)}. Received: {name!r}")
