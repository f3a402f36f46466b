"""Compressed files: of several parts, cut, damaged, and of compressions that cannot be read."""

import bz2
import gzip
import lzma
import re

import pytest
import zstandard

from ranker.errors import UserError
from tests.pipelines.prepare.small_files import (
    EXPECTED,
    plain,
    read_rejected,
    run,
)

COMPRESSIONS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_compressed_file_of_several_parts(tmp_path, suffix):
    data, compress = plain().encode(), COMPRESSIONS[suffix]
    (tmp_path / f"f.csv{suffix}").write_bytes(compress(data[:500]) + compress(data[500:]))
    counted, rows = run(tmp_path, {"path": f"f.csv{suffix}"})
    assert (counted.counts["rejected"], rows) == (0, EXPECTED)


def cut_file(compress):
    rows = "".join(f"u{n},i{n},1,{n * 7919 % 10007}\n" for n in range(20_000)).encode()
    whole = compress(b"user,item,label,price\n" + rows)
    return whole[: len(whole) // 2]


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_cut_compressed_file_gives_the_rows_before_the_cut(tmp_path, suffix):
    (tmp_path / f"f.csv{suffix}").write_bytes(cut_file(COMPRESSIONS[suffix]))
    counted, _ = run(tmp_path, {"path": f"f.csv{suffix}"})
    assert counted.counts["train"] > 4_000
    assert read_rejected(tmp_path / "run")[-1]["reason"].startswith("truncated ")


def test_a_cut_bzip2_file_is_one_line(tmp_path):
    # bzip2 works in blocks of 900 kB, and the first one is cut
    (tmp_path / "f.csv.bz2").write_bytes(cut_file(bz2.compress))
    with pytest.raises(UserError, match="truncated bzip2"):
        run(tmp_path, {"path": "f.csv.bz2"})


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_damaged_compressed_file_is_never_read_as_whole(tmp_path, suffix):
    damaged = bytearray(COMPRESSIONS[suffix](plain().encode()))
    damaged[len(damaged) // 2] ^= 0xFF
    (tmp_path / f"f.csv{suffix}").write_bytes(bytes(damaged))
    try:
        counted, _ = run(tmp_path, {"path": f"f.csv{suffix}"})
        assert counted.counts["rejected"]
    except UserError as error:  # nothing but damage
        assert re.search("damaged|truncated|no such|unreadable", str(error))  # noqa: PT017


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"\x04\x22\x4d\x18", b"7z\xbc\xaf", b"\x1f\x9d"])
def test_other_compressions_are_refused_by_name(tmp_path, head):
    (tmp_path / "f.csv").write_bytes(head + b"\0" * 100)
    with pytest.raises(UserError, match=r"is compressed with .*, which cannot be read; use gzip"):
        run(tmp_path, {})
