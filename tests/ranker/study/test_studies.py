"""Every study runs on any prepared data, resumes, and writes numbers, pictures and a page."""

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import yaml

from ranker.config import build
from ranker.errors import UserError
from ranker.study import data as study_data
from ranker.study import refresh, shapes, sources, surface, swaps, tradeoff
from ranker.study.data import LogChange, load
from ranker.study.options import StudyOptions
from ranker.study.recipes import arms
from ranker.study.trainings import Trainings

TABLES = {
    shapes: ["shapes"],
    surface: ["surface"],
    sources: ["sources", "rungs"],
    refresh: ["refresh"],
    swaps: ["swaps-gaps", "swaps-requests", "swaps-items"],
    tradeoff: ["tradeoff"],
}


def silent(text):
    pass


@pytest.mark.parametrize("study", TABLES, ids=lambda module: module.__name__.split(".")[-1])
def test_a_study_writes_numbers_pictures_and_a_page(study, study_experiment, study_run, quick, tmp_path):
    answer = study.run(study_experiment, study_run, tmp_path / "out", quick, silent)
    out = tmp_path / "out"
    assert len(answer.text) > 40
    page = answer.page.read_text()
    assert answer.page == out / "index.html"
    pictures = sorted(out.glob("*.svg"))
    assert pictures
    for picture in pictures:
        assert picture.name in page
        assert picture.with_suffix(".png").stat().st_size > 1000
    for name in TABLES[study]:
        table = pyarrow.parquet.read_table(out / f"{name}.parquet")
        assert table.num_rows > 0
        assert pyarrow.csv.read_csv(out / f"{name}.csv").column_names == table.column_names
    if study is tradeoff:
        relu = table.to_pylist()[0]
        assert relu["recipe"].startswith("relu-")
        assert (relu["rpd_ratio"], relu["auc_gain"]) == (1, 0)
        assert build(yaml.safe_load((out / "recipe.yaml").read_text()), "recipe").arms


def test_what_is_trained_is_not_trained_again(study_experiment, study_run, tmp_path):
    data = load(study_experiment, study_run)
    recipes = arms(study_experiment, {"a": {}, "b": {"training.shuffle_window": 8}})
    first = Trainings(tmp_path)
    scores = first.scores(data, recipes, 2)
    assert first.trained == 4
    again = Trainings(tmp_path)
    more = again.scores(data, recipes, 3)
    assert again.trained == 2
    np.testing.assert_array_equal(more["a"].scores[:2], scores["a"].scores)
    assert not np.array_equal(scores["a"].scores[0], scores["b"].scores[0])


def candidate(recipe, auc, pd, high=0.5):
    return {
        "recipe": recipe,
        "auc": auc,
        "rpd_sym": pd,
        "rpd_ratio": pd,
        "ratio_low": 0.1,
        "ratio_high": high,
        "top1_swap": 0.1,
        "consensus_regret": 0.001,
        "auc_gain": 0.0,
        "auc_gain_low": -0.001,
        "auc_gain_high": 0.001,
    }


def test_the_best_recipe_is_the_steadiest_of_equal_auc():
    relu = [candidate("relu-a", 0.70, 1.0), candidate("relu-b", 0.60, 0.1), candidate("relu-c", 0.6999, 0.8)]
    smelu = [
        candidate("smelu-a", 0.69, 0.01),
        candidate("smelu-b", 0.7001, 0.4),
        candidate("smelu-c", 0.71, 0.6),
    ]
    swish = [candidate("swish-a", 0.65, 0.05), candidate("swish-b", 0.68, 0.3)]
    choice = tradeoff.choose({"relu": relu, "smelu": smelu, "swish": swish}, "relu-a")
    assert choice.steadiest == {"relu": "relu-c", "smelu": "smelu-b", "swish": "swish-b"}
    assert choice.best == "smelu-b"
    text = tradeoff.say([*relu, *smelu], choice)
    assert text.startswith("The best recipe is smelu-b: 0.40 [0.10, 0.50]")
    assert "ReLU's own steadiest recipe of that AUC, relu-c, has 0.80" in text


def test_a_gain_whose_interval_reaches_one_is_no_gain():
    rows = [candidate("relu-a", 0.70, 1.0), candidate("smelu-a", 0.70, 0.9, high=1.1)]
    choice = tradeoff.choose({"relu": rows[:1], "smelu": rows[1:]}, "relu-a")
    assert tradeoff.say(rows, choice).startswith(
        "No gain over ReLU is shown: the best recipe, smelu-a, has 0.90"
    )


def test_relu_may_be_the_best():
    rows = [candidate("relu-a", 0.70, 0.2), candidate("smelu-a", 0.70, 0.9)]
    choice = tradeoff.choose({"relu": rows[:1], "smelu": rows[1:]}, "relu-a")
    assert tradeoff.say(rows, choice).startswith("Nothing tried is steadier than ReLU here")


def test_fewer_rows_are_other_data(study_experiment, study_run):
    whole, part = load(study_experiment, study_run), load(study_experiment, study_run, rows=100)
    assert int(part.train.label.shape[0]) == 100
    assert part.fingerprint != whole.fingerprint


def test_flipped_labels_are_the_share_asked_for_and_the_same_rows_in_every_call(study_experiment, study_run):
    whole = load(study_experiment, study_run)
    noisy, again = (load(study_experiment, study_run, change=LogChange(label_noise=0.2)) for _ in range(2))
    flipped = noisy.train.label.numpy() != whole.train.label.numpy()
    assert 0.1 < flipped.mean() < 0.3
    np.testing.assert_array_equal(noisy.train.label, again.train.label)
    np.testing.assert_array_equal(noisy.label, whole.label)
    assert noisy.fingerprint == again.fingerprint != whole.fingerprint
    assert noisy.source.load().fingerprint == noisy.fingerprint


def test_ids_only_leaves_features_of_many_values(study_experiment, study_run, monkeypatch):
    whole = load(study_experiment, study_run)
    sizes = {column.name: column.size for column in whole.inputs.embedded}
    largest = max(sizes, key=sizes.__getitem__)
    monkeypatch.setattr(study_data, "_ID_VALUES", sizes[largest] - 1)
    ids = load(study_experiment, study_run, change=LogChange(columns="ids only"))
    start = 0
    for column in whole.inputs.embedded:
        part = slice(start, start + column.width)
        for rows, all_rows in ((ids.train, whole.train), (ids.eval, whole.eval)):
            expected = (
                all_rows.ids[:, part] if sizes[column.name] == sizes[largest] else 0 * all_rows.ids[:, part]
            )
            np.testing.assert_array_equal(rows.ids[:, part], expected)
        start += column.width
    assert not np.any(ids.train.dense)
    assert np.any(whole.train.dense)


def test_a_recipe_that_does_not_fit_is_named(study_experiment):
    with pytest.raises(UserError, match=r"arms\.wrong"):
        arms(study_experiment, {"wrong": {"model.hidden": []}})


def test_one_replica_is_too_few():
    with pytest.raises(UserError, match="at least 2"):
        StudyOptions(replicas=1)


def test_local_minima_are_counted():
    x, y = np.meshgrid(np.linspace(0, 4 * np.pi, 81), np.linspace(0, 2 * np.pi, 41))
    assert surface.local_minima(np.cos(x) + np.cos(y)) == 2
    assert surface.local_minima(x + y) == 0


def test_a_linear_network_has_no_minima_and_relu_more_than_smooth():
    counts = [sum(surface.local_minima(surface.surface(b, s, 81)) for s in range(4)) for b in (0.0, 4.0)]
    assert counts[0] > counts[1]
