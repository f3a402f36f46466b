"""JSON as its standard has it: every result that a program of ours writes goes through here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """The same of dicts, lists, numbers and text only: NaN and infinity, which JSON has not, become None.

    NumPy's scalars and arrays become numbers and lists, a path or anything else its text.

    Example:
        >>> plain({"auc": float("nan"), "ends": (0.5, float("inf"))})
        {'auc': None, 'ends': [0.5, None]}
    """
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def json_text(value: Any, **options: Any) -> str:
    """A value as JSON text; see `plain` for what is changed.

    Args:
        value: what to write.
        options: of `json.dumps`, such as `indent`.

    Example:
        >>> json_text({"low": float("-inf"), "value": 0.5})
        '{"low": null, "value": 0.5}'
    """
    return json.dumps(plain(value), allow_nan=False, **options)
