"""What the path of a file says: partition columns and the side of the split."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ranker.errors import UserError
from tests.pipelines.prepare.small_files import experiment, plain, read_all, rows_of, run, tidy


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_partition_columns_come_from_the_path(tmp_path, kind):
    root = tmp_path / "odd [root] x=1"
    for day in ("2024-01-01", "2024-01-02", "__HIVE_DEFAULT_PARTITION__"):
        for country in ("DE", "a%2Fb"):
            folder = root / f"day={day}" / f"country={country}"
            folder.mkdir(parents=True)
            if kind == "csv":
                (folder / "part[0].csv").write_text("user,item,label,price\nu,i,1,2\nv,j,0,3\n")
            else:
                pq.write_table(
                    pa.table({"user": ["u", "v"], "item": ["i", "j"], "label": [1, 0], "price": [2, 3]}),
                    folder / "part[0].parquet",
                )
    features = {name: {"kind": "categorical", "role": "context"} for name in ("day", "country")}
    split = {"by": "hash", "of": "country", "eval": 0.5}
    config = experiment(root, {"path": f"**/*.{kind}"}, features=features, split=split)
    read_all(config, tmp_path / "run")
    rows = rows_of(tmp_path / "run", "day", "country", "user")
    assert rows == tidy(
        (day, country, user)
        for day in ("2024-01-01", "2024-01-02", "")
        for country in ("DE", "a/b")
        for user in "uv"
    )


@pytest.fixture
def three_files(tmp_path):
    for name in ("a.csv", "b.csv", "c.csv"):
        (tmp_path / name).write_text(plain())


@pytest.mark.usefixtures("three_files")
@pytest.mark.parametrize(
    ("train", "held_out", "message"),
    [
        (["a.csv"], ["b.csv"], "the file c.csv is in neither data.split.train nor data.split.eval"),
        (["a.csv", "b.csv"], ["b.csv", "c.csv"], "the file b.csv is in both"),
        (["*"], ["d.csv"], "data.split.eval: no file of data.events matches d.csv; there is: a.csv"),
    ],
)
def test_a_file_in_no_part_or_in_both_is_named(tmp_path, train, held_out, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, {"path": "*.csv"}, split={"by": "file", "train": train, "eval": held_out})


@pytest.mark.usefixtures("three_files")
def test_files_are_split_by_their_names(tmp_path):
    split = {"by": "file", "train": ["[ab].csv"], "eval": ["c.csv"]}
    counted, _ = run(tmp_path, {"path": "*.csv"}, split=split)
    assert (counted.counts["train"], counted.counts["eval"]) == (120, 60)
