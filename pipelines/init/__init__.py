"""Proposes a configuration for an undescribed log: what its columns probably are, and why.

Everything is a guess from the first rows, written beside its evidence. What the rows cannot say is a question in the file.
"""

from pipelines.init.proposal import propose as propose
