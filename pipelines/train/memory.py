"""Whether a training fits into a worker's memory, said before it starts instead of by the kernel in its middle."""

from __future__ import annotations

import json
import math
from pathlib import Path

from ranker import layout
from ranker.architecture import design
from ranker.config import Experiment
from ranker.errors import UserError
from ranker.inputs import plan

_PROCESS = 700 << 20
"""Python, TensorFlow and the compiled program, bytes."""
_WEIGHT_COPIES = 3
"""Weights with their optimizer slots and averages: initial, in training, and exported or in a checkpoint."""
_ROW_COPIES = 2
"""Rows as they are read and as TensorFlow holds them, in each of three segments where they do not fit into memory."""
_CGROUPS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def shortage(experiment: Experiment, run: Path, arm: str, replicas: int = 1) -> str:
    """Why a training cannot start on this machine; empty where it can.

    Args:
        experiment: the whole configuration.
        run: the run directory, after `prepare`, on this disk.
        arm: whose replicas are to be trained.
        replicas: how many in one process.
    """
    try:
        needed = needed_bytes(experiment, run, arm, replicas)
    except (UserError, OSError, KeyError):
        return ""  # the training says better what is wrong
    free = free_bytes()
    if free is None or needed <= free:
        return ""
    return (
        f"needs about {needed / 1e9:.1f} GB of memory, and this worker has {free / 1e9:.1f} GB free; give it more, or lower"
        " the features' `embedding_dim` or `max_vocabulary`, or training.segment_rows"
    )


def needed_bytes(experiment: Experiment, run: Path, arm: str, replicas: int = 1) -> int:
    """About what a training takes at its peak: a process, rows, and weights with all that belongs to them."""
    arm_config = experiment.arm(arm)
    inputs = plan(arm_config, run)
    sizes = sum(math.prod(shape) for shape in design(inputs, arm_config.model).shapes().values())
    towers = getattr(arm_config.mitigation, "components", 1) * replicas
    # A slot of the optimizer and one average beside each weight.
    weights = 4 * 3 * sizes * towers * _WEIGHT_COPIES
    total = json.loads(layout.statistics_path(run).read_text(encoding="utf-8"))["rows"]
    segment = arm_config.training.segment_rows
    rows = _ROW_COPIES * min(total, segment)
    return _PROCESS + weights + rows * 4 * (inputs.id_width + inputs.dense_width + 2)


def free_bytes(root: Path = Path("/")) -> int | None:
    """Memory that processes of this machine, or of this container, may still take; None where nothing says so.

    Args:
        root: where `proc` and `sys` are.
    """
    available = []
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        available += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        pass
    for limit, usage in _CGROUPS:
        try:
            files = (root / "sys/fs/cgroup" / name for name in (limit, usage))
            most, used = (int(file.read_text(encoding="ascii")) for file in files)
        except (OSError, ValueError):  # without a limit it reads "max"
            continue
        available.append(max(most - used, 0))
    return min(available, default=None)
