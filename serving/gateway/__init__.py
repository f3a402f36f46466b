"""Envoy in front of the replicas: its configuration and its process.

`bootstrap` makes Envoy's configuration from options and a deployment. `run` starts Envoy, watches it and drains it.
`follow` updates the file of replicas for an Envoy that runs elsewhere. `set_drained` takes one replica out, or back in.
Callers see TF Serving's API. A share of the Predict calls also goes to the monitor, which asks every replica itself.
"""

from serving.gateway.draining import set_drained
from serving.gateway.options import GatewayOptions, ServerTls
from serving.gateway.process import bootstrap, follow, run

__all__ = ["GatewayOptions", "ServerTls", "bootstrap", "follow", "run", "set_drained"]
