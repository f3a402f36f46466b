"""ModelService.HandleReloadConfigRequest, and who may call it."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from google.protobuf import message

from serving.server.metrics import Metrics
from serving.server.models.core import ServerCore
from serving.server.models.model_config import from_proto
from serving.server.requests.endpoints import CallContext
from serving.status import Code, StatusError, invalid
from serving.wire import RELOAD_CONFIG, ReloadConfigRequest, ReloadConfigResponse

PATH = RELOAD_CONFIG.path


@dataclass(frozen=True)
class AdminOptions:
    """What a reload may do.

    Attributes:
        enabled: whether reloads are answered at all.
        token: bearer token a caller must send; "" for none.
        allowed_roots: directories new base paths must lie below; None for anywhere.
    """

    enabled: bool = True
    token: str = ""
    allowed_roots: tuple[str, ...] | None = None


class ReloadService:
    """The reload method."""

    def __init__(self, core: ServerCore, options: AdminOptions, metrics: Metrics):
        self._core = core
        self._options = options
        self._metrics = metrics

    def reload(self, data: bytes, call: CallContext) -> bytes:
        """Replaces the model list; returns once the new models answer.

        Raises:
            StatusError: PERMISSION_DENIED if reloads are off or a path lies outside, UNAUTHENTICATED
                without the token, else as TF Serving answers.
        """
        if not self._options.enabled:
            raise StatusError(
                Code.PERMISSION_DENIED, "Reloading is off; start the server with --enable_reload_config"
            )
        if self._options.token:
            authorization = call.metadata.get("authorization", "")
            if not hmac.compare_digest(authorization.encode(), f"Bearer {self._options.token}".encode()):
                raise StatusError(Code.UNAUTHENTICATED, "A bearer token is required for this call")
        request = ReloadConfigRequest()
        try:
            request.ParseFromString(data)
        except message.DecodeError as error:
            raise StatusError(Code.INTERNAL, f"Failed to parse the request: {error}") from None
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        before = {name: self._metrics.counter(_metric(name)) for name in request.metric_names}
        roots = self._options.allowed_roots
        self._core.configure(
            from_proto(request.config), "model", list(roots) if roots is not None else None, call.expired
        )
        response = ReloadConfigResponse()
        response.status.error_code = 0
        for name in request.metric_names:
            response.metric.add(
                name=name, int64_value_increase=self._metrics.counter(_metric(name)) - before[name]
            )
        return response.SerializeToString()


def _metric(name: str) -> str:
    return name if name.startswith("/") else name.replace(":", "/")
