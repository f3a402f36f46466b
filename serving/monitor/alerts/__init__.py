"""Alerts: rules in YAML, conditions over the store's facts, and a state machine that decides when to notify.

`rules` (read and checked) -> `situation` (the facts that a rule needs) -> `conditions` (the findings) -> `machine` (the
alerts that changed) -> `messages` and `send` (the receivers). `evaluation` runs these steps, `replay` runs them over
history.
"""
