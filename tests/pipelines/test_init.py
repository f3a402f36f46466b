"""`ranker init`: a configuration that loads and reads its log, whatever the log looks like; open questions are asked."""

import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from pipelines.init import propose
from pipelines.prepare.preview import check_rows
from ranker.cli import app
from ranker.config import load
from ranker.errors import UserError

ROOT = Path(__file__).parents[2]
CONFIGS = {"ml-100k": "movielens-100k", "ml-1m": "movielens-1m-binary", "frappe": "frappe", "lambdarank": "lambdarank",
           "open-bandit/bts": "open-bandit", "open-bandit/random": "open-bandit"}  # fmt: skip


def write_log(root, delimiter=",", number=str, header=True, rows=400, encoding="utf-8"):
    noise = random.Random(1)
    head = ["SessionID", "item_id", "price", "city", "when", "clicked"]
    lines = [delimiter.join(head)] if header else []
    for n in range(rows):
        day, city = f"2024-03-{n % 28 + 1:02d} 10:00:00", noise.choice(["Köln", "Bonn", "NULL"])
        values = [str(noise.randint(1, 60)), number(noise.uniform(1, 5000)), city, day]
        row = [f"s{n // 8}", *values, str(int(noise.random() < 0.3))]
        lines.append(delimiter.join(row))
    (root / "clicks.csv").write_text("\n".join(lines) + "\n", encoding=encoding)
    items = [delimiter.join(["item_id", "title", "tags"])] if header else []
    items += [delimiter.join([str(n), f"Item {n}", "a|b" if n % 2 else "b|c|d"]) for n in range(1, 61)]
    (root / "items.csv").write_text("\n".join(items) + "\n", encoding=encoding)
    return [root / "items.csv", root / "clicks.csv"]


def proposed(tmp_path, paths):
    text = propose(paths, 10_000)
    (tmp_path / "e.yaml").write_text(text)
    experiment = load(tmp_path / "e.yaml")
    checked = check_rows(experiment, 10_000)
    checked.refuse(experiment)
    return text, experiment, checked


@pytest.mark.parametrize(
    ("delimiter", "number", "encoding"),
    [
        (",", lambda v: f"{v:.2f}", "utf-8"),
        (";", lambda v: f"{v:.2f}".replace(".", ","), "cp1252"),
        ("\t", lambda v: f"{v:,.2f}", "utf-8"),
        ("::", lambda v: f"{v:.0f}", "utf-8"),
    ],
)
def test_a_log_with_names_is_described_from_its_rows(tmp_path, delimiter, number, encoding):
    text, experiment, checked = proposed(tmp_path, write_log(tmp_path, delimiter, number, encoding=encoding))
    data, features = experiment.data, experiment.features
    assert data.events.path == "clicks.csv"
    assert (data.label, data.request, data.item) == ("clicked == 1", ("SessionID",), "item_id")
    assert (data.timestamp, data.split.by, data.events.null_values) == ("when", "time", ("NULL",))
    assert data.tables["items"].key == "item_id"
    assert features["price"].kind == "numeric"
    assert (features["SessionID"].role, features["item_id"].role) == ("context", "item")
    assert (features["tags"].multivalued, features["tags"].role) == ("|", "item")
    assert "clicked" not in features
    assert checked.rejections.rows == 0
    assert "50 distinct, 8.0 rows each" in text


def test_a_log_without_names_asks_for_them(tmp_path):
    text, experiment, _ = proposed(tmp_path, write_log(tmp_path, header=False)[1:])
    assert experiment.data.events.columns == tuple(f"column_{n}" for n in range(1, 7))
    assert experiment.data.label == "column_6 == 1"
    assert "give the columns their names" in text


def test_parquet_and_json_lists_are_multivalued_features(tmp_path):
    rows = [
        {"user_id": f"u{n % 9}", "doc_id": n % 31, "topics": ["a", f"t{n % 5}"], "label": n % 3 == 0}
        for n in range(300)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    for name in ("log.jsonl", "log.parquet"):
        _, experiment, checked = proposed(tmp_path, [tmp_path / name])
        assert experiment.features["topics"].multivalued == "|"
        assert (experiment.data.request, experiment.data.item) == (("user_id",), "doc_id")
        assert checked.rejections.rows == 0


def test_a_log_without_a_request_says_so(tmp_path):
    text = "".join(f"{n % 40},{n % 3},{n % 2}\n" for n in range(200))
    (tmp_path / "log.csv").write_text("product,colour,clicked\n" + text)
    text, experiment, _ = proposed(tmp_path, [tmp_path / "log.csv"])
    assert "QUESTION" in text
    assert "no column says which rows were shown together" in text
    assert experiment.data.item == "product"


def test_files_that_cannot_be_described_are_one_line(tmp_path):
    (tmp_path / "log.csv").write_text("a,b\nx,y\nz,w\n")
    with pytest.raises(UserError, match=r"no column can be a label: .*there is: a, b"):
        propose([tmp_path / "log.csv"], 100)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match=r"empty.csv: is empty"):
        propose([tmp_path / "empty.csv"], 100)
    with pytest.raises(UserError, match="no such file"):
        propose([tmp_path / "absent.csv"], 100)


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
