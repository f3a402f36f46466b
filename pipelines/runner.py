"""Which engine runs the pipelines, with how many workers."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections import Counter
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.transforms import environments

from pipelines.beam_patches import dead_workers_noticed, patch_runner
from ranker.errors import UserError

LOCAL = "FnApiRunner"
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
            given = {flag.partition("=")[0] for flag in self.flags}
            # Experiments add up, whatever else is given; of other flags the last one counts.
            flags += [flag for flag in _FLINK if flag.partition("=")[0] not in given - {"--experiments"}]
            flags += [f"--parallelism={self.workers}"] if "--parallelism" not in given else []
        return [*flags, *self.flags]

    def pipeline(self) -> beam.Pipeline:
        """A new, empty pipeline with these options."""
        options = PipelineOptions(self.beam_flags())
        if not self.is_local or self.workers == 1:
            return beam.Pipeline(options=options)
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
        patch_runner()
        if not self.is_local:
            # Beam's LOOPBACK workers are started as `python`, whichever comes first.
            os.environ["PATH"] = os.pathsep.join(
                [os.path.dirname(sys.executable), os.environ.get("PATH", "")]
            )
        try:
            with dead_workers_noticed():
                result = pipeline.run()
                result.wait_until_finish()
                found = result.metrics().query()["counters"]
        except RuntimeError as error:
            _raise_original(str(error))
            raise
        counters: Counter[str] = Counter()
        for counter in found:
            if counter.key.metric.namespace != "beam":  # some engines list their own beside ours
                counters[counter.key.metric.name] += counter.result or 0
        return dict(counters)


def _raise_original(trace: str) -> None:
    """Raises what a worker raised, if it means something to users: workers send their traceback as text."""
    mistake = re.search(
        r"ranker\.errors\.UserError: ([^\n\\]+?)(?: \[while running[^\n]*)?$", trace, re.MULTILINE
    )
    if mistake:
        raise UserError(mistake[1]) from None
    failure = re.search(r"OSError: \[Errno (\d+)\] ([^\n]*)", trace)
    if failure:
        raise OSError(int(failure[1]), failure[2]) from None
