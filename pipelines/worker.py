"""Starts a Beam worker process, without imports that no pipeline here uses.

Beam imports every connector whose client it finds. These cost each worker more than half of its start.
"""

import sys
from typing import Any, cast

UNUSED = ("boto3", "pymongo", "bson", "apache_beam.io.gcp.bigquery")  # object stores are read through fsspec


def main() -> None:
    """Runs the worker; Beam hands it its addresses in the environment."""
    for name in UNUSED:
        sys.modules.setdefault(name, cast(Any, None))  # an import of it fails, and Beam does without
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
