"""Forty targets behind one real server, through the monitor's own loop, store, alerts and status."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from ranker.config.deployment import Monitor as Settings
from serving.deployment import Deployment, Replica
from serving.monitor.alerts.rules import load_rules
from serving.monitor.judgement.status import read_status
from serving.monitor.measurement.exemplars import Exemplars, read_exemplars
from serving.monitor.run import run
from serving.monitor.store import open_store, query
from serving.monitor.store.selection import Selection
from serving.watch import sentence

# every path is a replica; its scores follow from the path and the rows alone
SERVER = """
import hashlib, json, math, random
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

def noise(text):
    return random.Random(hashlib.blake2b(text.encode(), digest_size=8).hexdigest()).gauss(0, 1)

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["instances"]
        replica = self.path.rpartition("/")[2]
        scores, status = [], 503 if replica == "absent" else 200
        for row in rows:
            key = f"{row['user_id']} {row['item_id']}"
            spread = 1.5 if replica == "odd" else 0.1
            scores.append(1 / (1 + math.exp(-noise(key) - spread * noise(f"{replica} {key}"))))
        body = json.dumps({"predictions": scores}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True

server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def port():
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def deployment(port, replicas):
    def target(name):
        return Replica(name, f"json+http://127.0.0.1:{port}/{name}")

    return Deployment("ranker", tuple(map(target, replicas)), item="item_id")


def test_forty_replicas_one_odd_and_one_absent(port, probe, tmp_path):
    names = ["absent", "odd", *(f"r{number:02d}" for number in range(38))]
    settings = Settings(interval=3600, deadline=20, requests=40, slices=("age",))
    path, kept = tmp_path / "monitor.db", Exemplars(tmp_path / "exemplars")
    for _ in range(2):
        summary = run(
            deployment(port, names), settings, probe, path, once=True, rules=load_rules(), exemplars=kept
        )
    assert set(summary.replicas) == {*names} - {"absent"}
    assert summary.verdict.replicas[0] == "odd"
    assert "absent" in summary.verdict.replicas
    assert 0 < summary.measures["top1_swap"]["value"] < 1
    json.dumps(summary.as_dict(), allow_nan=False)
    store = open_store(path)
    now = time.time()
    status = read_status(store, settings.budget, Selection(now))
    assert (status.verdict.answering, status.verdict.asked) == (39, 40)
    assert [odd.replica for odd in status.odd.odd] == ["odd"]
    assert query.pairs(store, Selection(now), ["top1_swap"])["top1_swap"] == ()
    assert query.coverage(store, Selection(now))["absent"] == 0
    (line,) = query.lines(
        store, Selection.between(now - 3600, now + 60, measure="component", kind="replica", a="odd")
    )
    assert sum(point.rounds for point in line.points) == 2
    exemplars = read_exemplars(tmp_path / "exemplars", "probe", now - 7200, now + 60)
    assert exemplars
    assert all("odd" in exemplar.replicas and len(exemplar.replicas) <= 16 for exemplar in exemplars)
    store.close()
    assert "odd" in sentence(summary, settings)


def test_at_the_threshold_all_pairs_are_measured(port, probe, tmp_path):
    names = [f"r{number:02d}" for number in range(4)]
    for up_to, pairs in ((3, 0), (4, 6)):
        path = tmp_path / f"{up_to}.db"
        settings = Settings(interval=3600, deadline=20, all_pairs_up_to=up_to)
        run(deployment(port, names), settings, probe, path, once=True)
        store = open_store(path)
        assert len(query.pairs(store, Selection(time.time()), ["top1_swap"])["top1_swap"]) == pairs
        assert len(query.odd_one_out(store, Selection(time.time())).components) == 4
        store.close()
