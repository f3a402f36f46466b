"""Which engine runs the pipelines, with how many workers."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import socket
import sys
from collections import Counter
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import NoReturn

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, _BeamArgumentParser
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.runner import PipelineState
from apache_beam.transforms import environments

from pipelines.beam_patches import dead_workers_noticed, patch_runner
from ranker.address import parse_address
from ranker.errors import UserError

LOCAL = "FnApiRunner"
_CONNECT_SECONDS = 5.0
_WORKER_SECONDS = 300.0
"""How long the first worker of a pool may take, with the cluster's place for it."""
_STARTED: set[tuple[str, ...]] = set()
"""Flags with which a worker of a pool has started."""
_SERVERS = {
    "job_endpoint": "the job server",
    "flink_master": "Flink's REST address",
    "spark_master_url": "Spark's master",
}
"""Flags that hold the address of a server."""
_CLOSE = 0.8  # from which two names of flags are taken for one with a slip
_SHOWN = 300
_FLINK_FLAGS = (
    "auto_balance_write_files_sharding_enabled",
    "auto_watermark_interval",
    "checkpoint_timeout_millis",
    "checkpointing_interval",
    "checkpointing_mode",
    "disable_metrics",
    "enable_stable_input_drain",
    "execution_mode_for_batch",
    "execution_retry_delay",
    "externalized_checkpoints_enabled",
    "fail_on_checkpointing_errors",
    "faster_copy",
    "file_input_split_max_size_mb",
    "files_to_stage",
    "finish_bundle_before_checkpointing",
    "fixed_thread_pool_size",
    "flink_conf_dir",
    "force_slot_sharing_group",
    "force_unaligned_checkpoint_enabled",
    "job_check_interval_in_secs",
    "latency_tracking_interval",
    "max_bundle_size",
    "max_bundle_time_mills",
    "min_pause_between_checkpoints",
    "num_concurrent_checkpoints",
    "number_of_execution_retries",
    "object_reuse",
    "operator_chaining",
    "re_iterable_group_by_key_result",
    "report_checkpoint_duration",
    "retain_externalized_checkpoints_on_cancellation",
    "savepoint_path",
    "shutdown_sources_after_idle_ms",
    "state_backend",
    "state_backend_storage_path",
    "tolerable_checkpoint_failure_number",
    "unaligned_checkpoint_enabled",
    "use_data_stream_for_batch",
)
"""Options of Beam's Flink job server (FlinkPipelineOptions), which Beam's Python side does not know."""
_FLINK = ("--flink_version=1.20", "--environment_type=LOOPBACK", "--experiments=use_loopback_process_worker")


@dataclass(frozen=True)
class RunnerOptions:
    """How a pipeline is run.

    Attributes:
        runner: `FnApiRunner` on this machine (the default), `FlinkRunner`, or another that Beam knows.
            `DirectRunner` is taken for `FnApiRunner`: Beam's own default would try to download an engine.
        workers: processes side by side on this machine, or Flink's parallelism.
        flags: further Beam flags, such as `--flink_master=...`; they win over what is set here.

    Raises:
        UserError: a flag is malformed, or asks for the multi-threaded local mode, which loses data.
    """

    runner: str = LOCAL
    workers: int = 1
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"workers must be at least 1. Received: {self.workers}")
        for flag in self.flags:
            if "multi_threading" in flag:
                raise UserError(
                    "the multi-threaded local mode loses rows in silence; use more workers instead. "
                    f"Received: {flag!r}"
                )
            if not flag.startswith("--"):
                raise UserError(
                    f"a Beam flag must start with -- and hold its value: --name=value. Received: {flag!r}"
                )
        _check_flags(self.flags, self.runner)

    @property
    def is_local(self) -> bool:
        """Whether this process runs the pipeline."""
        return self.runner in (LOCAL, "DirectRunner")

    def beam_flags(self) -> list[str]:
        """The flags Beam gets."""
        flags = [f"--runner={LOCAL if self.is_local else self.runner}"]
        if self.is_local and self.workers > 1:
            flags += [f"--direct_num_workers={self.workers}"]
        if self.runner == "FlinkRunner":
            flag_names = {flag.partition("=")[0] for flag in self.flags}
            # Experiments add up, whatever else is given; of other flags the last one counts.
            flags += [flag for flag in _FLINK if flag.partition("=")[0] not in flag_names - {"--experiments"}]
            flags += [f"--parallelism={self.workers}"] if "--parallelism" not in flag_names else []
        return [*flags, *self.flags]

    def pipeline(self) -> beam.Pipeline:
        """A new, empty pipeline with these options."""
        pipeline = self._new_pipeline()
        # For artifacts of other languages, of which there are none here; Beam removes it when a run ends, if one does.
        shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)
        return pipeline

    def _new_pipeline(self) -> beam.Pipeline:
        options = PipelineOptions(self.beam_flags())
        if not self.is_local or self.workers == 1:
            try:
                return beam.Pipeline(options=options)
            except (ValueError, ImportError, AttributeError, RuntimeError) as error:
                raise UserError(f"--runner {self.runner}: {_first_line(error)}") from None
        # What `--direct_running_mode=multi_processing` does, with a leaner worker.
        options.view_as(DirectOptions).direct_running_mode = None
        command = f"exec {shlex.quote(sys.executable)} -m pipelines.worker"
        environment = environments.SubprocessSDKEnvironment.from_command_string(command)
        return beam.Pipeline(fn_runner.FnApiRunner(environment), options=options)

    def run(self, pipeline: beam.Pipeline) -> dict[str, int]:
        """Runs a pipeline to its end.

        Returns:
            Its counters by name, added up over all workers; an engine that tries a step again counts it again.

        Raises:
            UserError: a step raised one, on whatever worker, or a worker died.
            OSError: a worker could not read or write.
        """
        if self.is_local:
            patch_runner()
        else:
            # Beam's LOOPBACK workers are started as `python`, whichever comes first.
            os.environ["PATH"] = os.pathsep.join(
                [os.path.dirname(sys.executable), os.environ.get("PATH", "")]
            )
            self.check_reachable()
        try:
            if not self.is_local:
                self._start_worker()
            with dead_workers_noticed() if self.is_local else nullcontext():
                result = pipeline.run()
                result.wait_until_finish()
                counter_results = result.metrics().query()["counters"]
        except (RuntimeError, ValueError, ImportError, OSError, grpc.RpcError) as error:
            if isinstance(error, RuntimeError):
                _raise_original(str(error))
            if self.is_local:
                raise
            raise UserError(f"{self.runner}: {_first_line(error)}; see logs/beam.log") from None
        counters: Counter[str] = Counter()
        for counter in counter_results:
            if counter.key.metric.namespace != "beam":  # some engines list their own beside ours
                counters[counter.key.metric.name] += counter.result or 0
        return dict(counters)

    def check_reachable(self) -> None:
        """Tries the servers that the flags name, for a few seconds: Beam itself would wait for a minute and more.

        Raises:
            UserError: one cannot be reached.
        """
        values = self._values
        for name, server in _SERVERS.items():
            value = re.sub(r"^(https?|spark)://", "", values.get(name, "")).rstrip("/")
            if not value or value in ("[local]", "[auto]", "embed") or value.startswith("local["):
                continue
            address = parse_address(value, f"--{name}")
            try:
                socket.create_connection((address.host, address.port), _CONNECT_SECONDS).close()
            except OSError as error:
                raise UserError(
                    f"--{name}: {server} cannot be reached: {error.strerror or error}. Received: {value!r}"
                ) from None

    @property
    def _values(self) -> dict[str, str]:
        """Flag -> its value."""
        return dict(flag[2:].partition("=")[::2] for flag in self.flags)

    def _start_worker(self) -> None:
        """Has a worker of a pool do nothing: Beam's job servers wait without end for one that cannot start.

        Raises:
            UserError: none has started in `_WORKER_SECONDS`.
        """
        if self._values.get("environment_type") != "EXTERNAL" or self.flags in _STARTED:
            return
        pipeline = self.pipeline()
        _ = pipeline | beam.Create([0]) | beam.Map(abs)
        result = pipeline.run()
        state = result.wait_until_finish(duration=int(1000 * _WORKER_SECONDS))
        if not PipelineState.is_terminal(state):
            with suppress(grpc.RpcError):
                result.cancel()
            raise UserError(
                f"--environment_config: no worker has started in {_WORKER_SECONDS:.0f} s; see what the pool and the job"
                f" server say. Received: {self._values.get('environment_config')!r}"
            )
        _STARTED.add(self.flags)


def _check_flags(flags: tuple[str, ...], runner: str) -> None:
    """Raises a UserError for a flag that neither Beam nor the runner knows, or whose value is of another kind."""
    parser = _Parser(allow_abbrev=False, add_help=False)
    for options in {str(options): options for options in PipelineOptions.__subclasses__()}.values():
        options._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(list(flags))
    flag_names = [name[2:] for name in parser._option_string_actions if name.startswith("--")]
    flag_names += _FLINK_FLAGS if runner == "FlinkRunner" else ()
    for flag in unknown:
        name = flag.partition("=")[0].lstrip("-")
        if not flag.startswith("--"):
            raise UserError(f"a Beam flag must hold its value: --name=value. Received: {flag!r}")
        close = difflib.get_close_matches(name, flag_names, 1, _CLOSE)
        # A job server has options of its own, which only it knows: there a name that is like no other is let through.
        if name in flag_names or not (close or runner in (LOCAL, "DirectRunner", "FlinkRunner")):
            continue
        hint = f" Did you mean --{close[0]}?" if close else ""
        raise UserError(f"--beam: {runner} has no flag --{name}.{hint} Received: {flag!r}")


class _Parser(_BeamArgumentParser):  # type: ignore[misc]
    """Beam's parser of flags, whose errors are for users instead of the end of the process."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"--beam: {message.removeprefix('argument ')}")


def _first_line(error: BaseException) -> str:
    """What an engine's error says, in one line of a bounded length."""
    if isinstance(error, grpc.RpcError) and hasattr(error, "details"):
        return " ".join(str(error.details()).split())[:_SHOWN]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    traces = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    if not traces and lines and lines[0].endswith(":"):  # a heading says nothing without what it stands above
        return " ".join(lines)[:_SHOWN]
    return (traces[-1] if traces else lines[0] if lines else type(error).__name__)[:_SHOWN]


def _raise_original(trace: str) -> None:
    """Raises a worker's error again if users can act on it; workers send their traceback as text."""
    mistake = re.search(
        r"ranker\.errors\.UserError: ([^\n\\]+?)(?: \[while running[^\n]*)?$", trace, re.MULTILINE
    )
    if mistake:
        raise UserError(mistake[1]) from None
    failure = re.search(r"OSError: \[Errno (\d+)\] ([^\n]*)", trace)
    if failure:
        raise OSError(int(failure[1]), failure[2]) from None
