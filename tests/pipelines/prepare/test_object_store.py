"""Input and output behind URIs: a real S3 interface on loopback."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.prepare import prepare
from pipelines.prepare.read import lines, reading
from ranker.config import dump
from ranker.errors import UserError
from tests.pipelines.prepare.small_log import contents, read_rows


def upload(bucket, log, prefix="day"):
    for path in log.iterdir():
        bucket.upload_file(str(path), "logs", f"{prefix}/{path.name}")


def test_a_log_in_an_object_store_gives_the_same_examples(log, make, bucket, tmp_path, monkeypatch):
    upload(bucket, log)
    local = prepare(make(), tmp_path / "local")
    monkeypatch.setattr(reading, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(lines, "PIECE_BYTES", 300)
    remote = prepare(make(data_root="s3://logs/day"), tmp_path / "remote")
    assert remote.fingerprint == local.fingerprint
    assert remote.inputs != local.inputs
    again = []
    prepare(
        make(data_root="s3://logs/day"),
        tmp_path / "remote",
        progress=lambda text, *_, **__: again.append(text),
    )
    assert any("unchanged" in text for text in again)


def test_globs_gzip_and_parquet_in_an_object_store(log, make, bucket, tmp_path):
    rows = (log / "u.data").read_text().splitlines()
    names = ["user_id", "item_id", "rating", "timestamp"]
    table = pa.table(dict(zip(names, zip(*(row.split("\t") for row in rows), strict=True), strict=True)))
    (log / "part-0.gz").write_bytes(gzip.compress("\n".join(rows[:100]).encode()))
    (log / "part-1.gz").write_bytes(gzip.compress("\n".join(rows[100:]).encode()))
    pq.write_table(table, log / "log.parquet", row_group_size=50)
    upload(bucket, log)
    zipped = {"path": "part-*.gz", "delimiter": "\t", "columns": names}
    for number, events in enumerate([zipped, {"path": "log.parquet", "format": "parquet"}]):
        run = tmp_path / str(number)
        assert prepare(make(data_root="s3://logs/day", data_events=events), run).counts["read"] == 240
        found = {(row["user_id"], row["item_id"]) for s in ("train", "eval") for row in read_rows(run, s)}
        assert found == {tuple(row.split("\t")[:2]) for row in rows}


def test_a_missing_object_and_a_missing_bucket_say_so(make, bucket, tmp_path):
    with pytest.raises(UserError, match=r"s3://logs/none/u.data: no such file"):
        prepare(make(data_root="s3://logs/none"), tmp_path / "run")
    with pytest.raises(UserError, match=r"s3://nobody/none/u.data: "):
        prepare(make(data_root="s3://nobody/none"), tmp_path / "run")


def test_a_run_directory_in_an_object_store(log, make, bucket, tmp_path):
    local = prepare(make(), tmp_path / "local")
    remote = prepare(make(), "s3://logs/runs/one")
    assert remote == local
    keys = {item["Key"] for item in bucket.list_objects_v2(Bucket="logs", Prefix="runs/one/")["Contents"]}
    expected = contents(tmp_path / "local")
    assert keys - {"runs/one/logs/stages/prepare.json"} == {f"runs/one/data/{name}" for name in expected}
    for name, data in expected.items():
        assert bucket.get_object(Bucket="logs", Key=f"runs/one/data/{name}")["Body"].read() == data
    said = []
    prepare(make(), "s3://logs/runs/one", progress=lambda text, *_, **__: said.append(text))
    assert any("unchanged" in text for text in said)


def test_the_command_takes_a_uri_for_its_run_directory(log, make, bucket, tmp_path, monkeypatch, capfd):
    from ranker.cli import app

    config = tmp_path / "config.yaml"
    config.write_text(dump(make()))
    monkeypatch.chdir(tmp_path)
    app(["prepare", f"--config={config}", "--run-dir=s3://logs/runs/two", "--json"], standalone_mode=False)
    manifest = json.loads(bucket.get_object(Bucket="logs", Key="runs/two/data/manifest.json")["Body"].read())
    result = json.loads(capfd.readouterr().out)
    assert result["prepare"] == {"counts": manifest["counts"], "remarks": manifest["remarks"]}
    assert list(result["stages"]) == ["prepare"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "log"]
