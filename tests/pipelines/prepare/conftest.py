"""Fixtures: the small log on disk, and experiments over it."""

import json

import pytest

from ranker.config import build
from tests.pipelines.prepare.small_log import ITEMS, SETTINGS, USERS, item_flags, item_title, user_age


@pytest.fixture
def log(tmp_path):
    """A directory with a clean log of 240 rows, its users and items."""
    root = tmp_path / "log"
    root.mkdir()
    pairs = [
        (user, item) for user in range(1, USERS + 1) for item in range(1, ITEMS + 1) if (user + item) % 3
    ]
    lines = [f"{u}\t{i}\t{(u * i) % 5 + 1}\t{1000 + (u * 31 + i * 17) % 97}\n" for u, i in pairs]
    (root / "u.data").write_text("".join(lines))
    (root / "u.user").write_text("".join(f"{u}|{user_age(u)}|{'MF'[u % 2]}\n" for u in range(1, USERS + 1)))
    items = [f"{i}|{item_title(i)}|{'|'.join(item_flags(i))}\n" for i in range(1, ITEMS + 1)]
    (root / "u.item").write_text("".join(items), encoding="latin-1")
    return root


@pytest.fixture
def make(log):
    """Builds the experiment over the log; keyword `data_label="..."` sets `data.label`, and so on."""

    def build_experiment(**changes):
        tree = json.loads(json.dumps(SETTINGS))
        tree["data"]["root"] = str(log)
        for key, value in changes.items():
            node, parts = tree, key.split("_", 1) if key.startswith(("data_", "features_")) else [key]
            if len(parts) == 2:
                node = tree[parts[0]]
            if value is None:
                node.pop(parts[-1], None)
            else:
                node[parts[-1]] = value
        return build(tree, "test")

    return build_experiment
