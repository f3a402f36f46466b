"""Training: of a small run together in one process, else on Beam, where each replica is an element and has a process.

Importing the package alone imports none of its modules: workers of a cluster import them in several threads at once, and
Python breaks a circle of threads that wait for each other by a half-imported module.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.train.fan_out import train

__all__ = ["train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipelines.train import fan_out

    return getattr(fan_out, name)
