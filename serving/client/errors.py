"""What can go wrong with a call, typed by gRPC status."""

# ruff: noqa: N818 - the names are gRPC's own.

from __future__ import annotations

from ranker.errors import UserError


class ServingError(UserError):
    """A call that got no answer, or an error for an answer.

    Attributes:
      target: the server's address.
      code: the gRPC status, say "NOT_FOUND".
      details: the server's own text, unchanged.
    """

    def __init__(self, target: str, code: str, details: str, message: str | None = None) -> None:
        super().__init__(message or f"{target}: {code}: {details}")
        self.target = target
        self.code = code
        self.details = details


class DeadlineExceeded(ServingError):
    """No answer within the deadline."""


class Unavailable(ServingError):
    """Nothing listens there, the connection broke, or the server's queue is full."""


class InvalidArgument(ServingError):
    """The server refused the request as it stands."""


class NotFound(ServingError):
    """The server has no such model or version."""


class FailedPrecondition(ServingError):
    """The model has no such signature, or is not in a state to answer."""


class ResourceExhausted(ServingError):
    """A message is larger than one side takes, or the server is out of memory."""


class Unimplemented(ServingError):
    """The server does not offer this method."""


class Unauthenticated(ServingError):
    """The server wants credentials that the call did not bring."""


class ClientClosed(ServingError):
    """The client was closed before or during the call."""


class MalformedAnswer(ServingError):
    """The server answered OK with something that is not a ranking model's answer."""


_BY_CODE: dict[str, type[ServingError]] = {
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "UNAVAILABLE": Unavailable,
    "INVALID_ARGUMENT": InvalidArgument,
    "NOT_FOUND": NotFound,
    "FAILED_PRECONDITION": FailedPrecondition,
    "RESOURCE_EXHAUSTED": ResourceExhausted,
    "UNIMPLEMENTED": Unimplemented,
    "UNAUTHENTICATED": Unauthenticated,
}


def error_for(target: str, code: str, details: str, deadline: float) -> ServingError:
    """Returns the exception for a gRPC status; `deadline`, in seconds, is the whole call's."""
    message = None
    if code == "DEADLINE_EXCEEDED":
        message = f"{target}: no answer within {deadline:g} s"
    elif code == "UNAVAILABLE":
        message = f"{target}: not available: {details}"
    return _BY_CODE.get(code, ServingError)(target, code, details, message)
