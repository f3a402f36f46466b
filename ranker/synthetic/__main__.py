"""Writes the generated log: `python -m ranker.synthetic DIRECTORY [REQUESTS]`."""

import sys
from pathlib import Path

from ranker.synthetic.log import generate
from ranker.synthetic.write import write

if __name__ == "__main__":
    write(generate(int(sys.argv[2]) if len(sys.argv) > 2 else 15_000), Path(sys.argv[1]))
