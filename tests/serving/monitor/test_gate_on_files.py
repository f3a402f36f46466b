"""The gate on files of scored rows: the same decisions and exit codes as with servers."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ranker.cli import app

REQUESTS, CANDIDATES = 300, 12


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """Writes a file of a model that sees the truth with noise of its own; returns its name."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(3)
    truth = generator.normal(-1, 1, (REQUESTS, CANDIDATES))
    clicked = generator.random(truth.shape) < 1 / (1 + np.exp(-truth))

    def write(name, noise=0.1, seed=0, change=None, logits=False):
        values = truth + np.random.default_rng([seed, 8]).normal(0, noise, truth.shape)
        rows = {
            "q": np.repeat([f"q{n:03d}" for n in range(REQUESTS)], CANDIDATES),
            "sku": np.tile([f"item {n}" for n in range(CANDIDATES)], REQUESTS),
            "clicked": clicked.ravel().astype(int),
            "p": (values if logits else 1 / (1 + np.exp(-values))).ravel(),
        }
        if change is not None:
            rows = change(rows)
        pq.write_table(pa.table(rows), tmp_path / name)
        return name

    return write


def gate(candidate, baseline, *options):
    sources = ["--candidate", candidate, *(f"--baseline={name}" for name in baseline)]
    columns = ["--request", "q", "--item", "sku", "--score", "p", "--json"]
    return CliRunner().invoke(app, ["gate", *sources, *columns, *options])


def serving(scored):
    return [scored("a.parquet", seed=1), scored("b.parquet", seed=2)]


def test_a_candidate_that_differs_as_replicas_do_passes(scored):
    result = gate(scored("new.parquet", seed=3), serving(scored), "--label", "clicked", "--margin", "1")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["verdict"] == "pass"
    assert answer["requests"] == REQUESTS
    assert answer["baseline_kind"] == "replicas"
    assert {"top1_swap", "set_churn@10", "consensus_regret", "auc", "logloss", "ndcg@10"} == set(
        answer["measures"]
    )


def test_a_noisier_candidate_fails_and_a_worse_one_fails_by_quality(scored):
    result = gate(scored("new.parquet", noise=2.0), serving(scored), "--label", "clicked", "--margin", "1")
    assert result.exit_code == 1
    measures = json.loads(result.stdout)["measures"]
    assert measures["top1_swap"]["verdict"] == "fail"
    assert measures["auc"]["verdict"] == "fail"


def test_too_few_requests_ask_for_more(scored):
    def few(rows):
        return {name: values[: 6 * CANDIDATES] for name, values in rows.items()}

    baseline = [scored("a.parquet", seed=1, change=few), scored("b.parquet", seed=2, change=few)]
    result = gate(scored("new.parquet", seed=3, change=few), baseline, "--margin", "0.5")
    assert result.exit_code == 2, result.output
    assert json.loads(result.stdout)["more_requests"] > 0


def test_one_baseline_is_held_to_the_allowance(scored):
    candidate, baseline = scored("new.parquet", seed=3), scored("a.parquet", seed=1)
    assert gate(candidate, [baseline]).exit_code == 1
    result = gate(candidate, [baseline], "--allowance", "0.5")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["baseline_kind"] == "floor"
    assert any("--allowance" in note for note in answer["notes"])
    assert not any("itself a baseline" in note for note in answer["notes"])
    copy = gate(scored("copy.parquet", seed=1), [baseline])
    assert copy.exit_code == 2  # no sample proves that nothing ever changes
    assert any("the candidate is itself a baseline" in note for note in json.loads(copy.stdout)["notes"])


@pytest.mark.parametrize(
    ("change", "kind", "count"),
    [
        (lambda rows: {**rows, "p": np.where(rows["q"] < "q150", np.nan, rows["p"])}, "invalid_score", 150),
        (lambda rows: {name: values[4:] for name, values in rows.items()}, "coverage_mismatch", 1),
        (lambda rows: {name: values[24:] for name, values in rows.items()}, "no_answer", 2),
    ],
)
def test_silence_counts(scored, change, kind, count):
    result = gate(scored("new.parquet", seed=3, change=change), serving(scored), "--margin", "2")
    assert result.exit_code == 1
    candidate = json.loads(result.stdout)["candidate"]
    assert candidate["left_out"] == {kind: {"requests": count, "first": "q000"}}
    assert candidate["answered"] == REQUESTS - count
    loose = gate("new.parquet", ["a.parquet", "b.parquet"], "--margin", "2", "--min-coverage", "0.4")
    assert loose.exit_code == 0, loose.output
    assert json.loads(loose.stdout)["requests"] == REQUESTS - count


def test_scores_that_only_order_are_held_to_what_order_says(scored):
    files = [scored(f"{seed}.parquet", seed=seed, logits=True) for seed in range(3)]
    result = gate(files[0], files[1:], "--label", "clicked", "--margin", "1")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    verdicts = {label: entry["verdict"] for label, entry in answer["measures"].items()}
    assert verdicts["consensus_regret"] == verdicts["logloss"] == "stands aside"
    assert verdicts["top1_swap"] == verdicts["auc"] == "pass"
    assert any("no probabilities" in note for note in answer["notes"])
    logits = json.loads(gate(files[0], files[1:], "--scale", "logit", "--margin", "1").stdout)
    assert logits["measures"]["consensus_regret"]["verdict"] == "pass"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--label", "none"], "must have the column none"),
        (["--score", "none"], "must have the column none"),
        (["--label", "p"], "a row must have one label"),
        (["--scale", "odds"], "`scale` must be one of"),
        (["--output", "logits"], "--output must not be given with files"),
        (["--requests", "3"], "--requests must not be given with files"),
        (["--baseline", "new.parquet"], "sources must differ"),
        (["--measure", "swap"], "measures must be of"),
        (["--baseline", "nowhere.parquet"], "no such file"),
    ],
)
def test_mistakes_in_the_call(scored, options, message):
    result = gate(scored("new.parquet", seed=3), serving(scored), *options)
    assert result.exit_code == 1  # the command line's own is 3
    assert message in str(result.exception)
    assert result.exception.exit_code == 3
