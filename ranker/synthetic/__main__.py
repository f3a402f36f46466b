"""Writes the generated log: `python -m ranker.synthetic DIRECTORY [REQUESTS]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ranker.synthetic.log import generate
from ranker.synthetic.write import write


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the log that the arguments name; a mistake ends with one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m ranker.synthetic",
        description="Writes a generated log of clicks: events.parquet, users.csv and items.csv.",
    )
    parser.add_argument("directory", type=Path, help="made if need be; files there are replaced")
    parser.add_argument("requests", type=int, nargs="?", default=15_000, help="how many, >= 1 (%(default)s)")
    options = parser.parse_args(arguments)
    if options.requests < 1:
        parser.error(f"requests must be >= 1. Received: {options.requests}")
    try:
        write(generate(options.requests), options.directory)
    except OSError as error:
        print(f"{error.filename or options.directory}: cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
