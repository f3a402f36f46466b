"""Which engine runs the pipelines, with how many workers."""

from __future__ import annotations

import re
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from ranker.errors import UserError

LOCAL = "FnApiRunner"


@dataclass(frozen=True)
class RunnerOptions:
    """How a pipeline is run.

    Attributes:
        runner: `FnApiRunner` on this machine (the default), `FlinkRunner`, or another that Beam knows.
            `DirectRunner` is taken for `FnApiRunner`: Beam's own default would try to download an engine.
        workers: processes side by side on this machine; more than one are processes of their own.
        flags: further Beam flags, such as `--flink_master=...`.

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
            if not flag.startswith("--"):
                raise UserError(f"a Beam flag must start with --. Received: {flag!r}")
            if "multi_threading" in flag:
                raise UserError(
                    "the multi-threaded local mode loses rows in silence; use more workers instead."
                    f" Received: {flag!r}"
                )

    @property
    def is_local(self) -> bool:
        """Whether this machine runs the pipeline."""
        return self.runner in (LOCAL, "DirectRunner")

    def pipeline(self) -> beam.Pipeline:
        """A new, empty pipeline with these options."""
        flags = [f"--runner={LOCAL if self.is_local else self.runner}", *self.flags]
        if self.is_local and self.workers > 1:
            flags += ["--direct_running_mode=multi_processing", f"--direct_num_workers={self.workers}"]
        return beam.Pipeline(options=PipelineOptions(flags))

    def run(self, pipeline: beam.Pipeline) -> None:
        """Runs a pipeline to its end.

        Raises:
            UserError: a step raised one, on whatever worker.
        """
        try:
            pipeline.run().wait_until_finish()
        except RuntimeError as error:
            # Workers in other processes send their traceback as text.
            found = re.search(
                r"^ranker\.errors\.UserError: (.+?)(?: \[while running.*)?$", str(error), re.MULTILINE
            )
            if found is None:
                raise
            raise UserError(found[1]) from None
