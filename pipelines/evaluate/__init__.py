"""Evaluation on Beam: all replicas of all arms score the eval split, and the report says how much they differ.

Importing the package alone imports none of its modules: workers of a cluster import them in several threads at once, and
Python breaks a circle of threads that wait for each other by a half-imported module.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.evaluate.stage import evaluate

__all__ = ["evaluate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipelines.evaluate import stage

    return getattr(stage, name)
