"""`python -m serving.server --port=8500 --model_name=ranker --model_base_path=DIR`."""

import logging
import sys


def main() -> int:
    """Runs the server until SIGTERM or SIGINT; the exit code is 0 then, 255 if it could not start."""
    from ranker.errors import UserError
    from serving.server.options import parse

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    try:
        options = parse(sys.argv[1:])
    except UserError as error:
        print(error, file=sys.stderr)
        return 255
    if options.version:
        from importlib.metadata import version

        print(
            f"Steady Ranker ModelServer: {version('steady-ranker')}\nTensorFlow Library: {version('tensorflow')}"
        )
        return 0
    from serving.server.api import run

    return run(options)


if __name__ == "__main__":
    sys.exit(main())
