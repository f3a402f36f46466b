"""The evidence page: claims decided by intervals, numbers from the run, one command."""

import json
import re
import shutil

import pytest
from typer.testing import CliRunner

from ranker import layout
from ranker.cli.study import app
from ranker.config import dump
from ranker.errors import UserError
from ranker.study import claims, evidence, evidence_map, rungs
from ranker.study import data as study_data
from ranker.study.evidence_page import table
from ranker.study.options import StudyOptions
from ranker.study.recipes import SMELU, arms

WRITTEN = [1, 2]
"""Claims of the page under test; `.ci/run` writes the page of all."""


def test_one_command_writes_the_page(study_experiment, study_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(study_run, run)
    layout.config_path(run).write_text(dump(study_experiment))
    page = tmp_path / "docs" / "evidence.md"
    arguments = ["evidence", "--run-dir", str(run), "--page", str(page), "--quick", "--lanes", "1"]
    arguments += [word for number in WRITTEN for word in ("--claim", str(number))]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads((tmp_path / "docs/evidence/tiny/evidence.json").read_text())
    text = page.read_text()
    assert len(found["claims"]) == len(WRITTEN)
    assert {claim["replicas"] for claim in found["claims"]} == {2}
    assert "**A smoke form (`--quick`).**" in text
    for claim in found["claims"]:
        assert claim["title"] in text
        assert claim["verdicts"]
        assert all(v in text for v in claim["verdicts"])
        assert all(v in done.output for v in claim["verdicts"])
        assert claim["cost"]["numbers"] == WRITTEN
        assert claim["cost"]["processor_seconds"] > 0
    assert f"| 1, 2 | {found['claims'][0]['cost']['processor_seconds']} | 560 |" in text
    assert (page.parent / "evidence/tiny/frontier.svg").exists()
    assert "](evidence/tiny/frontier.svg)" in text


def test_every_recipe_of_the_full_page_fits_an_experiment(study_experiment):
    recipes = claims.recipes(claims.ALL, False, 0.05, 1)
    assert len(arms(study_experiment, recipes)) == len(recipes)
    assert all(len(claims.recipes([n], False, 0.05, 1)) < len(recipes) for n in claims.ALL)
    assert arms(
        study_experiment,
        {n: overrides for n, (_, overrides) in claims.long_training(False).items()},
    )
    turned = evidence_map.cells(1000, study_experiment.model.hidden, False)
    assert len(arms(study_experiment, {cell.recipe("smelu"): cell.overrides for cell in turned})) == len(
        turned
    )
    assert arms(study_experiment, claims.remedies(False, 1))


def test_remedies_are_compared_with_plain_relu(study_experiment, study_run, tmp_path, quick):
    (claim,) = evidence.run(study_experiment, study_run, tmp_path, quick, print, [8])["claims"]
    first, *rest = claim["rows"]
    assert first["recipe"] == "remedy-plain-ReLU"
    assert first["rpd_ratio"] == 1.0
    assert {row["recipe"] for row in rest} == {
        "remedy-no-remedy-average-0.8",
        "remedy-anchor-0.8-average-0.8",
    }
    assert claim["verdicts"][0].endswith("].")
    assert "Where a team controls neither" in claim["verdicts"][0]
    assert [v.split(":")[0] for v in claim["verdicts"][1:]] == [
        row["recipe"].removeprefix("remedy-").removesuffix("-average-0.8")
        for row in sorted(rest, key=lambda row: row["rpd_ratio"])
    ]


def test_the_map_compares_smelu_with_relu_on_each_log(study_experiment, study_run, tmp_path, quick):
    (claim,) = evidence.run(study_experiment, study_run, tmp_path, quick, print, [6])["claims"]
    middle, fewer = claim["rows"]
    assert (middle["property"], fewer["property"]) == ("middle", "rows")
    assert fewer["rows an id"] < middle["rows an id"]
    assert claim["train_rows"] == int(study_data.load(study_experiment, study_run).train.label.shape[0])
    assert (tmp_path / "map.svg").exists()


def test_a_claim_takes_at_most_its_rows_of_a_log(study_experiment, study_run, tmp_path, quick, monkeypatch):
    shares = [share._replace(rows=60) if share.numbers == (5,) else share for share in claims.PLAN]
    monkeypatch.setattr(claims, "PLAN", shares)
    long, log_map = evidence.run(study_experiment, study_run, tmp_path, quick, print, [5, 6])["claims"]
    assert (long["number"], long["train_rows"]) == (5, 60)
    assert log_map["train_rows"] > 60


def test_mitigations_are_compared_with_nothing_but_relu_and_smelu():
    recipes = claims.recipes([4], False, 0.05, 1)
    assert {name for name, recipe in recipes.items() if "mitigation" not in recipe} == {"relu", "smelu-1"}


def test_passes_are_as_long_as_the_configured_training():
    of_three = claims.search(False, 3) | claims.remedies(False, 3)
    epochs = {
        name: recipe["training.epochs"] for name, recipe in of_three.items() if "training.epochs" in recipe
    }
    assert epochs["free-relu-two-passes-average-0.5"] == 6
    assert epochs["remedy-no-remedy-average-0.5"] == 6
    assert epochs["remedy-three-passes-average-0.5"] == 9
    assert set(epochs.values()) == {6, 9}


def test_every_claim_has_one_share_of_the_plan():
    assert sorted(number for share in claims.PLAN for number in share.numbers) == sorted(claims.ALL)


def test_three_logs_take_an_hour_of_two_cores_at_most():
    assert 3 * sum(share.processor_seconds for share in claims.PLAN) <= 2 * 3600


def test_the_longest_training_and_the_map_share_their_epochs(study_experiment):
    whole = arms(
        study_experiment, {name: recipe for name, (_, recipe) in claims.long_training(False).items()}
    )
    turned = evidence_map.cells(1000, study_experiment.model.hidden, False)
    mapped = arms(
        study_experiment,
        {
            c.recipe("smelu-1"): {**SMELU.overrides, **c.overrides}
            for c in turned
            if c.prop in ("middle", "epochs")
        },
    )
    epochs = {arm.training.epochs for name, arm in whole.items() if name.startswith("long-smelu-1-layer")}
    assert epochs == {arm.training.epochs for arm in mapped.values()}


def test_a_share_that_reads_earlier_trainings_keeps_their_cost(
    study_experiment, study_run, tmp_path, monkeypatch
):
    seconds = iter([0.0, 70.0, 100.0, 105.0, 200.0, 202.0])
    monkeypatch.setattr(evidence, "_processor_seconds", lambda: next(seconds))
    monkeypatch.setattr(rungs, "measure", lambda *arguments: [{"rung": "asked twice"}])
    monkeypatch.setattr(rungs, "verdicts", lambda rows: [])
    costs = []
    for rows in (None, None, 60):
        options = StudyOptions(replicas=2, rows=rows, cache=tmp_path / "cache")
        (claim,) = evidence.run(study_experiment, study_run, tmp_path, options, print, [7])["claims"]
        costs.append(claim["cost"]["processor_seconds"])
    assert costs == [70, 70, 2]


def test_machines_measured_before_a_stop_are_not_measured_again(
    study_experiment, study_run, tmp_path, monkeypatch
):
    options = StudyOptions(replicas=2, quick=True, cache=tmp_path / "cache")
    row = {"kind": "serving", "rung": "asked twice", "activation": "relu", "rpd_sym": 0.0, "top1_swap": 0.0}
    measured = []

    def measure(*arguments):
        measured.append(arguments)
        return [row]

    monkeypatch.setattr(rungs, "measure", measure)
    for _ in range(2):
        (claim,) = evidence.run(study_experiment, study_run, tmp_path, options, print, [7])["claims"]
        assert claim["rows"] == [row]
    assert len(measured) == 1


def cell_row(prop, setting, ratio, gain=0.0):
    return {
        "property": prop,
        "setting": setting,
        "relu_rpd_sym": 0.1,
        "rpd_ratio": ratio,
        "ratio_low": ratio - 0.1,
        "ratio_high": ratio + 0.1,
        "auc_gain": gain,
        "auc_gain_low": gain - 0.001,
        "auc_gain_high": gain + 0.001,
    }


def test_the_map_says_where_the_recipe_buys_more_and_less():
    count, middle, rows, epochs, several, extremes = evidence_map.verdicts(
        [
            cell_row("middle", "60 rows, 4 epochs", 0.5),
            cell_row("rows", "15", 0.25),
            cell_row("rows", "240", 0.55),
            cell_row("epochs", "16", 1.2, gain=-0.01),
            cell_row("several", "15, 1 epoch", 0.2, gain=-0.1),
        ]
    )
    assert "On 4 of 5 logs smelu-1 is steadier than ReLU with its whole interval, on 1 less steady" in count
    assert "lower with its whole interval on 2, higher on 0" in count
    assert "in the middle of the map (60 rows, 4 epochs): 0.50 [0.40, 0.60]" in middle
    assert re.search(r"15: 0\.25 [^;]* \(buys more\);", rows)
    assert re.search(r"240: 0\.55 [^;]* \(no difference shown\)", rows)
    assert re.search(r"16: 1\.20 [^;]* \(buys less\)", epochs)
    assert several.endswith("(has learnt less).")
    assert "most with rows 15 and least with epochs 16" in extremes


def test_a_claim_that_is_not_there_is_named(study_experiment, study_run, tmp_path, quick):
    with pytest.raises(UserError, match=r"--claim must be one of 1, 2, 3, 4, 5, 6, 7, 8. Received: \[9\]"):
        evidence.run(study_experiment, study_run, tmp_path, quick, print, [1, 9])


@pytest.mark.parametrize(
    ("value", "worst", "expected"),
    [(0.5, 0.55, "**Holds.**"), (0.5, 0.65, "**Holds in the mean"), (0.7, 0.8, "**Fails.**")],
)
def test_a_claim_holds_only_with_its_whole_interval(value, worst, expected):
    assert claims.verdict(value, worst, 0.6).startswith(expected)


def matched(auc, ratio, high, smelu="smelu-1"):
    best = auc - 0.002 if smelu == "none" else auc
    return {"auc": auc, "best_smelu_auc": best, "smelu": smelu, "rpd_ratio": ratio, "ratio_high": high}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([matched(0.70, 0.3, 0.4), matched(0.71, 0.5, 0.55)], "**Holds.** .* 2 recipes, at most 0.50 .*0.55"),
        ([matched(0.70, 0.5, 0.65)], "**Holds in the mean"),
        (
            [matched(0.70, 0.9, 1.0), matched(0.71, 0.5, 0.7)],
            "**Fails.** .* from an AUC of 0.7100 on: 1 recipe,",
        ),
        (
            [matched(0.70, 0.3, 0.4), matched(0.71, *[float("nan")] * 2, "none")],
            r"**Fails.** .* of which SmeLU does not reach the AUC of 1 \(its best is 0.0020 lower\), at most 0.30",
        ),
        (
            [matched(0.71, *[float("nan")] * 2, "none")],
            r"**Fails.** .* 1 recipe, whose AUC no recipe of SmeLU reaches \(its best is 0.0020 lower\)",
        ),
        ([], "relu has no recipe of use"),
    ],
)
def test_steadier_along_a_frontier(found, expected):
    assert re.match(expected.replace("**", r"\*\*"), evidence.frontier_verdicts("relu", found, 0.6)[0])


def test_no_two_recipes_share_a_name(monkeypatch):
    monkeypatch.setattr(claims, "mitigations", lambda quick: {"relu": {"training.average_last": 0.7}})
    with pytest.raises(ValueError, match="two recipes are named relu"):
        claims.recipes(claims.ALL, False, 0.05, 1)


def test_the_frontier_is_what_nothing_beats():
    points = [
        {"auc": a, "rpd_sym": p} for a, p in [(0.7, 0.1), (0.8, 0.3), (0.75, 0.35), (0.6, 0.2), (0.8, 0.2)]
    ]
    assert [(p["auc"], p["rpd_sym"]) for p in claims.frontier(points)] == [(0.7, 0.1), (0.8, 0.2)]


def test_tables_are_markdown():
    assert table([{"a": 1, "b": 0.123456}]).splitlines() == ["| a | b |", "|---|---|", "| 1 | 0.1235 |"]


@pytest.mark.parametrize("name", ["tradeoff", "sources", "swaps", "surface", "shapes", "evidence"])
def test_every_study_has_a_command_with_help(name):
    done = CliRunner().invoke(app, [name, "--help"])
    assert done.exit_code == 0
    assert "Example" in done.output


def test_a_run_that_is_not_prepared_is_named(tmp_path):
    done = CliRunner().invoke(app, ["swaps", "--run-dir", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "not a run directory" in str(done.exception)
