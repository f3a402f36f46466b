"""Live calls end to end: from the mirror's port to every replica, the store, the slices and the examples."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import grpc
import numpy as np
import pytest

from ranker.config.deployment import Monitor as Settings
from ranker.divergence import compare
from serving import wire
from serving.deployment import Deployment, Replica
from serving.monitor.measurement.exemplars import Exemplars, read_exemplars
from serving.monitor.measurement.measure import request_batch
from serving.monitor.measurement.record import LIVE
from serving.monitor.prometheus import render
from serving.monitor.requests.reservoir import MirroredCall, Reservoir
from serving.monitor.run import DeploymentMonitor, run
from serving.monitor.store import query
from serving.monitor.store.selection import Selection
from serving.watch import sentence

SETTINGS = Settings(interval=60, deadline=5, requests=20, slices=("age",))


def call(number, candidates=5, **changes):
    """The bytes of a caller's request."""
    request = wire.PredictRequest()
    request.model_spec.name = "ranker"
    inputs = {
        "user_id": np.array([f"v{number}"] * candidates, dtype=object),
        "age": np.full(candidates, 20 + 10 * (number % 2), np.float32),
        "item_id": np.array(
            [f"i{(number * 5 + place * 3) % 41}" for place in range(candidates)], dtype=object
        ),
    } | changes
    for name, values in inputs.items():
        if values is not None:
            request.inputs[name].CopyFrom(wire.to_tensor(values))
    return request.SerializeToString()


def deployment(*fakes):
    replicas = tuple(Replica(fake.name, fake.target) for fake in fakes)
    return Deployment("ranker", replicas, context=("user_id", "age"), candidate=("item_id",))


@pytest.fixture
def replicas(fake_replica, noisy):
    return [fake_replica(name=name, mangle=noisy(seed, 0.05)) for seed, name in enumerate("abc")]


@pytest.fixture
def monitor(replicas, probe, store, tmp_path):
    kept = Exemplars(tmp_path / "exemplars", each=4)
    return DeploymentMonitor(
        deployment(*replicas), SETTINGS, probe, store, exemplars=kept, reservoir=Reservoir(SETTINGS.requests)
    )


def offer(monitor, *bodies):
    for number, body in enumerate(bodies):
        monitor.reservoir.offer(MirroredCall(body, f"id-{number}"))


def test_live_calls_are_asked_and_measured_as_the_probe_is(monitor, replicas, store, tmp_path):
    offer(monitor, *(call(number) for number in range(12)))
    summary = monitor.round()
    assert summary.mirrored == {"seen": 12, "sampled": 12, "dropped": 0, "unreadable": 0}
    now = time.time() + 1
    verdict = query.snapshot(store, Selection(now, stream=LIVE))
    assert verdict.coverage == {"a": 1.0, "b": 1.0, "c": 1.0}
    assert verdict.freshness.requests == 12
    assert verdict.measures["pd_abs"].value.value > 0.005
    # every replica was asked every call alone, again, and inside a batch: the floor of live traffic is its own
    assert verdict.measures["pd_abs"].floor.value == 0.0
    assert {row.kind for row in store_kinds(store, now)} == {"asked", "answered"}
    for fake in replicas:
        users = [wire.to_array(r.inputs["user_id"]) for r in fake.requests() if "user_id" in r.inputs]
        assert sum(user[0] == b"v3" for user in users) == 3  # alone, again, first of a batch
    rows = query.slices(store, Selection(now, measure="pd_abs", stream=LIVE))
    assert {(row.feature, row.value) for row in rows} == {
        ("age", "20"),
        ("age", "30"),
    }
    examples = read_exemplars(tmp_path / "exemplars", LIVE, now - 7200, now)
    assert examples
    assert all(example.context["user_id"].startswith("v") for example in examples)
    assert {len(example.items[0]) for example in examples} == {5}
    # the probe is as it would be alone
    probe_verdict = query.snapshot(store, Selection(now))
    assert probe_verdict.freshness.requests == len(monitor.probe)
    assert probe_verdict.measures["pd_abs"].n == len(monitor.probe)


def store_kinds(store, now):
    return query.error_kinds(store, Selection.between(now - 3600, now + 1, stream=LIVE))


def test_live_measures_are_those_of_the_scores(monitor, store):
    offer(monitor, *(call(number) for number in range(12)))
    recorded = []
    monitor.pending.add = recorded.append
    collected = []
    ask, monitor.ask = monitor.ask, lambda requests: collected.append(ask(requests)) or collected[-1]
    monitor.round()
    live = collected[1]
    batch = request_batch(
        live.probe, {answer.replica: (answer.scores, answer.answered) for answer in live.answers}
    )
    direct = compare(batch).means
    (means,) = [s for key, s in recorded[1].statistics.items() if key.kind == "all" and not key.feature]
    assert list(means) == list(direct)
    for label, statistic in means.items():
        assert statistic.interval() == pytest.approx(direct[label].interval())


def test_rounds_of_live_calls_add_up_and_counts_reach_prometheus(monitor, store):
    bad = [call(1, item_id=None), b"\xff", call(2, candidates=1)]
    offer(monitor, *(call(number) for number in range(6)), *bad)
    monitor.round()
    monitor.reservoir.count_lost()
    offer(monitor, *(call(number) for number in range(100, 150)))
    monitor.round()
    monitor.round()  # no call since: no live round
    now = time.time() + 1
    assert query.freshness(store, Selection(now, stream=LIVE)).rounds == 2
    assert query.freshness(store, Selection(now)).rounds == 3
    assert query.snapshot(store, Selection(now, stream=LIVE)).measures["top1_swap"].n == 26
    outcomes = {"seen": 60, "sampled": 29, "dropped": 1, "unreadable": 3}
    assert query.mirrored(store, Selection.between(now - 3600, now)) == outcomes
    page = render(store, {}).decode()
    for outcome, count in outcomes.items():
        assert f'ranker_mirrored_requests_total{{outcome="{outcome}"}} {count}.0' in page
    assert 'replica="*"' not in page


def test_calls_that_nobody_can_read_leave_counts_and_one_line(monitor, store, caplog):
    offer(monitor, *[b"\xff"] * 15, *(call(number, candidates=1) for number in range(3)))
    summary = monitor.round()
    assert summary.mirrored == {"seen": 18, "sampled": 18, "dropped": 0, "unreadable": 18}
    assert query.mirrored(store, Selection.between(time.time() - 3600, time.time() + 1))["unreadable"] == 18
    lines = [record.getMessage() for record in caplog.records if "cannot be asked" in record.getMessage()]
    assert lines == [
        "18 of 18 sampled calls cannot be asked (15 times: it is no PredictRequest; "
        "3 times: there is nothing to rank: fewer than two candidates)"
    ]


def test_what_a_replica_refuses_is_counted_as_it_answers(monitor, replicas, store):
    """TF Serving turns down calls that lack a feature or have one more: so does the stand-in here."""

    def strict(fake):
        answer = fake.answer

        def checked(path, request, context):
            if getattr(request, "inputs", None) and set(request.inputs) != {"user_id", "age", "item_id"}:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "input size does not match signature")
            return answer(path, request, context)

        fake.answer = checked

    for fake in replicas[:2]:
        strict(fake)
    offer(monitor, call(0), call(1, age=None), call(2, age=None), call(3))
    summary = monitor.round()
    assert summary.mirrored["unreadable"] == 0
    counts = {(row.replica, row.kind): row.count for row in store_kinds(store, time.time())}
    assert counts == {
        ("a", "asked"): 4,
        ("a", "answered"): 2,
        ("a", "refused"): 2,
        ("b", "asked"): 4,
        ("b", "answered"): 2,
        ("b", "refused"): 2,
        ("c", "asked"): 4,
        ("c", "answered"): 4,
    }


def test_a_call_of_the_rank_signature_is_measured_as_the_same_call_flat(monitor, store):
    flat = wire.PredictRequest.FromString(call(3))
    ranked = wire.PredictRequest()
    ranked.model_spec.name, ranked.model_spec.signature_name = "ranker", "rank"
    for name, tensor in flat.inputs.items():
        values = wire.to_array(tensor)
        ranked.inputs[name].CopyFrom(wire.to_tensor(values if name == "item_id" else values[:1]))
    values = []
    for body in (flat, ranked):
        offer(monitor, body.SerializeToString())
        record = []
        monitor.pending.add = record.append
        monitor.round()
        (pair, *_) = [s for key, s in record[1].statistics.items() if key.kind == "pair"]
        values.append(pair["pd_abs"].interval())
    assert values[0] == values[1]


def test_a_replica_that_is_down_takes_part_in_neither_stream(monitor, replicas, store):
    replicas[1].error = (grpc.StatusCode.UNAVAILABLE, "down")
    monitor.limits = type(monitor.limits)(deadline=1.0, round=5.0, patience=0.3)
    offer(monitor, *(call(number) for number in range(6)))
    summary = monitor.round()
    coverage = query.coverage(store, Selection(time.time(), stream=LIVE))
    assert coverage == {"a": 1.0, "b": 0.0, "c": 1.0}
    assert {name: entry.share for name, entry in summary.live_coverage.items()} == coverage
    assert "b (live): 6 asked, 0 answered, 6 left out (down 6, first id-0)" in sentence(summary, SETTINGS)


def mirror_to(port, stop):
    """Sends calls one after the other until `stop` is set or nobody answers."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_unary(wire.PREDICT.path)
        for number in itertools.count():
            if stop.is_set():
                break
            try:
                method(call(number), timeout=60)  # generous: the machine may be busy
            except grpc.RpcError:
                break


def test_calls_keep_coming_while_rounds_go_on(replicas, probe, tmp_path):
    stop, summaries, senders = threading.Event(), [], []

    def on_mirror(port):
        senders.append(threading.Thread(target=mirror_to, args=(port, stop)))
        senders[0].start()

    def on_round(summary):
        summaries.append(summary)
        if sum(summary.mirrored["seen"] > 40 for summary in summaries) == 2:
            stop.set()

    settings = Settings(interval=0.3, deadline=5, requests=20)
    run(
        deployment(*replicas),
        settings,
        probe,
        tmp_path / "monitor.db",
        mirror_listen="127.0.0.1:0",
        stop=stop,
        on_round=on_round,
        on_mirror=on_mirror,
    )
    senders[0].join()
    full = [summary.mirrored for summary in summaries if summary.mirrored["seen"] > 40]
    assert all(outcomes["sampled"] == 20 for outcomes in full)
    assert all(outcomes["dropped"] <= 1 for outcomes in full)  # the call that the end broke off


MONITOR = textwrap.dedent(
    """
    import sys
    from ranker.config.deployment import Monitor as Settings
    from serving.deployment import from_targets
    from serving.monitor.run import run, stop_on_signals
    from tests.serving.monitor.conftest import small_probe
    with stop_on_signals() as stop:
        run(from_targets(sys.argv[2:]), Settings(interval=0.2, requests=20), small_probe(), sys.argv[1], stop=stop,
            mirror_listen="127.0.0.1:0", on_mirror=lambda port: print(port, flush=True),
            on_round=lambda summary: print(summary.mirrored["seen"], flush=True))
    assert "tensorflow" not in sys.modules
    """
)


def test_sigterm_under_load_ends_it_in_order(replicas, tmp_path):
    command = [sys.executable, "-c", MONITOR, str(tmp_path / "monitor.db")]
    command += [f"{fake.name}={fake.target}" for fake in replicas]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            port = int(process.stdout.readline())
            stop = threading.Event()
            sender = threading.Thread(target=mirror_to, args=(port, stop))
            sender.start()
            while int(process.stdout.readline()) < 10:
                pass
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=120)
            stop.set()
            sender.join()
            assert (process.returncode, errors) == (0, "")
        finally:
            process.kill()
