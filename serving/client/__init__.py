"""A ranking model's client: TF Serving's gRPC API without TensorFlow, blocking and asynchronous."""

from serving.client.answers import Prediction, Ranking, Signature, TensorSpec, VersionStatus
from serving.client.asynchronous import AsyncRankerClient
from serving.client.blocking import RankerClient
from serving.client.connection import Tls
from serving.client.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    MalformedAnswer,
    NotFound,
    ResourceExhausted,
    ServingError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)

__all__ = [
    "AsyncRankerClient",
    "DeadlineExceeded",
    "FailedPrecondition",
    "InvalidArgument",
    "MalformedAnswer",
    "NotFound",
    "Prediction",
    "RankerClient",
    "Ranking",
    "ResourceExhausted",
    "ServingError",
    "Signature",
    "TensorSpec",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "VersionStatus",
]
