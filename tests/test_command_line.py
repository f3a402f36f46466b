"""A user's mistakes on the command line: one clear line on stderr, a non-zero exit, nothing left behind."""

import json
import socket
import subprocess
import sys

import pytest
import typer

from ranker import cli
from ranker.config import build, dump
from tests.bare_environments import CALLS
from tests.ranker.conftest import tiny_tree


def ranker(monkeypatch, capfd, *arguments):
    """Runs the command line in this process; returns exit code, stdout, stderr."""
    monkeypatch.setattr("sys.argv", ["ranker", *map(str, arguments)])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capfd.readouterr()
    return ended.value.code or 0, out, err


@pytest.fixture
def call(monkeypatch, capfd):
    return lambda *arguments: ranker(monkeypatch, capfd, *arguments)


@pytest.fixture
def run(tmp_path):
    """A run directory with a configuration and nothing else."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(dump(build(tiny_tree(), "tiny")))
    return tmp_path / "run"


def one_line(err, *parts):
    lines = [line for line in err.splitlines() if line.startswith("ranker: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    for part in parts:
        assert str(part) in lines[0]


def test_config_prints_the_resolved_experiment(call):
    code, out, _ = call("config", "--config", "configs/quickstart.yaml", "--set", "training.epochs=9")
    assert code == 0
    assert "epochs: 9" in out
    assert "embedding_l2: 0.0" in out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "--config", "missing.yaml", "--run-dir", "{tmp}/r"], ["missing.yaml", "cannot read"]),
        (
            ["config", "--config", "configs/quickstart.yaml", "--set", "model.hiden=3"],
            ["model.hiden: unknown key"],
        ),
        (["serve", "--run-dir", "{tmp}/none"], ["not a run directory"]),
        (["serve", "--run-dir", "{run}"], ["has no trained version", "ranker train"]),
        (
            ["monitor", "--run-dir", "{run}", "--once", "--replica", "a=127.0.0.1:1"],
            ["probe", "ranker prepare"],
        ),
        (["monitor", "--once"], ["--run-dir"]),
        (["monitor", "--run-dir", "{run}", "--interval", "soon"], ["--interval", "'soon'"]),
        (["train", "--run-dir", "{run}", "--workers", "1"], ["manifest.json", "ranker prepare"]),
        (
            ["rank", "--target", "127.0.0.1:1", "--context", "a=1", "--candidate", "item_id=2"],
            ["127.0.0.1:1"],
        ),
        (["rank", "--target", "nowhere", "--context", "a=1", "--candidate", "item_id=2"], ["nowhere"]),
        (
            ["rank", "--target", "127.0.0.1:1", "--context", "a", "--candidate", "item_id=2"],
            ["NAME=VALUE", "'a'"],
        ),
        (["rank", "--target", "127.0.0.1:1", "--candidate", '"a=b'], ["line of CSV"]),
        (["rank", "--target", "127.0.0.1:1", "--candidate", "a=1,a=2"], ["Received twice: a"]),
        (["gateway", "--listen", "127.0.0.1:0"], ["--run-dir", "--replica"]),
    ],
    ids=lambda value: " ".join(value[:1]) if value and isinstance(value, list) and value[0].isalpha() else "",
)
def test_mistakes_are_one_line(call, run, tmp_path, arguments, parts):
    code, out, err = call(*(a.format(tmp=tmp_path, run=run) for a in arguments))
    assert code == 1
    assert out == ""
    one_line(err, *parts)


def test_a_log_that_is_not_there_leaves_no_data_behind(call, tmp_path):
    run = tmp_path / "r"
    code, _, err = call(
        "prepare", "--config", "configs/quickstart.yaml", "--set", f"data.root={tmp_path}", "--run-dir", run
    )
    assert code == 1
    one_line(err, "events.parquet")
    assert not (run / "data").exists()


def test_a_replica_without_a_model_is_named(call, run):
    version = run / "replicas" / "smelu" / "0" / "1"
    version.mkdir(parents=True)
    code, _, err = call("serve", "--run-dir", run)
    assert code == 1
    one_line(err, version, "saved_model.pb")


def test_a_port_in_use_is_named(call, run):
    for replica in ("0", "1"):
        version = run / "replicas" / "smelu" / replica / "1"
        (version / "assets.extra").mkdir(parents=True)
        (version / "saved_model.pb").touch()
        told = dict.fromkeys(
            ["arm", "init_seed", "shuffle_seed", "data", "feature_spec", "vocabulary", "version"], "x"
        )
        (version / "assets.extra" / "replica.json").write_text(json.dumps({**told, "replica": replica}))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = call("serve", "--run-dir", run, "--base-port", port)
    assert code == 1
    one_line(err, f"port {port}", "--base-port")


def test_a_store_that_cannot_be_opened_is_named(call, run, tmp_path):
    (run / "deployment.yaml").write_text(
        "model_name: ranker\nreplicas:\n- {name: a, target: '127.0.0.1:1'}\n"
    )
    store = tmp_path / "no" / "such" / "directory" / "m.db"
    code, _, err = call("dashboard", "--run-dir", run, "--store", store, "--port", "0")
    assert code == 1
    one_line(err, "store")


def test_unknown_commands_and_options_exit_with_2(call):
    assert call("rnak")[0] == 2
    assert call("serve", "--run-dri", "x")[0] == 2


def test_studies_without_data_draw_and_others_say_what_they_need(call, tmp_path):
    code, out, _ = call("study", "shapes", "--out", tmp_path / "shapes", "--quick")
    assert code == 0
    assert "SmeLU" in out
    assert (tmp_path / "shapes" / "index.html").exists()
    code, _, err = call("study", "swaps", "--out", tmp_path / "swaps")
    assert code == 2
    assert "Missing option '--run-dir'" in err
    code, _, err = call("study", "swaps", "--run-dir", tmp_path, "--out", tmp_path / "swaps")
    assert code == 1
    one_line(err, "not a run directory", "config.yaml")


def test_every_command_names_the_extra_that_it_needs():
    assert set(cli.EXTRAS) == set(typer.main.get_command(cli.app).commands)
    assert set(cli.EXTRAS) == {*CALLS, "quickstart"}


@pytest.mark.parametrize(
    ("command", "module", "extra", "code"),
    [
        ("dashboard", "dash", "dashboard", 1),
        ("monitor", "sqlalchemy", "monitor", 1),
        ("status", "sqlalchemy", "monitor", 4),
        ("gate", "grpc", "monitor", 3),
        ("init", "pyarrow", "all", 1),
    ],
)
def test_a_missing_extra_is_one_line(tmp_path, command, module, extra, code):
    arguments = [argument.replace("RUN", str(tmp_path)) for argument in CALLS[command]]
    (tmp_path / "log.csv").write_text("user,item,clicked\n1,2,0\n1,3,1\n")
    program = (
        "import sys\n"
        "class Bare:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] == {module!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Bare())\n"
        "from ranker.cli import main\n"
        f"sys.argv = {['ranker', command, *arguments]!r}\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.count("\n") == 1
    assert f"ranker {command} needs: pip install 'steady-ranker[{extra}]'" in done.stderr
