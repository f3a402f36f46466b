"""The stage on real SavedModels: what it writes, what it refuses, and that a second run changes nothing."""

import json
import pickle
import shutil
import tempfile
from pathlib import Path

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from pipelines.compare import CompareReplicas
from pipelines.evaluate import evaluate
from pipelines.evaluate.baseline import COLUMN
from pipelines.evaluate.score import whole_requests
from pipelines.runner import RunnerOptions
from ranker import layout
from ranker.config import build
from ranker.divergence import auc
from ranker.errors import UserError
from tests.pipelines.evaluate.conftest import eval_rows, publish_replicas, tree, write_prepared, write_shard

REPLICAS = [f"{arm}/{replica}" for arm in ("smelu", "relu") for replica in range(2)]


def read_predictions(run: Path) -> pl.DataFrame:
    return pl.concat(
        [pl.read_parquet(path) for path in sorted(layout.predictions_dir(run).glob("*.parquet"))]
    )


def test_report_keeps_its_contract(evaluated, small):
    run, report, lines = evaluated
    assert json.loads(layout.report_path(run).read_text()) == report
    assert report["experiment"] == "small"
    assert report["data"] == "small"
    assert list(report["stages"]) == ["prepare", "train", "evaluate"]
    assert {**report["stages"], "evaluate": 0} == {"prepare": 1.5, "train": 130.0, "evaluate": 0}
    assert report["stages"]["evaluate"] > 0
    assert report["counters"] == {
        "prepare": {"rows": 600},
        "train": {"trained": 4},
        "evaluate": {"rows": report["counts"]["rows"], "shards": 3},
    }
    assert lines[0] == "evaluate: fitting a logistic regression for comparison"
    assert list(report["arms"]) == ["smelu", "relu"]
    for arm, section in report["arms"].items():
        assert [r["name"] for r in section["replicas"]] == [f"{arm}/{i}" for i in range(2)]
        assert set(section["quality"]) == {"auc", "logloss", "gauc", "ndcg@10", "ranking_loss"}
        for measure, quality in section["quality"].items():
            values = [r["quality"][measure] for r in section["replicas"]]
            assert quality == {
                "mean": pytest.approx(np.mean(values)),
                "std": pytest.approx(np.std(values, ddof=1)),
            }
        assert (
            0
            <= section["calibration"]["ece"]["mean"]
            <= 1
            <= section["calibration"]["calibration"]["mean"] + 1
        )
        assert 0 <= section["level_share"] <= 1
        for label in (
            "rpd_sym",
            "rpd_ratio",
            "pd_abs",
            "pd_logit",
            "bias",
            "top1_swap",
            "set_churn@10",
            "pair_inversion",
            "visible_inversion@10",
            "consensus_regret",
        ):
            at = section["divergence"][label]
            assert at["low"] <= at["value"] <= at["high"], label
            assert at["min"] <= at["max"], label
        assert [(p["a"], p["b"]) for p in section["pairs"]] == [(f"{arm}/0", f"{arm}/1")]
        assert section["divergence"]["top1_swap"]["value"] > 0
    assert [c["arm"] for c in report["contrasts"]] == ["relu"]


def test_predictions_are_the_models_own_scores_of_the_rows(evaluated):
    from ranker.backend import tf

    run, _, _ = evaluated
    table = read_predictions(run)
    rows = {name: [] for name in eval_rows(0, 0)}
    for part in (eval_rows(220, 1), eval_rows(60, 3)):
        rows = {name: values + part[name] for name, values in rows.items()}
    assert table.columns == ["request", "item", "label", *REPLICAS, COLUMN]
    assert len(rows["label"]) > layout.BLOCK_ROWS
    for column in ("request", "item", "label"):
        assert table[column].to_list() == rows[column]
    model = tf.saved_model.load(str(layout.version_dir(run, "relu", 1, 1)))
    raw = {
        name: tf.constant(rows[name], tf.float32 if name in ("age", "price") else tf.string)
        for name in ("user", "age", "item", "tags", "price")
    }
    expected = model.signatures["serving_default"](**raw)["score"].numpy()[:, 0]
    np.testing.assert_allclose(table["relu/1"].to_numpy(), expected, atol=1e-6)


def test_report_says_what_the_predictions_say(evaluated):
    run, report, _ = evaluated
    table = read_predictions(run)
    label = table["label"].to_numpy()
    counts = report["counts"]
    assert counts["rows"] == len(table)
    assert counts["positives"] == label.sum()
    assert counts["requests"] == table["request"].n_unique() == 280
    assert counts["repeated"] == 22 + 6
    for section in report["arms"].values():
        for replica in section["replicas"]:
            assert replica["quality"]["auc"] == auc(label, table[replica["name"]].to_numpy())
    assert report["baseline"]["auc"] == auc(label, table[COLUMN].to_numpy())
    assert report["baseline"]["trained_rows"] == len(eval_rows(100, 4)["label"])


def test_nothing_unfinished_is_left(evaluated):
    run, _, _ = evaluated
    names = {path.name for path in layout.evaluation_dir(run).iterdir()}
    assert names == {"report.json", "report.html", "predictions"}
    leftovers = [
        p.name for p in run.iterdir() if p.name.startswith(".evaluation") and not p.name.endswith(".lock")
    ]
    assert leftovers == []


def test_unchanged_inputs_are_skipped_with_a_line(evaluated, small):
    run, report, _ = evaluated
    before = layout.report_path(run).stat().st_mtime_ns
    lines: list[str] = []
    assert evaluate(small, run, progress=lambda line, *_, **__: lines.append(line)) == report
    assert lines == ["evaluate: unchanged, kept"]
    assert layout.report_path(run).stat().st_mtime_ns == before


def test_two_workers_give_the_same(evaluated, small, run):
    first_run, report, _ = evaluated
    leftover = run / ".evaluation-0123456789ab" / "predictions"
    leftover.mkdir(parents=True)  # a run was killed here before
    two = evaluate(small, run, RunnerOptions(workers=2))
    assert not leftover.exists()
    assert two["counters"]["evaluate"] == report["counters"]["evaluate"]
    what_it_took = {"stages": {}, "counters": {}}
    assert json.dumps(two | what_it_took) == json.dumps(report | what_it_took)
    assert read_predictions(run).equals(read_predictions(first_run))


def test_a_shard_that_is_measured_in_parts_gives_the_same(evaluated, small, run, monkeypatch):
    first_run, report, _ = evaluated
    chunks = []

    def counted(*arguments):
        for table in whole_requests(*arguments):
            chunks.append(table)
            yield table

    monkeypatch.setattr("pipelines.evaluate.score.CHUNK_ROWS", 300)
    monkeypatch.setattr("pipelines.evaluate.score.whole_requests", counted)
    parts = evaluate(small, run)
    assert len(chunks) > 3
    requests = [request for chunk in chunks for request in chunk["request"].unique().to_pylist()]
    assert len(requests) == len(set(requests)) == report["counts"]["requests"]
    assert read_predictions(run).equals(read_predictions(first_run))
    assert parts["counts"] == report["counts"]
    for arm, section in report["arms"].items():
        exemplars = parts["arms"][arm]["exemplars"]
        assert [e["request"] for e in exemplars] == [e["request"] for e in section["exemplars"]]
        for part in ("divergence", "quality", "calibration"):
            for label, values in section[part].items():
                # Sums of some thousand terms in another order: relative errors of 1e-13 at most, times 1 / (1 - value).
                assert parts["arms"][arm][part][label] == pytest.approx(values, rel=1e-9, abs=1e-12), label


def test_a_new_version_is_evaluated_again(evaluated, small, run):
    first_run, report, _ = evaluated
    shutil.copytree(layout.evaluation_dir(first_run), layout.evaluation_dir(run))
    layout.version_dir(run, "smelu", 1, 1).rename(layout.version_dir(run, "smelu", 1, 7))
    again = evaluate(small, run)
    assert [r["version"] for r in again["arms"]["smelu"]["replicas"]] == [1, 7]
    assert again["inputs"] != report["inputs"]
    assert again["arms"]["smelu"]["divergence"] == report["arms"]["smelu"]["divergence"]


def test_weights_arms_with_their_own_features_and_a_single_replica(tmp_path):
    changes = tree()
    changes["data"]["weight"] = "weight"
    changes["replicas"] = {"count": 1}
    changes["arms"] = {"few": {"model.hidden": [4]}, "wide": {"features.price.transform": "log1p"}}
    experiment = build(changes, "weighted")
    run = tmp_path / "run"
    write_prepared(run, weighted=True)
    publish_replicas(experiment, run)
    report = evaluate(experiment, run)
    assert pq.read_schema(next(layout.predictions_dir(run).glob("*"))).names[3] == "weight"
    assert report["arms"]["wide"]["quality"]["auc"]["std"] is None
    assert report["arms"]["wide"]["pairs"] == []
    assert report["sentence"].startswith("few has learned less than logistic regression: AUC 0.")
    assert "steadier" not in report["sentence"]
    for arm in report["arms"].values():
        assert arm["quality"]["auc"] != arm["quality_unweighted"]["auc"]
        assert arm["calibration"]["calibration"]["mean"] > 0
    assert (
        "swap rates of a model that has learned too little"
        in (layout.evaluation_dir(run) / "report.html").read_text()
    )


@pytest.fixture
def alone():
    """The configuration with one of the arms: half the models to load where a test is about something else."""
    return build(tree(arms={"relu": tree()["arms"]["relu"]}), "small")


def _remove(run: Path) -> None:
    shutil.rmtree(layout.replica_dir(run, "relu", 1))


def _without_model(run: Path) -> None:
    (layout.version_dir(run, "relu", 1, 1) / "saved_model.pb").unlink()


def _damaged_model(run: Path) -> None:
    (layout.version_dir(run, "relu", 1, 1) / "saved_model.pb").write_bytes(b"\xff\xff no model")


def _damaged_weights(run: Path) -> None:
    for path in layout.version_dir(run, "relu", 1, 1).glob("variables/variables.data*"):
        path.unlink()


def _other_recipe(run: Path) -> None:
    (layout.version_dir(run, "relu", 1, 1) / "training.json").write_text('{"key": "another"}')


@pytest.mark.parametrize(
    ("break_", "says"),
    [
        (_remove, "has no version; run `ranker train` first"),
        (_without_model, "has no saved_model.pb"),
        (_damaged_model, "cannot be loaded"),
        (_damaged_weights, "cannot be loaded"),
        (_other_recipe, "was made from another configuration"),
    ],
)
def test_a_replica_that_cannot_be_compared_is_named_in_one_line(alone, run, break_, says):
    break_(run)
    with pytest.raises(UserError) as caught:
        evaluate(alone, run)
    message = str(caught.value)
    assert message.startswith("replica relu/1: ")
    assert says in message
    assert "\n" not in message
    assert not layout.evaluation_dir(run).exists()


def test_scores_that_are_no_probability_name_their_replica(alone, run, monkeypatch):
    from ranker.architecture import Architecture

    original = Architecture.initialise

    def diverged(self, seeds):
        return {name: value * np.float32("nan") for name, value in original(self, seeds).items()}

    monkeypatch.setattr(Architecture, "initialise", diverged)
    # A replica from elsewhere: training itself publishes none whose predictions are no probabilities.
    monkeypatch.setattr("ranker.training.served.check_predictions", lambda *_: None)
    shutil.rmtree(layout.replica_dir(run, "relu", 0))
    publish_replicas(alone, run)
    with pytest.raises(UserError, match=r"replica relu/0: .* no probability; its training has diverged"):
        evaluate(alone, run)


def test_an_eval_split_without_shards_or_rows_is_an_error(alone, run):
    shutil.rmtree(layout.split_dir(run, "eval"))
    with pytest.raises(UserError, match=r"has no examples; run `ranker prepare` first"):
        evaluate(alone, run)
    write_shard(layout.split_dir(run, "eval") / layout.shard_name(0, 1), eval_rows(0, 1))
    with pytest.raises(UserError, match="has no rows"):
        evaluate(alone, run)


def test_a_damaged_shard_is_named(alone, run):
    shard = layout.shard_paths(run, "eval")[2]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"part-00002-of-00003.tfrecord: cannot be read"):
        evaluate(alone, run)


def test_a_run_that_is_not_prepared_is_an_error(small, tmp_path):
    with pytest.raises(UserError, match="run `ranker prepare` first"):
        evaluate(small, tmp_path / "nowhere")


def test_the_report_is_what_compare_replicas_says_of_the_predictions(evaluated):
    """A team that puts the logged predictions into `CompareReplicas` gets the report's figures."""
    run, report, _ = evaluated
    rows = read_predictions(run).unique(["request", "item"], keep="first", maintain_order=True)
    for arm, arm_report in report["arms"].items():
        names = [replica["name"] for replica in arm_report["replicas"]]
        elements = [
            rows.select(
                "request", "item", pl.lit(name).alias("model"), pl.col(name).alias("score")
            ).to_arrow()
            for name in names
        ]
        comparison = compared(elements, names)
        assert {"/".join(pair): n for pair, n in comparison.coverage.paired.items()} == {
            f"{pair['a']}/{pair['b']}": pair["requests"] for pair in arm_report["pairs"]
        }
        summary = comparison.summary()
        assert summary.keys() == arm_report["divergence"].keys()
        for label, interval in arm_report["divergence"].items():
            for bound, value in interval.items():
                # Sums of the same numbers in another order.
                assert summary[label][bound] == pytest.approx(value, rel=1e-12, abs=1e-15), (
                    arm,
                    label,
                    bound,
                )


def compared(elements, models):
    """The comparison of a pipeline on this machine."""
    options = RunnerOptions()
    graph = options.pipeline()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "comparison.pickle"
        _ = (
            graph
            | beam.Create(elements)
            | CompareReplicas(models)
            | beam.Map(lambda result: path.write_bytes(pickle.dumps(result.comparison)))
        )
        options.run(graph)
        return pickle.loads(path.read_bytes())
