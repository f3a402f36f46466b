"""Negatives for a log of positives: which are drawn, and the way of a model that learns from them."""

import csv
import itertools
import json
from collections import Counter

import numpy as np
import pytest

from pipelines.prepare import prepare
from pipelines.prepare.clean.negatives import draw
from pipelines.runner import RunnerOptions
from ranker.config import build
from ranker.config.data import Negatives
from ranker.errors import UserError
from tests.pipelines.prepare.small_log import contents, read_rows
from tests.shapes.conftest import log_rows, tree

SETTINGS = {"count": 3, "candidates": 6, "by": "popularity"}
POSITION = {"kind": "numeric", "role": "item", "training_only": True}
TOPICS = {f"d{doc}": f"t{doc % 4}" for doc in range(12)}


@pytest.fixture(scope="module")
def positives(tmp_path_factory):
    """A directory with the clicks of the log, in which good documents are clicked by far the most."""
    rows = log_rows()
    kept = [i for i, clicked in enumerate(rows["clicked"]) if clicked]
    directory = tmp_path_factory.mktemp("positives")
    with (directory / "log.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows)
        writer.writerows([values[i] for values in rows.values()] for i in kept)
    return directory


def settings_of(directory, **changes):
    return {
        "data__root": str(directory),
        "data__label": None,
        "data__negatives": SETTINGS,
        "data__request": ["user"],
        "features__position": POSITION,
        **changes,
    }


@pytest.fixture(scope="module")
def worked(work, positives):
    return work(**settings_of(positives), training__loss="pairwise")


def by_request(rows):
    requests: dict[str, list] = {}
    for row in rows:
        requests.setdefault(row["__request__"], []).append(row)
    return list(requests.values())


@pytest.mark.parametrize(("split", "size"), [("train", 3), ("eval", 6)])
def test_each_positive_has_its_negatives(worked, split, size):
    requests = by_request(read_rows(worked.run, split))
    assert len(requests) > 50
    for rows in requests:
        assert sorted(row["__label__"] for row in rows) == [0.0] * size + [1.0]
        assert len({row["doc"] for row in rows}) == size + 1
        assert len({row["user"] for row in rows}) == len({row["age"] for row in rows}) == 1
        for row in rows:
            assert row["topic"] == TOPICS[row["doc"]]
            assert (row["position"] is None) == (row["__label__"] == 0)


def test_the_rows_of_a_request_stand_together_and_counts_add_up(worked):
    rows = read_rows(worked.run, "train")
    ends = sum(a["__request__"] != b["__request__"] for a, b in itertools.pairwise(rows))
    assert ends + 1 == len(by_request(rows))
    counts = json.loads((worked.run / "data" / "manifest.json").read_text())["counts"]
    assert counts["read"] + counts["sampled"] == counts["train"] + counts["eval"]
    assert counts["train"] == len(rows)


def test_it_learns_which_items_are_clicked(worked):
    assert worked.report["arms"]["smelu"]["quality"]["auc"]["mean"] > 0.5
    assert worked.report["counts"]["rankable"] == worked.report["counts"]["requests"]
    rows = {"user": ["u1"] * 2, "age": [21.0] * 2, "doc": ["d1", "d11"], "topic": ["t1", "t3"]}
    scores = worked.scores({**rows, "price": [1.0, 11.0]})
    assert ((scores > 0) & (scores < 1)).all()


def test_the_draws_do_not_depend_on_workers_and_blocks(positives, tmp_path):
    experiment = build(tree(**settings_of(positives)), "test")
    prepare(experiment, tmp_path / "one")
    prepare(experiment, tmp_path / "two", RunnerOptions(workers=2))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    changed = build(tree(**settings_of(positives, data__negatives={**SETTINGS, "seed": 1})), "test")
    prepare(changed, tmp_path / "seed")
    docs = [[row["doc"] for row in read_rows(tmp_path / name, "eval")] for name in ("one", "seed")]
    assert docs[0] != docs[1]


@pytest.mark.parametrize("items", [12, 200])
@pytest.mark.parametrize("by", ["uniform", "popularity"])
def test_draws_have_their_shares(items, by):
    counts = np.arange(1, items + 1)
    settings = Negatives(count=1, candidates=3, by=by)
    order = np.random.default_rng(0).integers(0, 2**63, 20_000).astype(np.uint64)
    own = np.where(np.arange(len(order)) % 2, -1, 5)
    drawn = draw(order, own, np.zeros(len(order), bool), counts, settings)
    assert all(len(chosen) == 1 for chosen in drawn)
    assert not any(5 in chosen for chosen, item in zip(drawn, own, strict=True) if item == 5)
    free = Counter(int(chosen[0]) for chosen, item in zip(drawn, own, strict=True) if item == -1)
    shares = np.array([free[i] for i in range(items)]) / sum(free.values())
    expected = counts / counts.sum() if by == "popularity" else np.full(items, 1 / items)
    # 10,000 draws: six standard deviations of a share, for all shares at once.
    assert (np.abs(shares - expected) < 6 * np.sqrt(expected / 10_000)).all()
    held_out = draw(order[:50], own[:50], np.ones(50, bool), counts, settings)
    assert all(len(set(chosen.tolist())) == 3 for chosen in held_out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__label": None}, "data.*: label: required key is missing"),
        ({"data__label": None, "data__negatives": {"count": 0}}, "data.negatives.count"),
        ({"data__negatives": {"count": 1, "by": "chance"}}, "data.negatives.by"),
        ({"data__negatives": {"count": 1}, "task": "regression"}, "data.negatives: have label 0"),
    ],
)
def test_wrong_combinations_are_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        build(tree(**changes), "test")
    assert "\n" not in str(error.value)


def test_too_few_items_are_refused(positives, tmp_path):
    changes = settings_of(positives, data__negatives={"count": 3, "candidates": 12})
    with pytest.raises(UserError, match=r"data.negatives: .* \d+ items, count=3, candidates=12"):
        prepare(build(tree(**changes), "test"), tmp_path / "run")
