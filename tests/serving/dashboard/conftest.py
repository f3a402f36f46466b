"""A simulated store and a dashboard over it, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.dashboard import DashboardSettings, create_app
from tests.serving.dashboard.live_dashboard import listening
from tests.serving.dashboard.simulated_store import NOW, STABLE_NOISE, Simulation, simulate


@pytest.fixture(scope="session")
def quiet_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five replicas of one noise that refreshed an hour ago, for three hours."""
    path = tmp_path_factory.mktemp("quiet") / "monitor.db"
    simulation = Simulation(STABLE_NOISE, requests=120, candidates=12)
    simulate(path, simulation, hours=3, refreshes={1.0: tuple(STABLE_NOISE)}).close()
    return path


@pytest.fixture(scope="session")
def client(quiet_store: Path) -> Iterator[httpx.Client]:
    """A client of a dashboard over the quiet store."""
    app = create_app(DashboardSettings(quiet_store), clock=lambda: NOW)
    with listening(app) as address, httpx.Client(base_url=address, timeout=30) as http_client:
        yield http_client
