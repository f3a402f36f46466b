"""How side tables join a log."""

import random

import pytest
import yaml

from tests.pipelines.init.small_logs import proposed, write_table


@pytest.mark.parametrize(
    ("log_key", "table_key"), [("{}.0", "{}"), ("{}", "{}.0"), ("{:05d}", "{}"), ("{}", "{:04d}")]
)
def test_keys_that_are_written_in_two_ways_join(tmp_path, log_key, table_key):
    rows = [(log_key.format(n % 40), f"i{n % 31}", n % 2) for n in range(400)]
    log = write_table(tmp_path / "log.tsv", rows, ["user_id", "item_id", "clicked"])
    users = [(table_key.format(n), 20 + n % 7) for n in range(40)]
    table = write_table(tmp_path / "users.tsv", users, ["user_id", "age"])
    _, experiment, checked = proposed(tmp_path, [log, table])
    assert experiment.features["age"].role == "context"
    assert {remark.rows for remark in checked.remarks} == {0}


def test_a_table_joins_on_a_part_of_a_column(tmp_path):
    shown = [" ".join(f"N{(n * 7 + at) % 40}-{int(at == n % 4)}" for at in range(4)) for n in range(120)]
    lines = [f"{n}\tu{n % 17}\t{pairs}\n" for n, pairs in enumerate(shown, 1)]
    (tmp_path / "behaviors.tsv").write_text("".join(lines))
    news = [f"N{n}\t{['sports', 'money'][n % 2]}\ta 'title', of the story {n}\n" for n in range(40)]
    (tmp_path / "news.tsv").write_text("".join(news))
    _, experiment, checked = proposed(tmp_path, [tmp_path / "behaviors.tsv", tmp_path / "news.tsv"])
    assert experiment.data.tables["news"].key == "item"
    assert experiment.features["news_column_2"].role == "item"
    assert {remark.rows for remark in checked.remarks} == {0}
    topics = {row["item"]: row["news_column_2"] for batch in checked.rows for row in batch.to_pylist()}
    assert (topics["N4"], topics["N7"]) == ("sports", "money")


def test_keys_that_are_both_counted_from_1_join_by_the_names_of_the_files(tmp_path):
    draw = random.Random(5)
    rows = [[draw.randint(1, 20), draw.randint(1, 60), draw.randint(0, 1)] for _ in range(600)]
    (tmp_path / "log.csv").write_text(
        "user_id,movie_id,clicked\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows)
    )
    for name, count in (("users", 200), ("movies", 70)):
        lines = [f"{i}::{draw.choice('AB')}::{draw.randint(18, 80)}\n" for i in range(1, count + 1)]
        (tmp_path / f"{name}.dat").write_text("".join(lines))
    paths = [tmp_path / name for name in ("log.csv", "users.dat", "movies.dat")]
    proposal = yaml.safe_load(proposed(tmp_path, paths)[0])
    keys = {name: table["key"] for name, table in proposal["data"]["tables"].items()}
    assert keys == {"users": "user_id", "movies": "movie_id"}
