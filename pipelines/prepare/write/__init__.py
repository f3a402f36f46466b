"""Shards, vocabularies, statistics, probe requests and rejected rows, as files."""
