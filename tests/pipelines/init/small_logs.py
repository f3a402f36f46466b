"""Small logs for `ranker init`, and the configuration that it writes of them."""

import random

from pipelines.init import propose
from pipelines.prepare.preview import check_rows
from ranker.config import load


def write_log(root, delimiter=",", number=str, header=True, rows=400, encoding="utf-8"):
    noise = random.Random(1)
    head = ["SessionID", "item_id", "price", "city", "when", "clicked"]
    lines = [delimiter.join(head)] if header else []
    for n in range(rows):
        day, city = f"2024-03-{n % 28 + 1:02d} 10:00:00", noise.choice(["Köln", "Bonn", "NULL"])
        values = [str(noise.randint(1, 60)), number(noise.uniform(1, 5000)), city, day]
        row = [f"s{n // 8}", *values, str(int(noise.random() < 0.3))]
        lines.append(delimiter.join(row))
    (root / "clicks.csv").write_text("\n".join(lines) + "\n", encoding=encoding)
    items = [delimiter.join(["item_id", "title", "tags"])] if header else []
    items += [delimiter.join([str(n), f"Item {n}", "a|b" if n % 2 else "b|c|d"]) for n in range(1, 61)]
    (root / "items.csv").write_text("\n".join(items) + "\n", encoding=encoding)
    return [root / "items.csv", root / "clicks.csv"]


def proposed(tmp_path, paths):
    text = propose(paths, 10_000)
    (tmp_path / "e.yaml").write_text(text)
    experiment = load(tmp_path / "e.yaml")
    checked = check_rows(experiment, 10_000)
    checked.refuse(experiment)
    return text, experiment, checked


def write_table(path, rows, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in [names, *rows]))
    return path


def click_rows(rows=400, users=20, items=31):
    noise = random.Random(13)
    for n in range(rows):
        user, item = n % users, noise.randrange(items)
        yield n, f"u{user}", f"i{item}", int(noise.random() < (0.8 if item % 3 == 0 else 0.1))
