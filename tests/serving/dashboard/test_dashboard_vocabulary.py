"""One vocabulary: a term is spelled in one way, on every page and in the report, and says on hover what it means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from dash import html

from ranker import wording
from ranker.divergence import CATALOGUE
from serving.dashboard.figures.style import LIGHT
from serving.dashboard.layout.address import Address
from serving.dashboard.layout.context import Context
from serving.dashboard.layout.frame import rendered
from serving.dashboard.pages import PAGES
from serving.monitor.store import Store, open_store
from tests.serving.dashboard.demo_run import demo_run
from tests.serving.dashboard.simulated_store import NOW, ODD_NOISE

LABELS = [name.replace("@k", "@10").replace("@t", "@0.5") for name in CATALOGUE]


def normal(text: str) -> str:
    """What stays of a spelling without case, spaces and signs."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def components(part: Any) -> Iterator[Any]:
    if isinstance(part, (list, tuple)):
        for child in part:
            yield from components(child)
    elif part is not None:
        yield part
        yield from components(getattr(part, "children", None))


def text_of(part: Any) -> str:
    return " ".join(text for text in components(part) if isinstance(text, str))


@pytest.fixture(scope="module")
def headings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Sequence[html.Th]]]:
    """The headings of every page of a run with reports, exemplars and alerts."""
    settings = demo_run(
        tmp_path_factory.mktemp("run"), later=ODD_NOISE, requests=60, candidates=6, slices=("device",)
    )
    store: Store = open_store(Path(str(settings.store)))
    found = {}
    for name in PAGES:
        tree, _ = rendered(Context(store, settings, Address(name), LIGHT, NOW))
        found[name] = [part for part in components(tree) if isinstance(part, html.Th)]
    yield found
    store.close()


def test_the_catalogue_spells_every_term_in_one_way() -> None:
    titles = [wording.title(label) for label in LABELS]
    spellings = [*wording.TERMS, *titles]
    assert len({normal(text) for text in spellings}) == len(spellings)
    meanings = [*wording.TERMS.values(), *map(wording.meaning, LABELS)]
    assert all(meanings)
    assert len(set(meanings)) == len(meanings)  # no meaning has two terms


def test_headings_of_the_dashboard_are_the_catalogues(headings: dict[str, Sequence[html.Th]]) -> None:
    spelling_by_normal = {normal(text): text for text in wording.TERMS}
    spelling_by_normal |= {normal(wording.title(label)): wording.title(label) for label in LABELS}
    spelling_by_normal |= {normal(label): wording.title(label) for label in LABELS}
    assert sum(map(len, headings.values())) > 40
    seen = set()
    for page, cells in headings.items():
        for cell in cells:
            text = text_of(cell)
            spelling = spelling_by_normal.get(normal(text))
            if spelling is None:
                continue
            seen.add(text)
            assert text == spelling, page
            (abbreviation,) = (part for part in components(cell) if isinstance(part, html.Abbr))
            assert abbreviation.title  # type: ignore[attr-defined]
    assert {"Replica", "95% interval", "Expected clicks lost", "AUC"} <= seen


def test_no_page_shows_a_measure_by_the_name_that_programs_use(
    headings: dict[str, Sequence[html.Th]],
) -> None:
    raw = [label for label in LABELS if "_" in label]
    for page, cells in headings.items():
        for cell in cells:
            assert not [label for label in raw if label in text_of(cell)], page
