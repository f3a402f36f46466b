"""Loads and unloads versions without a gap in which a model does not answer.

One thread executes `version_policy.next_step` whenever something changes. Each load and unload has its own thread, so a
model that retries for minutes blocks no other.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from serving.server.models.servable import Handle, Servable
from serving.server.models.version_policy import State, VersionView, next_step
from serving.status import Code, StatusError

_LOG = logging.getLogger(__name__)
_TICK_SECONDS = 0.1
_LOADING = (State.START, State.LOADING)

Loader = Callable[[Servable], Any]
"""Gives the bundle of a version: an object with a `close()` method. Raises StatusError."""


@dataclass(frozen=True)
class LoadOptions:
    """How hard to try.

    Attributes:
        max_retries: attempts after the first.
        retry_seconds: pause between attempts.
        threads: loads at a time.
        retry_repaired: try a failed version again once its files change (TF Serving never does).
        fingerprint: what "its files change" means, for a version's path.
    """

    max_retries: int = 5
    retry_seconds: float = 60.0
    threads: int = 2
    retry_repaired: bool = False
    fingerprint: Callable[[str], object] = str


class VersionManager:
    """The models' versions, by name and number."""

    def __init__(self, loader: Loader, options: LoadOptions):
        self._loader = loader
        self._options = options
        self._changed = threading.Condition()
        self._servables: dict[str, dict[int, Servable]] = {}
        self._ready: dict[str, dict[int, Servable]] = {}
        self._slots = threading.Semaphore(max(options.threads, 1))
        self._stopping = threading.Event()
        self._workers: set[threading.Thread] = set()
        self._thread = threading.Thread(target=self._loop, name="version-manager", daemon=True)
        self._thread.start()

    # Requests

    def acquire(self, model: str, version: int | None = None) -> Handle:
        """Enters a version, the highest available one by default.

        Raises:
            StatusError: NOT_FOUND if it is not available.
        """
        while True:
            ready = self._ready.get(model)
            servable = None
            if ready:
                servable = ready.get(max(ready) if version is None else version)
            if servable is None:
                request = f"Latest({model})" if version is None else f"Specific({model}, {version})"
                raise StatusError(Code.NOT_FOUND, f"Servable not found for request: {request}")
            if servable.acquire():
                return Handle(servable)

    def states(self, model: str) -> list[tuple[int, State, StatusError | None]]:
        """Every version ever seen of a model, highest first: (version, state, error of a failed load)."""
        with self._changed:
            servables = self._servables.get(model, {})
            return [(v, servables[v].state, servables[v].error) for v in sorted(servables, reverse=True)]

    def is_available(self, model: str, version: int) -> bool:
        """Whether requests for this version are answered now."""
        return version in self._ready.get(model, {})

    def requests_inside(self) -> int:
        """How many requests hold a version now."""
        with self._changed:
            return sum(
                servable.requests_inside
                for versions in self._servables.values()
                for servable in versions.values()
            )

    def is_loading(self, model: str, version: int) -> bool:
        """Whether this version is aspired, and waits to be loaded or is being loaded."""
        servable = self._servables.get(model, {}).get(version)
        return servable is not None and servable.aspired and servable.state in _LOADING

    def available(self) -> list[tuple[str, int]]:
        """All (model, version) pairs that answer now."""
        return sorted((model, version) for model, ready in dict(self._ready).items() for version in ready)

    # Configuration

    def set_aspired(self, model: str, versions: Mapping[int, str]) -> None:
        """Says which versions of a model should run.

        Args:
            model: its name.
            versions: version to path. Loading and unloading happens in the background.
        """
        with self._changed:
            servables = self._servables.setdefault(model, {})
            for version, servable in servables.items():
                path = versions.get(version)
                # A version that answers stays, whatever its path is now; one that does not yet must not go on
                # loading from a path that was a mistake.
                has_moved = servable.state in _LOADING and path != servable.path
                servable.aspired = path is not None and not has_moved
                if not servable.aspired:
                    servable.cancelled.set()
            for version, path in versions.items():
                old = servables.get(version)
                if old is None or self._may_restart(old, path):
                    servables[version] = Servable(model, version, path)
            self._changed.notify_all()

    def wait_available(
        self, models: Iterable[str], cancelled: Callable[[], bool] = lambda: False
    ) -> list[Servable]:
        """Waits until each model has an available version, or only failed ones.

        Args:
            models: names to wait for. One without any version is waited for without end, as TF Serving does.
            cancelled: polled; stops the waiting.

        Returns:
            The failed versions of the models that did not become available.
        """
        waiting = set(models)
        failed: list[Servable] = []
        with self._changed:
            while waiting and not cancelled() and not self._stopping.is_set():
                for model in list(waiting):
                    if self._ready.get(model):
                        waiting.discard(model)
                        continue
                    aspired = [s for s in self._servables.get(model, {}).values() if s.aspired]
                    if aspired and all(s.state == State.END and s.error for s in aspired):
                        failed += aspired
                        waiting.discard(model)
                if waiting:
                    self._changed.wait(_TICK_SECONDS)
        return failed

    def wait_settled(
        self, versions: Iterable[tuple[str, int]], cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        """Waits until none of these (model, version) pairs is loading; a version that is not aspired does not count."""
        with self._changed:
            while not cancelled() and not self._stopping.is_set():
                if not any(self.is_loading(model, version) for model, version in versions):
                    return
                self._changed.wait(_TICK_SECONDS)

    def stop(self, grace_seconds: float) -> bool:
        """Unloads everything, waiting for requests in flight and for loads under way.

        Returns:
            False if some were still running after `grace_seconds`; they are left to themselves.
        """
        limit = time.monotonic() + grace_seconds
        with self._changed:
            self._stopping.set()
            for versions in self._servables.values():
                for servable in versions.values():
                    servable.cancelled.set()
            self._changed.notify_all()
        self._thread.join()
        with self._changed:
            finished = self._changed.wait_for(lambda: not self._workers, max(limit - time.monotonic(), 0))
            ready = [servable for versions in self._ready.values() for servable in versions.values()]
        unloaded = [self._unload(servable, max(limit - time.monotonic(), 0)) for servable in ready]
        return finished and all(unloaded)

    # The loop

    def _may_restart(self, old: Servable, path: str) -> bool:
        if old.state == State.START:
            return path != old.path
        if old.state != State.END:
            return False
        if old.error is None or path != old.path:
            return True
        return self._options.retry_repaired and self._options.fingerprint(old.path) != old.fingerprint

    def _loop(self) -> None:
        while not self._stopping.is_set():
            with self._changed:
                for versions in self._servables.values():
                    views = [VersionView(s.version, s.state, s.aspired) for s in versions.values()]
                    while (step := next_step(views)) is not None:
                        servable = versions[step.version]
                        servable.state = State.LOADING if step.load else State.UNLOADING
                        if not step.load:
                            self._unpublish(servable)
                        self._start(self._load if step.load else self._unload, servable)
                        views = [VersionView(s.version, s.state, s.aspired) for s in versions.values()]
                self._changed.wait(_TICK_SECONDS)

    def _start(self, work: Callable[[Servable], object], servable: Servable) -> None:
        def run() -> None:
            try:
                work(servable)
            finally:
                with self._changed:
                    self._workers.discard(threading.current_thread())
                    self._changed.notify_all()

        thread = threading.Thread(
            target=run, name=f"{work.__name__.strip('_')}-{servable.version}", daemon=True
        )
        self._workers.add(thread)
        thread.start()

    def _load(self, servable: Servable) -> None:
        options = self._options
        error = StatusError(Code.CANCELLED, f"Loading {servable} was cancelled")
        for attempt in range(options.max_retries + 1):
            if attempt and servable.cancelled.wait(max(options.retry_seconds, 0)):
                break
            if servable.cancelled.is_set():
                break
            with self._slots:
                fingerprint = options.fingerprint(servable.path)
                started = time.monotonic()
                try:
                    bundle = self._loader(servable)
                except StatusError as failure:
                    error = failure
                    servable.fingerprint = fingerprint
                    _LOG.error("Loading servable: %s failed: %s", servable, failure)
                    continue
            _LOG.warning(
                "Successfully loaded servable version %s in %.2f s", servable, time.monotonic() - started
            )
            servable.open(bundle)
            with self._changed:
                servable.state = State.AVAILABLE
                versions = {**self._ready.get(servable.model, {}), servable.version: servable}
                self._ready = {**self._ready, servable.model: versions}
                self._changed.notify_all()
            return
        with self._changed:
            servable.error = error
            servable.state = State.END

    def _unpublish(self, servable: Servable) -> None:
        versions = {v: s for v, s in self._ready.get(servable.model, {}).items() if v != servable.version}
        self._ready = {**self._ready, servable.model: versions}

    def _unload(self, servable: Servable, timeout: float | None = None) -> bool:
        with self._changed:
            servable.state = State.UNLOADING
            self._unpublish(servable)
        bundle = servable.drain(timeout)
        if bundle is None:
            _LOG.error("Requests are still inside %s", servable)
            return False
        bundle.close()
        del bundle
        return_memory()
        with self._changed:
            servable.state = State.END
        _LOG.warning("Done unloading servable version %s", servable)
        return True


def return_memory() -> None:
    """Collects garbage and gives freed pages back to the system (glibc keeps them otherwise)."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
