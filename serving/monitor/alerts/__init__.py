"""Alerts: rules in YAML, conditions over what the store knows, and a state machine that knows when to speak.

`rules` (what is asked) -> `situation` (what is known) -> `conditions` (what holds) -> `machine` (what changed)
-> `messages` and `send` (who is notified). `replay` runs the same over history.
"""
