"""Envoy's bootstrap configuration for a gateway, as a pure function of its options.

The fields are those of Envoy's v3 API, in the JSON form of its protobuf messages.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Any

from ranker.address import parse_address
from serving import wire
from serving.client.connection import Tls
from serving.gateway.options import GatewayOptions, ServerTls

Tree = dict[str, Any]

REPLICAS, MONITOR, ADMIN = "replicas", "monitor", "admin"
METADATA = "ranker.replica"
_TYPE = "type.googleapis.com/envoy"
_HTTP2_OPTIONS = f"{_TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions"

# Calls that may wait or be under way at once. Envoy refuses what exceeds this with UNAVAILABLE.
_CALLS = 32_768
# Calls that hang at the monitor are given up after this, and at most so many are under way: a monitor that hangs
# costs memory for these and nothing else.
_MIRRORED_SECONDS, _MIRRORED_CALLS = 5, 256
# A body larger than this is still forwarded, but neither tried again nor mirrored.
_REPEATABLE_BYTES = 64 << 20
_RETRIES = 4
# What one replica alone may answer: that it has lost the model, or is broken. INVALID_ARGUMENT is not among them: nearly
# always it is the caller's mistake, which every replica answers so.
_RETRIED_STATUS = (
    ("2", "UNKNOWN"),
    ("5", "NOT_FOUND"),
    ("9", "FAILED_PRECONDITION"),
)


def bootstrap(options: GatewayOptions, model_name: str, replicas: Tree, hosts: Collection[str] = ()) -> Tree:
    """Returns the whole configuration.

    Args:
      options: what the gateway does.
      model_name: the model whose available versions make a replica healthy.
      replicas: where the replicas come from, a part of the cluster: `watched` or `resolved`.
      hosts: those of the replicas' targets; with TLS, which certificates the IP addresses among them must show.
    """
    clusters = [_replica_cluster(options, model_name, replicas, hosts), _admin_cluster(options.admin)]
    if options.mirror > 0:
        clusters.append(_monitor_cluster(options.monitor))
    return {
        "node": {"id": "ranker-gateway", "cluster": "ranker-gateway"},
        "admin": {"address": admin_address(options.admin)},
        "static_resources": {
            "listeners": [_callers_listener(options), _metrics_listener(options)],
            "clusters": clusters,
        },
        # Says how many connections are one too many before the machine does.
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{_TYPE}.extensions.resource_monitors.downstream_connections.v3"
                        ".DownstreamConnectionsConfig",
                        "max_active_downstream_connections": 20_000,
                    },
                }
            ]
        },
    }


def watched(path: str, directory: str) -> Tree:
    """Replicas from an EDS file that Envoy reads again whenever one is renamed into its directory."""
    source = {"path_config_source": {"path": path, "watched_directory": {"path": directory}}}
    return {"type": "EDS", "eds_cluster_config": {"eds_config": {**source, "resource_api_version": "V3"}}}


def resolved(assignment: Tree) -> Tree:
    """Replicas inside the configuration; Envoy resolves their names itself, again and again."""
    return {"type": "STRICT_DNS", "dns_lookup_family": "V4_PREFERRED", "load_assignment": assignment}


def socket_address(host: str, port: int) -> Tree:
    """Returns an address."""
    return {"socket_address": {"address": host, "port_value": port}}


def admin_address(admin: str) -> Tree:
    """Returns the address of Envoy's administration: a unix socket for a path, else `host:port`."""
    if "/" in admin:
        return {"pipe": {"path": admin, "mode": 0o600}}
    return socket_address(*parse_address(admin, "`admin`"))


def _callers_listener(options: GatewayOptions) -> Tree:
    listener: Tree = {
        "name": "callers",
        "address": socket_address(*parse_address(options.listen, "`listen`", lowest_port=0)),
        # Else a second gateway could share the port in silence.
        "enable_reuse_port": False,
        "filter_chains": [
            {"filters": [_connection_manager("callers", _caller_routes(options), [_grpc_statistics()], True)]}
        ],
    }
    if options.tls is not None:
        listener["filter_chains"][0]["transport_socket"] = _server_tls(options.tls)
    return listener


def _metrics_listener(options: GatewayOptions) -> Tree:
    get = [{"name": ":method", "string_match": {"exact": "GET"}}]
    pages = [
        {
            "match": {"path": path, "headers": get},
            "route": {"cluster": ADMIN, "prefix_rewrite": "/stats/prometheus"},
        }
        for path in ("/metrics", "/stats/prometheus")
    ]
    rest = {"match": {"prefix": "/"}, "direct_response": {"status": 404}}
    health = {
        "name": "envoy.filters.http.health_check",
        "typed_config": {
            "@type": f"{_TYPE}.extensions.filters.http.health_check.v3.HealthCheck",
            "pass_through_mode": False,
            "headers": [{"name": ":path", "string_match": {"exact": "/healthz"}}],
            "cluster_min_healthy_percentages": {REPLICAS: {"value": 1}},
        },
    }
    hosts = [{"name": "metrics", "domains": ["*"], "routes": [*pages, rest]}]
    return {
        "name": "metrics",
        "address": socket_address(*parse_address(options.metrics, "`metrics`", lowest_port=0)),
        "enable_reuse_port": False,
        "filter_chains": [{"filters": [_connection_manager("metrics", hosts, [health], False)]}],
    }


def _connection_manager(name: str, hosts: list[Tree], filters: list[Tree], grpc: bool) -> Tree:
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": f"{_TYPE}.extensions.filters.http.router.v3.Router",
            "suppress_envoy_headers": True,
        },
    }
    http2 = {
        # A client library holds back what exceeds this; more connections carry more.
        "max_concurrent_streams": 1024,
        "initial_stream_window_size": 1 << 20,
        "initial_connection_window_size": 16 << 20,
    }
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "codec_type": "HTTP2" if grpc else "AUTO",
            **({"http2_protocol_options": http2} if grpc else {}),
            "generate_request_id": False,
            "preserve_external_request_id": True,
            "server_header_transformation": "PASS_THROUGH",
            "normalize_path": True,
            "route_config": {"name": name, "virtual_hosts": hosts},
            "http_filters": [*filters, router],
        },
    }


def _grpc_statistics() -> Tree:
    services: dict[str, list[str]] = {}
    for method in wire.METHODS:
        _, service, name = method.path.split("/")
        services.setdefault(service, []).append(name)
    return {
        "name": "envoy.filters.http.grpc_stats",
        "typed_config": {
            "@type": f"{_TYPE}.extensions.filters.http.grpc_stats.v3.FilterConfig",
            # Only these: a caller cannot make statistics by inventing methods.
            "individual_method_stats_allowlist": {
                "services": [
                    {"name": service, "method_names": names} for service, names in sorted(services.items())
                ]
            },
            "enable_upstream_stats": True,
        },
    }


def _caller_routes(options: GatewayOptions) -> list[Tree]:
    forward: Tree = {
        "cluster": REPLICAS,
        # The caller's deadline alone counts.
        "timeout": "0s",
        "max_stream_duration": {"grpc_timeout_header_max": "0s"},
        "retry_policy": _retry_policy(options.hedge_ms),
    }
    if options.hedge_ms:
        forward["hedge_policy"] = {"hedge_on_per_try_timeout": True}
    if options.sticky is not None:
        forward["hash_policy"] = [{"header": {"header_name": options.sticky}}]
    predict = dict(forward)
    if options.mirror > 0:
        share = {"numerator": max(1, round(options.mirror * 1_000_000)), "denominator": "MILLION"}
        predict["request_mirror_policies"] = [
            {
                "cluster": MONITOR,
                "runtime_fraction": {"default_value": share},
                "disable_shadow_host_suffix_append": True,
            }
        ]
    refusal = "a reload through the gateway would change one replica of several: ask each replica itself"
    replica_name = {
        "header": {"key": "x-ranker-replica", "value": f"%UPSTREAM_METADATA({METADATA}:name)%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    return [
        {
            "name": "callers",
            "domains": ["*"],
            "response_headers_to_add": [replica_name],
            "request_body_buffer_limit": _REPEATABLE_BYTES,
            "routes": [
                {
                    "match": {"path": "/tensorflow.serving.ModelService/HandleReloadConfigRequest"},
                    "direct_response": {"status": 403, "body": {"inline_string": refusal}},
                },
                {"match": {"path": wire.PREDICT.path}, "route": predict},
                {"match": {"prefix": "/"}, "route": forward},
            ],
        }
    ]


def _retry_policy(hedge_ms: int) -> Tree:
    policy: Tree = {
        "retry_on": "connect-failure,refused-stream,reset,unavailable,internal,resource-exhausted,retriable-headers",
        "retriable_headers": [
            {"name": "grpc-status", "string_match": {"exact": code}} for code, _ in _RETRIED_STATUS
        ],
        "num_retries": _RETRIES,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": f"{_TYPE}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        # A dead replica has the fewest calls under way: least request would offer it again and again.
        "host_selection_retry_max_attempts": 64,
    }
    if hedge_ms:
        policy["per_try_timeout"] = f"{hedge_ms / 1000:g}s"
    return policy


def _replica_cluster(
    options: GatewayOptions, model_name: str, replicas: Tree, hosts: Collection[str]
) -> Tree:
    cluster: Tree = {
        "name": REPLICAS,
        **replicas,
        **_load_balancing(options),
        "connect_timeout": "1s",
        # A replica that leaves the file leaves at once, whatever its health.
        "ignore_health_on_host_removal": True,
        "per_connection_buffer_limit_bytes": 4 << 20,
        "typed_extension_protocol_options": _http2(),
        "common_lb_config": {
            # Only when no replica at all is healthy do calls go to all of them, evenly.
            "healthy_panic_threshold": {"value": 1}
        },
        "health_checks": [_health_check(model_name)],
        "outlier_detection": _OUTLIER_DETECTION,
        "circuit_breakers": {"thresholds": [_THRESHOLDS]},
        "track_cluster_stats": {"per_endpoint_stats": True},
    }
    if options.replica_tls is not None:
        cluster["transport_socket"] = _client_tls(options.replica_tls, None)
        cluster["transport_socket_matches"] = [
            {
                "name": host,
                "match": {"ip": host},
                "transport_socket": _client_tls(options.replica_tls, host),
            }
            for host in sorted(set(hosts))
            if is_ip(host)
        ]
    return cluster


_THRESHOLDS = {
    "max_connections": _CALLS,
    "max_pending_requests": _CALLS,
    "max_requests": _CALLS,
    # At most half of all tries under way are second ones, hedges too, so that slow replicas get no avalanche. The first
    # 1,000 are free: when a replica dies, all of its calls are tried again in the same moment.
    "retry_budget": {"budget_percent": {"value": 50}, "min_retry_concurrency": 1000},
    "track_remaining": True,
}

_OUTLIER_DETECTION = {
    # UNAVAILABLE, no connection, resets and unanswered tries count. INTERNAL and UNIMPLEMENTED do not: callers'
    # mistakes bring them about too, and must not eject replicas.
    "consecutive_gateway_failure": 5,
    "enforcing_consecutive_gateway_failure": 100,
    "enforcing_consecutive_5xx": 0,
    "enforcing_success_rate": 0,
    "interval": "1s",
    "base_ejection_time": "2s",
    "max_ejection_time": "6s",
    # Of two replicas one may go, of three two, of one none.
    "max_ejection_percent": 67,
    "always_eject_one_host": False,
    # A replica whose status is well but whose answers never come is not taken back by the status.
    "successful_active_health_check_uneject_host": False,
}


def _load_balancing(options: GatewayOptions) -> Tree:
    if options.sticky is not None:
        return {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 4096}}
    if options.balance == "round-robin":
        return {"lb_policy": "ROUND_ROBIN"}
    return {"lb_policy": "LEAST_REQUEST"}


def _health_check(model_name: str) -> Tree:
    """Asks GetModelStatus; healthy: some version of the model is AVAILABLE.

    Every TF Serving has it, while its health service is off by default, and a bare connection succeeds with a
    process that hangs.
    """
    request = wire.GetModelStatusRequest()
    request.model_spec.name = model_name
    body = request.SerializeToString()
    frame = b"\0" + len(body).to_bytes(4, "big") + body
    available = b"\x10\x1e"  # field 2 of a version's status, its state, is AVAILABLE (30)
    return {
        "timeout": "2s",
        "interval": "1s",
        "no_traffic_interval": "1s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "http_health_check": {
            "codec_client_type": "HTTP2",
            "host": REPLICAS,
            "path": wire.GET_MODEL_STATUS.path,
            "method": "POST",
            "request_headers_to_add": [
                {"header": {"key": "content-type", "value": "application/grpc"}},
                {"header": {"key": "te", "value": "trailers"}},
            ],
            "send": {"text": frame.hex()},
            "receive": [{"text": available.hex()}],
            "response_buffer_size": 65_536,
        },
    }


def _http2(**common: Any) -> Tree:
    windows = {"initial_stream_window_size": 1 << 20, "initial_connection_window_size": 16 << 20}
    return {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": _HTTP2_OPTIONS,
            "explicit_http_config": {"http2_protocol_options": windows},
            **({"common_http_protocol_options": common} if common else {}),
        }
    }


def _monitor_cluster(monitor: str) -> Tree:
    return {
        "name": MONITOR,
        **resolved(assignment(MONITOR, [endpoint(*parse_address(monitor, "`monitor`"))])),
        "connect_timeout": "1s",
        "typed_extension_protocol_options": _http2(max_stream_duration=f"{_MIRRORED_SECONDS}s"),
        "circuit_breakers": {
            "thresholds": [
                {"max_pending_requests": _MIRRORED_CALLS, "max_requests": _MIRRORED_CALLS, "max_retries": 0}
            ]
        },
    }


def _admin_cluster(admin: str) -> Tree:
    address = admin_address(admin)
    if "pipe" in address:
        address = {"pipe": {"path": admin}}
    return {
        "name": ADMIN,
        "type": "STATIC",
        "load_assignment": assignment(ADMIN, [{"endpoint": {"address": address}}]),
    }


def assignment(cluster: str, endpoints: list[Tree]) -> Tree:
    """Returns the endpoints of a cluster, a ClusterLoadAssignment."""
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": endpoints}]}


def endpoint(host: str, port: int, *, hostname: str = "") -> Tree:
    """Returns an endpoint.

    Args:
      host: an IP address, or a name where Envoy resolves names.
      port: from 1 to 65535.
      hostname: the name to find in its certificate.
    """
    return {
        "endpoint": {"address": socket_address(host, port), **({"hostname": hostname} if hostname else {})}
    }


def is_ip(host: str) -> bool:
    """Whether a host is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _data_source(path: Any) -> Tree:
    return {"filename": str(path)}


def _server_tls(tls: ServerTls) -> Tree:
    common: Tree = {
        "alpn_protocols": ["h2"],
        "tls_certificates": [
            {"certificate_chain": _data_source(tls.certificate), "private_key": _data_source(tls.key)}
        ],
    }
    if tls.client_ca is not None:
        common["validation_context"] = {"trusted_ca": _data_source(tls.client_ca)}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": tls.client_ca is not None,
            "common_tls_context": common,
        },
    }


def _client_tls(tls: Tls, ip: str | None) -> Tree:
    """How to connect to a replica: its certificate must be for `ip`, None: for the host of its target, a name."""
    validation: Tree = {"trusted_ca": _data_source(tls.ca)}
    by_name = {"auto_host_sni": True, "auto_sni_san_validation": True}
    if ip is not None:
        by_name = {}
        validation["match_typed_subject_alt_names"] = [{"san_type": "IP_ADDRESS", "matcher": {"exact": ip}}]
    common: Tree = {"alpn_protocols": ["h2"], "validation_context": validation}
    if tls.certificate is not None:
        common["tls_certificates"] = [
            {"certificate_chain": _data_source(tls.certificate), "private_key": _data_source(tls.key)}
        ]
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            **by_name,
            "common_tls_context": common,
        },
    }
