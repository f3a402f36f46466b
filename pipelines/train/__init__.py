"""Training on Beam: every replica of every arm is one element, trained in a process of its own."""

from pipelines.train.fan_out import train

__all__ = ["train"]
