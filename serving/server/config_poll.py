"""Re-reads the model configuration file and applies it when it changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from serving.server.model_config import ModelConfig
from serving.status import ServingError

_LOG = logging.getLogger(__name__)


class ConfigPoller:
    """A thread; a file that is wrong or a reload that fails is logged, and what was served goes on."""

    def __init__(
        self,
        read: Callable[[], list[ModelConfig]],
        apply: Callable[[list[ModelConfig]], None],
        seconds: float,
    ):
        self._read = read
        self._apply = apply
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="config-poll", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the polling."""
        self._stop.set()

    def _loop(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self._apply(self._read())
            except ServingError as error:
                _LOG.error("Could not reload the model configuration: %s", error)
