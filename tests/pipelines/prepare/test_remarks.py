"""What was lost has a voice: counts, the commonest reason with an example, and the key to set; limits end the run."""

import json

import pytest

from pipelines.prepare import prepare
from pipelines.prepare.remarks import suggestion
from pipelines.runner import RunnerOptions
from ranker.errors import UserError
from tests.pipelines.prepare.small_log import contents

DEFAULTS = {"data_max_rejected": 0.01}


def spoil(path, every, change):
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{change(line) if n % every == 0 else line}\n" for n, line in enumerate(lines)))


def rating(value):
    def change(line):
        user, item, _, time = line.split("\t")
        return "\t".join([user, item, value, time])

    return change


def by_subject(manifest):
    return {remark["subject"]: remark for remark in manifest.remarks}


def test_a_clean_run_says_its_counts(make, tmp_path):
    said = []
    manifest = prepare(make(**DEFAULTS), tmp_path / "run", progress=lambda text, *_, **__: said.append(text))
    remarks = by_subject(manifest)
    assert list(remarks) == ["events", "tables.users", "tables.items", "joins.users", "joins.items"]
    assert {remark["level"] for remark in manifest.remarks} == {"count"}
    train, held_out = manifest.counts["train"], manifest.counts["eval"]
    assert f"prepare: events: 240 rows read: {train} train, {held_out} eval, 0 rejected" in said
    assert "prepare: tables.users: 12 rows read, 0 rejected" in said
    assert "prepare: joins.users: 240 of 240 rows (100%) have their user_id in the table" in said
    again = []
    prepare(make(**DEFAULTS), tmp_path / "run", progress=lambda text, *_, **__: again.append(text))
    assert next(text for text in said if "rows read:" in text) in again


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("NULL", "null_values: ['NULL']"),
        ("\\N", "null_values"),
        ("3,830.00", "thousands: ','"),
        ("4,5", "decimal: ','"),
    ],
)
def test_a_third_of_bad_values_ends_the_run_which_names_an_example_and_keeps_the_rows(
    log, make, tmp_path, value, hint
):
    spoil(log / "u.data", 3, rating(value))
    with pytest.raises(UserError) as raised:
        prepare(make(**DEFAULTS), tmp_path / "run")
    message = str(raised.value)
    assert message.startswith("data.max_rejected: 80 of 240 rows were rejected; most often: label cannot be")
    for part in (
        "u.data, line 1",
        hint,
        "raise data.max_rejected",
        "Received: 0.01",
        str(tmp_path / "run/rejected"),
    ):
        assert part in message
    rejected = (tmp_path / "run/rejected/events.jsonl").read_text().splitlines()
    assert len(rejected) == 80
    assert json.loads(rejected[0])["line"] == 1
    assert not (tmp_path / "run/data").exists()
    prepare(make(data_max_rejected=0.4), tmp_path / "run")
    assert not (tmp_path / "run/rejected").exists()


def test_rejected_table_rows_end_the_run_before_the_log_is_read(log, make, tmp_path):
    (log / "u.item").write_text((log / "u.item").read_text("latin-1") + "1|again|0|0|0\n", "latin-1")
    with pytest.raises(
        UserError, match=r"data.max_rejected: 1 of 31 rows of tables.items .* repeats the key: '1'"
    ):
        prepare(make(**DEFAULTS), tmp_path / "run")
    assert (tmp_path / "run/rejected/tables/items.jsonl").read_text().count("\n") == 1


def test_a_join_that_misses_most_rows_ends_the_run(log, make, tmp_path):
    users = (log / "u.user").read_text().splitlines()
    (log / "u.user").write_text("".join(line.replace("|", ".0|", 1) + "\n" for line in users))
    with pytest.raises(UserError) as raised:
        prepare(make(**DEFAULTS), tmp_path / "run")
    message = str(raised.value)
    for part in (
        "0 of 240 rows (0%)",
        "'1' (u.data, line 1)",
        "'1.0', '2.0', '3.0'",
        "tables.users.integers: [user_id]",
        "lower data.min_joined",
        "Received: 0.5",
    ):
        assert part in message
    manifest = prepare(make(**DEFAULTS, data_min_joined=0), tmp_path / "run")
    remark = by_subject(manifest)["joins.users"]
    assert (remark["rows"], remark["of"], remark["share"]) == (240, 240, 1.0)
    assert remark["example"] == {"file": "u.data", "line": 1, "value": "1"}


def test_features_that_hold_nothing_are_named(log, make, tmp_path):
    lines = (log / "u.data").read_text().splitlines()
    rows = [
        f"{line}\t7\t\t{1_600_000_000_123 + n * 3_600_000}\t{n % 2}\tall\n" for n, line in enumerate(lines)
    ]
    (log / "u.data").write_text("".join(rows))
    columns = [
        "user_id",
        "item_id",
        "rating",
        "timestamp",
        "seven",
        "nothing",
        "milliseconds",
        "turn",
        "word",
    ]
    features = dict(make().model_dump()["features"])
    numeric = {"kind": "numeric", "role": "context"}
    features |= dict.fromkeys(("seven", "nothing", "milliseconds", "turn"), numeric)
    features["word"] = {"kind": "categorical", "role": "context"}
    manifest = prepare(
        make(features=features, data_events={"path": "u.data", "delimiter": "\t", "columns": columns}),
        tmp_path / "run",
    )
    remarks = by_subject(manifest)
    reasons = {
        subject.removeprefix("features."): remark["reason"]
        for subject, remark in remarks.items()
        if subject.startswith("features.") and subject != "features.milliseconds"
    }
    assert reasons == {"seven": "constant", "word": "constant", "nothing": "missing", "turn": "varies"}
    assert remarks["features.seven"]["example"] == {"value": 7.0}
    lossy, varies = [r for r in manifest.remarks if r["subject"] == "features.milliseconds"]
    assert lossy["reason"] == "float32"
    assert lossy["rows"] > 200
    assert varies["reason"] == "varies"
    assert "role: item" in remarks["features.turn"]["hint"]


def test_remarks_are_the_same_for_any_block_size_and_workers(log, make, tmp_path, monkeypatch):
    from pipelines.prepare.read import lines, reading

    spoil(log / "u.data", 7, rating("x"))
    spoil(log / "u.user", 5, lambda line: "9" + line)
    prepare(make(), tmp_path / "one")
    prepare(make(), tmp_path / "workers", RunnerOptions(workers=2))
    monkeypatch.setattr(reading, "BLOCK_BYTES", 300)
    monkeypatch.setattr(lines, "PIECE_BYTES", 60)
    prepare(make(), tmp_path / "pieces")
    assert contents(tmp_path / "one") == contents(tmp_path / "pieces") == contents(tmp_path / "workers")


@pytest.mark.parametrize(
    ("reason", "text", "expected"),
    [
        ("age is not a finite number: 'N/A'", "", "null_values: ['N/A']"),
        ("age is not a finite number: '1.234.567,8'", "", "thousands: '.'"),
        ("age is not a finite number: 'old'", "", None),
        ("at is not a time: '31.12.2020'", "", "data.time_format"),
        ("has another number of fields: 4 where 3 columns are expected", '1,"a,b",2', "quote"),
        ("has another number of fields: 1 where 3 columns are expected", "1;2;3", "delimiter"),
        ("is not utf-8 text", "x", "encoding"),
        ("has broken quotes: ',' expected", '5" screen', "quote: null"),
    ],
)
def test_which_key_would_help(reason, text, expected):
    hint = suggestion("data.events", {"reason": reason, "text": text})
    assert hint is None if expected is None else expected in hint
