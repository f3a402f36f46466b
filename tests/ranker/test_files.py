"""Files that appear whole or not at all, and what a killed writer leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ranker.errors import UserError
from ranker.files import replacing, staging, sweep, temporary_directory, unfinished, write_whole
from ranker.layout import model_versions, newest_version


def test_a_file_takes_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.name.startswith(".tmp-")
    assert path.read_text() == "new"
    with pytest.raises(KeyError):
        _fail_half_way(replacing(path))
    assert path.read_text() == "new"
    assert [child.name for child in tmp_path.iterdir()] == ["a.json"]


def _fail_half_way(block):
    with block as temporary:
        (temporary / "part" if temporary.is_dir() else temporary).write_text("half")
        raise KeyError


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/a\.json: cannot be written"):
        write_whole(tmp_path / "file" / "a.json", b"")
    (tmp_path / "directory").mkdir()
    with pytest.raises(UserError, match="directory: cannot be written"):
        write_whole(tmp_path / "directory", "")
    assert sorted(child.name for child in tmp_path.iterdir()) == ["directory", "file"]


KILLED = """
import os, signal, sys
from pathlib import Path
from ranker.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_the_old_file_and_its_half_is_swept(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, "old")
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    mine = unfinished(tmp_path)
    mine.write_text("at work")
    elsewhere = tmp_path / ".tmp-other-host-1-01234567"
    elsewhere.write_text("at work")
    (tmp_path / ".tmp-of-somebody").write_text("not ours")
    assert len(sweep(tmp_path)) == 1
    os.utime(elsewhere, (0, 0))
    assert sweep(tmp_path) == [elsewhere.name]
    assert sorted(child.name for child in tmp_path.iterdir()) == sorted(
        [".tmp-of-somebody", mine.name, "a.json"]
    )
    assert path.read_text() == "old"


HOLDS = """
import os, signal, sys
from pathlib import Path
from ranker.files import temporary_directory
with temporary_directory(Path(sys.argv[1])) as directory:
    (directory / "part").write_text("half")
    if sys.argv[2] != "0":
        os.kill(os.getpid(), int(sys.argv[2]))
    raise SystemExit(3)
"""


def test_a_temporary_directory_goes_with_the_block_or_with_the_next_one_after_a_kill(tmp_path):
    def held_by_another_process(number):
        return subprocess.run([sys.executable, "-c", HOLDS, str(tmp_path), str(number)], check=False)

    assert held_by_another_process(0).returncode == 3
    assert list(tmp_path.iterdir()) == []
    assert held_by_another_process(int(signal.SIGKILL)).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    with temporary_directory(tmp_path) as directory:
        assert list(tmp_path.iterdir()) == [directory]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_replaced_whole_by_one_writer(tmp_path):
    target = tmp_path / "data"
    for text in ("first", "second"):
        with staging(target, "a") as fresh:
            (fresh / "part").write_text(text)
            with pytest.raises(UserError, match="another run is writing here"), staging(target, "a"):
                pass
    assert (target / "part").read_text() == "second"
    with pytest.raises(KeyError):
        _fail_half_way(staging(target, "a"))
    assert (target / "part").read_text() == "second"
    assert sorted(child.name for child in tmp_path.iterdir()) == [".data.lock", "data"]


def test_versions_are_directories_named_by_numbers(tmp_path):
    assert newest_version(tmp_path / "none") == 0
    for name in ("2", "10", "007", "-1", "+3", "٣", "²", "1.5", ".tmp-1", "9"):
        (tmp_path / name).mkdir()
    (tmp_path / "11").write_text("a file")
    assert list(model_versions(tmp_path)) == [10, 9, 7, 2]
    assert model_versions(tmp_path)[7].name == "007"
    assert newest_version(tmp_path) == 10
