"""The list of models to serve: from flags or a `ModelServerConfig`, checked.

Source: TF Serving's ServerCore (which lists are legal) and FileSystemStoragePathSourceConfig (policies).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from serving.server.models.version_policy import VersionPolicy
from serving.status import Code, StatusError, invalid
from serving.wire import ModelServerConfig

PLATFORM = "tensorflow"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelConfig:
    """One served model.

    Attributes:
        name: its name in the API.
        base_path: absolute directory whose integer-named children are versions.
        policy: which versions to serve.
        labels: version label to version.
    """

    name: str
    base_path: str
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    labels: Mapping[str, int] = field(default_factory=dict)


def read_text(path: str, message_class: Any) -> Any:
    """Parses a text-format configuration file.

    Args:
        path: the file.
        message_class: the message it holds.

    Raises:
        StatusError: INVALID_ARGUMENT with TF Serving's words if the file can't be read or parsed.
    """
    try:
        return text_format.Parse(Path(path).read_text(encoding="utf-8"), message_class())
    except text_format.ParseError as error:
        detail = f"Error parsing text-format {message_class.DESCRIPTOR.full_name}: {error}"
    except (OSError, UnicodeDecodeError) as error:
        detail = str(error)
    raise invalid(f"Invalid protobuf file: '{path}'. {detail}")


def from_proto(config: Any) -> list[ModelConfig]:
    """The models of a `ModelServerConfig`.

    Raises:
        StatusError: INVALID_ARGUMENT for repeated names, relative paths, another platform or a logging_config.
    """
    models = [_model(entry) for entry in config.model_config_list.config]
    names: set[str] = set()
    for model in models:
        if model.name in names:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        names.add(model.name)
        if not (model.base_path.startswith("/") or "://" in model.base_path):
            raise invalid(
                f"Expected model {model.name} to have an absolute path or URI; "
                f"got base_path()={model.base_path}"
            )
    return models


class ConfigFilePoller:
    """Reads a model configuration file again and again and applies it, on a thread.

    A file that is wrong or cannot be applied is logged once, what is served goes on, and the next good file
    takes effect. A file without any configuration is one that is being written: nothing happens.
    """

    def __init__(self, path: str, apply: Callable[[list[ModelConfig]], None], seconds: float):
        """Starts polling.

        Args:
            path: a text `ModelServerConfig`.
            apply: called with the file's models at every poll; raises StatusError.
            seconds: between two polls.
        """
        self._path = path
        self._apply = apply
        self._seconds = seconds
        self._last_error = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="config-poll", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the polling."""
        self._stop.set()

    def _loop(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                config = read_text(self._path, ModelServerConfig)
                if config.WhichOneof("config") is not None:
                    self._apply(from_proto(config))
                self._last_error = ""
            except StatusError as error:
                if str(error) != self._last_error:
                    self._last_error = str(error)
                    _LOG.error("Could not reload the model configuration: %s", error)


def check_change(old: Mapping[str, ModelConfig], allowed_roots: list[str], new: list[ModelConfig]) -> None:
    """Refuses a reload that would serve files from outside the allowed directories.

    Args:
        old: models served now; keeping a model's base path is always allowed.
        allowed_roots: directories (resolved) below which a new base path may lie.
        new: the requested models.

    Raises:
        StatusError: PERMISSION_DENIED that names the model and the path.
    """
    for model in new:
        if model.name in old and old[model.name].base_path == model.base_path:
            continue
        resolved = Path(model.base_path).resolve()
        if not any(resolved == Path(root) or Path(root) in resolved.parents for root in allowed_roots):
            raise StatusError(
                Code.PERMISSION_DENIED,
                f"Model {model.name}: base_path must lie below one of {allowed_roots}. "
                f"Received: {model.base_path}",
            )


def _model(entry: Any) -> ModelConfig:
    platform = entry.model_platform
    if entry.model_type and platform:
        raise invalid(
            "Illegal setting both ModelServerConfig::model_type(deprecated) and "
            "ModelServerConfig::model_platform."
        )
    if not entry.model_type and not platform:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type(deprecated) nor "
            "ModelServerConfig::model_platform."
        )
    if platform not in ("", PLATFORM) or entry.model_type not in (0, 1):
        raise invalid(
            f"ModelServerConfig::model_platform must be {PLATFORM} for model {entry.name}. "
            f"Received: {platform}"
        )
    if entry.HasField("logging_config"):
        # TF Serving's open-source binary has no logger either; requests are logged by --request_log_file.
        raise invalid("No request-logger-creator provided.")
    return ModelConfig(
        name=entry.name,
        base_path=entry.base_path,
        policy=_policy(entry.model_version_policy),
        labels=dict(entry.version_labels),
    )


def _policy(policy: Any) -> VersionPolicy:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy(kind="all")
    if choice == "specific":
        return VersionPolicy(kind="specific", specific=tuple(policy.specific.versions))
    return VersionPolicy(latest=max(policy.latest.num_versions, 1))
