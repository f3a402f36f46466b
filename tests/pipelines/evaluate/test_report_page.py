"""The page and the sentence: plain words, escaped names, nothing from the network, both colour schemes."""

import copy
import html
import math
import re
import xml.etree.ElementTree as ET

import pytest

from pipelines.evaluate.page import between, number, page, request_name, seconds
from pipelines.evaluate.pictures import draw
from pipelines.evaluate.quality import MEASURES, quality_values, shard_sums
from pipelines.evaluate.replicas import TrainedReplica
from pipelines.evaluate.report import build
from pipelines.evaluate.sentence import agreement, budget_verdict, contest, sentence, training_warning
from pipelines.evaluate.shard import measure_shard
from ranker import wording
from tests.pipelines.evaluate.conftest import NASTY

ARMS = ("smelu", "relu")


@pytest.fixture
def report(predictions):
    table = predictions(120, 1)
    replicas = {
        a: [TrainedReplica(a, i, 1, f"key{i}", 5, 10 + i, "/somewhere") for i in range(3)] for a in ARMS
    }
    result = measure_shard(table, {arm: [r.name for r in found] for arm, found in replicas.items()})
    label = table["label"].to_numpy()
    quality = {
        name: quality_values(means, [shard_sums(label, table[name].to_numpy())])
        for name, means in result.quality.items()
    }
    baseline = {"model": "logistic regression", **quality["relu/0"], "trained_rows": 10, "train_rows": 1000}
    baseline["auc"] = 0.4
    head = {
        "experiment": f"x {NASTY}",
        "inputs": "0",
        "data": "d",
        "versions": {"numpy": "2"},
        "stages": {"train": 61},
        "counters": {"train": {"trained": 1200, "reused": 1}},
    }
    return build(head, replicas, result, quality, baseline, {"top1_swap": 0.1})


def test_what_is_to_be_said_about_the_rows_stands_at_the_top(report):
    remark = {"subject": "events", "level": "warning", "text": "5 rejected <b>", "rows": 5}
    text = page({**report, "remarks": [remark]})
    assert text.index("events: 5 rejected &lt;b&gt;") < text.index("<h2>Quality</h2>")
    assert "<details open>" in text
    assert "The rows these are measured on" not in page({**report, "remarks": []})


def test_names_are_escaped_wherever_they_stand(report):
    report["arms"] = {NASTY if arm == "relu" else arm: found for arm, found in report["arms"].items()}
    report["contrasts"][0]["arm"] = NASTY
    for exemplar in report["arms"]["smelu"]["exemplars"]:
        exemplar["request"] = NASTY
    text = page(report)
    assert "<b onmouseover" not in text
    assert text.count("&lt;b onmouseover") > 8
    for svg in draw(report).values():
        ET.fromstring(svg)


def with_training(report, pilot=None):
    """The report of replicas that were trained for three epochs."""
    for i, summary in enumerate(report["arms"].values()):
        summary["training"] = {"ended_by": f"why {NASTY}", "loss": [0.6, 0.5 + i / 10, 0.4], "pilot": pilot}
    return report


def test_the_training_is_drawn_with_the_pilot_that_chose_its_length(report):
    assert "training" not in draw(report)  # one epoch is no curve
    pilot = {
        "epochs": 3,
        "training": [0.6, 0.5, 0.4, 0.3],
        "validation": [0.6, 0.5, 0.45, 0.5],
        "rows": 1234,
        "reason": "because",
    }
    svg = draw(with_training(report, pilot))["training"]
    for text in ("smelu, training rows", "relu, training rows", "pilot, 1,234 held-out rows"):
        assert text in svg
    text = page(report)
    assert "The dashed line is the number of epochs that the pilot chose." in text
    assert "smelu: why &lt;b onmouseover" in text
    without = with_training(report)
    assert "pilot" not in draw(without)["training"]
    assert "dashed line" not in page(without)


def test_page_stands_alone(report):
    text = page(report)
    assert "<script" not in text
    assert "trained 1,200, reused 1" in text
    addresses = set(re.findall(r"https?://[^\"'\s<>]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"(src|href)=\"(?!#)", text.replace("xlink:href", "href"))
    assert text.index(report["sentence"].split(NASTY)[0][:40]) < text.index("<svg")


def test_measures_have_the_names_and_units_of_the_catalogue(report):
    text = page(report)
    shown = re.sub(r"<style>.*?</style>|<[^>]*>", " ", text, flags=re.DOTALL)
    for label in {label for found in report["arms"].values() for label in found["divergence"]}:
        assert wording.title(label) in text
        assert (
            not re.search(rf"(?<![\w@]){re.escape(label)}(?![\w@])", shown)
            or label == wording.title(label).lower()
        )
    headings = re.findall(r"<th>(.*?)</th>", text)
    for heading in headings:
        plain = re.sub("<[^>]*>", "", heading)
        if plain in wording.TERMS:
            assert html.escape(wording.TERMS[plain], quote=True) in heading
    assert {"Arm", "Measure", "Pair", "Replica"} <= {re.sub("<[^>]*>", "", heading) for heading in headings}
    at_relu = report["arms"]["relu"]["divergence"]["top1_swap"]
    assert f"{wording.amount('top1_swap', at_relu['value'])}<small>" in text


def test_pictures_take_the_colours_of_the_page_and_are_the_same_every_time(report):
    pictures = draw(report)
    assert set(pictures) == {"disagreement", "gap", "plane"}
    for name, svg in draw(copy.deepcopy(report)).items():
        assert svg == pictures[name]
        assert "currentColor" in svg
        assert not re.search(r"#000000|#ffffff|\bblack\b|\bwhite\b", svg)


def test_a_report_without_pairs_or_labels_of_both_classes_still_makes_a_page(report):
    for found in report["arms"].values():
        found.update(pairs=[], divergence={}, swap_by_gap=[], exemplars=[])
        found["replicas"] = [
            {**r, "divergence": {}, "quality": dict.fromkeys(r["quality"])} for r in found["replicas"]
        ]
        found["quality"] = {measure: {"mean": None, "std": None} for measure in found["quality"]}
    report["contrasts"] = []
    report["baseline"] = {"model": None, "reason": "one class only"}
    text = page(report)
    assert "<svg" not in text
    assert "one class only" in text


def test_reports_have_no_value_that_json_has_not(predictions):
    table = predictions(1, 3)
    replicas = {arm: [TrainedReplica(arm, i, 1, "key", 1, 1, "") for i in range(3)] for arm in ARMS}
    result = measure_shard(table, {arm: [r.name for r in found] for arm, found in replicas.items()})
    quality = {name: dict.fromkeys(MEASURES, math.nan) for name in result.quality}
    report = build({"experiment": "one"}, replicas, result, quality, {"model": None, "reason": "-"}, {})
    import json

    json.dumps(report, allow_nan=False)
    assert report["arms"]["smelu"]["quality"]["auc"] == {"mean": None, "std": None}


def test_rates_have_no_interval_below_zero(report):
    for found in report["arms"].values():
        for label, at in found["divergence"].items():
            assert at["low"] >= 0 or label == "bias", label


def found(value, low, high, count=3, **others):
    divergence = {"top1_swap": at(value, low, high), "rpd_sym": at(0.03, 0.028, 0.032), **others}
    return {"replicas": [{}] * count, "divergence": divergence, "quality": {"auc": {"mean": 0.75}}}


@pytest.mark.parametrize(
    ("auc", "baseline", "steps", "says"),
    [
        (
            0.563,
            0.765,
            28,
            "smelu has learned less than logistic regression: AUC 0.563 against 0.765 after 28 steps; "
            "swap rates of a model that has learned too little say little.",
        ),
        (0.765, 0.765, None, "smelu has learned less than logistic regression: AUC 0.765 against 0.765; "),
        (0.8, 0.765, 28, "smelu was trained for 28 steps only, to an AUC of 0.800; "),
        (0.8, None, 1, "smelu was trained for 1 step only"),
        (0.8, 0.765, 100, "The 3 replicas of smelu agree within the budget"),
        (0.8, 0.765, None, "The 3 replicas of smelu agree within the budget"),
        (0.8, float("nan"), 500, "The 3 replicas of smelu agree within the budget"),
    ],
)
def test_the_sentence_begins_with_what_has_not_been_learned(auc, baseline, steps, says):
    arm = found(0.03, 0.02, 0.04)
    arm["replicas"] = [{"steps": steps}] * 3
    arm["quality"]["auc"]["mean"] = auc
    contrast = {"arm": "relu", "against": "smelu", "measures": {"top1_swap": at(0.1, 0.05, 0.15)}}
    report = {
        "arms": {"smelu": arm, "relu": {**found(0.1, 0.09, 0.11), "replicas": [{"steps": 900}] * 3}},
        "contrasts": [contrast],
        "baseline": {"auc": baseline},
        "budget": {"top1_swap": 0.05},
        "counts": {"rankable": 1234},
    }
    report["arms"]["relu"]["quality"]["auc"]["mean"] = 0.9
    text = sentence(report)
    assert text.startswith(says)
    is_warning = not says.startswith("The 3")
    assert ("agree within" in text, "steadier" in text) == (not is_warning, not is_warning)


def at(value, low, high):
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.02, 0.05, "agree within the budget:"),
        (0.06, 0.08, "disagree more than the budget allows:"),
        (0.04, 0.06, "may or may not agree within the budget, more requests would tell:"),
    ],
)
def test_agreement_is_judged_by_the_interval(low, high, says):
    text = agreement("smelu", found((low + high) / 2, low, high), {"top1_swap": 0.05}, 1234)
    assert text.startswith(f"The 3 replicas of smelu {says}")
    assert "of 1,234 requests" in text


def test_a_budget_names_measures_with_or_without_their_depth():
    divergence = {"set_churn@10": at(0.3, 0.25, 0.35)}
    assert budget_verdict(divergence, {"set_churn": 0.2}) == "over"
    assert budget_verdict(divergence, {"set_churn@10": 0.4}) == "within"
    assert budget_verdict(divergence, {"set_churn@10": 0.3}) == "open"


def test_the_steadier_arm_wins_only_where_the_interval_leaves_zero_out():
    arms = {"smelu": found(0.07, 0.06, 0.08), "relu": found(0.12, 0.1, 0.14)}

    def against(value, low, high):
        return contest(
            {"arm": "relu", "against": "smelu", "measures": {"top1_swap": at(value, low, high)}}, arms
        )

    assert against(0.05, 0.03, 0.07).startswith(
        "smelu is steadier than relu: its first item changes 5.0 percentage points (3.0 to 7.0) less often"
    )
    assert against(-0.05, -0.07, -0.03).startswith(
        "relu is steadier than smelu: its first item changes 5.0 percentage points (3.0 to 7.0) less often"
    )
    assert "no difference" in against(0.01, -0.01, 0.03)
    assert against(math.nan, math.nan, math.nan) == ""


def test_one_replica_or_requests_of_one_candidate_have_no_verdict():
    assert "nothing to compare" in agreement("smelu", found(0, 0, 0, count=1), {}, 10)
    assert "no request has two candidates" in agreement("smelu", found(math.nan, math.nan, math.nan), {}, 0)


def test_numbers_for_people():
    assert [number(x) for x in (None, 0.0, 0.12345, 0.00001234, -0.5, 12.0)] == [
        "n/a",
        "0.0000",
        "0.1235",
        "1.2e-05",
        "-0.5000",
        "12.0000",
    ]
    assert between(at(0.1, None, None), "top1_swap") == "interval unknown"
    assert between(at(0.1, 0.05, 0.2), "top1_swap") == "5.0 to 20.0"
    assert [seconds(x) for x in (1.23, 130.0)] == ["1.2 s", "2.2 min"]
    assert request_name("7\x1fmobile") == "7 / mobile"


@pytest.mark.parametrize(
    ("pilot", "warns"),
    [
        (None, True),
        ({"auc": [0.7, 0.8, 0.79], "validation": [0.5, 0.4, 0.3]}, False),
        ({"auc": [0.7, 0.75, 0.8], "validation": [0.5, 0.4, 0.41]}, True),  # it was still rising
        ({"auc": [], "validation": [0.5, 0.4, 0.41]}, False),
        ({"auc": [], "validation": [0.5, 0.42, 0.41]}, True),
    ],
)
def test_few_steps_that_a_pilot_chose_are_no_lack_of_training(pilot, warns):
    arm = found(0.03, 0.02, 0.04)
    arm["replicas"] = [{"steps": 60}] * 3
    arm["training"] = {"ended_by": "", "loss": [], "pilot": pilot}
    assert bool(training_warning("smelu", arm, {"auc": 0.7})) == warns
