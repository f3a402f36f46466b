"""Start the embedded server: `start(ServerOptions(...))` in this process, `run` until a signal."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ranker.errors import UserError
from serving.server.admin import PATH as RELOAD
from serving.server.admin import AdminOptions, ReloadService
from serving.server.metrics import Metrics, page
from serving.server.models.core import ServerCore
from serving.server.models.loader import BundleLoader, fingerprint
from serving.server.models.manager import LoadOptions
from serving.server.models.model_config import ConfigFilePoller, ModelConfig, from_proto, read_text
from serving.server.models.servable import Servable
from serving.server.models.warmup import Warmup
from serving.server.options import ServerOptions, channel_arguments
from serving.server.profiler import Profiler
from serving.server.requests.batching import BatchedModel, BatchingOptions, options_from_proto
from serving.server.requests.endpoints import ApiOptions, Endpoints
from serving.server.requests.predict import ServedModel
from serving.server.requests.request_log import RequestLog
from serving.server.transports.grpc_server import GrpcServer, server_credentials
from serving.server.transports.rest import RestOptions, RestServer
from serving.status import StatusError, invalid
from serving.wire import BatchingParameters, ModelServerConfig, MonitoringConfig

__all__ = ["RunningServer", "ServerOptions", "run", "start"]

_LOG = logging.getLogger(__name__)
_LEAVE_SECONDS = 1.0
METRICS_PATH = "/monitoring/prometheus/metrics"


@dataclass
class RunningServer:
    """A started server.

    Attributes:
        port: gRPC port.
        rest_port: REST port; 0 for none.
        core: the served models, for tests.
        metrics: this server's metrics.
    """

    port: int
    rest_port: int
    core: ServerCore
    metrics: Metrics
    _stoppers: list[Callable[[float], None]]

    def stop(self, grace_seconds: float = 30.0) -> bool:
        """Refuses new calls, lets those in flight finish, unloads every model. Idempotent.

        Args:
            grace_seconds: after that calls in flight are cut.

        Returns:
            False if a model could not be unloaded because a cut call's kernels, or its load, run on; nothing can
            interrupt them but the end of the process.
        """
        limit = time.monotonic() + grace_seconds
        while self._stoppers:
            self._stoppers.pop(0)(max(limit - time.monotonic(), 0))
        # An answer that was just cut needs a moment to leave its model.
        return self.core.stop(max(limit - time.monotonic(), _LEAVE_SECONDS))


def start(options: ServerOptions, cancelled: Callable[[], bool] = lambda: False) -> RunningServer:
    """Starts a server and waits until every configured model answers.

    Args:
        options: see `ServerOptions`.
        cancelled: polled while waiting for the first versions; True gives up.

    Returns:
        The running server; its ports are open.

    Raises:
        StatusError: a model did not load, a configuration file is wrong, a port is taken.
        UserError: an option contradicts another.
    """
    models = _models(options)
    metrics = Metrics(options.metrics_version_labels)
    core = ServerCore(
        _loader(options, metrics),
        LoadOptions(
            max_retries=options.max_num_load_retries,
            retry_seconds=options.load_retry_interval_micros / 1e6,
            threads=options.num_load_threads or 2,
            retry_repaired=options.strict,
            fingerprint=fingerprint,
        ),
        options.file_system_poll_wait_seconds,
        options.allow_version_labels_for_unavailable_models,
    )
    stoppers: list[Callable[[float], None]] = []
    try:
        core.configure(models, cancelled=cancelled)
        request_log = None
        if options.request_log_file:
            request_log = RequestLog(options.request_log_file, options.request_log_sampling_rate)
            stoppers.insert(0, lambda grace: request_log.stop())
        api_options = ApiOptions(
            strict=options.strict,
            tensor_content=options.enable_serialization_as_tensor_content,
            max_batch_size=options.max_batch_size or (100_000 if options.strict else 0),
            check_method_names=options.enable_signature_method_name_check,
        )
        endpoints = Endpoints(core, api_options, metrics, request_log)
        admin = ReloadService(core, _admin_options(options, core), metrics)
        rest = _rest(options, endpoints, metrics)
        if rest is not None:
            stoppers.insert(0, rest.stop)
        server = _grpc(options, endpoints, admin)
        stoppers.insert(0, server.stop)
        if options.model_config_file and options.model_config_file_poll_wait_seconds > 0:
            poller = ConfigFilePoller(
                options.model_config_file, core.apply_file, options.model_config_file_poll_wait_seconds
            )
            stoppers.insert(0, lambda grace: poller.stop())
    except (StatusError, UserError):
        for stop in stoppers:
            stop(0)
        core.stop(options.drain_seconds)
        raise
    return RunningServer(server.ports[0], rest.port if rest else 0, core, metrics, stoppers)


def run(options: ServerOptions) -> int:
    """Runs a server until SIGTERM or SIGINT, then drains it.

    Returns:
        0 after a signal, 255 if it could not start (the reason is on stderr). If a call outlives
        `drain_seconds`, the process ends here with exit code 1.
    """
    # TensorFlow's modules are half a million objects that never die. Left to the garbage collector, each full
    # collection (one follows every unload) would stop all requests for 0.15 s to look at them again.
    gc.collect()
    gc.freeze()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        server = start(options, stopping.is_set)
    except UserError as error:
        print(f"Failed to start server. Error: INVALID_ARGUMENT: {error}", file=sys.stderr)
        return 255
    except StatusError as error:
        print(f"Failed to start server. Error: {error}", file=sys.stderr)
        return 255
    if not stopping.is_set():
        print(f"Running gRPC ModelServer at {options.host}:{server.port} ...", file=sys.stderr, flush=True)
        if server.rest_port:
            print(
                f"Exporting HTTP/REST API at:{options.host}:{server.rest_port} ...",
                file=sys.stderr,
                flush=True,
            )
    while not stopping.wait(1):
        pass
    if not server.stop(options.drain_seconds):
        inside = server.core.manager.requests_inside()
        # The interpreter's own end would wait for the kernels, or pull TensorFlow from under them.
        print(
            f"Calls that did not end in {options.drain_seconds:g} s were abandoned: {inside}",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)
    return 0


def _models(options: ServerOptions) -> list[ModelConfig]:
    if options.model_config_file:
        return from_proto(read_text(options.model_config_file, ModelServerConfig))
    if not options.model_base_path:
        raise invalid("Both server_options.model_base_path and server_options.model_config_file are empty!")
    path = options.model_base_path
    return [ModelConfig(options.model_name, path if "://" in path else str(Path(path).absolute()))]


def _loader(options: ServerOptions, metrics: Metrics) -> BundleLoader:
    both = options.tensorflow_session_parallelism
    inter, intra = options.tensorflow_inter_op_parallelism, options.tensorflow_intra_op_parallelism
    if both > 0 and inter > 0 and intra > 0:
        raise invalid(
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) "
            "separately. You cannot configure all."
        )
    if not (inter > 0 or intra > 0):
        inter = intra = both
    steps: list[Callable[[ServedModel, Servable], ServedModel]] = []
    if options.enable_batching:
        batching = BatchingOptions()
        if options.batching_parameters_file:
            batching = _batching_options(options.batching_parameters_file)

        def batch(model: ServedModel, servable: Servable) -> ServedModel:
            parameters = Path(servable.directory) / "batching_params.pbtxt"
            if options.enable_per_model_batching_parameters:
                return (
                    BatchedModel(model, _batching_options(str(parameters)), metrics)
                    if parameters.is_file()
                    else model
                )
            return BatchedModel(model, batching, metrics)

        steps.append(batch)
    elif options.batching_parameters_file:
        raise invalid(
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
        )
    if options.enable_model_warmup:
        steps.append(Warmup(options.num_request_iterations_for_warmup, metrics))
    return BundleLoader(
        tags=tuple(filter(None, options.saved_model_tags.split(","))),
        strict=options.strict,
        inter_op_threads=max(inter, 0),
        intra_op_threads=intra if intra > 0 else 1,
        metrics=metrics,
        steps=tuple(steps),
        prefer_tflite=options.prefer_tflite_model,
    )


def _batching_options(path: str) -> BatchingOptions:
    return options_from_proto(read_text(path, BatchingParameters))


def _admin_options(options: ServerOptions, core: ServerCore) -> AdminOptions:
    token = ""
    if options.admin_token_file:
        try:
            token = Path(options.admin_token_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UserError(f"`admin_token_file` must be readable. Received: {error}") from None
        if not token:
            raise UserError(f"`admin_token_file` must not be empty. Received: {options.admin_token_file}")
    roots = None
    if options.strict:
        paths = [str(Path(root).resolve()) for root in options.reload_base_path_roots.split(",") if root]
        roots = tuple(paths or core.allowed_roots())
    return AdminOptions(options.enable_reload_config or not options.strict, token, roots)


def _grpc(options: ServerOptions, endpoints: Endpoints, admin: ReloadService) -> GrpcServer:
    addresses = [f"{f'[{options.host}]' if ':' in options.host else options.host}:{options.port}"]
    if options.grpc_socket_path:
        addresses.append(f"unix:{options.grpc_socket_path}")

    background = {RELOAD: admin.reload}
    if options.enable_profiler and not options.strict:
        background.update(Profiler().methods())
    return GrpcServer(
        addresses,
        endpoints.methods(),
        threads=options.grpc_max_threads or _threads(options),
        max_message_bytes=_max_message_bytes(options),
        background=background,
        with_health=options.enable_grpc_healthcheck_service,
        credentials=server_credentials(options.ssl_config_file) if options.ssl_config_file else None,
        channel_arguments=channel_arguments(options.grpc_channel_arguments),
        on_not_run=endpoints.count_not_run,
    )


def _rest(options: ServerOptions, endpoints: Endpoints, metrics: Metrics) -> RestServer | None:
    if not options.rest_api_port:
        return None
    if options.rest_api_port == options.port:
        _LOG.error("--rest_api_port cannot be same as --port. Skipped exporting HTTP/REST API.")
        return None
    pages = {METRICS_PATH: lambda: page(metrics)}
    if options.monitoring_config_file:
        monitoring = read_text(options.monitoring_config_file, MonitoringConfig)
        path = monitoring.prometheus_config.path or METRICS_PATH
        pages = {path: lambda: page(metrics)} if monitoring.prometheus_config.enable else {}
    rest_options = RestOptions(
        timeout_ms=options.rest_api_timeout_in_ms,
        cors=options.rest_api_enable_cors_support,
        threads=options.rest_api_num_threads or _threads(options),
        max_body_bytes=_max_message_bytes(options),
        pages=pages,
    )
    try:
        return RestServer(options.host, max(options.rest_api_port, 0), endpoints, rest_options)
    except OSError as error:
        raise invalid(
            f"Failed to listen on {options.host}:{options.rest_api_port}: {error.strerror}"
        ) from None


def _threads(options: ServerOptions) -> int:
    """Calls that run at a time: more than processors, because some wait; many, where they wait for a batch."""
    return 64 if options.enable_batching else max(4 * len(os.sched_getaffinity(0)), 16)


def _max_message_bytes(options: ServerOptions) -> int:
    return options.max_message_bytes or (64 * 2**20 if options.strict else 2**31 - 1)
