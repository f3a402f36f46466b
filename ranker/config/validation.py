"""YAML files that users write: read once, checked by pydantic, every mistake in one line."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ranker.errors import UserError

_CLOSE = 0.75  # from which two keys are taken for one with a slip
_TABLES_BY_NAME = frozenset({"features", "tables", "derive", "expectations", "arms"})
"""Keys whose entries have names that the user chose."""
_UNION_TAGS = frozenset(
    {
        "categorical",
        "numeric",
        "sequence",
        "time",
        "hash",
        "column",
        "file",
        "Flags",
        "Extract",
        "ensemble",
        "self_ensemble",
        "codistillation",
        "distillation",
        "anchor",
    }
)


def read_yaml(path: Path | str, description: str) -> dict[str, Any]:
    """Reads a YAML file that holds a table of keys.

    Args:
        path: the file.
        description: what the file is, for errors: "the configuration".

    Raises:
        UserError: the file cannot be read, is not UTF-8, not YAML, has a key twice, or holds no table.
    """
    try:
        file = Path(path) if isinstance(path, str) else path
        tree = yaml.load(file.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise UserError(f"{path}: cannot read {description}: {error.strerror or 'no such object'}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: {description} must be UTF-8 text") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: must be a table of keys. Received: {type(tree).__name__}")
    return tree


def explain(error: ValidationError, keys: Collection[str] = ()) -> str:
    """All mistakes of a validation in one line: key path, rule, value.

    Args:
        error: what pydantic says.
        keys: the keys there are, so that an unknown one can be compared with them.
    """
    return "; ".join(dict.fromkeys(_mistake(entry, keys) for entry in error.errors(include_url=False)))


def _mistake(details: Any, keys: Collection[str]) -> str:
    location = ""
    for before, part in zip(("", *details["loc"]), details["loc"], strict=False):
        if isinstance(part, int):
            location += f"[{part}]"
        # pydantic puts the branch it tried ('delimited', 'Flags', 'time', ...) into the path; a user never wrote it. A name
        # that the user chose may be the same word.
        elif before in _TABLES_BY_NAME or (part not in _UNION_TAGS and "[" not in part):
            location += f".{part}" if location else part
    prefix = f"{location}: " if location else ""
    if details["type"] == "missing":
        return f"{prefix}required key is missing"
    rule = details["msg"].removeprefix("Value error, ")
    if details["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        close = difflib.get_close_matches(str(details["loc"][-1]), sorted(keys), 1, _CLOSE)
        rule = f"unknown key, did you mean {close[0]!r}?" if close else "unknown key"
    received = "" if "Received" in rule else f". Received: {_short(details['input'])}"
    return f"{prefix}{rule}{received.removeprefix('.') if rule.endswith('?') else received}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


class _UniqueKeys(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice: YAML itself would keep the last in silence."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for position, key in enumerate(keys):
        if key in keys[:position]:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} is written twice", node.start_mark
            )
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
