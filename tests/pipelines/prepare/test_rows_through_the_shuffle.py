"""Rows that the engine shuffles, and rows that meet in files: the same bytes, for every kind of source and split."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.prepare import prepare
from pipelines.prepare.read import lines, reading
from pipelines.record import read_records
from pipelines.runner import RunnerOptions
from ranker import storage
from tests.object_store import keys
from tests.pipelines.prepare.small_log import contents

# By its full name Beam's local runner is an engine as any other: it gets no patch, and workers' files are not its own.
ENGINE = RunnerOptions("apache_beam.runners.portability.fn_api_runner.FnApiRunner")
COLUMNS = ("user_id", "item_id", "rating", "timestamp")


def rows(log):
    return [line.split("\t") for line in (log / "u.data").read_text().splitlines()]


def delimited(log):
    with (log / "u.data").open("a") as file:
        file.write("too\tfew\n5\t6\tnever\t1000\n")
    return {}


def quoted(log):
    text = ",".join(COLUMNS) + "\n"
    text += "".join(f'"{u}",{i},"{r}",{t}\n' for u, i, r, t in rows(log))
    (log / "log.csv").write_text(text + '"a\nb",1,5,1001\n7,1,"5"x,1002\n')
    return {"data_events": {"path": "log.csv"}}


def compressed(log):
    parts = rows(log)
    for number in range(3):
        text = "".join("\t".join(row) + "\n" for row in parts[number::3]) + "bad\n"
        (log / f"part-{number}.gz").write_bytes(gzip.compress(text.encode()))
    return {"data_events": {"path": "part-*.gz", "delimiter": "\t", "columns": list(COLUMNS)}}


def json_lines(log):
    text = "".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in rows(log))
    (log / "log.jsonl").write_text(text + '{"user_id": \n{"user_id": 1, "item_id": 2, "rating": "x"}\n')
    return {"data_events": {"path": "log.jsonl", "format": "json"}}


def parquet(log):
    columns = dict(zip(COLUMNS, map(list, zip(*rows(log), strict=True)), strict=True))
    columns["rating"][3] = "never"
    pq.write_table(pa.table(columns), log / "log.parquet", row_group_size=50)
    return {"data_events": {"path": "log.parquet", "format": "parquet"}}


def libsvm(log):
    text = "".join(f"{int(r) >= 4:d} qid:{u} 1:{int(i)} 2:0.5\n" for u, i, r, _ in rows(log))
    (log / "log.txt").write_text(text + "1 qid:3 1:x\n")
    features = {
        "qid": {"kind": "categorical", "role": "context"},
        "f1": {"kind": "categorical", "role": "item"},
        "f2": {"kind": "numeric", "role": "item"},
    }
    return {
        "data_events": {"path": "log.txt", "format": "libsvm"},
        "data_tables": None,
        "data_derive": None,
        "data_label": "label >= 1",
        "data_request": ["qid"],
        "data_timestamp": None,
        "features": features,
        "data_item": "f1",
        "data_split": {"by": "hash", "of": ["qid"], "eval": 0.3},
    }


BY_TIME = {"data_split": {"by": "time", "eval": 0.25}}
CASES = {
    "delimited": (delimited, {}),
    "delimited, split by time": (delimited, BY_TIME),
    "no row is held out but one": (delimited, {"data_split": {"by": "time", "eval": 0.003}}),
    "quoted": (quoted, {}),
    "compressed": (compressed, BY_TIME),
    "json": (json_lines, {"data_split": {"by": "hash", "of": "user_id", "eval": 0.2}}),
    "parquet": (parquet, BY_TIME),
    "libsvm": (libsvm, {}),
}


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(lines, "PIECE_BYTES", 300)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("small_blocks")
def test_shuffled_rows_and_rows_in_files_give_the_same_bytes(log, make, tmp_path, case):
    source, settings = CASES[case]
    experiment = make(**{"data_shards": 3, **source(log), **settings})
    in_files = prepare(experiment, tmp_path / "files")
    shuffled = prepare(experiment, tmp_path / "shuffled", ENGINE)
    assert shuffled == in_files
    assert in_files.counts["rejected"]
    assert contents(tmp_path / "shuffled") == contents(tmp_path / "files")
    counters = [read_records(tmp_path / name)["prepare"]["counters"] for name in ("shuffled", "files")]
    assert counters[0] == counters[1]


@pytest.mark.usefixtures("small_blocks")
def test_workers_that_share_a_store_alone_give_the_same_bytes(log, make, bucket, tmp_path):
    experiment = make(**{"data_shards": 3, **delimited(log), **BY_TIME})
    local = prepare(experiment, tmp_path / "local")
    assert prepare(experiment, "s3://logs/run", ENGINE) == local
    data = storage.location("s3://logs/run/data")
    assert {name: (data / name).read_bytes() for name in storage.objects(data)} == contents(
        tmp_path / "local"
    )
    assert {name.partition("/")[0] for name in keys(bucket, "run/")} == {"data", "logs"}
