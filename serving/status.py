"""Status codes and the one exception that becomes a gRPC status or an HTTP error."""

from __future__ import annotations

import enum

MAX_MESSAGE_BYTES = 1024
"""TF Serving cuts error texts here, because gRPC carries them in a header of limited size."""


class Code(enum.IntEnum):
    """The canonical status codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


class StatusError(Exception):
    """A request, a load or a reload failed with a status the caller sees.

    Attributes:
        code: the canonical code.
        message: the full text; `wire_message` is what a client receives.
    """

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = Code(code)
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"

    @property
    def wire_message(self) -> str:
        """The text as sent over gRPC, cut to `MAX_MESSAGE_BYTES` bytes plus a marker."""
        data = self.message.encode("utf-8", "replace")
        if len(data) <= MAX_MESSAGE_BYTES:
            return data.decode("utf-8")
        return data[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore") + "...TRUNCATED"


def invalid(message: str) -> StatusError:
    """An INVALID_ARGUMENT error; raised for most mistakes in a request."""
    return StatusError(Code.INVALID_ARGUMENT, message)
