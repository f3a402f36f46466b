"""Training replicas: one, or many stacked in one compiled program."""
