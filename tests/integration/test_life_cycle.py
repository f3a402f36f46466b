"""The whole way on tiny data, each step by the command a user types: log, replicas, gRPC, monitor, dashboard."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.processes import answers, wait_until

ROOT = Path(__file__).parents[2]
RANKER = [sys.executable, "-m", "ranker.cli"]
OVERRIDES = [
    "--set",
    "replicas.count=2",
    "--set",
    "arms={smelu: {}}",
    "--set",
    "data.shards=2",
    "--set",
    "model.hidden=[16, 8]",
    "--set",
    "model.embedding_dim=4",
    "--set",
    "monitor.requests=20",
]


def ranker(*arguments, code=0):
    done = subprocess.run(
        [*RANKER, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == code, done.stderr[-3000:]
    return done


def neighbouring_ports(count):
    """The first of `count` neighbouring ports that nobody listens on."""
    for first in range(21000 + os.getpid() % 20000, 60000):
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for bound in sockets:
                bound.close()
    raise RuntimeError("no free ports")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    from ranker.synthetic import generate, write

    directory = tmp_path_factory.mktemp("log")
    write(generate(400, users=60, items=50), directory)
    return directory


@pytest.fixture(scope="module")
def run(log, tmp_path_factory):
    """A run directory after `ranker run`."""
    run = tmp_path_factory.mktemp("life") / "run"
    config = ["--config", "configs/quickstart.yaml", "--set", f"data.root={log}", *OVERRIDES]
    result = json.loads(ranker("run", *config, "--run-dir", run, "--json").stdout.splitlines()[-1])
    counts = result["prepare"]["counts"]
    assert counts["read"] == 8000 == counts["train"] + counts["eval"] + counts["rejected"]
    assert result["train"] == {"smelu/0": 1, "smelu/1": 1}
    return run


@pytest.fixture(scope="module")
def served(run):
    """The replicas, served by `ranker serve`; ended by SIGTERM."""
    port = neighbouring_ports(2)
    server = subprocess.Popen(
        [*RANKER, "serve", "--run-dir", str(run), "--base-port", str(port)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    lines = [server.stderr.readline() for _ in range(4)]
    assert all("from now on, no longer at" in line for line in lines[:2]), lines
    assert all("serving ranker at" in line for line in lines[2:]), lines
    yield [f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"]
    server.send_signal(signal.SIGTERM)
    code = server.wait(90)
    server.stderr.close()
    assert code == 128 + signal.SIGTERM
    for target in (port, port + 1):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", target)) != 0


def test_the_report_says_how_far_replicas_agree(run):
    report = json.loads((run / "evaluation" / "report.json").read_text())
    arm = report["arms"]["smelu"]
    assert len(arm["replicas"]) == 2
    assert 0.5 < arm["quality"]["auc"]["mean"] < 1
    assert 0 < arm["divergence"]["rpd_sym"]["value"] < 0.5
    assert 0 <= arm["divergence"]["top1_swap"]["low"] <= arm["divergence"]["top1_swap"]["high"] <= 1
    assert "<html" in (run / "evaluation" / "report.html").read_text()


def test_a_second_run_changes_nothing(run, log):
    before = {
        path: path.stat().st_mtime_ns
        for path in run.rglob("*")
        if path.suffix in {".tfrecord", ".pb", ".txt"}
    }
    config = ["--config", "configs/quickstart.yaml", "--set", f"data.root={log}", *OVERRIDES]
    again = ranker("run", *config, "--run-dir", run)
    assert "unchanged" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not list(run.rglob(".tmp-*"))


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_served_scores_are_the_models_scores(run, served, batch):
    """Over gRPC and in process, on the same raw rows, with unknown ids, missing values and empty strings."""
    from ranker.backend import tf
    from serving.client import RankerClient

    nan = float("nan")
    raw = {
        "user_id": ["u1", "u2", "nobody", "", "u5", "u6", "u7"],
        "age": [30.0, nan, 50.0, nan, 16.0, 90.0, 1e6],
        "country": ["DE", "", "XX", "US", "", "BR", "JP"],
        "device": ["phone", "desktop", "", "toaster", "tablet", "phone", "phone"],
        "item_id": ["i1", "i2", "new", "", "i5", "i6", "i7"],
        "category": ["art", "", "film", "nothing", "news", "art", "art"],
        "tags": ["art|film", "", "art||film", "nothing|art", "|", "news", "art|art"],
        "price": [3.5, nan, 0.0, -1.0, 1e9, 5.0, 7.0],
    }
    rows = {name: values[:batch] for name, values in raw.items()}
    loaded = tf.saved_model.load(str(run / "replicas" / "smelu" / "0" / "1"))
    columns = {
        n: tf.constant(v, tf.float32 if isinstance(v[0], float) else tf.string) for n, v in rows.items()
    }
    expected = loaded.signatures["serving_default"](**columns)["score"].numpy()[:, 0]
    with RankerClient(served[0], item="item_id") as client:
        got = client.predict(rows)
    assert got.version == 1
    np.testing.assert_allclose(got.scores, expected, atol=1e-6)


def test_the_clients_example_runs_and_lists_are_items(served):
    from serving.client import RankerClient

    with RankerClient(served[0], deadline=120) as client:
        ranking = client.rank({"user_id": "7"}, {"item_id": ["1", "2", "3"]}, k=2)
        assert len(ranking.item_ids) == 2
        assert client.item() == "item_id"
        candidates = {"item_id": ["i1", "i2"], "tags": [["art", "film"], None]}
        as_text = client.rank({}, candidates | {"tags": ["art|film", ""]})
        assert client.rank({}, candidates).scores.tolist() == as_text.scores.tolist()


def test_rank_answers_on_the_command_line(served):
    ask = ["rank", "--target", served[0], "--context", "user_id=u1", "--context", "age=30"]
    items = ["--candidate", "item_id=i1,price=3", "--candidate", "item_id=i2", "--candidate", "item_id=i3"]
    answer = json.loads(ranker(*ask, *items, "--k", 2, "--json").stdout)
    assert len(answer["item_ids"]) == 2
    assert answer["scores"] == sorted(answer["scores"], reverse=True)
    assert "no feature 'colour'" in ranker(*ask, "--candidate", "item_id=i1,colour=red", code=1).stderr


def test_the_gate_reads_a_model_from_disk_and_says_only_its_answer(run, served):
    model = run / "replicas" / "smelu" / "1"
    ask = ["gate", "--run-dir", run, "--baseline", served[0], "--baseline", served[1], "--allowance", 1]
    passed = ranker(*ask, "--candidate", model, "--json")
    answer = json.loads(passed.stdout)
    assert (answer["verdict"], answer["candidate"]["version"]) == ("pass", 1)
    assert passed.stderr == ""
    (kept,) = (run / "gates").glob("*.json")
    assert {**answer, "time": json.loads(kept.read_text())["time"]} == json.loads(kept.read_text())
    (run / "broken" / "1").mkdir(parents=True)
    (run / "broken" / "1" / "saved_model.pb").write_bytes(b"not a model")
    refused = ranker(*ask, "--candidate", run / "broken", code=3)
    (line,) = refused.stderr.splitlines()
    assert line.startswith("ranker: the SavedModel must load. Received: ")


def test_the_gates_mistakes_have_an_exit_code_of_their_own(run, served):
    ask = ["gate", "--run-dir", run, "--baseline", served[0]]
    place = f"localhost:{served[0].rpartition(':')[2]}"
    assert "another model" in ranker(*ask, "--candidate", place, code=3).stderr
    assert "Usage" in ranker("gate", "--wrong", code=3).stderr
    assert "must be of" in ranker(*ask, "--candidate", served[1], "--measure", "clicks", code=3).stderr
    assert "min-coverage" in ranker(*ask, "--candidate", served[1], "--min-coverage", 2, code=3).stderr


@pytest.fixture(scope="module")
def refreshed(log, tmp_path_factory):
    """A run of the same YAML on 95% of the rows."""
    import shutil

    import pyarrow.parquet as pq

    newer = tmp_path_factory.mktemp("newer") / "log"
    shutil.copytree(log, newer)
    events = pq.read_table(newer / "events.parquet")
    kept = np.random.default_rng(0).random(len(events)) < 0.95
    pq.write_table(events.filter(kept), newer / "events.parquet")
    run = tmp_path_factory.mktemp("refresh") / "run"
    config = ["--config", "configs/quickstart.yaml", "--set", f"data.root={newer}", *OVERRIDES]
    ranker("prepare", *config, "--run-dir", run)
    ranker("train", "--run-dir", run)
    return run


def test_monitor_measures_and_the_dashboard_answers(run, served):
    summary = json.loads(ranker("monitor", "--run-dir", run, "--once", "--json").stdout)
    assert summary["replicas"] == {"smelu-0": 1, "smelu-1": 1}
    assert summary["requests"] == 20
    assert 0 < summary["measures"]["rpd_sym"]["value"] < 0.5
    port = neighbouring_ports(1)
    page = subprocess.Popen([*RANKER, "dashboard", "--run-dir", str(run), "--port", str(port)], cwd=ROOT)
    try:
        told = _get(f"http://127.0.0.1:{port}/api/summary")
        assert {replica["replica"] for replica in told["replicas"]} == {"smelu-0", "smelu-1"}
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        assert "rpd_sym" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert "<html" in httpx.get(f"http://127.0.0.1:{port}/").text.lower()
    finally:
        page.terminate()
        page.wait(60)


def test_a_refresh_on_newer_rows_passes_the_gate_and_rolls_out(run, served, refreshed):
    """Last: it changes what serves. Replica 0 is refreshed, then replica 1; the monitor compares them all the while."""
    import shutil

    candidate = refreshed / "replicas" / "smelu" / "0"
    ask = [
        "gate",
        "--run-dir",
        run,
        "--baseline",
        served[0],
        "--baseline",
        served[1],
        "--candidate",
        candidate,
    ]
    options = ["--allowance", 0.6, "--quality-margin", 0.1]
    answer = json.loads(ranker(*ask, *options, "--json").stdout)
    assert answer["verdict"] == "pass"
    assert set(answer["measures"]) == {
        "top1_swap",
        "set_churn@10",
        "consensus_regret",
        "auc",
        "logloss",
        "ndcg@10",
    }
    assert answer["coverage"]["coverage of candidate"]["verdict"] == "pass"
    assert any("vocabularies" in note or "statistics" in note for note in answer["notes"])
    for replica in (0, 1):
        base = run / "replicas" / "smelu" / str(replica)
        shutil.copytree(refreshed / "replicas" / "smelu" / str(replica) / "1", base / ".incoming-2")
        (base / ".incoming-2").rename(base / "2")
        _wait_for_version(served[replica], 2)
        summary = json.loads(ranker("monitor", "--run-dir", run, "--once", "--json").stdout)
        assert summary["replicas"] == {"smelu-0": 2, "smelu-1": 1 + replica}
        assert summary["measures"]["rpd_sym"]["value"] > 0


def _wait_for_version(target, version):
    from serving.client import RankerClient

    with RankerClient(target, item="item_id") as client:
        wait_until(lambda: client.describe()["served_version"] == version)


def _get(url):
    wait_until(lambda: answers(url))
    return httpx.get(url, timeout=10).raise_for_status().json()
