"""The monitor and the gate in front of servers of every protocol."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from ranker.cli import app
from tests.serving.targets.scoring_servers import (
    COLUMNS,
    JSON_REQUEST,
    PROTOCOLS,
    VERSIONS,
)


def test_the_monitor_in_front_of_all_protocols(servers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {name: np.tile(values, 20).tolist() for name, values in COLUMNS.items()}
    pq.write_table(pa.table({"session": np.repeat(np.arange(20), 3).tolist(), **rows}), "log.parquet")
    result = CliRunner().invoke(app, ["probe", "log.parquet", "--request=session", "--item=sku"])
    assert result.exit_code == 0, result.exception
    options = ["--probe=probe.parquet", "--item=sku", "--model-name=shop", "--output=logits", "--scale=logit"]
    options += [f"--json-request={JSON_REQUEST}", "--json-scores=results[*].logit", "--once", "--json"]
    replicas = [f"--replica={name.replace('+', '-')}={servers[name]}" for name in PROTOCOLS]
    result = CliRunner().invoke(app, ["monitor", *options, *replicas])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["replicas"] == {name.replace("+", "-"): version for name, version in VERSIONS.items()}
    assert summary["errors"] == {}
    assert summary["measures"]["top1_swap"]["value"] == 0
    assert summary["measures"]["pd_abs"]["value"] < 1e-6  # float32 of one number


def test_the_gate_holds_a_saved_model_to_servers(servers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {name: np.tile(values, 20).tolist() for name, values in COLUMNS.items()}
    pq.write_table(
        pa.table({"request": np.repeat(np.arange(20), 3).astype(str).tolist(), **rows}), "p.parquet"
    )
    arguments = [
        "gate",
        "--probe=p.parquet",
        "--item=sku",
        "--model-name=shop",
        "--measure=top1_swap",
        "--json",
    ]
    arguments += [f"--candidate={servers['saved_model']}", "--allowance=0.5"]
    arguments += [f"--baseline={servers[name]}" for name in ("v2", "tfserving")]
    result = CliRunner().invoke(app, [*arguments, "--output=logits", "--scale=logit"])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, arguments)
    assert "outputs: classes, logits; choose one with --output" in result.stderr + str(result.exception)
