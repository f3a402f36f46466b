"""Which requests are mirrored: a pure function of their id, so every gateway and restart picks the same."""

from __future__ import annotations

import hashlib


def request_id(given: str | None, request: bytes) -> str:
    """Returns the caller's id, or a hash of the request's bytes (32 hexadecimal digits) where it sent none."""
    return given or hashlib.blake2b(request, digest_size=16).hexdigest()


def fraction(text: str, salt: str = "") -> float:
    """Returns a number in [0, 1) that `text` alone decides, uniform over texts.

    >>> fraction("request-1") == fraction("request-1")
    True
    """
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=salt.encode()[:16]).digest()
    # 53 bits: as many as a float holds, so that 1.0 is never reached by rounding.
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def is_sampled(identifier: str, rate: float) -> bool:
    """Returns whether the request of this id is in a sample of `rate` (0: none, 1: all).

    Samples nest: a request in a sample is also in every larger one.
    """
    return fraction(identifier, "mirror") < rate
