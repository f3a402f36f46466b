"""`python -m ranker.divergence.document > docs/measures.md`: writes the page of the measures."""

from __future__ import annotations

from itertools import groupby

from ranker.divergence.catalogue import CATALOGUE

_HEADINGS = {
    "prediction": "Prediction difference, per example",
    "swap": "Swap rates, per request",
    "regret": "What it costs",
    "quality": "Ranking quality, with labels",
}


def page() -> str:
    """All measures as Markdown: name, title, formula, range, source."""
    lines = [
        "# Measures",
        "",
        "One definition each; the names are the names in code, in the store, on the dashboard and in Prometheus.",
        "A replica's order sorts by (-score, item id). The request is the sampling unit of every interval.",
        "In a list of K candidates, k stands for min(k, K): a list shorter than k is compared as a whole.",
        "This page is written by `python -m ranker.divergence.document`.",
    ]
    for family, definitions in groupby(CATALOGUE.values(), key=lambda definition: definition.family):
        lines += ["", f"## {_HEADINGS.get(family, family.capitalize())}"]
        for definition in definitions:
            lines += [
                "",
                f"### `{definition.name}`",
                "",
                f"{definition.title}",
                "",
                f"    {definition.formula}",
                "",
            ]
            lines += [f"Range: {definition.range}", "", f"Source: {definition.source}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
