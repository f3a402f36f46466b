"""The dashboard: Plotly Dash on a FastAPI application, over the monitor's store.

From the outside in: `serve` (the process), `app` (what answers which path), `shell` (one layout, one callback), `frame`
(what is around every page), `live` (what a refresh changes), `pages` (a file a page: from a `Context` to panels),
`figures` and `parts` (what pages are made of), `queries` (questions to the store and to
files that only pages ask).
"""

from serving.dashboard.settings import DashboardSettings
from serving.dashboard.web.app import create_app, create_app_of_several
from serving.dashboard.web.serve import run

__all__ = ["DashboardSettings", "create_app", "create_app_of_several", "run"]
