"""The server's options, each a flag in TF Serving's style: `--name=value`, booleans with or without value."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import typing
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ranker.errors import UserError

_TRUE, _FALSE = {"true", "1", "t", "yes", "y"}, {"false", "0", "f", "no", "n"}


def _flag(default: Any, text: str, former_name: str = "") -> Any:
    return field(default=default, metadata={"help": text, "former_name": former_name})


@dataclass(frozen=True)
class ServerOptions:
    """Options of one server. Names, defaults and meanings are TF Serving's unless said otherwise.

    In the second group are this server's own. `strict` means to be safer than TF Serving: check input
    shapes, refuse a version without its variables, retry a repaired version, no configuration changes
    over the network unless enabled.
    """

    port: int = _flag(8500, "TCP port for gRPC; 0 picks a free one")
    rest_api_port: int = _flag(0, "TCP port for REST and metrics; 0 for none, -1 picks a free one")
    rest_api_timeout_in_ms: int = _flag(30000, "timeout of a REST call")
    rest_api_num_threads: int = _flag(0, "REST threads; 0 for four a CPU")
    rest_api_enable_cors_support: bool = _flag(False, "CORS headers in REST answers")
    grpc_socket_path: str = _flag("", "Unix socket to listen on as well")
    model_name: str = _flag("default", "name of the model, without --model_config_file")
    model_base_path: str = _flag("", "directory whose integer-named children are versions")
    model_config_file: str = _flag(
        "", "text ModelServerConfig; --model_name and --model_base_path are then ignored"
    )
    model_config_file_poll_wait_seconds: float = _flag(
        0, "seconds between reads of the file; 0 reads it once"
    )
    file_system_poll_wait_seconds: float = _flag(1, "seconds between looks for new versions; 0 looks once")
    max_num_load_retries: int = _flag(5, "attempts to load a version after the first")
    load_retry_interval_micros: int = _flag(60_000_000, "pause between those; below 0 none")
    num_load_threads: int = _flag(0, "versions loaded at a time; 0 for 2")
    enable_batching: bool = _flag(False, "run requests of several callers together")
    batching_parameters_file: str = _flag("", "text BatchingParameters")
    enable_per_model_batching_parameters: bool = _flag(
        False, "read batching_params.pbtxt beside each saved model"
    )
    monitoring_config_file: str = _flag("", "text MonitoringConfig")
    ssl_config_file: str = _flag("", "text SSLConfig with PEM contents")
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "new labels may name versions not loaded yet"
    )
    enable_grpc_healthcheck_service: bool = _flag(False, "grpc.health.v1.Health")
    enable_profiler: bool = _flag(True, "tensorflow.ProfilerService for tracing; never with --strict")
    enable_model_warmup: bool = _flag(
        True, "replay assets.extra/tf_serving_warmup_requests before a version answers"
    )
    num_request_iterations_for_warmup: int = _flag(1, "times each warm-up record is run")
    grpc_channel_arguments: str = _flag("", "comma-separated key=value gRPC channel arguments")
    grpc_max_threads: int = _flag(0, "gRPC calls handled at a time; 0 for four a CPU, 64 with batching")
    saved_model_tags: str = _flag("serve", "comma-separated tags of the meta graph to load")
    prefer_tflite_model: bool = _flag(
        False, "serve model.tflite where a version has one", former_name="use_tflite_model"
    )
    tensorflow_session_parallelism: int = _flag(0, "threads within and between ops; 0 lets TensorFlow choose")
    tensorflow_intra_op_parallelism: int = _flag(
        0, "threads within an op; 0: one, because calls run beside each other"
    )
    tensorflow_inter_op_parallelism: int = _flag(0, "threads between ops")
    enable_serialization_as_tensor_content: bool = _flag(
        False, "numeric outputs of Predict as tensor_content"
    )
    enable_signature_method_name_check: bool = _flag(
        False, "hold a signature's method_name against the method that is called"
    )
    version: bool = _flag(False, "print versions and exit")

    strict: bool = _flag(
        False, "safer than TF Serving: shape checks, complete versions only, repaired ones retried"
    )
    host: str = _flag("127.0.0.1", "address to listen on; 0.0.0.0 for every interface")
    max_message_bytes: int = _flag(0, "largest request; 0 for 2 GiB, or 64 MiB with --strict")
    max_batch_size: int = _flag(0, "most rows of a Predict; 0 for no limit, or 100000 with --strict")
    enable_reload_config: bool = _flag(False, "answer HandleReloadConfigRequest; always on without --strict")
    reload_base_path_roots: str = _flag(
        "", "comma-separated directories that reloads must stay in (--strict)"
    )
    admin_token_file: str = _flag(
        "", "file with the token that HandleReloadConfigRequest must carry as a bearer"
    )
    request_log_file: str = _flag("", "TFRecord file for PredictionLog records of sampled requests")
    request_log_sampling_rate: float = _flag(0.01, "share of requests logged, chosen by hash of their id")
    metrics_version_labels: bool = _flag(
        False, "labels version and signature on request counts and latencies, which TF Serving does not have"
    )
    drain_seconds: float = _flag(30, "time that calls in flight get to finish on SIGTERM")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def parse(arguments: list[str]) -> ServerOptions:
    """Reads the flags.

    Args:
        arguments: as in `sys.argv[1:]`. A flag that is not known here is named on stderr and ignored, so
            that a command line written for `tensorflow_model_server` starts.

    Raises:
        UserError: a value of the wrong type.
    """
    parser = _Parser(prog="python -m serving.server", description=__doc__, allow_abbrev=False)
    types = typing.get_type_hints(ServerOptions)
    for option in dataclasses.fields(ServerOptions):
        kind, text = types[option.name], f"{option.metadata['help']} (default: {option.default!r})"
        names = [f"--{name}" for name in (option.name, option.metadata["former_name"]) if name]
        names += [f"--{option.name.replace('_', '-')}"] if "_" in option.name else []
        if kind is bool:
            parser.add_argument(
                *names, type=_boolean, nargs="?", const=True, default=option.default, help=text
            )
            off = [f"--no-{option.name}", "--no" + option.name]
            parser.add_argument(*off, dest=option.name, action="store_false", help=argparse.SUPPRESS)
        else:
            parser.add_argument(*names, type=kind, default=option.default, help=text)
    values, unknown = parser.parse_known_args(arguments)
    for flag in filter(lambda argument: argument.startswith("-"), unknown):
        print(f"warning: flag {flag.split('=')[0]} has no effect here", file=sys.stderr)
    return ServerOptions(**vars(values))


def channel_arguments(text: str) -> list[tuple[str, Any]]:
    """`a=1,b=x` as gRPC options; numbers as integers.

    >>> channel_arguments("grpc.max_connection_age_ms=2000,grpc.lb_policy_name=grpclb")
    [('grpc.max_connection_age_ms', 2000), ('grpc.lb_policy_name', 'grpclb')]

    Raises:
        UserError: an entry without "=".
    """
    options: list[tuple[str, Any]] = []
    for entry in filter(None, text.split(",")):
        key, separator, value = entry.partition("=")
        if not separator:
            raise UserError(f"`grpc_channel_arguments` must be key=value pairs. Received: {entry!r}")
        try:
            options.append((key, int(value)))
        except ValueError:
            options.append((key, value))
    return options


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise argparse.ArgumentTypeError(f"must be true or false. Received: {text!r}")
