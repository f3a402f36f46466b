"""Asks the replicas and keeps what they answer."""
