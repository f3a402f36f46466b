"""Envoy's bootstrap configuration for a gateway, as a pure function of its options."""

from __future__ import annotations

from collections.abc import Collection

from serving.gateway.clusters import admin_cluster, monitor_cluster, replica_cluster
from serving.gateway.fields import TYPE, Tree, admin_address
from serving.gateway.listeners import callers_listener, metrics_listener
from serving.gateway.options import GatewayOptions


def bootstrap(options: GatewayOptions, model_name: str, replicas: Tree, hosts: Collection[str] = ()) -> Tree:
    """Returns the whole configuration.

    Args:
      options: what the gateway does.
      model_name: the model whose available versions make a replica healthy.
      replicas: where the replicas come from, a part of the cluster: `watched` or `resolved`.
      hosts: those of the replicas' targets; with TLS, which certificates the IP addresses among them must show.
    """
    clusters = [replica_cluster(options, model_name, replicas, hosts), admin_cluster(options.admin)]
    if options.mirror > 0:
        clusters.append(monitor_cluster(options.monitor))
    return {
        "node": {"id": "ranker-gateway", "cluster": "ranker-gateway"},
        "admin": {"address": admin_address(options.admin)},
        "static_resources": {
            "listeners": [callers_listener(options), metrics_listener(options)],
            "clusters": clusters,
        },
        # Says how many connections are one too many before the machine does.
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{TYPE}.extensions.resource_monitors.downstream_connections.v3"
                        ".DownstreamConnectionsConfig",
                        "max_active_downstream_connections": 20_000,
                    },
                }
            ]
        },
    }
