"""A user's mistake gets one line that names the thing; nothing is left half-written."""

import errno
import os

import pytest

from pipelines.prepare import prepare
from ranker import tfrecord
from ranker.errors import UserError

EVENTS = {"path": "u.data", "delimiter": "\t", "columns": ["user_id", "item_id", "rating", "timestamp"]}
USERS = {"path": "u.user", "key": "user_id", "delimiter": "|", "columns": ["user_id", "age", "gender"]}
RATED = {"by": "column", "of": "rating"}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"data_events": {**EVENTS, "path": "absent.tsv"}}, ["absent.tsv", "no such file"]),
        ({"data_events": {**EVENTS, "path": "*.nothing"}}, ["*.nothing", "no such file"]),
        (
            {"data_label": "stars >= 4"},
            ["u.data", "'stars'", "data.label", "user_id, item_id, rating, timestamp"],
        ),
        ({"data_label": "1 > 0"}, ["data.label", "at least one column"]),
        ({"data_request": ["visit"]}, ["'visit'", "data.request"]),
        ({"data_weight": "w"}, ["'w'", "data.weight"]),
        ({"data_timestamp": "at", "data_split": {"by": "time"}}, ["'at'", "data.timestamp"]),
        ({"data_split": {"by": "column", "of": "part"}}, ["'part'", "data.split.of"]),
        ({"data_derive": {"genres": {"flags": ["Action", "Musical"]}}}, ["data.derive.genres", "'Musical'"]),
        ({"data_tables": {"users": {**USERS, "columns": None}}}, ["u.user", "no column 'user_id'"]),
        (
            {"data_tables": {"users": {**USERS, "key": "id", "columns": ["id"]}}},
            ["data.tables.users.key", "'id'"],
        ),
        (
            {"data_tables": {"users": {**USERS, "columns": ["user_id", "rating"]}}},
            ["u.user", "'rating'", "data.events"],
        ),
        ({"data_label": "rating"}, ["data.label", "0 or 1", "'rating'"]),
        ({"data_label": "rating >= 9"}, ["data.label", "label 0", "both classes"]),
        ({"data_label": "rating >= 0"}, ["data.label", "label 1", "both classes"]),
        ({"data_split": {**RATED, "train": ["1", "4"], "eval": ["never"]}}, ["data.split", "eval split"]),
        ({"data_split": {**RATED, "train": ["never"], "eval": ["4"]}}, ["data.split", "train split"]),
        (
            {"data_events": {**EVENTS, "delimiter": ","}},
            ["u.data", "all 240 rows were rejected", "number of fields"],
        ),
        ({"data_events": {**EVENTS, "columns": ["user_id", "item_id", "rating"]}}, ["all 240 rows"]),
    ],
)
def test_the_message_names_the_thing(make, tmp_path, changes, parts):
    with pytest.raises(UserError) as raised:
        prepare(make(**changes), tmp_path / "run")
    message = str(raised.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert not (tmp_path / "run" / "data").exists()
    assert not list((tmp_path / "run").glob(".data-*"))


def test_a_directory_without_data_files(log, make, tmp_path):
    (log / "part").mkdir()
    (log / "part" / "_SUCCESS").write_text("")
    with pytest.raises(UserError, match="part: is a directory without data files"):
        prepare(make(data_events={**EVENTS, "path": "part"}), tmp_path / "run")


def test_empty_and_headless_files(log, make, tmp_path):
    (log / "u.data").write_text("")
    with pytest.raises(UserError, match="is empty"):
        prepare(make(), tmp_path / "run")
    with pytest.raises(UserError, match="is empty"):
        prepare(make(data_events={"path": "u.data"}), tmp_path / "run")
    (log / "u.data").write_text("user_id,user_id,rating\n")
    with pytest.raises(UserError, match="names the column 'user_id' twice"):
        prepare(make(data_events={"path": "u.data"}), tmp_path / "run")
    (log / "u.data").write_text('"user_id","item_id","rating"\n')
    with pytest.raises(UserError, match="quoted; say so with quote"):
        prepare(make(data_events={"path": "u.data"}), tmp_path / "run")


def test_a_place_that_cannot_be_written(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written: Not a directory"):
        prepare(make(), tmp_path / "file" / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory(make, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(UserError, match=r"cannot be written: Permission denied"):
        prepare(make(), tmp_path / "locked" / "run")


def test_a_full_disk_leaves_the_earlier_data_as_they_were(make, tmp_path, monkeypatch):
    before = prepare(make(), tmp_path / "run")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tfrecord.Writer, "write", full)
    with pytest.raises(UserError, match="the disk is full"):
        prepare(make(data_order_seed=1), tmp_path / "run")
    monkeypatch.undo()
    assert not list((tmp_path / "run").glob(".data-*"))
    assert prepare(make(), tmp_path / "run") == before
