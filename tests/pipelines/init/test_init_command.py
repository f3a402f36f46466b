"""`ranker init`, and what it writes of public logs."""

import json
import os
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pipelines.prepare.preview import check_rows
from ranker.cli import app
from ranker.config import load
from ranker.errors import UserError
from tests.pipelines.init.small_logs import proposed, write_log, write_table

ROOT = Path(__file__).parents[3]
CONFIGS = {
    "ml-100k": "movielens-100k",
    "ml-1m": "movielens-1m-binary",
    "frappe": "frappe",
    "lambdarank": "lambdarank",
    "open-bandit/bts": "open-bandit",
    "open-bandit/random": "open-bandit",
}


def test_the_commands(tmp_path):
    paths = [str(path) for path in write_log(tmp_path)]
    target = tmp_path / "e.yaml"
    written = CliRunner().invoke(app, ["init", *paths, "--output", str(target)])
    assert written.exit_code == 0
    assert yaml.safe_load(target.read_text())["data"]["label"] == "clicked == 1"
    checked = CliRunner().invoke(app, ["config", "--check", str(target), "--json"])
    remarks = json.loads(checked.stdout)["check"]["remarks"]
    assert [remark["subject"] for remark in remarks] == ["events", "tables.items", "joins.items"]
    with (tmp_path / "clicks.csv").open("a") as sink:
        sink.write("bad\n" * 20)
    refused = CliRunner().invoke(app, ["config", "--check", str(target)])
    assert isinstance(refused.exception, UserError)
    assert "20 of 420 rows were rejected; most often: has another number of fields" in str(refused.exception)
    schema = json.loads(CliRunner().invoke(app, ["config", "--schema"]).stdout)
    assert "null_values" in schema["$defs"]["Source"]["properties"]
    again = CliRunner().invoke(app, ["init", *paths, "--output", str(target)])
    assert "is there already" in str(again.exception)


def test_rows_that_would_be_rejected_are_a_question(tmp_path):
    rows = [(f"u{n % 40}" if n % 10 else "", f"i{n % 31}", n % 2) for n in range(400)]
    path = write_table(tmp_path / "log.tsv", rows, ["user_id", "item_id", "clicked"])
    text, experiment, checked = proposed(tmp_path, [path])
    assert experiment.data.max_rejected == pytest.approx(0.12, abs=0.01)
    assert checked.rejections.rows == 40
    assert "data.max_rejected: is that right?" in text


@pytest.mark.skipif("STEADY_RANKER_DATA" not in os.environ, reason="STEADY_RANKER_DATA is not set")
@pytest.mark.parametrize(("folder", "config"), CONFIGS.items())
def test_public_logs_are_read_by_their_configurations(folder, config):
    root = Path(os.environ["STEADY_RANKER_DATA"]) / folder
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    experiment = load(ROOT / "configs" / f"{config}.yaml", [f"data.root={root}"])
    checked = check_rows(experiment, 5_000)
    assert checked.rejections.rows == 0
    assert {remark.rows for remark in checked.remarks} == {0}


@pytest.mark.skipif("STEADY_RANKER_DATA" not in os.environ, reason="STEADY_RANKER_DATA is not set")
@pytest.mark.parametrize(
    "names",
    [
        ["ml-100k/u.data", "ml-100k/u.user"],
        ["ml-1m/interactions.tsv.gz", "ml-1m/users.dat", "ml-1m/movies.dat"],
        ["frappe/frappe.test.libfm"],
        ["lambdarank/rank.train"],
        ["open-bandit/bts/men.csv", "open-bandit/bts/item_context.csv"],
    ],
)
def test_public_logs_are_described(tmp_path, names):
    paths = [Path(os.environ["STEADY_RANKER_DATA"]) / name for name in names]
    if not all(path.exists() for path in paths):
        pytest.skip(f"{paths[0].parent} is not there")
    proposed(tmp_path, paths)
