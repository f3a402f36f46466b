"""The examples of docs/configuration.md are configurations."""

import pytest
import yaml

from ranker.config import build
from ranker.config.shapes import SHAPES
from tests.shapes.conftest import tree


def merged(base: dict, update: dict) -> dict:
    result = dict(base)
    for key, value in update.items():
        is_table = isinstance(value, dict) and isinstance(base.get(key), dict) and "kind" not in value
        result[key] = merged(base[key], value) if is_table else value
    return result


@pytest.mark.parametrize("shape", SHAPES, ids=[shape.title for shape in SHAPES])
def test_an_example_builds(shape):
    update = yaml.safe_load(shape.yaml)
    base = tree()
    if update.get("data", {}).get("item", {}).get("feature") is False:
        base["features"].pop(update["data"]["item"]["column"])
    experiment = build(merged(base, update), shape.title)
    for name, feature in update.get("features", {}).items():
        for key, value in feature.items():
            assert experiment.features[name].model_dump(mode="json")[key] == value
