"""`python -m ranker.training RUN ARM REPLICA`: trains one replica of a prepared run in this process.

Without ARM and REPLICA it trains the pilot alone, which chooses the number of epochs.
Progress goes to stdout as JSON lines; a user's mistake to stderr as one line, exit code 1.
"""

import os
import sys
from dataclasses import asdict
from pathlib import Path

from ranker import layout
from ranker.config import load
from ranker.errors import UserError
from ranker.json_text import json_text
from ranker.seeds import ReplicaSpec


def main(arguments: list[str]) -> int:
    """Trains the replica that the arguments name, or the pilot."""
    run = Path(arguments[0])
    try:
        if len(arguments) == 1:
            from ranker.training.replica import with_decided_epochs

            with_decided_epochs(load(layout.config_path(run)), run)
            return 0
        arm, replica = arguments[1], int(arguments[2])
        version, reused = _train(run, arm, replica)
        print(json_text({"version": version, "reused": reused}), flush=True)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Whoever started this process is gone, and will train the replica when it comes back.
        os._exit(1)
    except OSError as error:
        print(f"{error.filename or run}: cannot be used: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def _train(run: Path, arm: str, replica: int) -> tuple[int, bool]:
    experiment = load(layout.config_path(run))
    from ranker.training.replica import train_replica
    from ranker.training.specs import replica_specs
    from ranker.training.tensorboard import TensorBoardLog
    from ranker.training.trainer import Progress

    spec = next(s for s in replica_specs(experiment) if (s.arm, s.replica) == (arm, replica))
    log = TensorBoardLog(layout.tensorboard_dir(run, arm, replica))

    def report(_: ReplicaSpec, progress: Progress) -> None:
        print(json_text(asdict(progress)), flush=True)
        if not progress.pilot:
            log(progress)

    return train_replica(experiment, run, spec, report)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
