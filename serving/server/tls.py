"""TLS from an `SSLConfig` file: PEM contents inline, as TF Serving has it."""

from __future__ import annotations

import grpc

from serving.server import protos
from serving.status import ServingError, invalid


def server_credentials(path: str) -> grpc.ServerCredentials:
    """Credentials from a text `SSLConfig`.

    Args:
        path: file with `server_key`, `server_cert`, and for mutual TLS `custom_ca` and `client_verify`.

    Raises:
        ServingError: INVALID_ARGUMENT if the file is wrong or its key or certificate is missing.
    """
    config = protos.read_text(path, protos.SSLConfig, "tensorflow.serving.SSLConfig")
    if not config.server_key or not config.server_cert:
        raise invalid(f"`{path}` must hold server_key and server_cert as PEM text")
    if config.client_verify and not config.custom_ca:
        raise invalid(f"`{path}` must hold custom_ca when client_verify is true")
    try:
        return grpc.ssl_server_credentials(
            [(config.server_key.encode(), config.server_cert.encode())],
            config.custom_ca.encode() or None,
            config.client_verify,
        )
    except ValueError as error:
        raise ServingError(3, f"`{path}`: {error}") from None
