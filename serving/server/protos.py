"""TF Serving's configuration files as protos: those of the API package, and three that it leaves out.

`BatchingParameters`, `MonitoringConfig` and `SSLConfig` are not in the `tensorflow-serving-api` package;
they are declared here with the same field names, so that the same text files parse.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.server.wire import declare
from serving.status import invalid

_WRAPPERS = {
    "Int64Value": ["int64 value 1"],
    "DoubleValue": ["double value 1"],
    "BoolValue": ["bool value 1"],
    "StringValue": ["string value 1"],
}
_batching = declare(
    "steady_ranker.batching",
    {
        **_WRAPPERS,
        "BatchingParameters": [
            "Int64Value max_batch_size 1",
            "Int64Value batch_timeout_micros 2",
            "Int64Value max_enqueued_batches 3",
            "Int64Value num_batch_threads 4",
            "StringValue thread_pool_name 5",
            "repeated int64 allowed_batch_sizes 6",
            "bool pad_variable_length_inputs 7",
            "BoolValue enable_large_batch_splitting 8",
            "Int64Value max_execution_batch_size 9",
            "Int64Value low_priority_max_batch_size 10",
            "Int64Value low_priority_batch_timeout_micros 11",
            "Int64Value low_priority_max_enqueued_batches 12",
            "Int64Value low_priority_max_execution_batch_size 13",
            "repeated int64 low_priority_allowed_batch_sizes 14",
            "string mixed_priority_policy 15",
            "string batch_padding_policy 16",
        ],
    },
)
_server = declare(
    "steady_ranker.server",
    {
        "PrometheusConfig": ["bool enable 1", "string path 2"],
        "MonitoringConfig": ["PrometheusConfig prometheus_config 1"],
        "SSLConfig": [
            "string server_key 1",
            "string server_cert 2",
            "string custom_ca 3",
            "bool client_verify 4",
        ],
    },
)

BatchingParameters: Any = _batching["BatchingParameters"]
MonitoringConfig: Any = _server["MonitoringConfig"]
SSLConfig: Any = _server["SSLConfig"]
ModelServerConfig = model_server_config_pb2.ModelServerConfig


def read_text(path: str, message_class: Any, full_name: str) -> Any:
    """Parses a text-format proto file.

    Args:
        path: the file.
        message_class: the message to fill.
        full_name: its name in TF Serving, for the error text.

    Raises:
        ServingError: INVALID_ARGUMENT with TF Serving's words if the file can't be read or parsed.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return text_format.Parse(text, message_class())
    except text_format.ParseError as error:
        detail = f"Error parsing text-format {full_name}: {error}"
    except (OSError, UnicodeDecodeError) as error:
        detail = str(error)
    raise invalid(f"Invalid protobuf file: '{path}'. {detail}")
