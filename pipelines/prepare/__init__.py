"""Logs into examples: `prepare(experiment, run_dir, options)`.

Importing the package alone imports none of its modules: workers of a cluster import them in several threads at once, and
Python breaks a circle of threads that wait for each other by a half-imported module.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.prepare.run import prepare

__all__ = ["prepare"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipelines.prepare import run

    return getattr(run, name)
