"""The dashboard: Plotly Dash on a FastAPI application, over the monitor's store.

- `web`: the process, its HTTP routes, the API, and who may see them.
- `layout`: what all pages share: the frame, the address, small parts, and the refresh of an open page.
- `pages`: one file a page, which turns a `Context` into panels.
- `figures`: the charts.
- `queries`: what pages read beside the store: kept requests, the run's report, gateways.
"""

from serving.dashboard.settings import DashboardSettings
from serving.dashboard.web.app import create_app, create_app_of_several
from serving.dashboard.web.serve import run

__all__ = ["DashboardSettings", "create_app", "create_app_of_several", "run"]
