"""Health check of a gateway for containers: `python -m serving.gateway.probe HOST:PORT [CA]`, exit code 0 if it serves."""

from __future__ import annotations

import sys

import grpc

from serving.client import Tls


def is_serving(target: str, ca: str | None = None, *, seconds: float = 3.0) -> bool:
    """Returns whether the gateway at `target` takes calls and has a replica to send them to."""
    channel = grpc.secure_channel(target, Tls(ca=ca).credentials()) if ca else grpc.insecure_channel(target)
    with channel:
        try:
            return channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=seconds) == b"\x08\x01"
        except grpc.RpcError:
            return False


if __name__ == "__main__":
    sys.exit(0 if is_serving(*sys.argv[1:3]) else 1)
