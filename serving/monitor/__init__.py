"""The monitor. It asks every replica the same requests, measures how much they differ, stores that, and raises alerts.

- `run`: the loop.
- `requests`: what a round asks: the probe's requests, and a sample of the mirrored calls.
- `collection`: one round of asking.
- `measurement`: from answers to sums.
- `store`: the sums, and the queries that read them.
- `alerts`: the rules, and the messages to receivers.
- `judgement`: the verdict, and the gate that decides whether a version may go live.
- `prometheus`: the metrics.
"""
