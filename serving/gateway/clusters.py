"""Whom Envoy calls: the replicas, with what makes one healthy or ejects it, the monitor, and its own administration."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ranker.address import parse_address
from serving import wire
from serving.client.connection import Tls
from serving.gateway.fields import (
    ADMIN,
    MONITOR,
    REPLICAS,
    TYPE,
    Tree,
    admin_address,
    assignment,
    data_source,
    endpoint,
    is_ip,
)
from serving.gateway.options import GatewayOptions

_HTTP2_OPTIONS = f"{TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions"
# Calls that may wait or be under way at once. Envoy refuses what exceeds this with UNAVAILABLE.
_CALLS = 32_768
# Calls that hang at the monitor are given up after this, and at most so many are under way: a monitor that hangs
# costs memory for these and nothing else.
_MIRRORED_SECONDS, _MIRRORED_CALLS = 5, 256


def watched(path: str, directory: str) -> Tree:
    """Replicas from an EDS file that Envoy reads again whenever one is renamed into its directory."""
    source = {"path_config_source": {"path": path, "watched_directory": {"path": directory}}}
    return {"type": "EDS", "eds_cluster_config": {"eds_config": {**source, "resource_api_version": "V3"}}}


def resolved(assignment: Tree) -> Tree:
    """Replicas inside the configuration; Envoy resolves their names itself, again and again."""
    return {"type": "STRICT_DNS", "dns_lookup_family": "V4_PREFERRED", "load_assignment": assignment}


def replica_cluster(options: GatewayOptions, model_name: str, replicas: Tree, hosts: Collection[str]) -> Tree:
    """The replicas: where they come from, how calls are shared among them, and which of them get none."""
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


def monitor_cluster(monitor: str) -> Tree:
    """The monitor, which gets copies of calls at `host:port`."""
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


def admin_cluster(admin: str) -> Tree:
    """Envoy's own administration, for the page of metrics."""
    address = admin_address(admin)
    if "pipe" in address:
        address = {"pipe": {"path": admin}}
    return {
        "name": ADMIN,
        "type": "STATIC",
        "load_assignment": assignment(ADMIN, [{"endpoint": {"address": address}}]),
    }


def _client_tls(tls: Tls, ip: str | None) -> Tree:
    """How to connect to a replica: its certificate must be for `ip`, None: for the host of its target, a name."""
    validation: Tree = {"trusted_ca": data_source(tls.ca)}
    by_name = {"auto_host_sni": True, "auto_sni_san_validation": True}
    if ip is not None:
        by_name = {}
        validation["match_typed_subject_alt_names"] = [{"san_type": "IP_ADDRESS", "matcher": {"exact": ip}}]
    common: Tree = {"alpn_protocols": ["h2"], "validation_context": validation}
    if tls.certificate is not None:
        common["tls_certificates"] = [
            {"certificate_chain": data_source(tls.certificate), "private_key": data_source(tls.key)}
        ]
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            **by_name,
            "common_tls_context": common,
        },
    }
