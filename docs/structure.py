"""Draws `docs/images/structure.svg` from the imports in the code: which part of the house uses which.

    python docs/structure.py           writes the picture
    python docs/structure.py --check   exit code 1 if the picture differs from the code

A part is a folder, or a few modules of one idea that lie directly in `ranker`, `pipelines` or `serving`. Parts stand
above what they import. An arrow that follows from two others is left out.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "structure.svg"
PACKAGES = ("ranker", "pipelines", "serving")
BASE = "ranker: files, text, errors"
MODEL = "ranker: the model"
_MODULES = {
    "ranker.architecture": MODEL,
    "ranker.combined": MODEL,
    "ranker.export": MODEL,
    "ranker.features": MODEL,
    "ranker.inputs": MODEL,
    "ranker.model": MODEL,
    "ranker.wording": "ranker/wording.py",
    "ranker.working_copy": "ranker/working_copy.py",
    "pipelines.compare": "pipelines/compare.py",
    "pipelines.run": "pipelines/run.py",
    "pipelines.init": "pipelines/init.py",
    "serving.deployment": "serving/deployment.py",
    "serving.prediction_logs": "serving/prediction_logs.py",
    "serving.status": "serving/status.py",
}
_OTHER_MODULES = {"ranker": BASE, "pipelines": "pipelines: Beam", "serving": "serving: commands"}
_COLOURS = {"ranker": "#dbeafe", "pipelines": "#dcfce7", "serving": "#fef3c7"}
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 178, 34, 18, 46, 16


def part_of(module: str) -> str:
    """The part that a module belongs to."""
    names = module.split(".")
    if len(names) > 1 and (ROOT / names[0] / names[1]).is_dir():
        return f"{names[0]}/{names[1]}"
    return _MODULES.get(".".join(names[:2]), _OTHER_MODULES[names[0]])


def imported_modules(path: Path) -> Iterator[str]:
    """Every module of the house that a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            folder = ROOT / node.module.replace(".", "/")
            names = [
                f"{node.module}.{alias.name}"
                if (folder / f"{alias.name}.py").is_file() or (folder / alias.name).is_dir()
                else node.module
                for alias in node.names
            ]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


def uses() -> dict[str, set[str]]:
    """Part to the parts that it imports."""
    graph: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            part = part_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
            graph.setdefault(part, set())
            graph[part] |= {target for module in imported_modules(path) if (target := part_of(module)) != part}
    return graph


def groups(graph: dict[str, set[str]]) -> dict[str, frozenset[str]]:
    """Part to the parts that it imports and that import it, directly or through others; itself included."""
    reached = {part: _reach(graph, part) for part in graph}
    return {
        part: frozenset({part} | {other for other in reached[part] if part in reached[other]}) for part in graph
    }


def levels(graph: dict[str, set[str]]) -> dict[str, int]:
    """Part to its row, 0 at the bottom: one above the highest part that it imports. Parts in a cycle share a row."""
    cycles = groups(graph)
    rows: dict[frozenset[str], int] = {}

    def row(cycle: frozenset[str]) -> int:
        if cycle not in rows:
            below = {cycles[target] for part in cycle for target in graph[part]} - {cycle}
            rows[cycle] = max(map(row, below), default=-1) + 1
        return rows[cycle]

    return {part: row(cycles[part]) for part in graph}


def arrows(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that do not follow from others."""
    cycles = groups(graph)
    pairs = []
    for part, targets in sorted(graph.items()):
        for target in sorted(targets):
            detours = targets - cycles[part] - cycles[target]
            if cycles[part] is cycles[target] or not any(target in _reach(graph, via) for via in detours):
                pairs.append((part, target))
    return pairs


def svg(graph: dict[str, set[str]]) -> str:
    """The picture."""
    rows: dict[int, list[str]] = {}
    for part, row in levels(graph).items():
        rows.setdefault(row, []).append(part)
    top, widest = max(rows), max(map(len, rows.values()))
    width = 2 * _MARGIN + widest * (_WIDTH + _GAP_X) - _GAP_X
    place: dict[str, tuple[float, float]] = {}
    for row, parts in rows.items():
        left = (width - len(parts) * (_WIDTH + _GAP_X) + _GAP_X) / 2
        for column, part in enumerate(sorted(parts)):
            place[part] = (left + column * (_WIDTH + _GAP_X), _MARGIN + (top - row) * (_HEIGHT + _GAP_Y))
    height = 2 * _MARGIN + (top + 1) * (_HEIGHT + _GAP_Y) - _GAP_Y
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" font-family="sans-serif" '
        'font-size="13" role="img" aria-label="Which part of the code imports which">',
        '<defs><marker id="tip" markerWidth="7" markerHeight="7" refX="6" refY="3.5" orient="auto">'
        '<path d="M0,0 L7,3.5 L0,7 z" fill="#64748b"/></marker></defs>',
        f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
    ]
    for part, target in arrows(graph):
        (x1, y1), (x2, y2) = place[part], place[target]
        if y1 == y2:
            ends = sorted((x1, x2))
            points = f"M{ends[0] + _WIDTH:g},{y1 + _HEIGHT / 2:g} L{ends[1]:g},{y2 + _HEIGHT / 2:g}"
            lines.append(f'<path d="{points}" fill="none" stroke="#64748b"/>')
            continue
        x1, y1, x2 = x1 + _WIDTH / 2, y1 + _HEIGHT, x2 + _WIDTH / 2
        bend = (y1 + y2) / 2
        points = f"M{x1:g},{y1:g} C{x1:g},{bend:g} {x2:g},{bend:g} {x2:g},{y2:g}"
        lines.append(f'<path d="{points}" fill="none" stroke="#64748b" marker-end="url(#tip)"/>')
    for part, (x, y) in sorted(place.items()):
        colour = _COLOURS[part.partition("/")[0].partition(":")[0]]
        lines.append(
            f'<rect x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="5" fill="{colour}" stroke="#64748b"/>'
            f'<text x="{x + _WIDTH / 2:g}" y="{y + _HEIGHT / 2 + 5:g}" text-anchor="middle">{escape(part)}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def _reach(graph: dict[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        for target in graph[waiting.pop()] - reached:
            reached.add(target)
            waiting.append(target)
    return reached


if __name__ == "__main__":
    picture = svg(uses())
    if sys.argv[1:] == ["--check"]:
        if not PICTURE.is_file() or PICTURE.read_text(encoding="utf-8") != picture:
            sys.exit(f"{PICTURE.relative_to(ROOT)} differs from the imports in the code: python docs/structure.py")
    else:
        PICTURE.write_text(picture, encoding="utf-8")
