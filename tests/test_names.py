"""Names that a stranger can rely on: they say what they hold, and a class has a name of its own."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("ranker", "pipelines", "serving")


def test_no_public_class_name_has_two_meanings():
    places = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(str(path.relative_to(ROOT)))
    assert len(places) > 100
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}


VAGUE = set()
VAGUE |= {
    "found",
    "told",
    "own",
    "known",
    "there",
    "kept",
    "took",
    "said",
    "wanted",
    "given",
    "here",
    "mine",
    "theirs",
}
VAGUE |= {
    "ones",
    "one",
    "what",
    "who",
    "more",
    "usual",
    "same",
    "other",
    "others",
    "alike",
    "asked",
    "made",
    "left",
}
MOST_IN_A_THOUSAND = 2


def test_names_say_what_they_hold():
    """Of the names that assignments and parameters bind, nearly none says nothing of its value."""
    count, vague = 0, defaultdict(list)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    name = node.id
                elif isinstance(node, ast.arg):
                    name = node.arg
                else:
                    continue
                count += 1
                if name in VAGUE:
                    vague[str(path.relative_to(ROOT))].append(name)
    total = sum(map(len, vague.values()))
    assert count > 10_000
    assert 1000 * total < MOST_IN_A_THOUSAND * count, dict(vague)
