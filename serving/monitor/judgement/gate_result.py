"""What the gate is asked for, and its answer: for a person, as JSON, as JUnit, in the run directory."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ranker import layout
from ranker.divergence import AnswerCoverage, Decision, GateOutcome
from ranker.errors import UserError
from ranker.files import write_whole
from ranker.json_text import json_text
from serving.targets.scoring import ModelCall

CHURN = ("top1_swap", "set_churn", "consensus_regret")
"""What is held to the baseline's own churn unless said otherwise."""
QUALITY = ("auc", "logloss", "ndcg")
"""What must not be worse than the baseline's, by default where the probe has labels."""


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
