"""A ranking model's client: TF Serving's gRPC API without TensorFlow."""

from serving.client.answers import Prediction, Ranking, Signature, TensorSpec, VersionStatus
from serving.client.client import RankerClient
from serving.client.connection import Tls
from serving.client.errors import (
    ClientClosed,
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
    "ClientClosed",
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
