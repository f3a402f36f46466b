"""YAML files that users write: read once, checked by pydantic, every mistake in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ranker.errors import UserError

_MOST_SHOWN = 8
_UNION_TAGS = frozenset({
    "categorical", "numeric", "time", "hash", "column", "Flags", "Extract",
    "ensemble", "self_ensemble", "codistillation", "distillation", "anchor",
})  # fmt: skip


def read_yaml(path: Path | str, what: str) -> dict[str, Any]:
    """Reads a YAML file that holds a table of keys.

    Args:
        path: the file.
        what: what the file is, for errors: "the configuration".

    Raises:
        UserError: the file cannot be read, is not UTF-8, not YAML, has a key twice, or holds no table.
    """
    try:
        tree = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise UserError(f"{path}: cannot read {what}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: {what} must be UTF-8 text") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: must be a table of keys. Received: {type(tree).__name__}")
    return tree


def explain(error: ValidationError) -> str:
    """All mistakes of a validation in one line: key path, rule, value; of very many the first ones and how many more."""
    mistakes = list(dict.fromkeys(map(_mistake, error.errors(include_url=False))))
    more = len(mistakes) - _MOST_SHOWN
    return "; ".join(mistakes[:_MOST_SHOWN]) + (f" (and {more} more)" if more > 0 else "")


def _mistake(found: Any) -> str:
    location = ""
    for part in found["loc"]:
        if isinstance(part, int):
            location += f"[{part}]"
        # pydantic puts the branch it tried ('delimited', 'Flags', 'time', ...) into the path; a user never wrote it.
        elif part not in _UNION_TAGS and "[" not in part:
            location += f".{part}" if location else part
    prefix = f"{location}: " if location else ""
    if found["type"] == "missing":
        return f"{prefix}required key is missing"
    rule = found["msg"].removeprefix("Value error, ")
    if found["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        rule = "unknown key"
    received = "" if "Received" in rule else f". Received: {_short(found['input'])}"
    return f"{prefix}{rule}{received}"


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
