"""The monitor's store: sufficient statistics in SQLite or PostgreSQL, written by rounds, read by `query`.

A *round* is one comparison of every replica on the same requests. It is written in one transaction under a
unique key, so that a round written twice counts once. Its statistics are sums: cells of one minute that
merge into 10 minutes, 1 hour and 1 day without loss.
"""

from serving.monitor.store.database import Store, open_store

__all__ = ["Store", "open_store"]
