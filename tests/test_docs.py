"""Pages that code writes are what the code writes, and links lead somewhere."""

import re
from pathlib import Path

import pytest

from ranker.divergence.document import page

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_measures_page_is_current():
    written = (ROOT / "docs" / "measures.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m ranker.divergence.document > docs/measures.md"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not broken
