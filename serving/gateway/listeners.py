"""What Envoy listens to: callers, with routes and retries, and whoever reads the metrics."""

from __future__ import annotations

from ranker.address import parse_address
from serving import wire
from serving.gateway.fields import (
    ADMIN,
    METADATA,
    MONITOR,
    REPLICAS,
    TYPE,
    Tree,
    data_source,
    socket_address,
)
from serving.gateway.options import GatewayOptions, ServerTls

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


def callers_listener(options: GatewayOptions) -> Tree:
    """Where callers come in."""
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


def metrics_listener(options: GatewayOptions) -> Tree:
    """Where the metrics and the state of health are read, and nothing else of the administration."""
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
            "@type": f"{TYPE}.extensions.filters.http.health_check.v3.HealthCheck",
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
            "@type": f"{TYPE}.extensions.filters.http.router.v3.Router",
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
            "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
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
            "@type": f"{TYPE}.extensions.filters.http.grpc_stats.v3.FilterConfig",
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
                    "@type": f"{TYPE}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        # A dead replica has the fewest calls under way: least request would offer it again and again.
        "host_selection_retry_max_attempts": 64,
    }
    if hedge_ms:
        policy["per_try_timeout"] = f"{hedge_ms / 1000:g}s"
    return policy


def _server_tls(tls: ServerTls) -> Tree:
    common: Tree = {
        "alpn_protocols": ["h2"],
        "tls_certificates": [
            {"certificate_chain": data_source(tls.certificate), "private_key": data_source(tls.key)}
        ],
    }
    if tls.client_ca is not None:
        common["validation_context"] = {"trusted_ca": data_source(tls.client_ca)}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": tls.client_ca is not None,
            "common_tls_context": common,
        },
    }
