"""The monitor: asks every replica the same requests, measures how far they are apart, keeps it, raises alerts.

From the outside in: `run` (the loop), `collect` (one round of asking), `measure` (answers to sums), `store` (what is
kept, and the questions to it), `alerts`, `exemplars`, `mirror`, `reservoir` and `live` (mirrored calls: taken,
sampled, decoded to requests), `gate` (may a version
go live), `prometheus`.
"""
