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
CONFIGS = {
    "ml-100k": "movielens-100k",
    "ml-1m": "movielens-1m-binary",
    "frappe": "frappe",
    "lambdarank": "lambdarank",
    "open-bandit/bts": "open-bandit",
    "open-bandit/random": "open-bandit",
}


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
        (
            n // 5,
            n % 31,
            n % 2,
            noise.randint(0, 299),
            int(noise.paretovariate(0.5)),
            f"{noise.randint(0, 99):03d}",
            noise.randint(18, 90),
            noise.randint(-9, 9),
            noise.randint(0, 120),
        )
        for n in range(3000)
    ]
    names = ["session", "product", "clicked", "shelf", "sales", "zone", "age", "delta", "brand_code"]
    text, experiment, _ = proposed(tmp_path, [write_table(tmp_path / "log.tsv", rows, names)])
    kinds = {name: feature.kind for name, feature in experiment.features.items()}
    assert kinds == {
        "product": "categorical",
        "shelf": "categorical",
        "sales": "numeric",
        "zone": "categorical",
        "age": "numeric",
        "delta": "numeric",
        "brand_code": "categorical",
    }
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


def click_rows(rows=400, users=20, items=31):
    noise = random.Random(13)
    for n in range(rows):
        user, item = n % users, noise.randrange(items)
        yield n, f"u{user}", f"i{item}", int(noise.random() < (0.8 if item % 3 == 0 else 0.1))


def test_events_are_a_label_and_what_only_some_of_them_have_is_no_feature(tmp_path):
    rows = [
        (1433221332117 + n, user, ["view", "addtocart"][click], item, n if click else "")
        for n, user, item, click in click_rows()
    ]
    names = ["timestamp", "visitorid", "event", "itemid", "transactionid"]
    _, experiment, _ = proposed(tmp_path, [write_table(tmp_path / "log.tsv", rows, names)])
    data = experiment.data
    assert (data.label, data.request, data.item.column) == ("event == 'addtocart'", ("visitorid",), "itemid")
    assert set(experiment.features) == {"visitorid", "itemid"}
    kinds = ["pv", "cart", "buy", "remove_from_cart"]
    rows = [(user, item, kinds[n % 7] if n % 7 < 4 else "pv") for n, user, item, _ in click_rows()]
    _, experiment, _ = proposed(
        tmp_path, [write_table(tmp_path / "b.tsv", rows, ["user", "item", "behavior"])]
    )
    assert experiment.data.label == "behavior in ('cart', 'buy')"


def test_a_log_of_positives_gets_negatives(tmp_path):
    noise = random.Random(23)
    rows = [
        (user, item, f"name of {item}", int(noise.paretovariate(0.5)))
        for _, user, item, _ in click_rows(800, users=40, items=37)
    ]
    (tmp_path / "plays.tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    text, experiment, _ = proposed(tmp_path, [tmp_path / "plays.tsv"])
    assert (experiment.data.label, experiment.data.negatives.count) == (None, 4)
    assert {name: feature.role for name, feature in experiment.features.items()} == {
        "column_1": "context",
        "column_2": "item",
        "column_3": "item",
    }
    assert "known of a row that was logged, and of no negative: column_4" in text


def test_a_log_without_a_request_or_a_candidate_numbers_its_rows(tmp_path):
    noise = random.Random(17)
    rows = [(noise.gauss(0, 1), noise.gauss(5, 2), int(noise.random() < 0.3)) for _ in range(400)]
    path = write_table(tmp_path / "log.tsv", rows, ["x1", "x2", "target"])
    _, experiment, checked = proposed(tmp_path, [path])
    data = experiment.data
    assert (data.request, data.item.column, data.item.feature, data.split.of) == (
        None,
        "row",
        False,
        ("row",),
    )
    assert checked.rejections.rows == 0


def test_of_several_ids_the_candidate_differs_within_a_request(tmp_path):
    rows = [
        (n // 8, n // 8 % 3, f"{n % 8}-{n // 8 % 5}", int(n % 5 == 0), int(n % 10 == 0), "" if n % 5 else 7.5)
        for n in range(800)
    ]
    names = ["srch_id", "site_id", "prop_id", "click_bool", "booking_bool", "gross_usd"]
    _, experiment, _ = proposed(tmp_path, [write_table(tmp_path / "log.tsv", rows, names)])
    assert (experiment.data.request, experiment.item) == (("srch_id",), "prop_id")
    assert experiment.data.label == "click_bool == 1"
    assert set(experiment.features) == {"site_id", "prop_id"}, "what follows a click gives it away"


@pytest.mark.parametrize(("yes", "no"), [("Ja", "Nein"), ("oui", "non"), ("TAK", "NIE")])
def test_answers_in_another_language_are_a_label(tmp_path, yes, no):
    rows = [(user, item, yes if click else no) for _, user, item, click in click_rows()]
    _, experiment, checked = proposed(
        tmp_path, [write_table(tmp_path / "log.tsv", rows, ["user", "item", "gekauft"])]
    )
    assert experiment.data.label == f"gekauft == '{yes}'"
    assert checked.rejections.rows == 0


def test_a_directory_stands_for_its_data_files(tmp_path, monkeypatch):
    for day in (1, 2):
        part = tmp_path / "clicks.parquet" / f"dt=2024-01-0{day}"
        part.mkdir(parents=True)
        rows = [
            {"user_id": user, "item_id": item, "clicked": click} for _, user, item, click in click_rows(90)
        ]
        pq.write_table(pa.Table.from_pylist(rows), part / "part-0.snappy.parquet")
        (part / ".part-0.snappy.parquet.crc").write_bytes(b"crc")
    (tmp_path / "clicks.parquet" / "_SUCCESS").write_text("")
    monkeypatch.chdir(tmp_path)
    _, experiment, checked = proposed(tmp_path, [Path("clicks.parquet")])
    assert (experiment.data.events.path, experiment.data.timestamp) == ("clicks.parquet", "dt")
    assert checked.rows_read == 180
    _, experiment, _ = proposed(tmp_path, [Path("clicks.parquet/dt=2024-01-01/part-0.snappy.parquet")])
    assert experiment.data.timestamp is None, "a path from here, and a partition with one value"


def test_a_table_joins_on_a_part_of_a_column(tmp_path):
    shown = [" ".join(f"N{(n * 7 + at) % 40}-{int(at == n % 4)}" for at in range(4)) for n in range(120)]
    lines = [f"{n}\tu{n % 17}\t{pairs}\n" for n, pairs in enumerate(shown, 1)]
    (tmp_path / "behaviors.tsv").write_text("".join(lines))
    news = [f"N{n}\t{['sports', 'money'][n % 2]}\ta 'title', of the story {n}\n" for n in range(40)]
    (tmp_path / "news.tsv").write_text("".join(news))
    _, experiment, checked = proposed(tmp_path, [tmp_path / "behaviors.tsv", tmp_path / "news.tsv"])
    assert experiment.data.tables["news"].key == "item"
    assert experiment.features["news_column_2"].role == "item"
    assert {remark.rows for remark in checked.remarks} == {0}
    topics = {row["item"]: row["news_column_2"] for batch in checked.rows for row in batch.to_pylist()}
    assert (topics["N4"], topics["N7"]) == ("sports", "money")


def test_objects_that_leave_fields_out_and_lists_of_objects(tmp_path):
    for part in range(2):
        lines = []
        for n, user, item, click in click_rows():
            row = {
                "user_id": user,
                "item_id": item,
                "clicked": bool(click),
                "price": n % 9,
                "seen": [{"id": 1}],
            }
            row["shop"] = {"city": ["Bonn", "Rom"][n % 2]} if n % 3 else None
            if part:
                del row["price"]
            lines.append(json.dumps(dict(sorted(row.items(), reverse=bool(part)))) + "\n")
        (tmp_path / f"export-00{part}.json").write_text("".join(lines))
    paths = sorted(tmp_path.glob("export-*.json"))
    _, experiment, checked = proposed(tmp_path, paths)
    assert len(experiment.data.events.path) == 2
    assert set(experiment.features) == {"user_id", "item_id", "price", "shop.city"}
    assert (checked.rows_read, checked.rejections.rows) == (800, 0)


def test_rows_named_as_r_does_and_numbers_too_large_for_a_model(tmp_path):
    rows = [
        f'"{n}" "{user}" "{item}" {n % 9 if n % 8 else 1e300} {click}\n'
        for n, user, item, click in click_rows()
    ]
    (tmp_path / "log.txt").write_text('"user" "item" "price" "clicked"\n' + "".join(rows))
    _, experiment, checked = proposed(tmp_path, [tmp_path / "log.txt"])
    assert experiment.data.events.columns == ("row_name", "user", "item", "price", "clicked")
    assert experiment.data.events.null_values == ("1e+300",)
    assert checked.rejections.rows == 0


def test_numbered_features_are_one_line(tmp_path):
    noise = random.Random(19)
    lines = [
        f"{n % 3} qid:{n // 10} "
        + " ".join(f"{at}:{noise.random():.3f}" for at in range(1, 9))
        + " #docid = G1\n"
        for n in range(400)
    ]
    for part, text in (("train", lines[:300]), ("vali", lines[300:350]), ("test", lines[350:])):
        (tmp_path / f"{part}.txt").write_text("".join(text))
    paths = [tmp_path / f"{part}.txt" for part in ("train", "vali", "test")]
    text, experiment, _ = proposed(tmp_path, paths)
    assert "  f1..f8: {kind: numeric" in text
    assert len(experiment.features) == 8
    assert experiment.data.split.train == ("train.txt", "vali.txt")


def test_files_of_a_log_that_are_empty_or_differ(tmp_path):
    names = ["user", "item", "clicked", "price"]
    rows = [(user, item, click, n % 7) for n, user, item, click in click_rows()]
    first = write_table(tmp_path / "log-1.tsv", rows, names)
    turned = write_table(tmp_path / "log-2.tsv", [row[::-1] for row in rows], names[::-1])
    (tmp_path / "log-3.tsv").write_text("")
    text, experiment, checked = proposed(tmp_path, [first, turned, tmp_path / "log-3.tsv"])
    assert experiment.data.events.path == ("log-1.tsv", "log-2.tsv")
    assert (checked.rows_read, checked.rejections.rows) == (800, 0)
    assert "log-3.tsv: nothing is in it" in text
    renamed = write_table(tmp_path / "log-4.tsv", rows, [*names[:3], "cost"])
    text, _, _ = proposed(tmp_path, [first, renamed])
    assert "log-4.tsv: is it a part of the log? It has the label, but its columns differ" in text
    (tmp_path / "log.bin").write_bytes(random.Random(1).randbytes(5000))
    with pytest.raises(UserError, match=r"log.bin: is no text"):
        propose([tmp_path / "log.bin"], 100)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{'user': 1, 'items': []}\n" * 9, "Python literals and no JSON"),
        ("1:\n" + "7,3,2005-09-06\n" * 9, "stand above the rows that they belong to"),
        (
            "".join(
                ("0 " * 20 + "3 1 5 2 4 ")[at:] + ("0 " * 20 + "3 1 5 2 4 ")[:at] + "\n"
                for at in range(0, 50, 2)
            ),
            "is a matrix of 25 columns, with 0",
        ),
    ],
)
def test_layouts_that_are_no_rows_are_refused(tmp_path, text, message):
    (tmp_path / "log.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        propose([tmp_path / "log.txt"], 1000)


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


def test_keys_that_are_both_counted_from_1_join_by_the_names_of_the_files(tmp_path):
    draw = random.Random(5)
    rows = [[draw.randint(1, 20), draw.randint(1, 60), draw.randint(0, 1)] for _ in range(600)]
    (tmp_path / "log.csv").write_text(
        "user_id,movie_id,clicked\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows)
    )
    for name, count in (("users", 200), ("movies", 70)):
        lines = [f"{i}::{draw.choice('AB')}::{draw.randint(18, 80)}\n" for i in range(1, count + 1)]
        (tmp_path / f"{name}.dat").write_text("".join(lines))
    paths = [tmp_path / name for name in ("log.csv", "users.dat", "movies.dat")]
    proposal = yaml.safe_load(proposed(tmp_path, paths)[0])
    keys = {name: table["key"] for name, table in proposal["data"]["tables"].items()}
    assert keys == {"users": "user_id", "movies": "movie_id"}
