"""Dirty files: every good row is kept, every bad one is rejected with its file, line and reason, and nothing vanishes."""

import codecs
import csv
import gzip
import io
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.prepare import prepare
from pipelines.prepare.needs import Needs
from pipelines.prepare.read import lines, reading, sources
from pipelines.prepare.rows import LINE, PLACE
from ranker.config import Data, Source
from ranker.errors import UserError
from tests.pipelines.prepare.small_log import contents, read_rejected, read_rows

NEEDS = Needs({"a": "features.a", "c": "features.c"}, {"b": "features.b"})


def read_source(root, **source):
    """All rows (a, b, c as text) and rejects (line, reason) of a source, in the order of their places."""
    config = Source(**{"path": "f", **source})
    data = Data(root=str(root), events=config, label="a", request=("a",), split={"by": "hash", "of": "a"})
    opened = sources.open_source(config, data)
    rows, bad, counts = [], [], {}
    for block in reading.blocks(opened):
        for part in reading.read(block, opened[block.file], config, NEEDS):
            counts[block.file, block.start] = counts.get((block.file, block.start), 0) + part.lines
            for batch in part.rows:
                batch.validate(full=True)
                rows += [(row[PLACE], block, row) for row in batch.to_pylist()]
            if part.rejected is not None:
                bad += [(row[PLACE], block, row) for row in part.rejected.to_pylist()]
    before = reading.lines_before(opened, counts)

    def line(block, row):
        start = sum(opened[block.file].groups[: block.start]) if opened[block.file].groups else block.start
        return before[block.file, start] + row[LINE] + 1

    def key(entry):
        return entry[0]

    return (
        [(line(b, r), r["a"], r["b"], r["c"]) for _, b, r in sorted(rows, key=key)],
        [(line(b, r), r["reason"], r["text"]) for _, b, r in sorted(bad, key=key)],
    )


def same(b, text):
    """Whether a value read as a number or as text stands for the text in the file."""
    return b == text or (b is None and text == "") or float(b) == float(text)


PIECES = st.sampled_from([(1 << 20, 1 << 20), (64, 16), (7, 3), (1000, 50), (1, 1)])
BAD_LINES = [b"1,2", b"1,2,3,4", b"x,1,\xff\xfe", b"a\0b,1,c", b",,,", b"\xc3", b"a,b,c"]
FIELD = st.text("abc€é \t;", max_size=4)
GOOD_ROW = st.tuples(FIELD, st.integers(-99, 99).map(str), FIELD)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.one_of(GOOD_ROW, st.sampled_from(BAD_LINES), st.just(b"")), max_size=25),
    newline=st.sampled_from([b"\n", b"\r\n"]),
    ending=st.booleans(),
    bom=st.booleans(),
    sizes=PIECES,
)
def test_unquoted_lines_are_rows_or_rejected_as_a_plain_loop_would_say(
    tmp_path, monkeypatch, rows, newline, ending, bom, sizes
):
    text = [row if isinstance(row, bytes) else ",".join(row).encode() for row in rows]
    data = b"a,b,c" + newline + newline.join(text) + (newline if ending else b"")
    (tmp_path / "f").write_bytes((codecs.BOM_UTF8 if bom else b"") + data)
    monkeypatch.setattr(reading, "BLOCK_BYTES", sizes[0])
    monkeypatch.setattr(lines, "PIECE_BYTES", sizes[1])
    good, bad = read_source(tmp_path)
    expected_good, expected_bad = [], []
    for number, line in enumerate(data.split(b"\n"), 1):
        line = line.removesuffix(b"\r")
        if not line or number == 1:
            continue
        broken = (
            line.count(b",") != 2 or b"\0" in line or line == b"a,b,c" or b"\xff" in line or line == b"\xc3"
        )
        (expected_bad if broken else expected_good).append((number, line))
    assert [number for number, *_ in good] == [number for number, _ in expected_good]
    for (_, a, b, c), (_, line) in zip(good, expected_good, strict=True):
        wanted = line.decode().split(",")
        assert (a, c) == (wanted[0], wanted[2])
        assert same(b, wanted[1])
    assert [number for number, *_ in bad] == [number for number, _ in expected_bad]
    assert all(reason for _, reason, _ in bad)


def test_each_kind_of_bad_line_says_what_is_wrong(tmp_path):
    lines_ = [
        b"a,b,c",
        b"1,2",
        b"x\xff,1,c",
        b"x\0,1,c",
        b"a,b,c",
        b"ok,1,c",
        b"l" * (lines.MAX_LINE_BYTES + 9) + b",1,c",
        b"ok,2,c",
    ]
    (tmp_path / "f").write_bytes(b"\n".join(lines_) + b"\n")
    good, bad = read_source(tmp_path)
    assert [row[0] for row in good] == [6, 8]
    assert [(line, reason) for line, reason, _ in bad] == [
        (2, "has another number of fields: 2 where 3 columns are expected"),
        (3, "is not utf-8 text"),
        (4, "contains a NUL byte"),
        (5, "repeats the header"),
        (7, "longer than 1,048,576 bytes"),
    ]
    assert bad[0][2] == "1,2"
    assert all(len(text) <= 500 for _, _, text in bad)


@pytest.mark.parametrize("piece", [1 << 22, 100_000])
def test_a_ten_megabyte_line_is_one_rejected_row(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(lines, "PIECE_BYTES", piece)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 1 << 20)
    (tmp_path / "f").write_bytes(b"a,b,c\nx,1,y\n" + b"z" * 10_000_000 + b"\nx,2,y\n" + b"q" * 3_000_000)
    good, bad = read_source(tmp_path)
    assert [row[0] for row in good] == [2, 4]
    assert [(line, text[:3]) for line, _, text in bad] == [(3, "zzz"), (5, "qqq")]


def test_a_lone_carriage_return_is_part_of_its_field(tmp_path):
    (tmp_path / "f").write_bytes(b"a,b,c\nx\ry,1,z\n1,2,3\r\n")
    good, bad = read_source(tmp_path)
    assert [(line, a, c) for line, a, _, c in good] == [(2, "x\ry", "z"), (3, "1", "3")]
    assert bad == []


QUOTED_FIELD = st.text('ab,"\n é', max_size=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(QUOTED_FIELD, st.integers(0, 9).map(str), QUOTED_FIELD), max_size=12),
    sizes=PIECES,
)
def test_what_a_csv_writer_quotes_is_read_back(tmp_path, monkeypatch, rows, sizes):
    text = "".join(_written(row) for row in [("a", "b", "c"), *rows])
    (tmp_path / "f").write_text(text, encoding="utf-8", newline="")
    monkeypatch.setattr(lines, "PIECE_BYTES", sizes[1])
    good, bad = read_source(tmp_path, quote='"')
    # A line inside quotes that is a complete row by itself is taken for one: then the quotes around are broken.
    ambiguous = any(_is_row(line) for row in rows for line in _written(row).split("\n")[1:-2])
    if not ambiguous:
        assert bad == []
        assert [(a, c) for _, a, _, c in good] == [(a, c) for a, _, c in rows]


def _written(row):
    sink = io.StringIO(newline="")
    csv.writer(sink, lineterminator="\n").writerow(row)
    return sink.getvalue()


def _is_row(line):
    try:
        return [len(fields) for fields in csv.reader([line], strict=True)] == [3]
    except csv.Error:
        return False


@pytest.mark.parametrize("sizes", [(1 << 20, 1 << 20), (1, 5), (1, 1)])
def test_a_broken_quote_costs_its_own_line_only(tmp_path, monkeypatch, sizes):
    monkeypatch.setattr(lines, "PIECE_BYTES", sizes[1])
    text = 'a,b,c\n1,2,3\nx,"4,5\n6,7,8\n"q,9",1,2\n"m\nn",1,2\n"u"v,1,2\n3,"",""\n1,2,"end\n'
    (tmp_path / "f").write_text(text)
    good, bad = read_source(tmp_path, quote='"')
    assert [(line, a, c) for line, a, _, c in good] == [
        (2, "1", "3"),
        (4, "6", "8"),
        (5, "q,9", "2"),
        (6, "m\nn", "2"),
        (9, "3", ""),
    ]
    assert [(line, text) for line, _, text in bad] == [(3, 'x,"4,5'), (8, '"u"v,1,2'), (10, '1,2,"end')]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "shift_jis"])
def test_encodings(tmp_path, encoding):
    text = "a,b,c\né,1,ü\n" if encoding != "shift_jis" else "a,b,c\n日本,1,表\n"
    (tmp_path / "f").write_bytes(text.encode(encoding))
    good, bad = read_source(tmp_path, encoding=encoding)
    assert [(a, c) for _, a, _, c in good] == [tuple(text.splitlines()[1].split(",1,"))]
    assert bad == []


def test_bytes_that_are_no_text_in_a_transcoded_file_are_rejected(tmp_path):
    (tmp_path / "f").write_bytes(b"a,b,c\n\x81,1,2\nx,1,2\n")
    good, bad = read_source(tmp_path, encoding="shift_jis")
    assert [line for line, *_ in good] == [3]
    assert [(line, reason) for line, reason, _ in bad] == [(2, "is not shift_jis text")]


@pytest.mark.parametrize("delimiter", ["::", "\t", "|~|", "¦"])
def test_delimiters_of_any_length(tmp_path, delimiter):
    rows = [["a", "b", "c"], ["x:y", "1", "\x1f"], ["", "2", ""]]
    (tmp_path / "f").write_text("".join(delimiter.join(row) + "\n" for row in rows), encoding="utf-8")
    good, bad = read_source(tmp_path, delimiter=delimiter)
    assert [(a, c) for _, a, _, c in good] == [("x:y", "\x1f"), ("", "")]
    assert bad == []


@pytest.mark.parametrize("members", [1, 3])
def test_gzip_in_one_or_several_members(tmp_path, members):
    parts = [b"a,b,c\n1,2,3\n", b"4,5,6\n7,8", b",9\n"]
    data = gzip.compress(b"".join(parts)) if members == 1 else b"".join(gzip.compress(part) for part in parts)
    (tmp_path / "f").write_bytes(data)
    good, bad = read_source(tmp_path)
    assert [(line, a) for line, a, _, _ in good] == [(2, "1"), (3, "4"), (4, "7")]
    assert bad == []


def test_what_a_truncated_gzip_still_holds_is_kept_and_the_cut_is_rejected(tmp_path):
    noise = random.Random(1)
    rows = [f"{noise.random()},{n},c" for n in range(2000)]
    whole = gzip.compress(("a,b,c\n" + "\n".join(rows) + "\n").encode())
    (tmp_path / "f").write_bytes(whole[: len(whole) // 2])
    good, bad = read_source(tmp_path)
    assert 200 < len(good) < 1500
    assert [a for _, a, _, _ in good] == [row.split(",")[0] for row in rows[: len(good)]]
    assert [(line, reason) for line, reason, _ in bad] == [
        (len(good) + 2, "truncated gzip: the rest of the file is missing")
    ]
    assert rows[len(good)].startswith(bad[0][2])


def test_a_damaged_gzip_says_so(tmp_path):
    data = bytearray(gzip.compress(b"a,b,c\n" + b"1,2,3\n" * 1000))
    data[-6] ^= 0xFF
    (tmp_path / "f").write_bytes(bytes(data))
    good, bad = read_source(tmp_path)
    assert len(good) == 1000
    assert [reason.partition(":")[0] for _, reason, _ in bad] == ["damaged gzip"]


def test_parquet_rows_and_a_truncated_file_among_whole_ones(tmp_path):
    table = pa.table(
        {"a": [1, None, 3], "b": [1.5, None, float("nan")], "c": [["x", "y"], [], None], "d": [1, 2, 3]}
    )
    pq.write_table(table, tmp_path / "f1", row_group_size=2)
    whole = (tmp_path / "f1").read_bytes()
    (tmp_path / "f2").write_bytes(whole[: len(whole) // 2])
    pq.write_table(table, tmp_path / "f3")
    (tmp_path / "f4").write_bytes(b"")
    good, bad = read_source(tmp_path, path="f*", format="parquet")
    assert [(line, a) for line, a, _, _ in good] == [(1, 1), (2, None), (3, 3), (1, 1), (2, None), (3, 3)]
    assert len(bad) == 1
    assert bad[0][1].startswith("not a whole Parquet file")


def test_a_dirty_log_from_end_to_end(log, make, tmp_path, monkeypatch):
    clean = (log / "u.data").read_text().splitlines()
    noise = random.Random(7)
    dirt = [
        b"1\t2",
        b"\xff\t1\t4\t1",
        b"1\t1\tfour\t1",
        b"\t1\t4\t1",
        b"1\t1\t4\t1\t9",
        b"a\0\t1\t4\t1",
        b"1\t1\t\t5",
    ]
    output, bad_lines = [], []
    for line in clean:
        if noise.random() < 0.3:
            output.append(b"")
        if noise.random() < 0.4:
            output.append(noise.choice(dirt))
            bad_lines.append(len(output))
        output.append(line.encode())
    (log / "u.data").write_bytes(codecs.BOM_UTF8 + b"\r\n".join(output))
    manifest = prepare(make(), tmp_path / "run")
    assert manifest.counts["rejected"] == len(bad_lines) > 50
    assert manifest.counts["read"] == len(clean) + len(bad_lines)
    rejected = read_rejected(tmp_path / "run")
    assert [entry["line"] for entry in rejected] == bad_lines
    for entry in rejected:
        assert entry["text"] == output[entry["line"] - 1].decode("utf-8", "replace")
    assert sum(manifest.reasons.values()) == len(bad_lines)
    rows = read_rows(tmp_path / "run", "train") + read_rows(tmp_path / "run", "eval")
    assert sorted((row["user_id"], row["item_id"]) for row in rows) == sorted(
        tuple(x.split("\t")[:2]) for x in clean
    )
    monkeypatch.setattr(reading, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(lines, "PIECE_BYTES", 300)
    prepare(make(), tmp_path / "pieces")
    assert contents(tmp_path / "run") == contents(tmp_path / "pieces")
    with pytest.raises(
        UserError, match=r"data.max_rejected: .* rows were rejected; most often: .*Received: 50"
    ):
        prepare(make(data_max_rejected=50), tmp_path / "limited")
    assert not (tmp_path / "limited/data").exists()
