"""Trees of objects: nothing of them is there before the last one, whenever their writer is killed."""

import json
import os
import signal
import subprocess
import sys

import fsspec
import pytest

from ranker import layout, storage
from ranker.errors import UserError
from ranker.files import replacing, staging, write_whole
from ranker.working_copy import data_fingerprint, fetch_prepared, fetch_version, scratch
from tests.object_store import keys

KILLED = """
import os, signal, sys
from pathlib import Path
import s3fs
from ranker import storage
last = int(sys.argv[3])
put, count = s3fs.S3FileSystem._put_file, 0
async def killed(*arguments, **options):
    global count
    count += 1
    if count == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return await put(*arguments, **options)
s3fs.S3FileSystem._put_file = killed
storage.put_tree(Path(sys.argv[2]), storage.location(sys.argv[1]), "saved_model.pb")
"""
"""Puts a tree, and is killed before its n-th object."""


@pytest.fixture
def version(tmp_path):
    directory = tmp_path / "version"
    for name in ("saved_model.pb", "training.json", "variables/variables.index", "assets.extra/replica.json"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)
    return directory


@pytest.mark.parametrize("objects", [1, 2, 4])
def test_a_killed_writer_leaves_nothing_that_a_reader_takes(bucket, version, tmp_path, objects):
    base = storage.location(f"s3://logs/run-{objects}/replicas/a/0")
    storage.add_tree(version, base / "1", "saved_model.pb")
    command = [sys.executable, "-c", KILLED, str(base / "2"), str(version), str(objects)]
    assert subprocess.run(command, env=os.environ).returncode == -signal.SIGKILL
    assert layout.newest_version(base) == 1
    with pytest.raises(FileNotFoundError):
        fetch_version(base / "2")
    # Its number is used by the next writer that puts the same tree.
    storage.put_tree(version, base / "2", "saved_model.pb")
    assert layout.newest_version(base) == 2
    local = fetch_version(base / "2")
    assert {name: (local / name).read_text() for name in storage.local_files(local)} == {
        name: name for name in storage.local_files(version)
    }


def test_a_tree_that_is_replaced_loses_its_marker_first(bucket, version, tmp_path):
    target = storage.location("s3://logs/run/evaluation")
    storage.put_tree(version, target, "saved_model.pb")
    (version / "training.json").unlink()
    command = [sys.executable, "-c", KILLED, str(target), str(version), "1"]
    assert subprocess.run(command, env=os.environ).returncode == -signal.SIGKILL
    assert "saved_model.pb" not in keys(bucket, "run/evaluation/")
    storage.put_tree(version, target, "saved_model.pb")
    assert keys(bucket, "run/evaluation/") == storage.local_files(version)


def prepared(directory, text):
    """A data directory with its manifest."""
    for name in ("train/part-0.tfrecord", "eval/part-0.tfrecord", "vocabulary/item.txt", "statistics.json"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(f"{name} {text}")
    import hashlib

    shards = {
        split: [{"name": name, "sha256": hashlib.sha256((directory / name).read_bytes()).hexdigest()}]
        for split in ("train", "eval")
        for name in (f"{split}/part-0.tfrecord",)
    }
    checksums = {shard["name"]: shard["sha256"] for split in shards.values() for shard in split}
    manifest = {"shards": shards, "fingerprint": data_fingerprint(checksums, directory)}
    (directory / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("uri", ["s3://logs/run", "memory://run", "file://{tmp}/run"])
def test_prepared_data_are_fetched_whole_and_only_what_is_named(bucket, tmp_path, uri):
    run = storage.location(uri.format(tmp=tmp_path))
    with pytest.raises(UserError, match="run `ranker prepare` first"):
        fetch_prepared(run)
    for text in ("first", "second"):
        with staging(layout.data_dir(run), "manifest.json") as fresh:
            prepared(fresh, text)
        data = layout.data_dir(fetch_prepared(run))
        assert storage.local_files(data) == ["manifest.json", "statistics.json", "vocabulary/item.txt"]
        fetch_prepared(run, ["train/part-0.tfrecord"])
        assert (data / "train/part-0.tfrecord").read_text() == f"train/part-0.tfrecord {text}"
        assert not (data / "eval").exists()
    # Another writer's object among those of the manifest.
    layout.statistics_path(run).write_text("third")
    (layout.manifest_path(fetch_prepared(run))).unlink()
    with pytest.raises(UserError, match="does not fit its manifest"):
        fetch_prepared(run)


def test_a_file_is_written_without_rename(bucket, tmp_path, monkeypatch):
    def no_rename(*_, **__):
        raise AssertionError("a store has no rename")

    for uri in ("s3://logs/run/a/b.json", f"file://{tmp_path}/a/b.json"):
        path = storage.location(uri)
        monkeypatch.setattr(type(path.fs), "mv", no_rename)
        write_whole(path, "one")
        assert path.read_text() == "one"
        with replacing(path) as temporary:
            temporary.write_text("two")
            assert path.read_text() == "one"
        assert path.read_text() == "two"
        with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
            temporary.write_text(f"three {1 // 0}")
        assert path.read_text() == "two"


def test_of_several_writers_one_creates(bucket):
    path = storage.location("s3://logs/run/claim")
    assert [storage.create(path, b"a"), storage.create(path, b"b")] == [True, False]
    assert path.read_bytes() == b"a"


def test_scratch_goes_with_its_block_and_after_a_day_without_it(bucket, monkeypatch):
    run = storage.location("s3://logs/run")
    with scratch(run, "prepare") as killed:
        storage.put_bytes(killed / "x", b"")
        with scratch(run, "prepare") as directory:
            storage.put_bytes(directory / "y", b"")
            assert len(keys(bucket, "run/.work/")) == 2
        assert len(keys(bucket, "run/.work/")) == 1
        monkeypatch.setattr("ranker.working_copy._LEFTOVER_SECONDS", -1.0)
        with scratch(run, "prepare"):
            assert keys(bucket, "run/.work/") == []


def test_a_store_that_refuses_is_one_line(bucket, monkeypatch):
    with pytest.raises(UserError, match=r"nosuch://x: cannot be used: .*nosuch"):
        storage.location("nosuch://x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(UserError, match=r"s3://logs/run: the store does not do it: .*127.0.0.1:1"):
        storage.location("s3://logs/run")
