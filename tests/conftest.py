"""Process-wide test settings: Keras 2 for TFRS, quiet TensorFlow, CPU only."""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import pytest

from tests.object_store import bucket, object_store  # noqa: F401  (fixtures)

_LEAVE_NOTHING_OUT = os.environ.get("STEADY_RANKER_LEAVE_NOTHING_OUT") == "1"


def pytest_collection_modifyitems(config, items):
    """Leaves slow and cluster campaigns to their own targets, unless they are asked for with -m."""
    if config.option.markexpr:
        return
    chosen, left = [], []
    for item in items:
        (
            left
            if {"slow", "flink", "spark", "frameworks", "bare"} & {mark.name for mark in item.iter_markers()}
            else chosen
        ).append(item)
    items[:] = chosen
    if left:
        config.hook.pytest_deselected(items=left)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where nothing may be left out, a missing server or browser is a failure and not a skip."""
    report = yield
    needs = {"browser", "postgres", "prometheus", "alertmanager", "nginx"} & {
        mark.name for mark in item.iter_markers()
    }
    if _LEAVE_NOTHING_OUT and report.skipped and needs and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"left out, but nothing may be left out here: {report.longrepr}"
    return report
