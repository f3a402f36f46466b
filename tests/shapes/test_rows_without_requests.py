"""A log that tells no requests apart: predictions are compared, lists are not."""

import math

import pyarrow.parquet as pq
import pytest

from ranker import layout
from tests.pipelines.prepare.small_log import read_rows

LISTS = ("gauc", "ndcg@10", "ranking_loss")


@pytest.fixture(scope="module")
def worked(work):
    """Products of embeddings without a number beside them, too, which trained to an AUC of a half once."""
    return work(
        data__request=None,
        data__split={"by": "hash", "of": ["request", "doc"], "eval": 0.25},
        features__age=None,
        features__price=None,
        model__interaction="dot",
    )


def test_every_row_is_a_request_of_its_own(worked):
    rows = read_rows(worked.run, "eval")
    assert len({row["__request__"] for row in rows}) == len(rows) > 100
    counts = worked.report["counts"]
    assert counts["requests"] == counts["rows"] == len(rows)
    assert counts["rankable"] == 0
    assert len(pq.read_table(layout.probe_path(worked.run))) == len(rows)


def test_pointwise_measures_are_there_and_those_of_lists_are_not(worked):
    assert worked.quality["auc"] > 0.7
    assert 0 < worked.quality["logloss"] < 0.7
    assert worked.report["arms"]["smelu"]["calibration"]["calibration"]["mean"] == pytest.approx(1, abs=0.5)
    assert worked.divergence["rpd_sym"] > 0
    assert all(worked.quality[name] is None for name in LISTS)
    swap = worked.divergence["top1_swap"]
    assert swap is None or math.isnan(swap)


def test_the_report_says_why(worked):
    remarks = {remark["subject"]: remark for remark in worked.report["remarks"]}
    assert "measures of lists" in remarks["data.request"]["text"]
    assert "data.request" in (worked.run / "evaluation" / "report.html").read_text()
