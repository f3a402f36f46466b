"""A Beam worker process, as the local runner starts it: `python -m pipelines.worker`."""

import sys

from pipelines import beam_patches


def main() -> None:
    """Runs the worker; Beam hands it its addresses in the environment."""
    beam_patches.leave_out_imports()
    from apache_beam.runners.worker import sdk_worker_main

    beam_patches.patch_worker()
    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
