"""Evaluation on Beam: all replicas of all arms score the eval split, and the report says how much they differ."""

from pipelines.evaluate.stage import evaluate

__all__ = ["evaluate"]
