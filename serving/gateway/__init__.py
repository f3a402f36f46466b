"""Envoy in front of the replicas: its configuration and its process.

`bootstrap` turns options and a deployment into what Envoy reads; `run` starts it, watches it and drains it; `follow`
keeps the file of replicas for an Envoy that runs elsewhere; `set_drained` takes one replica out and back. Callers see
TF Serving's API; a share of the Predict calls goes to the monitor as well, which asks every replica itself.
"""

from serving.gateway.draining import set_drained
from serving.gateway.options import GatewayOptions, ServerTls
from serving.gateway.process import bootstrap, follow, run

__all__ = ["GatewayOptions", "ServerTls", "bootstrap", "follow", "run", "set_drained"]
