"""Runs Lighthouse over the dashboard's pages, as a desktop and as a phone: `make lighthouse`, on a quiet machine.

It prints a line a page, and ends with 1 where performance is under 0.90 (desktop) or 0.75 (phone), or accessibility under 1.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from serving.dashboard import create_app
from serving.dashboard.pages import PAGES
from tests.serving.dashboard.demo_run import demo_run
from tests.serving.dashboard.live_dashboard import listening
from tests.serving.dashboard.simulated_store import NOW, ODD_NOISE

LEAST = {
    "desktop": {"performance": 0.90, "accessibility": 1.0},
    "phone": {"performance": 0.75, "accessibility": 1.0},
}
FIGURES = {
    "first-contentful-paint": "first paint",
    "largest-contentful-paint": "largest paint",
    "total-blocking-time": "blocked",
    "cumulative-layout-shift": "shift",
}


def lighthouse(program: str, address: str, form: str) -> dict:
    """One report."""
    preset = ["--preset=desktop"] if form == "desktop" else []
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        subprocess.run(
            [
                program,
                address,
                *preset,
                "--only-categories=performance,accessibility",
                "--output=json",
                f"--output-path={report}",
                "--chrome-flags=--headless --no-sandbox --disable-gpu",
                "--quiet",
            ],
            check=True,
            env={**os.environ, "CHROME_PATH": chromium},
        )
        return json.loads(report.read_text(encoding="utf-8"))


def main(program: str, plotly_js: str, pages: list[str]) -> int:
    """Measures every page with a bundle of Plotly; returns the exit code."""
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        settings = demo_run(Path(directory), later=ODD_NOISE, requests=200, candidates=16, slices=("device",))
        settings = replace(settings, plotly_js=Path(plotly_js))
        with listening(create_app(settings, clock=lambda: NOW)) as address:
            for name in pages or list(PAGES):
                for form, least in LEAST.items():
                    report = lighthouse(program, f"{address}/{'' if name == 'overview' else name}", form)
                    scores = {key: report["categories"][key]["score"] for key in least}
                    wrong = [
                        audit["id"]
                        for reference in report["categories"]["accessibility"]["auditRefs"]
                        if (audit := report["audits"][reference["id"]])["score"] == 0
                    ]
                    figures = ", ".join(
                        f"{text} {report['audits'][key]['displayValue']}" for key, text in FIGURES.items()
                    )
                    print(
                        f"{name:12} {form:8} performance {scores['performance']:.2f}  "
                        f"accessibility {scores['accessibility']:.2f}  ({figures}) {' '.join(wrong)}",
                        flush=True,
                    )
                    failed += any(scores[key] < bound for key, bound in least.items())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
