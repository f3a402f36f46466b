"""`serving` and `monitor`: where replicas serve, and how closely they are watched."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from ranker.config.base import Name, Section

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: Any) -> float:
    """Reads a duration: a number of seconds, or text such as `500ms`, `60s`, `5m`, `2h`, `1d`.

    Raises:
        ValueError: it is neither, or not positive.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(ms|s|m|h|d)?\s*", str(value))
    if match is None or isinstance(value, bool) or float(match[1]) <= 0:
        raise ValueError("must be a positive duration such as 500ms, 60s, 5m or 2h")
    return float(match[1]) * _UNITS[match[2] or "s"]


Duration = Annotated[float, BeforeValidator(seconds)]


class Serving(Section):
    """Replica i of the deployed arm serves gRPC on `base_port + i`."""

    host: str = "127.0.0.1"
    base_port: Annotated[int, Field(ge=1, le=65535)] = 8500
    model_name: Name = "ranker"


class Monitor(Section):
    """One round every `interval`: `requests` probe requests to every replica, measured to depth `k`.

    `budget` bounds measures by name; `slices` names features to break the measures down by. Up to `all_pairs_up_to`
    replicas are compared in all pairs; of more replicas each round measures a random design of pairs.
    """

    interval: Duration = 60.0
    deadline: Duration = 5.0
    requests: Annotated[int, Field(ge=1)] = 200
    k: Annotated[int, Field(ge=1, le=1000)] = 10
    budget: dict[str, Annotated[float, Field(ge=0)]] = {"top1_swap": 0.05, "consensus_regret": 0.005}
    slices: tuple[Name, ...] = ()
    all_pairs_up_to: Annotated[int, Field(ge=2, le=64)] = 16

    @field_validator("budget")
    @classmethod
    def _has_entries(cls, value: dict[str, float]) -> dict[str, float]:
        from ranker.config.measures import check_measure

        for name in value:
            check_measure(name)
        return value
