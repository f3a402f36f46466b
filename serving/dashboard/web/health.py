"""For machines that watch the watcher: `/healthz` and `/metrics`."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError

from serving.dashboard.settings import DashboardSettings
from serving.monitor.prometheus import StoreCollector
from serving.monitor.store import Store, query
from serving.monitor.store.schema import HOUR
from serving.monitor.store.selection import Selection


def health_routes(store: Store, settings: DashboardSettings, clock: Callable[[], float]) -> APIRouter:
    """The two routes."""
    router = APIRouter()

    @router.get("/healthz", summary="Whether the store answers, and how old the newest round is")
    def healthz() -> JSONResponse:
        try:
            now = clock()
            fresh = query.freshness(store, Selection(now))
            mirrored = query.mirrored(store, Selection.between(now - HOUR, now + 1))
            dropped = query.dropped_rounds(store)
        except SQLAlchemyError as error:
            return JSONResponse({"status": "store unreachable", "detail": type(error).__name__}, 503)
        # a stale store is the monitor's trouble: restarting the dashboard would not help, so that the answer stays 200
        stale = fresh.age is None or fresh.stale
        return JSONResponse(
            {
                "status": "ok",
                "store": "reachable",
                "newest_round": fresh.time,
                "age_seconds": fresh.age,
                "stale": stale,
                "stale_after_seconds": fresh.limit,
                "rounds_dropped": dropped,
                "mirrored_last_hour": mirrored,
            }
        )

    @router.get("/metrics", summary="For Prometheus", response_class=PlainTextResponse)
    def metrics() -> PlainTextResponse:
        registry = CollectorRegistry()
        registry.register(StoreCollector(store, settings.budget, clock, k=settings.k))
        return PlainTextResponse(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
