"""What each column is to a model: a code, an amount, the label, or what gives the label away."""

import random

import pytest

from tests.pipelines.init.small_logs import click_rows, proposed, write_table


def test_whole_numbers_are_codes_or_amounts_with_a_reason(tmp_path):
    noise = random.Random(7)
    rows = [
        (
            n // 5,
            n % 31,
            n % 2,
            noise.randint(0, 299),
            int(noise.paretovariate(0.5)),
            f"{noise.randint(0, 99):03d}",
            noise.randint(18, 90),
            noise.randint(-9, 9),
            noise.randint(0, 120),
        )
        for n in range(3000)
    ]
    names = ["session", "product", "clicked", "shelf", "sales", "zone", "age", "delta", "brand_code"]
    text, experiment, _ = proposed(tmp_path, [write_table(tmp_path / "log.tsv", rows, names)])
    kinds = {name: feature.kind for name, feature in experiment.features.items()}
    assert kinds == {
        "product": "categorical",
        "shelf": "categorical",
        "sales": "numeric",
        "zone": "categorical",
        "age": "numeric",
        "delta": "numeric",
        "brand_code": "categorical",
    }
    for reason in (
        "fill their range",
        "leave gaps",
        "an amount by its name",
        "some are negative",
        "codes by its name",
    ):
        assert reason in text


def test_a_log_without_names_or_requests_has_amounts_and_categories(tmp_path):
    noise = random.Random(9)
    lines = []
    for _ in range(800):
        amounts = [str(int(noise.paretovariate(0.6))) if noise.random() < 0.8 else "" for _ in range(3)]
        codes = [f"{noise.randint(0, size) * 7919:08x}" for size in (9, 99, 10**6)]
        lines.append("\t".join([str(int(noise.random() < 0.25)), *amounts, *codes]))
    (tmp_path / "log.txt").write_text("\n".join(lines) + "\n")
    text, experiment, checked = proposed(tmp_path, [tmp_path / "log.txt"])
    kinds = [experiment.features[f"column_{n}"].kind for n in range(2, 7)]
    assert kinds == ["numeric"] * 3 + ["categorical"] * 2
    assert "column_7" not in experiment.features, "nearly every row has a value of its own"
    assert checked.rejections.rows == 0
    assert "no column says which rows were shown together" in text


def test_numbered_features_are_one_line(tmp_path):
    noise = random.Random(19)
    lines = [
        f"{n % 3} qid:{n // 10} "
        + " ".join(f"{at}:{noise.random():.3f}" for at in range(1, 9))
        + " #docid = G1\n"
        for n in range(400)
    ]
    for part, text in (("train", lines[:300]), ("vali", lines[300:350]), ("test", lines[350:])):
        (tmp_path / f"{part}.txt").write_text("".join(text))
    paths = [tmp_path / f"{part}.txt" for part in ("train", "vali", "test")]
    text, experiment, _ = proposed(tmp_path, paths)
    assert "  f1..f8: {kind: numeric" in text
    assert len(experiment.features) == 8
    assert experiment.data.split.train == ("train.txt", "vali.txt")


def test_events_are_a_label_and_what_only_some_of_them_have_is_no_feature(tmp_path):
    rows = [
        (1433221332117 + n, user, ["view", "addtocart"][click], item, n if click else "")
        for n, user, item, click in click_rows()
    ]
    names = ["timestamp", "visitorid", "event", "itemid", "transactionid"]
    _, experiment, _ = proposed(tmp_path, [write_table(tmp_path / "log.tsv", rows, names)])
    data = experiment.data
    assert (data.label, data.request, data.item.column) == ("event == 'addtocart'", ("visitorid",), "itemid")
    assert set(experiment.features) == {"visitorid", "itemid"}
    kinds = ["pv", "cart", "buy", "remove_from_cart"]
    rows = [(user, item, kinds[n % 7] if n % 7 < 4 else "pv") for n, user, item, _ in click_rows()]
    _, experiment, _ = proposed(
        tmp_path, [write_table(tmp_path / "b.tsv", rows, ["user", "item", "behavior"])]
    )
    assert experiment.data.label == "behavior in ('cart', 'buy')"


@pytest.mark.parametrize(("yes", "no"), [("Ja", "Nein"), ("oui", "non"), ("TAK", "NIE")])
def test_answers_in_another_language_are_a_label(tmp_path, yes, no):
    rows = [(user, item, yes if click else no) for _, user, item, click in click_rows()]
    _, experiment, checked = proposed(
        tmp_path, [write_table(tmp_path / "log.tsv", rows, ["user", "item", "gekauft"])]
    )
    assert experiment.data.label == f"gekauft == '{yes}'"
    assert checked.rejections.rows == 0
