"""Command line to `ServerOptions`, in TF Serving's style: `--name=value`, booleans with or without value."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import typing
from typing import Any, NoReturn

from ranker.errors import UserError
from serving.server.options import ServerOptions

_TRUE, _FALSE = {"true", "1", "t", "yes", "y"}, {"false", "0", "f", "no", "n"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def parse(arguments: list[str]) -> ServerOptions:
    """Reads the flags.

    Args:
        arguments: as in `sys.argv[1:]`. A flag that is not known here is named on stderr and ignored, so
            that a command line written for `tensorflow_model_server` starts.

    Raises:
        UserError: a value of the wrong type.
    """
    parser = _Parser(prog="python -m serving.server", description=__doc__, allow_abbrev=False)
    types = typing.get_type_hints(ServerOptions)
    for option in dataclasses.fields(ServerOptions):
        kind, text = types[option.name], f"{option.metadata['help']} (default: {option.default!r})"
        names = [f"--{name}" for name in (option.name, option.metadata["former_name"]) if name]
        names += [f"--{option.name.replace('_', '-')}"] if "_" in option.name else []
        if kind is bool:
            parser.add_argument(
                *names, type=_boolean, nargs="?", const=True, default=option.default, help=text
            )
            off = [f"--no-{option.name}", "--no" + option.name]
            parser.add_argument(*off, dest=option.name, action="store_false", help=argparse.SUPPRESS)
        else:
            parser.add_argument(*names, type=kind, default=option.default, help=text)
    values, unknown = parser.parse_known_args(arguments)
    for flag in filter(lambda argument: argument.startswith("-"), unknown):
        print(f"warning: flag {flag.split('=')[0]} has no effect here", file=sys.stderr)
    return ServerOptions(**vars(values))


def channel_arguments(text: str) -> list[tuple[str, Any]]:
    """`a=1,b=x` as gRPC options; numbers as integers.

    >>> channel_arguments("grpc.max_connection_age_ms=2000,grpc.lb_policy_name=grpclb")
    [('grpc.max_connection_age_ms', 2000), ('grpc.lb_policy_name', 'grpclb')]

    Raises:
        UserError: an entry without "=".
    """
    options: list[tuple[str, Any]] = []
    for entry in filter(None, text.split(",")):
        key, separator, value = entry.partition("=")
        if not separator:
            raise UserError(f"`grpc_channel_arguments` must be key=value pairs. Received: {entry!r}")
        try:
            options.append((key, int(value)))
        except ValueError:
            options.append((key, value))
    return options


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise argparse.ArgumentTypeError(f"must be true or false. Received: {text!r}")
