"""A worker killed in the middle of `prepare`: one line, nothing half-visible, and the same command finishes."""

import threading
import time

import psutil
import pytest

from pipelines.prepare import prepare
from pipelines.prepare.read import reading
from pipelines.runner import RunnerOptions
from ranker.errors import UserError
from tests.pipelines.prepare.small_log import contents

REPEATED = 500  # times the small log: enough for a kill to find both workers reading


class WorkerKiller(threading.Thread):
    """Kills one of this process's Beam workers as soon as a first batch is sorted."""

    def __init__(self, run):
        super().__init__(daemon=True)
        self._run, self.killed, self.ended = run, False, False

    def run(self):
        while not self.killed and not self.ended:
            if any(self._run.glob(".data-*/.work/runs/*.arrow")):
                workers = [
                    c for c in psutil.Process().children(recursive=True) if "pipelines.worker" in c.cmdline()
                ]
                workers[0].kill()
                self.killed = True
            time.sleep(0.001)


@pytest.mark.timeout(600)
# Beam's threads that speak with the dead worker.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_killed_in_the_middle(make, log, tmp_path, monkeypatch):
    text = (log / "u.data").read_text()
    (log / "u.data").write_text(text * REPEATED)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 50_000)
    run = tmp_path / "run"
    killer = WorkerKiller(run)
    killer.start()
    with pytest.raises(UserError, match=r"a worker process died .*; run the same command again"):
        prepare(make(), run, RunnerOptions(workers=2))
    killer.ended = True
    killer.join()
    assert killer.killed
    assert [path.name for path in run.iterdir()] == [".data.lock"]
    counts = prepare(make(), run, RunnerOptions(workers=2)).counts
    assert counts["read"] == counts["train"] + counts["eval"] + counts["rejected"] == 240 * REPEATED
    prepare(make(), tmp_path / "whole")
    assert contents(run) == contents(tmp_path / "whole")
