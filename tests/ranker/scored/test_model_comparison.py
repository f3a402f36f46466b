"""Models compared by what they scored: the result, the front door for frames, and the command."""

import json
import math
import subprocess
import sys

import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet
import pytest

from ranker.divergence import RequestBatch, compare
from ranker.divergence.compare import compare_batch
from ranker.errors import UserError


def simulated(requests=300, candidates=8, noises=(0.1, 0.1), seed=1):
    """Rows of models that see one truth with noise of their own."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(-1, 1, (requests, candidates))
    rows = {
        "session": np.repeat([f"s{n:04d}" for n in range(requests)], candidates),
        "sku": np.tile([f"item {n}" for n in range(candidates)], requests),
        "clicked": (generator.random(truth.shape) < 1 / (1 + np.exp(-truth))).ravel().astype(int),
    }
    for position, noise in enumerate(noises):
        logits = truth + generator.normal(0, noise, truth.shape)
        rows[f"model{position}"] = (1 / (1 + np.exp(-logits))).ravel()
    return rows


COLUMNS = {"request": "session", "item": "sku", "scores": ["model0", "model1"]}


def as_arrow(rows):
    return pa.table({name: pa.array(values) for name, values in rows.items()})


@pytest.mark.parametrize("make", [dict, as_arrow, polars.DataFrame], ids=["mapping", "arrow", "polars"])
def test_every_frame_gives_what_a_batch_gives(make):
    rows = simulated()
    result = compare(make(rows), **COLUMNS, label="clicked")
    batch = RequestBatch.from_rows(
        rows["session"], rows["sku"], [rows["model0"], rows["model1"]], replicas=["model0", "model1"]
    )
    expected = compare_batch(batch)
    assert set(result.measures) == set(expected.means)
    for label, interval in result.measures.items():
        # Both add the same numbers, in chunks of other sizes.
        assert interval.value == pytest.approx(expected.means[label].value, rel=1e-12, abs=1e-15)
    assert result.requests == 300
    assert result.exit_code == 0
    assert 0.5 < result.quality["model0"]["auc"] < 1


def test_pandas_frames_when_pandas_is_there():
    pandas = pytest.importorskip("pandas", reason="pandas is not part of the environment")
    rows = simulated()
    result = compare(pandas.DataFrame(rows), **COLUMNS)
    assert result.measures == compare(rows, **COLUMNS).measures
    assert set(result.to_frame().columns) >= {"measure", "value", "low", "high"}


def test_logits_and_other_scores():
    rows = simulated()
    logits = {**rows}
    for name in COLUMNS["scores"]:
        logits[name] = np.log(rows[name] / (1 - rows[name]))
    probabilities = compare(rows, **COLUMNS)
    for label, interval in compare(logits, **COLUMNS, scale="logit").measures.items():
        assert interval.value == pytest.approx(probabilities.measures[label].value, rel=1e-9, abs=1e-12)
    ordered = compare(logits, **COLUMNS)
    assert ordered.scale == "order"
    assert "rpd_sym" in ordered.left_out
    assert "consensus_regret" in ordered.left_out
    assert any("logit" in note for note in ordered.notes)
    for label, interval in ordered.measures.items():
        assert interval.value == pytest.approx(probabilities.measures[label].value, abs=1e-12)
    assert ordered.examples


def test_logits_in_a_batch_are_an_error_and_not_an_empty_answer():
    batch = RequestBatch.from_rows([1, 1], [1, 2], [[-3.0, 2.0], [-2.0, 3.0]])
    with pytest.raises(UserError, match=r"probabilities within \[0, 1\].*0 2, 1 2"):
        compare(batch)


def test_two_arrays_are_told_what_they_need():
    with pytest.raises(UserError, match="`request`, `item` and `scores`") as caught:
        compare(np.array([0.1, 0.2]), np.array([0.1, 0.3]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item": "none"}, "must have the column none"),
        ({"scores": ["model0"]}, "at least two columns"),
        ({"scores": ["model0", "sku"]}, "column sku must hold numbers"),
        ({"budget": {"swap": 0.1}}, "a budget must be for one of"),
        ({"budget": {"top1_swap": -1.0}}, "number >= 0"),
        ({"scale": "order", "budget": {"rpd_sym": 0.1}}, "needs probabilities"),
        ({"label": "model0"}, "labels must be 0 or 1"),
        ({"slices": ["device"]}, "must have the column device"),
        ({"slices": "sku"}, "must be a list of columns"),
    ],
)
def test_mistakes(change, message):
    with pytest.raises(UserError, match=message):
        compare(simulated(requests=3), **{**COLUMNS, **change})


def test_the_odd_model_is_named():
    rows = simulated(requests=500, noises=(0.05, 0.05, 0.05, 0.8))
    result = compare(rows, request="session", item="sku", scores=[f"model{n}" for n in range(4)])
    assert [model.replica for model in result.odd] == ["model3"]
    assert "model3" in result.sentence


def test_coverage_is_said():
    rows = simulated(requests=10)
    rows["model1"] = np.where(rows["session"] == "s0003", math.nan, rows["model1"])
    result = compare(rows, **COLUMNS)
    assert result.requests == 9
    assert result.coverage[1].answered == 9
    assert result.coverage[1].not_finite_rows == 8
    assert "Left out: 1 of 10 requests of model1" in result.sentence
    words = "model1: 10 asked, 9 answered, 1 left out (invalid_score 1, first s0003); rows: 8 not finite"
    assert result.coverage[1].sentence == words
    assert result.to_dict()["coverage"][1]["left_out"] == {"invalid_score": {"requests": 1, "first": "s0003"}}
    page = result.to_html()
    assert words in page


def test_budgets_decide_the_exit_code():
    rows = simulated(noises=(0.3, 0.3))
    value = compare(rows, **COLUMNS).measures["top1_swap"]
    for limit, code in ((value.high + 0.01, 0), (value.low - 0.01, 1), (value.value, 2)):
        assert compare(rows, **COLUMNS, budget={"top1_swap": limit}).exit_code == code


def test_names_are_escaped_and_the_page_is_whole():
    rows = simulated(requests=20)
    hostile = "<script>alert(1)</script>"
    rows[hostile] = rows.pop("model1")
    result = compare(rows, request="session", item="sku", scores=["model0", hostile])
    for text in (result.to_html(), result._repr_html_()):
        assert "<script>" not in text
        assert "&lt;script&gt;" in text
    assert "http" not in result.to_html()
    assert len(repr(result)) < 400
    json.dumps(result.to_dict(), allow_nan=False)
    assert result.plot().get_axes()


def sliced_rows():
    """300 requests from three devices; the second model is noisy on phones, and for books."""
    rows = simulated(noises=(0.01, 0.01))
    request = np.array([int(name[1:]) for name in rows["session"]])
    item = np.array([int(name.split()[1]) for name in rows["sku"]])
    rows["device"] = np.array(["phone", "desktop", ""])[request % 3]
    rows["kind"] = np.where(item < 4, "book", "film")
    rows["price"] = request + 0.5
    noise = np.random.default_rng(5).random(len(request))
    rows["model1"] = np.where(rows["device"] == "phone", noise, rows["model1"])
    return rows


@pytest.mark.parametrize("make", [dict, as_arrow, polars.DataFrame], ids=["mapping", "arrow", "polars"])
def test_slices_are_what_a_comparison_of_their_rows_gives(make):
    rows = sliced_rows()
    result = compare(make(rows), **COLUMNS, slices=["device", "kind", "price"])
    parts = {(part.column, part.value): part for part in result.slices}
    assert [value for column, value in parts if column == "device"] == ["desktop", "phone", "(missing)"]
    assert [value for column, value in parts if column == "price"] == [
        "0.5 to under 75.25",
        "75.25 to under 150",
        "150 to under 224.75",
        "224.75 to 299.5",
    ]
    for column, value in [("device", "phone"), ("device", "desktop"), ("kind", "book"), ("kind", "film")]:
        chosen = rows[column] == value
        expected = compare({name: values[chosen] for name, values in rows.items()}, **COLUMNS)
        part = parts[column, value]
        assert part.rows == chosen.sum()
        assert part.by_request == (column == "device")
        assert part.requests == expected.requests
        for label, interval in result.intervals(part.comparison.means).items():
            # Both add the same numbers, in another order.
            assert interval.value == pytest.approx(expected.measures[label].value, rel=1e-9, abs=1e-12)
    assert sum(part.rows for part in result.slices if part.column == "price") == result.rows
    report = result.to_dict()
    json.dumps(report, allow_nan=False)
    swaps = {
        part["value"]: part["measures"]["top1_swap"]["value"]
        for part in report["slices"]
        if part["column"] == "device"
    }
    assert swaps["phone"] > 0.5 > swaps["desktop"]
    page = result.to_html()
    assert "By device" in page
    assert "a list of their own" in page


def test_slices_of_whole_numbers_of_few_values_and_of_a_single_value():
    rows = sliced_rows()
    rows["year"] = np.where(rows["device"] == "phone", 2024, 2025)
    rows["one"] = np.full(len(rows["sku"]), 7.0)
    rows["absent"] = np.full(len(rows["sku"]), np.nan)
    result = compare(rows, **COLUMNS, slices=["year", "one", "absent"], scale="order")
    assert [(part.column, part.value, part.requests) for part in result.slices] == [
        ("year", "2025", 200),
        ("year", "2024", 100),
        ("one", "7", 300),
        ("absent", "(missing)", 300),
    ]
    assert "rpd_sym" not in result.to_dict()["slices"][0]["measures"]


def test_rare_values_are_one_slice_and_a_column_that_contradicts_itself_is_said():
    rows = sliced_rows()
    rows["city"] = np.array([f"city {int(name[1:]) % 9}" for name in rows["session"]])
    result = compare(rows, **COLUMNS, slices=["city"])
    assert [part.value for part in result.slices] == [*(f"city {n}" for n in range(5)), "(other)"]
    doubled = {name: np.concatenate([values, values[:2]]) for name, values in rows.items()}
    doubled["city"][-1] = "elsewhere"
    noted = compare(doubled, **COLUMNS, slices=["city"])
    # Each model's row is counted.
    assert any("column city: 2 rows have another value" in note for note in noted.notes)


def test_the_command(tmp_path):
    rows = simulated()
    for position in range(2):
        table = as_arrow(
            {**{k: rows[k] for k in ("session", "sku", "clicked")}, "p": rows[f"model{position}"]}
        )
        pa.parquet.write_table(table, tmp_path / f"model{position}.parquet")

    def ranker_compare(*arguments):
        base = [
            "compare",
            "model0.parquet",
            "model1.parquet",
            "--request",
            "session",
            "--item",
            "sku",
            "--score",
            "p",
        ]
        return subprocess.run(
            [sys.executable, "-m", "ranker.cli", *base, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    done = ranker_compare("--json", "--label", "clicked", "--html", "report.html", "--output", "report.json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    expected = compare(rows, **COLUMNS, label="clicked")
    assert report["measures"]["top1_swap"]["value"] == expected.measures["top1_swap"].value
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert "<html" in (tmp_path / "report.html").read_text()
    assert ranker_compare("--budget", "top1_swap=0").returncode == 1
    sliced = json.loads(ranker_compare("--json", "--slice", "clicked", "--slice", "sku").stdout)["slices"]
    assert {part["column"] for part in sliced} == {"clicked", "sku"}
    assert "clicked 1: top1_swap" in ranker_compare("--slice", "clicked").stdout
    for arguments in (
        ["--budget", "top1_swap"],
        ["--scale", "odds"],
        ["--label", "none"],
        ["--slice", "none"],
    ):
        mistake = ranker_compare(*arguments)
        assert mistake.returncode == 3
        assert mistake.stderr.count("\n") == 1
