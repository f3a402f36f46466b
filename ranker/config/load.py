"""YAML in, a validated experiment out, or one line that says what to change."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ranker.config.experiment import Experiment, assign
from ranker.config.validation import explain, read_yaml
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
    tree = read_yaml(path, "the configuration")
    for override in overrides:
        _apply(tree, override)
    return build(tree, str(path))


def build(tree: dict[str, Any], source: str) -> Experiment:
    """Validates a plain tree. `source` names its origin in errors. Raises UserError as `load` does."""
    try:
        experiment = Experiment.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{source}: {explain(error, _keys())}") from None
    mistakes = []
    for name in experiment.arms:
        try:
            experiment.arm(name)
        except (ValidationError, ValueError) as error:
            text = explain(error, _keys()) if isinstance(error, ValidationError) else str(error)
            mistakes.append(f"arms.{name}: {text}")
    if mistakes:
        raise UserError(f"{source}: {'; '.join(mistakes)}")
    root = experiment.data.root
    if "://" in root:
        return experiment
    data = experiment.data.model_copy(update={"root": str(Path(root).expanduser().resolve())})
    return experiment.model_copy(update={"data": data})


@lru_cache(1)
def _keys() -> frozenset[str]:
    """Every key of every section."""
    schema = Experiment.model_json_schema()
    sections = [schema, *schema["$defs"].values()]
    return frozenset(key for section in sections for key in section.get("properties", {}))


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
