"""Small log files, and what the readers make of them, without an engine."""

import json
from types import SimpleNamespace

from pipelines.prepare.plan import make_plan
from pipelines.prepare.preview import preview
from pipelines.prepare.rows import EVAL, ORDER, TIME
from ranker.config import build

ROWS = [(f"u{n % 7}", f"i{n % 11}", n % 2, 1.5 * n) for n in range(60)]


def experiment(root, events, **changes):
    data = {
        "root": str(root),
        "events": {"path": "f.csv", **events},
        "label": "label == 1",
        "request": ["user"],
        "split": {"by": "hash", "of": ["user", "item"], "eval": 0.3},
        "shards": 1,
        "max_rejected": None,
    }
    features = {
        "user": {"kind": "categorical", "role": "context"},
        "item": {"kind": "categorical", "role": "item"},
        "price": {"kind": "numeric", "role": "item"},
    }
    data.update({key: value for key, value in changes.items() if key != "features"})
    features.update(changes.get("features", {}))
    return build({"name": "t", "data": data, "features": features}, "test")


def read_all(config, directory):
    """What the readers and the cleaner make of a log, without an engine: quick enough for many kinds of files."""
    directory.mkdir(parents=True, exist_ok=True)
    seen = preview(make_plan(config), directory, 1 << 60)
    rows = [row for batch in seen.rows for row in batch.to_pylist()]
    for row in rows:
        row.update({k: None if v != v else "" if v is None else v for k, v in row.items()})
    split = config.data.split
    if split.by == "time":
        rows.sort(key=lambda row: row[TIME])
        held_out = round(split.eval * len(rows))
        rows = [{**row, EVAL: at >= len(rows) - held_out} for at, row in enumerate(rows)]
    rows.sort(key=lambda row: row[ORDER])
    assert len({row[ORDER] for row in rows}) == len(rows), "two rows have one place in the base order"
    (directory / "rows.json").write_text(json.dumps(rows))
    rejected = seen.rejections.rows
    counts = {"read": len(rows) + rejected, "rejected": rejected, "eval": sum(row[EVAL] for row in rows)}
    counts["train"] = len(rows) - counts["eval"]
    return SimpleNamespace(counts=counts, remarks={remark.subject: remark for remark in seen.remarks})


def rows_of(directory, *names, split=None):
    names = names or ("user", "item", "__label__", "price")
    rows = json.loads((directory / "rows.json").read_text())
    rows = [row for row in rows if split is None or row[EVAL] == (split == "eval")]
    return sorted((tuple(row[name] for name in names) for row in rows), key=repr)


def read_rejected(directory):
    return [json.loads(line) for line in (directory / "events.jsonl").read_text("utf-8").splitlines()]


def contents(directory):
    return [(directory / name).read_bytes() for name in ("rows.json", "events.jsonl")]


def run(tmp_path, events, **changes):
    counted = read_all(experiment(tmp_path, events, **changes), tmp_path / "run")
    return counted, rows_of(tmp_path / "run")


def tidy(rows):
    return sorted(rows, key=repr)


EXPECTED = tidy((user, item, float(label), price) for user, item, label, price in ROWS)


def plain(delimiter=",", number=lambda value: f"{value}", newline="\n", header=True):
    head = [delimiter.join(["user", "item", "label", "price"])] if header else []
    body = [delimiter.join([user, item, str(label), number(price)]) for user, item, label, price in ROWS]
    return newline.join([*head, *body]) + newline
