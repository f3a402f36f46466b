"""Which engine runs: the safe local one unless asked otherwise."""

import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

import apache_beam as beam
import pytest

from pipelines.runner import RunnerOptions
from ranker.errors import UserError


def test_the_default_is_the_local_engine_in_one_process():
    assert RunnerOptions().beam_flags() == ["--runner=FnApiRunner"]
    assert RunnerOptions(runner="DirectRunner").beam_flags() == ["--runner=FnApiRunner"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pipeline_that_never_runs_leaves_nothing(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _ = RunnerOptions(workers=workers).pipeline() | beam.Create([1])
    assert not list(tmp_path.iterdir())


def leave_a_mark(element, directory):
    (Path(directory) / str(os.getpid())).touch()


def test_workers_are_processes(tmp_path):
    options = RunnerOptions(workers=2)
    assert options.beam_flags()[1:] == ["--direct_num_workers=2"]
    pipeline = options.pipeline()
    _ = pipeline | beam.Create(range(8)) | beam.Reshuffle() | beam.Map(leave_a_mark, str(tmp_path))
    options.run(pipeline)
    marks = {path.name for path in tmp_path.iterdir()}
    assert len(marks) == 2
    assert str(os.getpid()) not in marks


@pytest.mark.parametrize(
    "flags", [("--direct_running_mode=multi_threading",), ("--direct_running_mode", "multi_threading")]
)
def test_threads_are_refused_since_they_lose_rows(flags):
    with pytest.raises(UserError, match="loses rows in silence"):
        RunnerOptions(workers=2, flags=flags)


@pytest.mark.parametrize(
    ("options", "message"), [({"workers": 0}, "workers"), ({"flags": ("parallelism=2",)}, "--name=value")]
)
def test_nonsense_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        RunnerOptions(**options)


@pytest.mark.parametrize(
    ("runner", "flag", "says"),
    [
        ("FnApiRunner", "--direct_num_wokers=2", "Did you mean --direct_num_workers?"),
        ("FnApiRunner", "--nothing_like_it=2", "FnApiRunner has no flag --nothing_like_it"),
        ("FlinkRunner", "--paralelism=2", "Did you mean --parallelism?"),
        ("FlinkRunner", "--checkpoint_interval=2", "Did you mean --checkpointing_interval?"),
        ("PortableRunner", "--job_endpiont=host:1", "Did you mean --job_endpoint?"),
        ("FlinkRunner", "--parallelism=two", "--parallelism: invalid int value: 'two'"),
    ],
)
def test_a_flag_that_nobody_knows_is_refused(runner, flag, says):
    with pytest.raises(UserError) as raised:
        RunnerOptions(runner, flags=(flag,))
    assert says in str(raised.value)


def test_flags_of_the_job_server_are_let_through():
    RunnerOptions("FlinkRunner", flags=("--checkpointing_interval=1000", "--state_backend=rocksdb"))
    RunnerOptions("PortableRunner", flags=("--spark_option_of_its_own=1",))


@pytest.mark.parametrize(
    ("runner", "flag"),
    [
        ("FlinkRunner", "--job_endpoint=127.0.0.1:{port}"),
        ("PortableRunner", "--job_endpoint=127.0.0.1:{port}"),
        ("FlinkRunner", "--flink_master=http://127.0.0.1:{port}"),
        ("SparkRunner", "--spark_master_url=spark://127.0.0.1:{port}"),
    ],
)
def test_a_server_that_cannot_be_reached_is_one_line_at_once(runner, flag):
    with socket.socket() as free:  # bound and not listening: nobody else gets it, and nobody answers
        free.bind(("127.0.0.1", 0))
        options = RunnerOptions(runner, flags=(flag.format(port=free.getsockname()[1]),))
        pipeline = options.pipeline()
        _ = pipeline | beam.Create(["x"])
        with pytest.raises(UserError, match=r"cannot be reached: Connection refused\. Received"):
            options.run(pipeline)


def test_a_runner_that_is_not_there_is_one_line():
    for name in ("FlinkRuner", "no.such.Runner"):
        with pytest.raises(UserError, match=f"--runner {name}: ") as raised:
            RunnerOptions(name).pipeline()
        assert "\n" not in str(raised.value)


def test_flink_gets_what_it_needs_and_what_is_given_wins():
    flags = RunnerOptions(
        "FlinkRunner", 2, ("--environment_type=EXTERNAL", "--flink_master=host:8081", "--experiments=one")
    ).beam_flags()
    assert {"--experiments=one", "--experiments=use_loopback_process_worker"} <= set(flags)
    assert flags.count("--environment_type=EXTERNAL") == 1
    assert "--environment_type=LOOPBACK" not in flags
    assert {
        "--runner=FlinkRunner",
        "--parallelism=2",
        "--flink_version=1.20",
        "--flink_master=host:8081",
    } <= set(flags)


def test_counters_are_added_up_over_workers():
    options = RunnerOptions(workers=2)
    pipeline = options.pipeline()
    _ = pipeline | beam.Create(range(8)) | beam.Reshuffle() | beam.Map(count)
    assert options.run(pipeline) == {"seen": 8, "odd": 4}


def count(element):
    beam.metrics.Metrics.counter("test", "seen").inc()
    if element % 2:
        beam.metrics.Metrics.counter("test", "odd").inc()


def refuse(element):
    raise UserError(f"element: must not be {element}. Received: {element!r}")


def fill_the_disk(element):
    raise OSError(28, "No space left on device")


def die(element):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mistake_found_by_a_worker_arrives_as_it_was_raised(workers):
    options = RunnerOptions(workers=workers)
    pipeline = options.pipeline()
    _ = pipeline | beam.Create(["x"]) | beam.Map(refuse)
    with pytest.raises(UserError) as raised:
        options.run(pipeline)
    assert str(raised.value).startswith("element: must not be x. Received: 'x'")
    assert "\n" not in str(raised.value)


LATE = """#!/bin/sh
mkdir '{mark}' 2>/dev/null || sleep 4
exec '{python}' "$@"
"""


@pytest.mark.timeout(120)
def test_a_worker_that_comes_after_the_mistake_ends_too(tmp_path, monkeypatch):
    """The second of two workers starts so late that the first one's mistake has already ended the run."""
    python = tmp_path / "python"
    python.write_text(LATE.format(mark=tmp_path / "first", python=sys.executable))
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    for _ in range(2):  # Beam gives the work to another worker each time
        options = RunnerOptions(workers=2)
        pipeline = options.pipeline()
        _ = pipeline | beam.Create(["x"]) | beam.Map(refuse)
        with pytest.raises(UserError, match="must not be x"):
            options.run(pipeline)
        (tmp_path / "first").rmdir()


def test_a_full_disk_is_an_os_error():
    options = RunnerOptions()
    pipeline = options.pipeline()
    _ = pipeline | beam.Create(["x"]) | beam.Map(fill_the_disk)
    with pytest.raises(OSError, match="No space left") as raised:
        options.run(pipeline)
    assert raised.value.errno == 28


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # Beam's threads to the dead worker
def test_a_killed_worker_ends_the_run(capfd):
    options = RunnerOptions(workers=2)
    pipeline = options.pipeline()
    _ = pipeline | beam.Create(["x"]) | beam.Map(die)
    with pytest.raises(UserError, match="a worker process died"):
        options.run(pipeline)


def test_a_runner_s_heading_comes_with_what_it_stands_above():
    with pytest.raises(UserError, match=r"--runner DataflowRunner: .*: \S"):
        RunnerOptions("DataflowRunner").pipeline()


DATAFLOW = ("--project=p", "--region=r", "--temp_location=gs://b/tmp", "--sdk_container_image=i/worker")


def test_flags_of_dataflow_are_known_without_its_packages():
    assert RunnerOptions("DataflowRunner", flags=DATAFLOW).beam_flags() == [
        "--runner=DataflowRunner",
        *DATAFLOW,
    ]
    with pytest.raises(UserError, match=r"has no flag --tmp_location\. Did you mean --temp_location\?"):
        RunnerOptions("DataflowRunner", flags=("--tmp_location=gs://b/tmp",))
