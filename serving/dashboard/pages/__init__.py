"""The pages, in the order of the navigation."""

from __future__ import annotations

from serving.dashboard.layout.context import Page
from serving.dashboard.pages import (
    alerts,
    arms,
    attribution,
    items,
    methods,
    overview,
    pair,
    quality,
    refresh,
    request,
)

PAGES: dict[str, Page] = {
    page.name: page
    for page in (
        Page("overview", "Overview", overview.build, ("stream", "measure", "window", "compare")),
        Page("pair", "Pair", pair.build),
        Page("request", "Request", request.build, ("window", "stream")),
        Page("items", "Items and users", items.build),
        Page("refresh", "Refresh", refresh.build, ("measure", "window")),
        Page("attribution", "Attribution", attribution.build),
        Page("arms", "Arms", arms.build, ()),
        Page("alerts", "Alerts", alerts.build, ("window",)),
        Page("data-quality", "Data quality", quality.build, ("window", "stream")),
        Page("methods", "Methods", methods.build, ()),
    )
}
