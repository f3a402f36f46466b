"""`/api/*`: the same answers for programs. Every query is bounded in time and points."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, Field

from ranker.errors import UserError
from serving.dashboard.figures.picture import picture_of
from serving.dashboard.figures.style import palette
from serving.dashboard.layout.address import WINDOWS, Address, parse
from serving.dashboard.layout.context import Context, Panel, moment_shown
from serving.dashboard.layout.export import panel_csv
from serving.dashboard.pages import PAGES
from serving.dashboard.queries.gateway import GatewayReader
from serving.dashboard.settings import DashboardSettings
from serving.monitor.alerts.keep import (
    LONGEST_SILENCE,
    acknowledge,
    add_silence,
    end_silence,
    stored_silences,
)
from serving.monitor.alerts.rules import Silence
from serving.monitor.judgement.status import standing_alerts, summary_of
from serving.monitor.plain import plain
from serving.monitor.store import Store, query
from serving.monitor.store.selection import Selection

Stream = Annotated[Literal["probe", "live"], Query(description="Frozen requests, or mirrored calls.")]
Measure = Annotated[str, Query(max_length=100, description="A measure's label, such as top1_swap.")]
Window = Annotated[
    float, Query(gt=0, le=86_400, description="Seconds up to the newest round that are added up.")
]
Replica = Annotated[str | None, Query(max_length=400, description="A replica's name.")]


def api_routes(
    store: Store, settings: DashboardSettings, gateways: GatewayReader, clock: Callable[[], float]
) -> APIRouter:
    """The routes under `/api`."""
    router = APIRouter(prefix="/api")
    window_default = settings.monitor_window

    def context(address: Address, theme: str = "light") -> Context:
        return Context(
            store=store,
            settings=settings,
            address=address,
            palette=palette(theme),
            now=moment_shown(address, clock()),
            gateways=gateways,
        )

    @router.get(
        "/summary", summary="The verdict, every measure, replicas, coverage, freshness, the odd one out"
    )
    def summary(stream: Stream = "probe") -> JSONResponse:
        stream_context = context(Address(stream=stream))
        return _json(summary_of(stream_context.status) | {"budget": settings.budget})

    @router.get("/measures", summary="Labels of the measures that the newest round has")
    def measures(stream: Stream = "probe") -> JSONResponse:
        return _json(query.measures(store, Selection(clock(), stream=stream)))

    @router.get("/matrix", summary="One measure between all pairs of replicas")
    def matrix(
        measure: Measure = "top1_swap", stream: Stream = "probe", window: Window = window_default
    ) -> JSONResponse:
        return _json(query.matrix(store, Selection(clock(), measure=measure, stream=stream, window=window)))

    @router.get(
        "/series", summary="One measure over time, a line a series, at the finest resolution that fits"
    )
    def series(
        measure: Measure = "top1_swap",
        stream: Stream = "probe",
        kind: Literal["all", "pair", "replica", "again", "batch", "refresh", "gaps"] = "all",
        a: Replica = None,
        b: Replica = None,
        end: Annotated[float | None, Query(gt=0, lt=1e11, description="Seconds since 1970; now.")] = None,
        seconds: Annotated[float, Query(gt=0, le=400 * 86_400, description="Length of the range.")] = 86_400,
        points: Annotated[int, Query(ge=1, le=2000, description="Most points a line.")] = 400,
    ) -> JSONResponse:
        until = clock() if end is None else end
        selection = Selection(
            until, window=seconds, measure=measure, stream=stream, kind=kind, a=a, b=b, points=points
        )
        return _json(query.lines(store, selection))

    @router.get("/slices", summary="One measure by slice")
    def slices(
        measure: Measure = "top1_swap",
        stream: Stream = "probe",
        a: Replica = None,
        b: Replica = None,
        window: Window = window_default,
    ) -> JSONResponse:
        selection = Selection(clock(), measure=measure, stream=stream, window=window, a=a, b=b)
        return _json(query.slices(store, selection))

    @router.get("/odd-one-out", summary="Each replica's own noise, and who stands out")
    def odd_one_out(stream: Stream = "probe", window: Window = window_default) -> JSONResponse:
        return _json(query.odd_one_out(store, Selection(clock(), stream=stream, window=window)))

    @router.get("/ladder", summary="One measure by level of the noise ladder")
    def ladder(
        measure: Measure = "top1_swap", stream: Stream = "probe", window: Window = window_default
    ) -> JSONResponse:
        return _json(query.ladder(store, Selection(clock(), measure=measure, stream=stream, window=window)))

    @router.get("/alerts", summary="Alerts, the newest first")
    def alerts(
        state: Literal["pending", "firing", "resolved"] | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    ) -> JSONResponse:
        standing = standing_alerts(store, clock())
        stored = query.alerts(store, state=state, limit=limit)
        raised = [alert for alert in standing if alert.id is None and state in (None, alert.state)]
        return _json([*raised, *stored][:limit])

    @router.get("/silences", summary="Silences that are not over, the first to end first")
    def silences() -> JSONResponse:
        return _json(
            [{"id": entry.id, **entry.silence.model_dump()} for entry in stored_silences(store, clock())]
        )

    @router.post(
        "/silences", summary="Silence a rule's alerts with these labels for some hours", status_code=201
    )
    def silence(request: Request, new_silence: NewSilence) -> JSONResponse:
        now = clock()
        start = datetime.fromtimestamp(now, timezone.utc)
        entry = Silence(
            rule=new_silence.rule,
            labels=new_silence.labels,
            start=start,
            end=start + timedelta(hours=new_silence.hours),
            comment=new_silence.comment,
            author=_author(request, settings, new_silence.author),
        )
        return JSONResponse({"id": add_silence(store, entry, now)}, 201)

    @router.delete("/silences/{number}", summary="End a silence now", status_code=204)
    def unsilence(request: Request, number: int) -> Response:
        _same_site(request)
        end_silence(store, number, clock())
        return Response(status_code=204)

    @router.post(
        "/alerts/{number}/acknowledge", summary="Take an alert on: nobody else is notified until it ends"
    )
    def take_on(request: Request, number: int, acknowledgement: Acknowledgement) -> JSONResponse:
        author = _author(request, settings, acknowledgement.author)
        acknowledge(store, number, author, clock())
        return JSONResponse({"id": number, "acknowledged_by": author})

    @router.get("/gateways", summary="Which replicas the gateways send calls to, calls and errors")
    def gateway_states() -> JSONResponse:
        return _json(gateways.states())

    @router.get("/events", summary="Refreshes and replicas that may not be compared, the newest first")
    def events(
        seconds: Annotated[float, Query(gt=0, le=400 * 86_400)] = 86_400,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    ) -> JSONResponse:
        now = clock()
        return _json(query.events(store, Selection.between(now - seconds, now + 1), limit=limit))

    @router.get(
        "/views/{page}/{panel}.{kind}", summary="What a panel of a page shows, as CSV, JSON or Plotly figure"
    )
    def view(
        page: str,
        panel: str,
        kind: Literal["csv", "json", "figure"],
        address: Annotated[Address, Depends(_address)],
        theme: Literal["light", "dark"] = "light",
    ) -> Response:
        page_context = context(
            address.to(page, **{n: getattr(address, n) for n in ("a", "b", "request", "feature", "value")}),
            theme,
        )
        panel_shown = _find(page_context, panel)
        if kind == "csv":
            return PlainTextResponse(panel_csv(panel_shown), media_type="text/csv; charset=utf-8")
        if kind == "json":
            return _json(list(panel_shown.rows))
        return _json(picture_of(panel_shown, page_context.palette))

    @router.get("", include_in_schema=False)
    @router.get("/{rest:path}", include_in_schema=False)
    def nothing(rest: str = "") -> JSONResponse:
        # else a misspelt path would get a page, and a program that asked for JSON a 200 of HTML
        return JSONResponse({"detail": "no such path; /api/openapi.json has them all"}, 404)

    return router


class NewSilence(BaseModel):
    """A silence as a caller asks for it."""

    rule: Annotated[str, Field(min_length=1, max_length=250)]
    labels: dict[str, str] = {}
    hours: Annotated[float, Field(gt=0, le=LONGEST_SILENCE / 3600)]
    comment: Annotated[str, Field(min_length=1, max_length=2000)]
    author: Annotated[str, Field(max_length=250)] = ""


class Acknowledgement(BaseModel):
    """Who takes an alert on."""

    author: Annotated[str, Field(max_length=250)] = ""


def _author(request: Request, settings: DashboardSettings, claimed: str) -> str:
    """Who acts: what the trusted proxy says, else what the caller says."""
    _same_site(request)
    if settings.trust_header is None:
        return claimed
    return request.headers.get(settings.trust_header, "")


def _same_site(request: Request) -> None:
    """A page of another site must not act in the reader's name: browsers say where a request comes from.

    Raises:
        UserError: the request comes from another origin, or is a form that any page could send.
    """
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise UserError(f"a change must come from this dashboard's own pages. Received: origin {origin!r}")
    if request.method == "POST" and not request.headers.get("content-type", "").startswith(
        "application/json"
    ):
        raise UserError("a change must be sent as application/json")


def _address(
    stream: Stream = "probe",
    measure: Measure = "top1_swap",
    window: Annotated[str, Query(description=f"One of {', '.join(WINDOWS)}.")] = "24h",
    a: Annotated[str, Query(max_length=400)] = "",
    b: Annotated[str, Query(max_length=400)] = "",
    request: Annotated[str, Query(max_length=400)] = "",
    feature: Annotated[str, Query(max_length=400)] = "",
    value: Annotated[str, Query(max_length=400)] = "",
    start: Annotated[str, Query(max_length=40, description="Fixes the range, with `end`: ISO 8601.")] = "",
    end: Annotated[str, Query(max_length=40)] = "",
    zone: Annotated[str, Query(max_length=60, description="IANA zone of times without an offset.")] = "",
    compare: Annotated[
        str, Query(max_length=10, description="24h or 7d: the range so long before, too.")
    ] = "",
) -> Address:
    if window not in WINDOWS:
        raise UserError(f"`window` must be one of {', '.join(WINDOWS)}. Received: {window!r}")
    address = Address(
        page="overview",
        stream=stream,
        measure=measure,
        window=window,
        a=a,
        b=b,
        request=request,
        feature=feature,
        value=value,
        start=start,
        end=end,
        zone=zone,
        compare=compare,
    )
    for name in ("start", "end", "zone", "compare"):
        if getattr(parse("", address.query), name) != getattr(address, name):
            raise UserError(
                f"`{name}` cannot be read, or the range is no range. Received: {getattr(address, name)!r}"
            )
    return address


def _find(context: Context, key: str) -> Panel:
    page = PAGES.get(context.address.page)
    if page is None:
        raise UserError(f"the page must be one of {', '.join(PAGES)}. Received: {context.address.page!r}")
    panels = {panel.key: panel for panel in page.build(context).panels}
    if key not in panels:
        raise UserError(f"the panel must be one of {', '.join(panels)}. Received: {key!r}")
    return panels[key]


def _json(value: Any) -> JSONResponse:
    return JSONResponse(plain(value))
