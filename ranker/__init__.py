"""Steady Ranker: ranking models whose replicas agree, and the proof of it in production.

Importing this package loads neither TensorFlow nor Beam nor gRPC.
"""

__version__ = "0.1.0"
