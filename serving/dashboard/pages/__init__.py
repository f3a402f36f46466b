"""The pages, in the order of the navigation."""

from __future__ import annotations

from serving.dashboard.context import Page
from serving.dashboard.pages import overview

PAGES: dict[str, Page] = {page.name: page for page in (Page("overview", "Overview", overview.build),)}
