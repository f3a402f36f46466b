"""Logs into examples: `prepare(experiment, run_dir, options)`."""

from pipelines.prepare.drift import Drift, drift
from pipelines.prepare.manifest import Manifest
from pipelines.prepare.run import prepare

__all__ = ["Drift", "Manifest", "drift", "prepare"]
