"""Times as other tools write them."""

import re
from datetime import datetime, timedelta, timezone

import pytest

from ranker.errors import UserError
from tests.pipelines.prepare.small_files import ROWS, experiment, rows_of, run, tidy

MOMENT = datetime(2001, 2, 3, 4, 5, 6, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%d %H:%M:%S.%f+00:00",
        "%Y-%m-%d %H:%M:%S UTC",
        "%Y/%m/%d %H:%M:%S",
        "%d/%b/%Y:%H:%M:%S +0000",
        "%a, %d %b %Y %H:%M:%S GMT",
        "%a %b %d %H:%M:%S %Y",
        "%a %b %d %H:%M:%S UTC %Y",
        "%d-%b-%Y %H:%M:%S",
        "%Y%m%dT%H%M%S",
        "%b %d, %Y %I:%M:%S %p",
        "%s",
    ],
)
def test_common_forms_of_times(tmp_path, form):
    times = [MOMENT + timedelta(seconds=37 * n) for n in range(60)]
    text = [
        f"{row[0]}|{row[1]}|{row[2]}|{row[3]}|{time:{form}}" for row, time in zip(ROWS, times, strict=True)
    ]
    (tmp_path / "f.txt").write_text("user|item|label|price|at\n" + "\n".join(text) + "\n")
    changes = {"timestamp": "at", "split": {"by": "time", "eval": 0.25}}
    counted, _ = run(tmp_path, {"path": "f.txt", "delimiter": "|"}, **changes)
    assert (counted.counts["rejected"], counted.counts["eval"]) == (0, 15)
    held_out = rows_of(tmp_path / "run", "price", split="eval")
    assert held_out == tidy((row[3],) for row in ROWS[45:])


def test_a_form_that_could_be_mistaken_must_be_named(tmp_path):
    text = "".join(f"u{n},i,{n % 2},{n},{n % 28 + 1:02d}/{n // 28 + 1:02d}/2001\n" for n in range(56))
    (tmp_path / "f.csv").write_text("user,item,label,price,at\n" + text)
    changes = {"timestamp": "at", "split": {"by": "time", "eval": 0.5}}
    counted, _ = run(tmp_path, {}, **changes)
    remark = str(counted.remarks["events"])
    assert re.search(r"56 rejected .*at is not a time: '01/01/2001' .*set data.time_format", remark)
    run(tmp_path, {}, **changes, time_format="%d/%m/%Y")
    assert rows_of(tmp_path / "run", "price", split="eval") == tidy((float(n),) for n in range(28, 56))
    with pytest.raises(UserError, match=r"time_format"):
        experiment(tmp_path, {}, **changes, time_format="day first")
