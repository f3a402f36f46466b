"""The monitor where nothing but its own extra is installed: small, without TensorFlow, and it works.

`make test-monitor-extra` makes the environment (`RANKER_MONITOR_PYTHON` names its Python) and runs this.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.serving.monitor.conftest import small_probe

pytestmark = pytest.mark.bare

MOST_MEGABYTES = 200
OF_EVERY_ENVIRONMENT = ("pip", "setuptools", "pkg_resources", "_distutils_hack")


@pytest.fixture(scope="module", name="python")
def _python():
    path = os.environ.get("RANKER_MONITOR_PYTHON")
    if not path:
        pytest.fail(
            "RANKER_MONITOR_PYTHON must name a Python with steady-ranker[monitor]: make test-monitor-extra"
        )
    return Path(path).absolute()


def run(python, *arguments, directory):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(python), *arguments], capture_output=True, text=True, check=False, cwd=directory, env=environment
    )


def write_probe(path):
    probe = small_probe(requests=120, candidates=5)
    columns = {name: values.tolist() for name, values in probe.columns.items()}
    table = pa.table({"request": [probe.requests[n] for n in probe.owner], **columns})
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))


def test_it_is_small_and_has_no_tensorflow(python, tmp_path):
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", code, directory=tmp_path).stdout.strip())
    sizes = {}
    for path in site.rglob("*"):
        if path.is_file():
            name = path.relative_to(site).parts[0].partition("-")[0]
            sizes[name] = sizes.get(name, 0) + path.stat().st_size / 1e6
    ours = sum(size for name, size in sizes.items() if name not in OF_EVERY_ENVIRONMENT)
    print(f"site-packages: {sum(sizes.values()):.0f} MB, without pip and setuptools {ours:.0f} MB")
    print(", ".join(f"{name} {sizes[name]:.0f}" for name in sorted(sizes, key=sizes.get, reverse=True)[:8]))
    assert ours <= MOST_MEGABYTES
    assert not {"tensorflow", "keras", "tf_keras", "pyarrow", "apache_beam", "dash"} & sizes.keys()


def test_a_round_is_measured(python, tmp_path, fake_replica, noisy):
    replicas = [
        fake_replica(name=name, mangle=noisy(seed, 0.01)) for seed, name in enumerate(("a", "b", "c"))
    ]
    write_probe(tmp_path / "probe.jsonl")
    targets = [f"--replica={replica.name}={replica.target}" for replica in replicas]
    command = ["-m", "ranker.cli", "monitor", "--once", "--json", "--probe", "probe.jsonl"]
    command += ["--budget", "top1_swap=1", *targets]
    done = run(python, *command, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["requests"] == 120
    assert summary["errors"] == {}
    assert summary["measures"]["rpd_sym"]["value"] > 0
    assert "steady-ranker[parquet]" in done.stderr  # examples are not kept
    arguments = ("status", "--store", "monitor.db", "--budget", "top1_swap=1")
    status = run(python, "-m", "ranker.cli", *arguments, directory=tmp_path)
    assert status.stdout.startswith("STABLE"), status
    gate = [
        "-m",
        "ranker.cli",
        "gate",
        "--probe",
        "probe.jsonl",
        "--measure",
        "top1_swap",
        "--allowance",
        "1",
    ]
    sources = [
        "--candidate",
        replicas[0].target,
        *(f"--baseline={replica.target}" for replica in replicas[1:]),
    ]
    answer = run(python, *gate, *sources, directory=tmp_path)
    assert answer.returncode == 0, answer.stderr
    here = run(sys.executable, *command, directory=tmp_path)
    assert json.loads(here.stdout.splitlines()[-1])["measures"].keys() == summary["measures"].keys()


COLUMNS = ("--item", "i", "--request", "q")


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["monitor", "--once", "--probe", "probe.parquet", "--replica", "a=127.0.0.1:1"], "parquet"),
        (["compare", "a.csv", "b.csv", *COLUMNS, "--score", "p"], "compare"),
        (["probe", "a.csv", *COLUMNS], "compare"),
        (["gate", "--candidate", "a.csv", "--baseline", "b.csv", *COLUMNS, "--score", "p"], "compare"),
        (["dashboard", "--run-dir", "run"], "dashboard"),
    ],
)
def test_what_is_not_installed_is_one_line(python, tmp_path, arguments, extra):
    write_probe(tmp_path / "probe.parquet")
    done = run(python, "-m", "ranker.cli", *arguments, directory=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"steady-ranker[{extra}]" in done.stderr
