"""Starts a Beam worker process, without imports that no pipeline here uses, and ends it when its runner has gone.

Beam imports every connector whose client it finds. These cost each worker more than half of its start.

A runner that stops at a mistake of one worker closes its connections to all. Another one may just then wait for rows that
will never come (seen in 2.77): it would wait for ever, and the runner for its end.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, cast

UNUSED = ("boto3", "pymongo", "bson", "apache_beam.io.gcp.bigquery")  # object stores are read through fsspec
SECONDS_TO_END = 10.0
"""How long a worker may still work when its runner has nothing more to say to it."""


def main() -> None:
    """Runs the worker; Beam hands it its addresses in the environment."""
    for name in UNUSED:
        sys.modules.setdefault(name, cast(Any, None))  # an import of it fails, and Beam does without
    from apache_beam.runners.worker import sdk_worker, sdk_worker_main

    class Harness(sdk_worker.SdkHarness):
        def run(self) -> None:
            threading.Thread(target=end_after, args=(lambda: self._alive,), daemon=True).start()
            super().run()

    sdk_worker_main.SdkHarness = Harness  # type: ignore[misc]  # Beam has no other place to name it
    sdk_worker_main.main(sys.argv)


def end_after(alive: Callable[[], bool], seconds: float = SECONDS_TO_END) -> None:
    """Ends this process so many seconds after `alive` has been true and is so no more, whatever its threads wait for."""
    for wanted in (True, False):
        while alive() != wanted:
            time.sleep(0.2)
    time.sleep(seconds)
    os._exit(0)


if __name__ == "__main__":
    main()
