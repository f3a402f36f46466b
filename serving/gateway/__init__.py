"""A gRPC proxy in front of the replicas that lets live traffic measure them.

Callers see TF Serving's API; each answer comes from one replica, untouched. A sample of the requests, picked
by a hash of their id, goes to the other replicas as well, from a process of its own, and each becomes one
`serving.mirrored.MirroredRequest` in a spool directory that the monitor reads.
"""

from serving.gateway.options import GatewayOptions, MirrorOptions, ServerTls
from serving.gateway.service import Gateway, run

__all__ = ["Gateway", "GatewayOptions", "MirrorOptions", "ServerTls", "run"]
