"""Versions of models: found, loaded, warmed up, held by requests, unloaded."""
