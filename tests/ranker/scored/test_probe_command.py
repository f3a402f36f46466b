"""`ranker probe`: probe requests from rows of any origin."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ranker.cli import app
from ranker.errors import UserError
from ranker.scored.probe import probe_table, request_hash
from ranker.tfrecord import Writer
from serving.monitor.requests.probe import load_probe
from serving.wire import PredictionLog, to_tensor

ROWS = 400


@pytest.fixture(name="log")
def _log():
    generator = np.random.default_rng(3)
    request = generator.permutation(np.repeat(np.arange(100), 4))
    return pa.table(
        {
            "session": request,
            "sku": [f"{n:03d}" for n in range(ROWS)],
            "age": request % 7,
            "seller": np.arange(ROWS) + 2**40,
            "new": request % 2 == 0,
            "tags": [["x", "y"]] * ROWS,
            "clicked": generator.integers(0, 2, ROWS),
            "score": generator.random(ROWS),
        }
    )


def probe(*arguments):
    return CliRunner().invoke(app, ["probe", *map(str, arguments)])


def test_the_sample_is_nested_uniform_by_hash_and_reads_as_a_probe(log, tmp_path):
    pq.write_table(log, tmp_path / "log.parquet")
    for count in (10, 30):
        result = probe(
            *(tmp_path / "log.parquet", "--request", "session", "--item", "sku", "--label", "clicked"),
            *("--exclude", "score", "--requests", count, "--output", tmp_path / f"{count}.parquet", "--json"),
        )
        assert result.exit_code == 0, result.exception
        assert json.loads(result.stdout)["requests"] == count
    small, large = (load_probe(tmp_path / f"{count}.parquet", "sku") for count in (10, 30))
    assert large.requests[:10] == small.requests
    assert list(large.requests) == sorted(map(str, range(100)), key=request_hash)[:30]
    assert set(np.diff(large.offsets)) == {4}
    assert set(large.columns) == {"sku", "age", "seller", "new", "tags"}
    assert large.columns["age"].dtype == np.float32
    assert large.columns["new"].tolist()[0] in (0, 1)
    assert large.columns["tags"][0] == "x|y"
    rows = {row["sku"]: row for row in log.to_pylist()}
    for row in pq.read_table(tmp_path / "30.parquet").to_pylist():
        original = rows[row["sku"]]
        assert row["request"] == str(original["session"])
        assert row["label"] == original["clicked"]
        assert row["seller"] == str(original["seller"])  # float32 would round it


def test_csv_and_json_lines_give_the_same_requests(log, tmp_path):
    flat = log.drop_columns(["tags", "score"])
    pyarrow.csv.write_csv(flat, tmp_path / "log.csv")
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in flat.to_pylist()))
    probes = []
    for name in ("log.csv", "log.jsonl"):
        result = probe(
            *(tmp_path / name, "--request", "session", "--item", "sku", "--feature", "age", "--text", "age"),
            *("--output", tmp_path / f"{name}.parquet"),
        )
        assert result.exit_code == 0, result.exception
        probes.append(load_probe(tmp_path / f"{name}.parquet", "sku"))
    assert probes[0].hash == probes[1].hash
    assert set(probes[0].columns) == {"sku", "age"}
    assert probes[0].columns["age"].dtype == object
    assert probes[0].items[0] in flat["sku"].to_pylist()  # 007 stays 007


def test_repeated_candidates_and_single_ones_are_left_out():
    rows = pa.table({"item": ["a", "a", "b", "c"], "x": [1.0, 2.0, 3.0, 4.0]})
    request = pa.chunked_array([["r", "r", "r", "s"]])
    table = probe_table(rows, request, "item", ["x"])
    assert table.to_pydict() == {"request": ["r", "r"], "item": ["a", "b"], "x": [1.0, 3.0]}
    with pytest.raises(UserError, match="two candidates"):
        probe_table(rows.slice(3), request.slice(3), "item", ["x"])
    with pytest.raises(UserError, match="must not be request, label, weight"):
        probe_table(rows.rename_columns(["item", "weight"]), request, "item", ["weight"])


def test_request_logs(tmp_path):
    paths = []
    for part in range(2):
        paths.append(tmp_path / f"log.tfrecord.{part}")
        with Writer(paths[-1]) as writer:
            for user in range(part * 20, part * 20 + 20):
                log = PredictionLog()
                inputs = {"user": np.array([f"u{user}"]), "item": np.array(["a", "b", "c"])}
                if user % 2:
                    inputs["age"] = np.array([30.0], np.float32)
                for name, values in inputs.items():
                    log.predict_log.request.inputs[name].CopyFrom(to_tensor(values))
                writer.write([log.SerializeToString()])
            describe = PredictionLog()
            describe.predict_log.request.model_spec.signature_name = "describe"
            writer.write([describe.SerializeToString()])
    result = probe(*paths, "--item", "item", "--requests", 25, "--output", tmp_path / "probe.parquet")
    assert result.exit_code == 0, result.exception
    assert "25 requests, 75 candidates" in result.stdout
    loaded = load_probe(tmp_path / "probe.parquet", "item")
    assert len(set(loaded.columns["user"])) == 25
    ages = loaded.columns["age"]
    assert set(ages[np.isfinite(ages)]) == {30}
    odd = np.array([int(user[1:]) % 2 == 1 for user in loaded.columns["user"]])
    np.testing.assert_array_equal(np.isfinite(ages), odd)
    result = probe(paths[0], "--item", "sku", "--output", tmp_path / "none.parquet")
    assert "must have the input sku with two candidates. Received: age, item, user" in str(result.exception)
    assert not (tmp_path / "none.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--item", "sku"), "at least one request column"),
        (("--request", "session", "--item", "id"), "column id. Received: session, sku"),
        (("--request", "visit", "--item", "sku"), "column visit. Received: session, sku"),
        (("--request", "session", "--item", "sku", "--label", "sku"), "sku must hold numbers"),
    ],
)
def test_mistakes_name_what_there_is(log, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    rows = log.set_column(1, "sku", pa.array([f"s{n}" for n in range(ROWS)]))
    pq.write_table(rows, "log.parquet")
    result = probe("log.parquet", *arguments)
    assert message in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]
