"""`python -m ranker.training RUN ARM REPLICA`: trains one replica of a prepared run in this process.

Progress goes to stdout as JSON lines; a user's mistake to stderr as one line, exit code 1.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from ranker import layout
from ranker.config import load
from ranker.errors import UserError


def main(arguments: list[str]) -> int:
    """Trains the replica that the arguments name."""
    run, arm, replica = Path(arguments[0]), arguments[1], int(arguments[2])
    try:
        experiment = load(layout.config_path(run))
        from ranker.training.replica import train_replica
        from ranker.training.specs import replica_specs

        spec = next(s for s in replica_specs(experiment) if (s.arm, s.replica) == (arm, replica))
        version, reused = train_replica(
            experiment, run, spec, lambda progress: print(json.dumps(asdict(progress)), flush=True)
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps({"version": version, "reused": reused}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
