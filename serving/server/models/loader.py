"""From a version directory to something that answers: session, warm-up, batching."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from ranker.errors import UserError
from ranker.files import temporary_directory
from ranker.storage import location, sizes
from ranker.working_copy import fetch_model
from serving.server.metrics import Metrics
from serving.server.models.backend import SessionModel
from serving.server.models.servable import Servable
from serving.server.requests.predict import ServedModel
from serving.status import Code, StatusError


@dataclass(frozen=True)
class BundleLoader:
    """The manager's `Loader`.

    Attributes:
        tags: meta graph to load.
        strict: refuse a version without its variables.
        inter_op_threads: see `SessionModel`.
        intra_op_threads: see `SessionModel`.
        metrics: counts the attempts.
        prefer_tflite: load `model.tflite` where a version has one.
        steps: applied in turn to a loaded model; each gives the model to go on with (warm-up gives back
            the same one, batching wraps it).
    """

    tags: tuple[str, ...]
    strict: bool
    inter_op_threads: int
    intra_op_threads: int
    metrics: Metrics
    steps: tuple[Callable[[ServedModel, Servable], ServedModel], ...] = ()
    prefer_tflite: bool = False

    def __call__(self, servable: Servable) -> ServedModel:
        """Loads one version.

        Raises:
            StatusError: whatever kept it from loading.
        """
        status = "success"
        try:
            with _on_disk(servable):
                model = self._load(servable.directory)
                for step in self.steps:
                    try:
                        model = step(model, servable)
                    except StatusError:
                        model.close()
                        raise
                return model
        except StatusError:
            status = "fail"
            raise
        finally:
            labels = (("model_path", servable.path), ("status", status))
            self.metrics.count("/tensorflow/cc/saved_model/load_attempt_count", labels)

    def _load(self, path: str) -> ServedModel:
        if self.prefer_tflite and os.path.isfile(os.path.join(path, "model.tflite")):
            from serving.server.models.tflite import TfLiteModel  # seldom wanted, and slow to import

            return TfLiteModel(path)
        return SessionModel(path, self.tags, self.inter_op_threads, self.intra_op_threads, self.strict)


@contextmanager
def _on_disk(servable: Servable) -> Iterator[None]:
    """While the block runs, `servable.directory` has the version's files: those of an object store are copied.

    Raises:
        StatusError: they are not all there, or the store cannot be read.
    """
    if "://" not in servable.path:
        yield
        return
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(temporary_directory())
            servable.directory = str(fetch_model(location(servable.path), directory / "model"))
        except FileNotFoundError:
            raise StatusError(
                Code.NOT_FOUND,
                f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {servable.path}",
            ) from None
        except UserError as error:
            raise StatusError(Code.UNAVAILABLE, str(error)) from None
        yield


def fingerprint(path: str) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and modification times of a version's files, to notice a repair."""
    if "://" in path:
        with suppress(UserError):
            return tuple((name, size, 0) for name, size in sizes(location(path)).items())
        return ()
    entries = []
    for directory, _, files in os.walk(path):
        for file in files:
            full = os.path.join(directory, file)
            try:
                status = os.stat(full)
            except OSError:
                continue
            entries.append((full, status.st_size, status.st_mtime_ns))
    return tuple(sorted(entries))
