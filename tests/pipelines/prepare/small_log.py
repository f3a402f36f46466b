"""A small log in the MovieLens format, and a reader of examples that shares no code with their writer."""

import json
import struct


def _varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at


def _fields(data):
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        assert tag & 7 == 2, "only length-delimited fields here"
        length, at = _varint(data, at)
        yield tag >> 3, data[at : at + length]
        at += length


def _example(data):
    columns = {}
    [(_, features)] = list(_fields(data))
    for _, entry in _fields(features):
        (_, name), (_, feature) = _fields(entry)
        [(kind, values)] = list(_fields(feature))
        if kind == 1:
            columns[name.decode()] = [value.decode() for _, value in _fields(values)]
        else:
            [(_, packed)] = list(_fields(values))
            columns[name.decode()] = list(struct.unpack(f"<{len(packed) // 4}f", packed))
    return columns


def records(path):
    """The records of a TFRecord file, checksums unread."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield data[at + 12 : at + 12 + length]
        at += 16 + length


def read_blocks(run, split):
    """All Examples of a split in their order, as {name: list}."""
    return [_example(record) for path in sorted((run / "data" / split).iterdir()) for record in records(path)]


def read_rows(run, split):
    """All rows of a split in their order, as dicts; NaN as None."""
    rows = []
    for block in read_blocks(run, split):
        assert len({len(values) for values in block.values()}) == 1
        for values in zip(*block.values(), strict=True):
            rows.append({k: None if v != v else v for k, v in zip(block, values, strict=True)})
    return rows


def read_rejected(run):
    """All rejected rows of the log."""
    return [
        json.loads(line)
        for line in (run / "data" / "rejected" / "events.jsonl").read_text("utf-8").splitlines()
    ]


def contents(run):
    """Every published file of the data directory, by its relative name."""
    data = run / "data"
    return {str(p.relative_to(data)): p.read_bytes() for p in sorted(data.rglob("*")) if p.is_file()}


SETTINGS = {
    "name": "tiny",
    "data": {
        "events": {
            "path": "u.data",
            "delimiter": "\t",
            "columns": ["user_id", "item_id", "rating", "timestamp"],
        },
        "tables": {
            "users": {
                "path": "u.user",
                "key": "user_id",
                "delimiter": "|",
                "columns": ["user_id", "age", "gender"],
            },
            "items": {
                "path": "u.item",
                "key": "item_id",
                "delimiter": "|",
                "encoding": "latin-1",
                "columns": ["item_id", "title", "Action", "Comedy", "Drama"],
            },
        },
        "derive": {
            "genres": {"flags": ["Action", "Comedy", "Drama"]},
            "year": {"extract": "title", "pattern": r"\(([0-9]{4})\)$"},
        },
        "label": "rating >= 4",
        "request": ["user_id"],
        "timestamp": "timestamp",
        "split": {"by": "hash", "of": ["user_id", "item_id"], "eval": 0.2},
        "shards": 2,
        "max_rejected": None,
    },
    "features": {
        "user_id": {"kind": "categorical", "role": "context"},
        "age": {"kind": "numeric", "role": "context"},
        "gender": {"kind": "categorical", "role": "context"},
        "item_id": {"kind": "categorical", "role": "item"},
        "title": {"kind": "categorical", "role": "item"},
        "genres": {"kind": "categorical", "role": "item", "multivalued": "|"},
        "year": {"kind": "numeric", "role": "item", "transform": "buckets"},
    },
}

USERS, ITEMS = 12, 30


def user_age(user):
    return "" if user == 3 else str(18 + 3 * user)


def item_flags(item):
    return [str(int(item % n == 0)) for n in (2, 3, 5)]


def item_title(item):
    return f"Café {item} ({1950 + item})" if item != 7 else "No year"
