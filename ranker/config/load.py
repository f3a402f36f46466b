"""YAML in, a validated experiment out, or one line that says what to change."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ranker.config.experiment import Experiment, assign
from ranker.errors import UserError


def load(path: str | Path, overrides: Iterable[str] = ()) -> Experiment:
    """Reads an experiment.

    Args:
        path: the YAML file.
        overrides: `dotted.key=value` texts, values in YAML, applied in order over the file.

    Returns:
        The experiment, with `data.root` made absolute (a relative one starts at the current directory).

    Raises:
        UserError: the file cannot be read, is not YAML, or something in it is unknown, of the wrong type or
            out of range. One line with file, key path, rule and value.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot read the configuration: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: the configuration must be UTF-8 text") from None
    try:
        tree = yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: must be a table of keys. Received: {type(tree).__name__}")
    for override in overrides:
        _apply(tree, override)
    return build(tree, str(path))


def build(tree: dict[str, Any], source: str) -> Experiment:
    """Validates a plain tree. `source` names its origin in errors. Raises UserError as `load` does."""
    try:
        experiment = Experiment.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{source}: {_explain(error)}") from None
    for name in experiment.arms:
        try:
            experiment.arm(name)
        except (ValidationError, ValueError) as error:
            text = _explain(error) if isinstance(error, ValidationError) else str(error)
            raise UserError(f"{source}: arms.{name}: {text}") from None
    root = experiment.data.root
    if "://" in root:
        return experiment
    data = experiment.data.model_copy(update={"root": str(Path(root).expanduser().resolve())})
    return experiment.model_copy(update={"data": data})


def dump(experiment: Experiment) -> str:
    """The resolved experiment as YAML that `load` reads back to an equal one."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply(tree: dict[str, Any], override: str) -> None:
    key, sign, value = override.partition("=")
    if not sign or not key.strip():
        raise UserError(f"--set must be dotted.key=value. Received: {override!r}")
    try:
        assign(tree, key.strip(), yaml.safe_load(value))
    except yaml.YAMLError:
        raise UserError(f"--set {key}: the value is not valid YAML. Received: {value!r}") from None
    except (ValueError, AttributeError) as error:
        raise UserError(f"--set {error}") from None


def _explain(error: ValidationError) -> str:
    """One line for a validation error: key path, rule, value; further errors are counted."""
    first, *more = error.errors(include_url=False)
    location = ".".join(str(part) for part in first["loc"] if not _is_union_tag(part))
    rule = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        rule = "unknown key"
    elif first["type"] == "missing":
        return f"{location}: required key is missing" + _count(more)
    received = (
        "" if "Received:" in rule or first["type"] == "missing" else f". Received: {_short(first['input'])}"
    )
    prefix = f"{location}: " if location else ""
    return f"{prefix}{rule}{received}{_count(more)}"


def _is_union_tag(part: Any) -> bool:
    # pydantic puts the branch it tried ('delimited', 'Flags', 'time', ...) into the path; a user never wrote it.
    return str(part) in {
        "categorical",
        "numeric",
        "time",
        "hash",
        "column",
        "Flags",
        "Extract",
        "ensemble",
        "self_ensemble",
        "codistillation",
        "distillation",
        "anchor",
    } or "[" in str(part)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _count(more: list[Any]) -> str:
    return f" (and {len(more)} more)" if more else ""


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
