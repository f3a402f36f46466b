"""How every number is made: the formulas of the measures come from the catalogue, those of the method stand here."""

from __future__ import annotations

from dash import html

from ranker import wording
from ranker.divergence import CATALOGUE, LEVELS
from serving.dashboard.layout import parts
from serving.dashboard.layout.context import Content, Context, Panel

_WEIGHTS = {
    "request": "each request counts once",
    "example": "each candidate counts once",
    "prediction": "each expected click counts once",
}


def build(context: Context) -> Content:
    """Measures, uncertainty, attribution, the verdict, the API."""
    return Content([html.H1("Methods")], [_measures(context), _uncertainty(context), _levels(), _interface()])


def _measures(context: Context) -> Panel:
    cells = []
    rows = []
    for name, entry in CATALOGUE.items():
        label = name.replace("@k", f"@{context.settings.k}").replace("@t", "@0.5")
        cells.append(
            [
                [html.Strong(wording.title(label)), html.Br(), html.Code(name)],
                [entry.title.replace("`", ""), html.Br(), html.Code(entry.formula, className="formula")],
                [
                    entry.range,
                    html.Br(),
                    html.Span(f"{entry.unit}; {_WEIGHTS[entry.weight]}", className="note"),
                ],
            ]
        )
        rows.append(
            {
                "measure": name,
                "title": wording.title(label),
                "what": entry.title,
                "formula": entry.formula,
                "range": entry.range,
                "unit": entry.unit,
                "weight": entry.weight,
                "source": entry.source,
            }
        )
    shown = parts.table(["Measure", "What and how", "Range and unit"], cells, caption="Measures")
    note = (
        "A replica's order sorts by score, the highest first, then by item id: the same tie-break everywhere."
    )
    return Panel("measures", "Measures", shown, rows, note=note)


def _uncertainty(context: Context) -> Panel:
    settings = context.settings
    budgets = ", ".join(
        f"{wording.title(label)} {wording.amount(label, value)}" for label, value in settings.budget.items()
    )
    entries = [
        (
            "Verdict",
            f"A measure's excess over its floor is held to its budget ({budgets}). Unstable: the interval's lower end is "
            "above it. Stable: the upper end is within it. Else, or with fewer than "
            f"{settings.enough} requests, there is not enough data. "
            f"Older than {wording.duration(context.snapshot.freshness.limit)} (three intervals of the monitor): stale.",
        ),
        (
            "Floor",
            "What one replica differs from itself, asked twice, alone and inside a batch, in the same round.",
        ),
        (
            "Intervals",
            "95%. The request is the sampling unit: pairs of items within one request are not independent. Wilson for "
            "shares of requests, normal at request level for means, the delta method for ratios. Repeated rounds of the "
            "frozen probe bring no new requests, so its intervals are those of one round. They hold for these replicas.",
        ),
        (
            "Looking again and again",
            "Alerts ask every minute, so they hold a confidence sequence to the budget, which stays right however often "
            "it is asked. Half-width of the sequence after t observations with the given standard deviation. "
            "Formula: s sqrt(2 (t r^2 + 1) / (t^2 r^2) ln(sqrt(t r^2 + 1) / alpha)), "
            "r^2 = (-2 ln alpha + ln(1 - 2 ln alpha)) / t_opt.",
        ),
        (
            "Odd one out",
            "Noise variance of each replica from the mean squared differences of log-odds between replicas. "
            "Formula: s2_i = (r_i - S / (M - 1)) / (M - 2); r_i = sum_j D2_ij, S = sum_(i<j) D2_ij, M >= 3. "
            "A replica is named when its noise is over three times the median after "
            "Holm's correction.",
        ),
        (
            "Near ties",
            "Probability that two replicas disagree on a pair of items, given the mean of their two gaps. "
            "Formula: 2 Phi(-|m| / sigma); m is the mean of the two replicas' gaps, whose deciles the chart shows. "
            "sigma: Standard deviation of one replica's noise on one item's log-odds, as far as it moves gaps. "
            "Formula: sqrt(sum_n sum_i (d_ni - mean_i d_ni)^2 / (2 sum_n (K_n - 1))), d the difference of their "
            "log-odds. More swaps at large gaps than that mean a bug, not noise.",
        ),
        (
            "Kept requests",
            "Every hour the 20 costliest and a uniform sample of 20 are kept whole, by level of noise.",
        ),
    ]
    body = html.Dl(
        [part for term, text in entries for part in (html.Dt(term), html.Dd(text))], className="terms"
    )
    rows = [{"term": term, "text": text} for term, text in entries]
    return Panel("uncertainty", "How it is judged", body, rows, size="half")


def _levels() -> Panel:
    cells = [[html.Strong(level), meaning] for level, meaning in LEVELS.items()]
    rows = [{"level": level, "meaning": meaning} for level, meaning in LEVELS.items()]
    return Panel(
        "levels",
        "Levels of noise",
        parts.table(["Level", "Two replicas differ by"], cells, caption="Levels"),
        rows,
        size="half",
    )


def _interface() -> Panel:
    rows = [
        {"path": "/api/summary", "what": "the verdict and every measure"},
        {"path": "/api/matrix", "what": "one measure between all pairs"},
        {"path": "/api/series", "what": "one measure over time"},
        {
            "path": "/api/views/PAGE/PANEL.csv",
            "what": "what a panel shows; .json: every row and digit",
        },
        {"path": "/api/openapi.json", "what": "all of them, described"},
        {"path": "/metrics", "what": "for Prometheus"},
        {"path": "/healthz", "what": "whether the store answers, and how old the newest round is"},
    ]
    cells = [
        [
            html.A(row["path"], href=row["path"].lstrip("/"))
            if "PAGE" not in row["path"]
            else html.Code(row["path"]),
            row["what"],
        ]
        for row in rows
    ]
    return Panel("interface", "For programs", parts.table(["Path", "What"], cells, caption="Paths"), rows)
