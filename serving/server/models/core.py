"""The served models as a whole: configuration, labels, lookup of the version a request means."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from serving.server.models.manager import Loader, LoadOptions, VersionManager
from serving.server.models.model_config import ModelConfig, check_change
from serving.server.models.servable import Handle
from serving.server.models.source import FileSystemSource
from serving.status import Code, StatusError, invalid


class ServerCore:
    """Holds the models; `configure` changes them, `handle` gives a request its version."""

    def __init__(
        self,
        loader: Loader,
        load_options: LoadOptions,
        poll_seconds: float = 1,
        labels_for_unavailable: bool = False,
    ):
        self.manager = VersionManager(loader, load_options)
        self._source = FileSystemSource(self.manager, poll_seconds)
        self._labels_for_unavailable = labels_for_unavailable
        self._labels: Mapping[str, Mapping[str, int]] = {}
        self._models: dict[str, ModelConfig] = {}
        self._config_lock = threading.Lock()
        self._generation = 0
        self._stopped = threading.Event()

    @property
    def models(self) -> Mapping[str, ModelConfig]:
        """The configured models by name."""
        return self._models

    def configure(
        self,
        models: list[ModelConfig],
        noun: str = "servable",
        allowed_roots: list[str] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Replaces the list of models, waits until the new ones answer, then assigns labels.

        The wait holds nobody up: a later list takes effect at once, and ends the wait for models that it leaves out.

        Args:
            models: the whole new list.
            noun: "servable" at start, "model" in a reload, as TF Serving words its failure.
            allowed_roots: if given, new base paths must lie below one of these.
            cancelled: polled while waiting; stops it.

        Raises:
            StatusError: UNKNOWN if a new model fails to load, FAILED_PRECONDITION for a label on a
                version that is not available, PERMISSION_DENIED for a path outside, ABORTED if a later list
                leaves out a model before it answered.
        """
        with self._config_lock:
            if allowed_roots is not None:
                check_change(self._models, allowed_roots, models)
            new = {model.name for model in models if model.name not in self._models}
            self._generation += 1
            generation = self._generation
            self._models = {model.name: model for model in models}
            self._source.set_models(models)

        def is_over() -> bool:
            return cancelled() or self._stopped.is_set() or not new <= self._models.keys()

        failed = self.manager.wait_available(new, is_over)
        if failed:
            count = len({servable.model for servable in failed})
            reasons = "".join(f"{{{servable} due to error: {servable.error}}}, " for servable in failed)
            raise StatusError(Code.UNKNOWN, f"{count} {noun}(s) did not become available: {{{reasons}}}")
        # One version makes a model available; a label may name another that is still being loaded.
        labelled = [(m.name, version) for m in models if m.name in new for version in m.labels.values()]
        self.manager.wait_settled(labelled, is_over)
        with self._config_lock:
            if removed := new - self._models.keys():
                raise StatusError(
                    Code.ABORTED, f"A later configuration left out {', '.join(sorted(removed))}"
                )
            if generation == self._generation and not is_over():
                self._assign_labels(models)

    def apply_file(self, models: list[ModelConfig]) -> None:
        """Replaces the list of models and waits for nothing: the same file is applied again soon.

        A model's labels are left as they are while a version that they name is on its way up.

        Raises:
            StatusError: FAILED_PRECONDITION for a label on a version that is not available.
        """
        with self._config_lock:
            self._generation += 1
            self._models = {model.name: model for model in models}
            self._source.set_models(models)
            loading = {
                m.name for m in models for v in m.labels.values() if self.manager.is_loading(m.name, v)
            }
            self._assign_labels([model for model in models if model.name not in loading])

    def handle(self, spec: Any) -> Handle:
        """The version a `ModelSpec` means; use it in a `with` block.

        Raises:
            StatusError: as TF Serving answers an unknown name, version or label.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return self.manager.acquire(spec.name, spec.version.value)
        if choice == "version_label":
            version = self._labels.get(spec.name, {}).get(spec.version_label)
            if version is None:
                raise invalid(f"Unrecognized servable version label: {spec.version_label}")
            return self.manager.acquire(spec.name, version)
        return self.manager.acquire(spec.name)

    def allowed_roots(self) -> list[str]:
        """The resolved parents of the base paths served now."""
        return sorted({str(Path(model.base_path).resolve()) for model in self._models.values()})

    def poll(self) -> None:
        """Looks for new versions now."""
        self._source.poll()

    def stop(self, grace_seconds: float) -> bool:
        """Unloads everything; requests in flight are answered first.

        Returns:
            False if some were still running after `grace_seconds`.
        """
        self._stopped.set()
        self._source.stop()
        return self.manager.stop(grace_seconds)

    def _assign_labels(self, models: list[ModelConfig]) -> None:
        labels = {name: versions for name, versions in self._labels.items() if name in self._models}
        for model in models:
            for label, version in model.labels.items():
                unmoved = self._labels.get(model.name, {}).get(label, version) == version
                if not self.manager.is_available(model.name, version) and not (
                    self._labels_for_unavailable and unmoved
                ):
                    raise StatusError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {model.name}, "
                        "which is not currently available for inference",
                    )
            labels[model.name] = dict(model.labels)
        self._labels = labels
