"""`ranker init`: a configuration that loads and reads its log, whatever the log looks like; open questions are asked."""

import json
import os
import random
from datetime import datetime, timedelta
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
    assert (data.label, data.request, data.item.column) == ("clicked == 1", ("SessionID",), "item_id")
    assert (data.timestamp, data.split.by, data.events.null_values) == ("when", "time", ("NULL",))
    assert data.tables["items"].key == "item_id"
    assert features["price"].kind == "numeric"
    assert features["item_id"].role == "item"
    assert "SessionID" not in features, "no session comes back"
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
        assert (experiment.data.request, experiment.item) == (("user_id",), "doc_id")
        assert checked.rejections.rows == 0


def test_a_log_without_a_request_says_so(tmp_path):
    text = "".join(f"{n % 40},{n % 3},{n % 2}\n" for n in range(200))
    (tmp_path / "log.csv").write_text("product,colour,clicked\n" + text)
    text, experiment, _ = proposed(tmp_path, [tmp_path / "log.csv"])
    assert "QUESTION" in text
    assert "no column says which rows were shown together" in text
    assert experiment.item == "product"


def write_table(path, rows, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in [names, *rows]))
    return path


@pytest.mark.parametrize("kind", ["pairs", "beside", "chosen", "json", "parquet"])
def test_impression_lists_become_a_row_for_each_candidate(tmp_path, kind):
    noise = random.Random(3)
    shown = [[f"N{noise.randint(1, 40)}" for _ in range(noise.randint(2, 6))] for _ in range(200)]
    clicks = [[int(at == len(row) // 2) for at in range(len(row))] for row in shown]
    users = [f"u{n % 17}" for n in range(200)]
    if kind == "pairs":
        pairs = [
            " ".join(f"{i}-{c}" for i, c in zip(*row, strict=True)) for row in zip(shown, clicks, strict=True)
        ]
        rows = [(n, user, pair) for n, (user, pair) in enumerate(zip(users, pairs, strict=True), 1)]
        path = write_table(tmp_path / "behaviors.tsv", rows, ["impression_id", "user", "impressions"])
    elif kind in ("beside", "chosen"):
        last = [
            " ".join(map(str, row)) if kind == "beside" else shown[n][len(row) // 2]
            for n, row in enumerate(clicks)
        ]
        rows = [(n, users[n], " ".join(row), last[n]) for n, row in enumerate(shown)]
        path = write_table(tmp_path / "log.tsv", rows, ["session", "user", "items", "clicks"])
    else:
        entries = [
            {"session": n, "user": users[n], "items": shown[n], "clicks": clicks[n]}
            for n in range(len(shown))
        ]
        path = tmp_path / f"log.{kind}"
        if kind == "json":
            path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        else:
            pq.write_table(pa.Table.from_pylist(entries), path)
    _, experiment, checked = proposed(tmp_path, [path])
    assert checked.rows_read == sum(map(len, shown))
    assert checked.rejections.rows == 0
    assert experiment.data.request == ("impression_id",) if kind == "pairs" else ("session",)
    assert experiment.item == ("item" if kind == "pairs" else "items")
    labels = [row["__label__"] for batch in checked.rows for row in batch.to_pylist()]
    assert sum(labels) == pytest.approx(sum(map(sum, clicks)), rel=0.2), (
        "an item that is shown twice counts twice"
    )


def test_files_of_one_log_go_together_and_are_split_by_their_names(tmp_path):
    rows = [(f"u{n % 9}", f"i{n % 31}", n % 2) for n in range(90)]
    names = ["user", "item", "clicked"]
    paths = [write_table(tmp_path / f"{part}.tsv", rows, names) for part in ("train", "valid", "test")]
    _, experiment, _ = proposed(tmp_path, paths)
    assert (experiment.data.split.train, experiment.data.split.eval) == (
        ("train.tsv", "valid.tsv"),
        ("test.tsv",),
    )
    text, experiment, _ = proposed(tmp_path, paths[:1])
    assert experiment.data.split.by == "hash"
    assert "test.tsv, valid.tsv lies beside train.tsv" in text
    days = [write_table(tmp_path / f"day=2024-01-0{day}" / "part-0.tsv", rows, names) for day in (1, 2, 3)]
    _, experiment, _ = proposed(tmp_path, days)
    assert len(experiment.data.events.path) == 3
    assert experiment.data.timestamp == "day"


def test_a_column_of_parts_is_the_split_and_other_outcomes_are_no_features(tmp_path):
    noise = random.Random(5)
    rows = []
    for n in range(400):
        clicked = int(noise.random() < 0.3)
        seconds = noise.randint(1, 300) if clicked else ""
        rows.append(
            (f"q{n // 5}", f"d{n % 31}", n % 5 + 1, clicked, seconds, ["Train", "val", "TEST"][n % 3], 0.2)
        )
    names = ["query_id", "doc_id", "position", "clicked", "dwell", "part", "propensity"]
    text, experiment, _ = proposed(tmp_path, [write_table(tmp_path / "log.tsv", rows, names)])
    assert (experiment.data.split.by, experiment.data.split.eval) == ("column", ("TEST",))
    assert set(experiment.data.split.train) == {"Train", "val"}
    assert list(experiment.features) == ["doc_id", "position"]
    assert experiment.features["position"].training_only
    assert "it alone gives the label away" in text


def test_whole_numbers_are_codes_or_amounts_with_a_reason(tmp_path):
    noise = random.Random(7)
    rows = [
        (n // 5, n % 31, n % 2, noise.randint(0, 299), int(noise.paretovariate(0.5)), f"{noise.randint(0, 99):03d}",
         noise.randint(18, 90), noise.randint(-9, 9), noise.randint(0, 120))
        for n in range(3000)
    ]  # fmt: skip
    names = ["session", "product", "clicked", "shelf", "sales", "zone", "age", "delta", "brand_code"]
    text, experiment, _ = proposed(tmp_path, [write_table(tmp_path / "log.tsv", rows, names)])
    kinds = {name: feature.kind for name, feature in experiment.features.items()}
    assert kinds == {
        "product": "categorical", "shelf": "categorical", "sales": "numeric", "zone": "categorical", "age": "numeric",
        "delta": "numeric", "brand_code": "categorical",
    }  # fmt: skip
    for reason in (
        "fill their range",
        "leave gaps",
        "an amount by its name",
        "some are negative",
        "codes by its name",
    ):
        assert reason in text


def test_a_log_without_names_or_requests_has_amounts_and_categories(tmp_path):
    noise = random.Random(9)
    lines = []
    for _ in range(800):
        amounts = [str(int(noise.paretovariate(0.6))) if noise.random() < 0.8 else "" for _ in range(3)]
        codes = [f"{noise.randint(0, size) * 7919:08x}" for size in (9, 99, 10**6)]
        lines.append("\t".join([str(int(noise.random() < 0.25)), *amounts, *codes]))
    (tmp_path / "log.txt").write_text("\n".join(lines) + "\n")
    text, experiment, checked = proposed(tmp_path, [tmp_path / "log.txt"])
    kinds = [experiment.features[f"column_{n}"].kind for n in range(2, 7)]
    assert kinds == ["numeric"] * 3 + ["categorical"] * 2
    assert "column_7" not in experiment.features, "nearly every row has a value of its own"
    assert checked.rejections.rows == 0
    assert "no column says which rows were shown together" in text


def test_reviews_with_sentences_and_times_in_digits(tmp_path):
    noise = random.Random(11)
    rows = [
        {
            "reviewerID": f"A{noise.randint(0, 90)}",
            "asin": f"B{noise.randint(0, 60)}",
            "overall": float(noise.randint(1, 5)),
            "text": " ".join(noise.choices(["good", "bad", "the", "product"], k=9)),
            "hour": 14102100 + n % 24,
        }
        for n in range(500)
    ]
    (tmp_path / "log.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, experiment, _ = proposed(tmp_path, [tmp_path / "log.json"])
    assert (experiment.data.request, experiment.item) == (("reviewerID",), "asin")
    assert experiment.data.timestamp == "hour"
    assert set(experiment.features) == {"reviewerID", "asin"}


@pytest.mark.parametrize(
    ("log_key", "table_key"), [("{}.0", "{}"), ("{}", "{}.0"), ("{:05d}", "{}"), ("{}", "{:04d}")]
)
def test_keys_that_are_written_in_two_ways_join(tmp_path, log_key, table_key):
    rows = [(log_key.format(n % 40), f"i{n % 31}", n % 2) for n in range(400)]
    log = write_table(tmp_path / "log.tsv", rows, ["user_id", "item_id", "clicked"])
    users = [(table_key.format(n), 20 + n % 7) for n in range(40)]
    table = write_table(tmp_path / "users.tsv", users, ["user_id", "age"])
    _, experiment, checked = proposed(tmp_path, [log, table])
    assert experiment.features["age"].role == "context"
    assert {remark.rows for remark in checked.remarks} == {0}


@pytest.mark.parametrize(
    ("form", "expected"), [("%d/%m/%Y", "%d/%m/%Y"), ("%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M")]
)
def test_times_whose_day_and_month_change_places(tmp_path, form, expected):
    days = [datetime(2021, 1, 1) + timedelta(days=n) for n in range(300)]
    rows = [(f"u{n % 40}", f"i{n % 31}", n % 2, day.strftime(form)) for n, day in enumerate(days)]
    path = write_table(tmp_path / "log.tsv", rows, ["user_id", "item_id", "clicked", "date"])
    _, experiment, _ = proposed(tmp_path, [path])
    assert (experiment.data.timestamp, experiment.data.time_format) == ("date", expected)


def test_lists_in_brackets_names_in_any_letters_and_trailing_delimiters(tmp_path):
    head = "Nutzer ID\tArtikel\tgekauft?\tTags\n"
    body = [f"n{n % 9}\ta{n % 31}\t{['ja', 'nein'][n % 2]}\t['t{n % 3}', 't{n % 4}']\t\n" for n in range(200)]
    (tmp_path / "log.tsv").write_text(head + "".join(body).replace("ja", "yes").replace("nein", "no"))
    _, experiment, checked = proposed(tmp_path, [tmp_path / "log.tsv"])
    assert experiment.data.label == "gekauft == 1"
    assert experiment.features["Tags_list"].multivalued == ", "
    assert checked.rejections.rows == 0


def test_rows_that_would_be_rejected_are_a_question(tmp_path):
    rows = [(f"u{n % 40}" if n % 10 else "", f"i{n % 31}", n % 2) for n in range(400)]
    path = write_table(tmp_path / "log.tsv", rows, ["user_id", "item_id", "clicked"])
    text, experiment, checked = proposed(tmp_path, [path])
    assert experiment.data.max_rejected == pytest.approx(0.12, abs=0.01)
    assert checked.rejections.rows == 40
    assert "data.max_rejected: is that right?" in text


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
