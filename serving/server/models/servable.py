"""One version of one model: its state, and how many requests are inside it."""

from __future__ import annotations

import threading
from typing import Any

from serving.server.models.version_policy import State
from serving.status import StatusError


class Servable:
    """A version as the manager and the requests see it.

    A request enters with `acquire` and leaves with `release`; an unload first refuses newcomers, then
    waits for those inside. The counter has its own lock because every request touches it.
    """

    def __init__(self, model: str, version: int, path: str):
        self.model = model
        self.version = version
        self.path = path
        self.directory = path
        """Where its files are on this disk; of a version in an object store, while it is loaded."""
        self.state = State.START
        self.aspired = True
        self.error: StatusError | None = None
        self.fingerprint: object = None
        self.bundle: Any = None
        self.cancelled = threading.Event()
        self.requests_inside = 0
        """How many requests hold it now."""
        self._is_open = False
        self._changed = threading.Condition()

    def open(self, bundle: Any) -> None:
        """Admits requests."""
        with self._changed:
            self.bundle = bundle
            self._is_open = True

    def acquire(self) -> bool:
        """Enters; False if the version is going away."""
        with self._changed:
            if not self._is_open:
                return False
            self.requests_inside += 1
            return True

    def release(self) -> None:
        """Leaves."""
        with self._changed:
            self.requests_inside -= 1
            if not self._is_open and not self.requests_inside:
                self._changed.notify_all()

    def drain(self, timeout: float | None = None) -> Any:
        """Refuses newcomers, waits for the requests inside, and hands back the bundle to close.

        Returns:
            None if requests were still inside after `timeout` seconds: the bundle is theirs.
        """
        with self._changed:
            self._is_open = False
            if not self._changed.wait_for(lambda: not self.requests_inside, timeout):
                return None
            bundle, self.bundle = self.bundle, None
            return bundle

    def __str__(self) -> str:
        return f"{{name: {self.model} version: {self.version}}}"


class Handle:
    """A request's hold on a version; a context manager that gives the bundle."""

    __slots__ = ("_servable", "bundle", "version")

    def __init__(self, servable: Servable):
        self._servable = servable
        self.bundle = servable.bundle
        self.version = servable.version

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self._servable.release()
