"""Training: of a small run together in one process, else on Beam, where each replica is an element and has a process."""

from pipelines.train.fan_out import train

__all__ = ["train"]
