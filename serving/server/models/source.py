"""Watches the base paths and tells the manager which versions should run."""

from __future__ import annotations

import logging
import os
import threading

from ranker.errors import UserError
from ranker.storage import children, location
from serving.server.models.manager import VersionManager
from serving.server.models.model_config import ModelConfig
from serving.server.models.version_policy import aspired, parse_versions

_LOG = logging.getLogger(__name__)


class FileSystemSource:
    """Polls the models' base paths on a thread of its own."""

    def __init__(self, manager: VersionManager, poll_seconds: float):
        """Starts polling.

        Args:
            manager: gets every poll's result.
            poll_seconds: 0 polls once for each configuration, below 0 never.
        """
        self._manager = manager
        self._poll_seconds = poll_seconds
        self._models: dict[str, ModelConfig] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._last_warnings: dict[str, str] = {}
        self._complete: set[str] = set()
        self._thread: threading.Thread | None = None

    def set_models(self, models: list[ModelConfig]) -> None:
        """Replaces the list of models; those left out are unloaded. Polls once right away."""
        with self._lock:
            removed = self._models.keys() - {model.name for model in models}
            self._models = {model.name: model for model in models}
            for name in removed:
                self._manager.set_aspired(name, {})
        if self._poll_seconds >= 0:
            self.poll()
        if self._poll_seconds > 0 and self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="version-source", daemon=True)
            self._thread.start()

    def poll(self) -> None:
        """Looks at every base path once. A missing one changes nothing; an empty one unloads its model."""
        with self._lock:
            for model in self._models.values():
                try:
                    names = self._list(model.base_path)
                except (OSError, ValueError, UserError) as error:  # ValueError: a path with a null character
                    self._warn_once(model, f"Could not find base path {model.base_path}: {error}")
                    continue
                entries = parse_versions(names)
                versions = aspired(entries, model.policy)
                if versions:
                    self._last_warnings.pop(model.name, None)
                else:
                    self._warn_once(
                        model, f"No versions of servable {model.name} found under {model.base_path}"
                    )
                paths = {version: os.path.join(model.base_path, entries[version]) for version in versions}
                self._manager.set_aspired(model.name, paths)

    def stop(self) -> None:
        """Ends the polling."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _list(self, base_path: str) -> list[str]:
        """Names in a base path; of one in an object store, those of versions whose last object is there."""
        if "://" not in base_path:
            return os.listdir(base_path)
        base = location(base_path)
        names = parse_versions(children(base)).values()
        if not names:
            raise FileNotFoundError("it has no versions")  # a store has no empty directories
        for name in names:
            if str(base / name) not in self._complete and (base / name / "saved_model.pb").exists():
                self._complete.add(str(base / name))
        return [name for name in names if str(base / name) in self._complete]

    def _loop(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            self.poll()

    def _warn_once(self, model: ModelConfig, text: str) -> None:
        if self._last_warnings.get(model.name) != text:
            self._last_warnings[model.name] = text
            _LOG.warning("%s", text)
