"""What Apache Beam 2.77 needs from outside, each until the upstream issue is closed. Nothing else patches Beam.

1. No flush by time. A worker's output is flushed from a timer thread too, which can lose bytes that are being written.
   Upstream: none found; the timer came with BEAM-7949 (pull request 10246).
2. Late workers end. A worker that connects after another one's mistake has ended the run waits for work for ever, and
   the run for it. Upstream: issue 19682 (BEAM-8325), workers are not stopped with their harness.
3. Dead workers are noticed. The run waits for ever for a worker process that died: the thread that waits for the process
   raises, and its exception is lost. Upstream: none found for this runner; issue 32211 is the same for Prism.
4. Workers end with their runner. A worker that waits for rows when the runner closes its connections waits for ever.
   Upstream: issue 19682, as above.
5. Imports are left out. Every worker imports the clients of all connectors that it finds, more than half of its start.
   Upstream: none found.

Loads no Beam: the worker's imports are left out before Beam is first imported.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from ranker.errors import UserError

UNUSED = ("boto3", "pymongo", "bson", "apache_beam.io.gcp.bigquery")
"""Object stores are read through fsspec."""
SECONDS_TO_END = 10.0
"""How long a worker may still work when its runner has nothing more to say to it."""


def patch_runner() -> None:
    """Patches 1 and 2, in the process of the local runner."""
    from apache_beam.runners.portability.fn_api_runner import worker_handlers

    class ControlConnection(worker_handlers.ControlConnection):  # type: ignore[misc]
        """The runner's end of a worker's control stream, which a worker that comes late finds closed."""

        def close(self) -> None:
            """Ends the stream, now or when it begins; Beam's own tells only a worker that is already there."""
            self.push(worker_handlers.BeamFnControlServicer._DONE_MARKER)
            super().close()

    if worker_handlers.ControlConnection.__module__ != __name__:
        worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 0
        worker_handlers.ControlConnection = ControlConnection  # type: ignore[misc]


@contextmanager
def dead_workers_noticed() -> Iterator[None]:
    """Ends the run when a worker process dies: patch 3. Only the main thread can be woken.

    Raises:
        UserError: a worker died.
    """
    import grpc

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hook, handler, main = threading.excepthook, signal.getsignal(signal.SIGINT), threading.get_ident()
    died: list[str] = []
    awake = threading.Event()

    def wake() -> None:
        # A real signal, since it must end a wait for a lock; again, since one that comes just before is not seen.
        while not awake.wait(0.5):
            signal.pthread_kill(main, signal.SIGINT)

    def notice(raised: Any) -> None:
        if raised.thread is not None and raised.thread.name == "run_worker":
            if not died:
                died.append(str(raised.exc_value))
                threading.Thread(target=wake, daemon=True).start()
        elif not died:  # what other threads lose with their worker says nothing more
            hook(raised)

    def interrupted(*_: object) -> None:
        if not (died and awake.is_set()):  # woken once; a user may press Ctrl-C again and again
            awake.set()
            raise KeyboardInterrupt

    threading.excepthook = notice
    signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    except (KeyboardInterrupt, RuntimeError, grpc.RpcError):
        if not died:
            raise
        raise UserError(f"a worker process died ({died[0]}); run the same command again") from None
    finally:
        awake.set()
        signal.signal(signal.SIGINT, handler)
        threading.excepthook = hook


def leave_out_imports() -> None:
    """Patch 5, in a worker: an import of these fails, and Beam does without."""
    for name in UNUSED:
        sys.modules.setdefault(name, cast(Any, None))


def patch_worker() -> None:
    """Patch 4, in a worker."""
    from apache_beam.runners.worker import sdk_worker, sdk_worker_main

    class Harness(sdk_worker.SdkHarness):
        def run(self) -> None:
            threading.Thread(target=end_after, args=(lambda: self._alive,), daemon=True).start()
            super().run()

    sdk_worker_main.SdkHarness = Harness  # type: ignore[misc]  # Beam has no other place to name it


def end_after(is_alive: Callable[[], bool], seconds: float = SECONDS_TO_END) -> None:
    """Ends this process `seconds` after `is_alive` has become false, even if threads still wait."""
    for state in (True, False):
        while is_alive() != state:
            time.sleep(0.2)
    time.sleep(seconds)
    os._exit(0)
