"""The examples of `--help` and of the documents run as they stand, or are named here with the test that runs them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import typer

from ranker import cli
from ranker.config import build, dump
from tests.processes import wait_until
from tests.ranker.conftest import tiny_tree
from tests.serving.dashboard.simulated_store import STABLE_NOISE, Simulation, simulate
from tests.test_documents import COMMANDS, PAGES

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"```(?:sh|shell|bash|console)\n(.*?)```", re.DOTALL)

EXECUTED = {
    "ranker init clicks.csv users.csv items.csv --output experiment.yaml": {0},
    "ranker compare a.parquet b.parquet --request session --item sku --score p --budget top1_swap=0.05": {
        0,
        1,
        2,
    },
    "ranker compare monday.parquet tuesday.parquet --request session --item sku --score p --label clicked "
    "--budget top1_swap=0.05 --html report.html": {0, 1, 2},
    "ranker compare scores.csv --request session --item sku --score model_a --score model_b --json": {0},
    "ranker probe log.parquet --request session --item sku --label clicked --exclude score": {0},
    "ranker status --run-dir runs/ml": {3},  # the store's rounds are old
    "ranker status --store monitor.db": {3},
    "ranker monitor replay --run-dir runs/ml --rules rules.yaml --hours 48": {0},
}
"""Example -> the exit codes that are an answer."""
SERVERS = {
    "ranker dashboard --run-dir runs/ml --port 8050": "dashboard: http://127.0.0.1:",
    "ranker dashboard --run-dir runs/ml": "dashboard: http://127.0.0.1:",
    "ranker dashboard --run-dir runs/films --run-dir runs/books --gateway 127.0.0.1:8601 "
    "--gateway 127.0.0.1:8611": "dashboard: http://127.0.0.1:",
    "ranker dashboard --store monitor.db --deployment deployment.yaml --probe probe.parquet": "dashboard: http://127.0.0.1:",
    "ranker gateway --run-dir runs/ml --mirror 0.05": "listening on 127.0.0.1:",
}
"""Example -> what it says once it serves. They are started on free ports, and ended by SIGTERM."""
FREE_PORTS = {
    "dashboard": ["--port", "0"],
    "gateway": ["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"],
}
ELSEWHERE = {
    r"quickstart|prepare|train|evaluate|run": "tests/integration/test_life_cycle.py",  # a training each
    r"config": "tests/pipelines/init/test_init_command.py",  # MovieLens, which is no part of the project
    r"serve": "tests/integration/test_life_cycle.py",  # TensorFlow, and trained replicas
    r"rank": "tests/integration/test_life_cycle.py",
    r"compare first\.tfrecord.*": "tests/serving/test_prediction_logs.py",  # logs of TF Serving
    r"probe requests\.tfrecord.*": "tests/serving/test_prediction_logs.py",
    r"gateway (drain|restore).*": "tests/serving/gateway/test_gateway_draining.py",  # a gateway that runs
    r"gateway replicas.*": "tests/serving/gateway/test_gateway_in_containers.py",  # a path of a container
    r"gateway .*--print-config.*": "tests/test_production_files.py",
    r"monitor": "tests/serving/monitor/test_monitor_run.py",  # replicas that answer
    r"gate": "tests/serving/monitor/test_release_gate.py",
    r"study": "tests/ranker/study/test_studies.py",  # trainings, or figures at full size
}
"""Beginning of what follows `ranker` -> the test that runs such a command, for what it needs or how long it takes."""


def examples() -> set[str]:
    """Every example once, its words apart by one blank."""

    def walk(command, name):
        yield command.help or ""
        for child, below in getattr(command, "commands", {}).items():
            yield from walk(below, f"{name} {child}")

    calls = set()
    for text in walk(COMMANDS, "ranker"):
        calls |= set(re.findall(r"Example: (ranker [^\n]+)", text))
    for path in PAGES:
        for block in BLOCK.findall(path.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                line = re.split(r"\s#\s", line.strip().removeprefix("$ "))[0]
                if re.match(r"ranker [a-z]", line):
                    calls.add(" ".join(line.split()))
    return calls


def test_every_example_is_run_somewhere():
    calls = examples()
    assert set(EXECUTED) | set(SERVERS) <= calls, "no document has these any more"
    left = {call.removeprefix("ranker ") for call in calls - set(EXECUTED) - set(SERVERS)}
    nowhere = {call for call in left if not any(re.match(rf"(?:{begin})\b", call) for begin in ELSEWHERE)}
    assert nowhere == set()
    for begin, path in ELSEWHERE.items():
        assert (ROOT / path).is_file()
        assert any(re.match(rf"(?:{begin})\b", call) for call in left), f"{begin}: no such example any more"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A directory that has the files the examples name."""
    directory = tmp_path_factory.mktemp("workshop")
    random = np.random.default_rng(7)
    sessions, items = np.repeat(np.arange(60), 5), np.tile(np.arange(5), 60)
    columns = {
        "session": [f"s{session}" for session in sessions],
        "sku": [f"k{item}" for item in items],
        "price": random.uniform(1, 9, 300).round(2),
        "clicked": (random.uniform(size=300) < 0.3).astype(int),
    }
    scores = random.uniform(0.05, 0.95, (2, 300))
    for name, score in zip(("a", "b"), scores, strict=True):
        pq.write_table(pa.table({**columns, "p": score}), directory / f"{name}.parquet")
    for day, name in (("monday", "a"), ("tuesday", "b")):
        shutil.copy(directory / f"{name}.parquet", directory / f"{day}.parquet")
    both = {"session": columns["session"], "sku": columns["sku"], "model_a": scores[0], "model_b": scores[1]}
    pa_csv.write_csv(pa.table(both), directory / "scores.csv")
    pq.write_table(pa.table({**columns, "score": scores[0]}), directory / "log.parquet")
    users, skus = random.integers(0, 20, 300), random.integers(0, 15, 300)
    clicks = {
        "user_id": users,
        "item_id": skus,
        "clicked": columns["clicked"],
        "time": np.arange(300) + 1_700_000_000,
    }
    pa_csv.write_csv(pa.table(clicks), directory / "clicks.csv")
    pa_csv.write_csv(pa.table({"user_id": range(20), "age": range(20, 40)}), directory / "users.csv")
    pa_csv.write_csv(pa.table({"item_id": range(15), "genre": list("abcde") * 3}), directory / "items.csv")
    shutil.copy(ROOT / "serving" / "monitor" / "alerts" / "default.yaml", directory / "rules.yaml")
    for name in ("ml", "films", "books"):
        run = directory / "runs" / name
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(dump(build(tiny_tree(), "tiny")))
        (run / "deployment.yaml").write_text(
            "model_name: ranker\nreplicas:\n"
            + "".join(f"- {{name: m{n}, target: '127.0.0.1:{n + 1}'}}\n" for n in range(2))
        )
        simulate(
            run / "monitor.db", Simulation(STABLE_NOISE, requests=20, candidates=5), hours=0.5, refreshes={}
        ).close()
    for name in ("monitor.db", "deployment.yaml"):
        shutil.copy(directory / "runs" / "ml" / name, directory / name)
    shutil.copy(directory / "log.parquet", directory / "probe.parquet")
    return directory


@pytest.mark.parametrize("example", EXECUTED)
def test_an_example_runs(example, workshop, monkeypatch, capfd):
    monkeypatch.chdir(workshop)
    monkeypatch.delenv("RANKER_STORE", raising=False)
    command = typer.main.get_command(cli.app)
    try:
        code = command.main(shlex.split(example)[1:], standalone_mode=False) or 0
    except SystemExit as ended:
        code = ended.code
    out, err = capfd.readouterr()
    assert code in EXECUTED[example], out + err
    for written in re.findall(r"--(?:output|html) (\S+)", example):
        assert (workshop / written).exists()


@pytest.mark.parametrize("example", SERVERS)
def test_an_example_serves_until_it_is_ended(example, workshop, tmp_path):
    words = shlex.split(example)
    if words[1] == "gateway":
        pytest.importorskip("envoy", reason="Envoy's wheel is not installed")
    if "--port" in words:
        place = words.index("--port")
        del words[place : place + 2]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ranker.cli", *words[1:], *FREE_PORTS[words[1]]],
            cwd=workshop,
            stdout=output,
            stderr=output,
            env={key: value for key, value in os.environ.items() if key != "RANKER_STORE"}
            | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )
    try:
        wait_until(
            lambda: SERVERS[example] in log.read_text() or process.poll() is not None, reason=log.read_text
        )
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        code = process.wait(60)
    assert code in (0, 128 + signal.SIGTERM), log.read_text()
