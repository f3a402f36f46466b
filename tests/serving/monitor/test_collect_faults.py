"""One round against replicas that fail in every way: counted by kind, never averaged in, and the others go on."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import replace

import grpc
import numpy as np
import pytest

from ranker.divergence import Settings
from serving import wire
from serving.client import RankerClient
from serving.deployment import Replica
from serving.monitor.collection.collect import Expected, collect
from serving.monitor.collection.send import RoundLimits
from serving.monitor.measurement.measure import measure

LIMITS = RoundLimits(deadline=2.0, round=10.0, floor=10, patience=1.0)


def connect(target):
    return RankerClient(target.target, deadline=LIMITS.deadline, retries=0)


def ask(probe, *fakes, expected=None, limits=LIMITS, model="ranker", preferred=None):
    targets = [Replica(fake.name, fake.target, labels={"init_seed": "1"}) for fake in fakes]

    def with_deadline(target):
        return RankerClient(target.target, model_name=model, deadline=limits.deadline, retries=0)

    return collect(targets, probe, with_deadline, expected or Expected(), limits, preferred)


def score_of(response):
    return isinstance(response, wire.PredictResponse) and "score" in response.outputs


def replaced(values):
    """Replaces the scores of every answer by a function of them."""

    def mangle(response):
        if score_of(response):
            scores = wire.to_array(response.outputs["score"]).copy()
            response.outputs["score"].CopyFrom(wire.to_tensor(values(scores).astype(np.float32)))
        return response

    return mangle


def test_replicas_that_agree_have_no_error_and_no_difference(fake_replica, probe):
    collected = ask(probe, fake_replica(name="a"), fake_replica(name="b", typed_fields=False))
    assert [answer.errors.total() for answer in collected.answers] == [0, 0]
    assert [answer.version for answer in collected.answers] == [3, 3]
    measured = measure(collected, Settings(), (), {})
    assert {
        label: s.value
        for label, s in measured.requests.summarise().means.items()
        if label in ("pd_abs", "top1_swap")
    } == {
        "pd_abs": 0.0,
        "top1_swap": 0.0,
    }
    kinds = {key.kind for key in measured.record.statistics}
    assert kinds == {"pair", "all", "replica", "again", "batch"}


def test_noise_between_replicas_is_measured_and_the_floor_is_zero(fake_replica, probe, noisy):
    fakes = [fake_replica(name=name, mangle=noisy(seed, 0.05)) for seed, name in enumerate("abc")]
    record = measure(ask(probe, *fakes), Settings(), (), {}).record
    values = {
        (key.kind, key.a.replica, key.b.replica): s["pd_abs"].value for key, s in record.statistics.items()
    }
    assert values["pair", "a", "b"] > 0.01
    assert values["again", "a", "a"] == values["batch", "a", "a"] == 0.0


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"error": (grpc.StatusCode.UNAVAILABLE, "down")}, "down"),
        (
            {"error": (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(ranker)")},
            "wrong_model",
        ),
        ({"error": (grpc.StatusCode.INTERNAL, "boom")}, "error"),
        ({"mangle": replaced(lambda scores: np.where(scores > 0.5, np.nan, scores))}, "invalid_score"),
        ({"mangle": replaced(lambda scores: scores + 1.5)}, "invalid_score"),
        ({"mangle": replaced(lambda scores: scores[:-1])}, "coverage_mismatch"),
        ({"mangle": replaced(lambda scores: np.concatenate([scores, scores[:1]]))}, "coverage_mismatch"),
    ],
)
def test_a_faulty_replica_is_counted_by_kind_and_the_others_go_on(fake_replica, probe, noisy, fault, kind):
    good = [fake_replica(name="a", mangle=noisy(1, 0.05)), fake_replica(name="b", mangle=noisy(2, 0.05))]
    alone = measure(ask(probe, *good), Settings(), (), {})
    both = measure(ask(probe, *good, fake_replica(name="bad", **fault)), Settings(), (), {})
    counts = both.record.counts
    failed = counts.get(("bad", kind), 0)
    assert failed > 0
    assert counts.get(("bad", "answered"), 0) + failed == counts["bad", "asked"] == len(probe)
    pair = next(
        s
        for key, s in both.record.statistics.items()
        if key.kind == "pair" and {key.a.replica, key.b.replica} == {"a", "b"}
    )
    before = next(s for key, s in alone.record.statistics.items() if key.kind == "pair")
    for label in ("pd_abs", "top1_swap", "pair_inversion"):
        assert pair[label].interval() == before[label].interval()
    for key, statistics in both.record.statistics.items():
        if "bad" in (key.a.replica, key.b.replica) and key.kind == "pair":
            assert statistics["pd_abs"].n == counts["bad", "answered"]
    assert all(
        np.isfinite(s.value) for found in both.record.statistics.values() for s in found.values() if s.n
    )


def test_a_port_where_nothing_listens(fake_replica, probe):
    gone = fake_replica(name="gone")
    gone.stop()
    collected = ask(probe, fake_replica(name="a"), fake_replica(name="b"), gone)
    assert collected.answers[2].errors == {"down": len(probe)}
    assert measure(collected, Settings(), (), {}).record.counts["a", "answered"] == len(probe)


def test_a_slow_replica_costs_the_others_nothing_beyond_its_deadline(fake_replica, probe):
    limits = replace(LIMITS, deadline=0.3, round=3.0)
    slow = fake_replica(name="slow", delay=1.0)
    started = time.monotonic()
    collected = ask(probe, fake_replica(name="a"), slow, limits=limits)
    assert collected.answers[0].errors.total() == 0
    assert collected.answers[1].errors == {"deadline": len(probe)}
    # 40 requests of 0.3 s each would take 12 s: it gives up on the first
    assert len([path for path, _ in slow.calls]) <= 8
    assert time.monotonic() - started < 12


def test_a_replica_that_grows_slow_is_given_up(fake_replica, probe):
    fake = fake_replica(name="a")
    limits = replace(LIMITS, deadline=0.4, round=30.0, concurrency=1, floor=0)

    def mangle(response):
        if score_of(response) and len(fake.calls) > 10:
            fake.delay = 1.0
        return response

    fake.mangle = mangle
    (answer,) = ask(probe, fake, limits=limits).answers
    assert 0 < answer.errors["deadline"] < len(probe)
    assert answer.answered.sum() == len(probe) - answer.errors["deadline"]
    assert len(fake.requests()) < 20


PATIENT = replace(
    LIMITS, round=60.0, patience=30.0
)  # generous: a busy machine takes its time to restart a server


@pytest.mark.parametrize("code", ["UNAVAILABLE", "ABORTED", "CANCELLED"])
@pytest.mark.parametrize("count", [1, 4])
def test_the_first_calls_fail_and_the_round_is_whole(fake_replica, probe, code, count):
    fake = fake_replica(name="a", error=(getattr(grpc.StatusCode, code), "not yet"), error_count=count)
    (answer,) = ask(probe, fake, limits=PATIENT).answers
    assert answer.errors.total() == 0
    assert answer.answered.all()
    assert answer.again_answered.sum() == answer.batched_answered.sum() == LIMITS.floor


def test_a_replica_that_restarts_within_the_round_is_asked_what_it_did_not_answer(fake_replica, probe):
    fake = fake_replica(name="a")
    restarting = threading.Event()

    def mangle(response):
        if score_of(response) and len(fake.calls) > 10 and not restarting.is_set():
            restarting.set()
            threading.Thread(target=restart).start()
        return response

    def restart():
        fake.stop()
        fake.start()

    fake.mangle = mangle
    (answer,) = ask(probe, fake, limits=PATIENT).answers
    assert restarting.is_set()
    assert answer.errors.total() == 0
    assert answer.answered.all()


def test_a_replica_that_hangs_for_a_while_is_late_for_few_requests(fake_replica, probe):
    fake = fake_replica(name="a")
    limits = replace(PATIENT, deadline=0.5, concurrency=2)
    late = []

    def mangle(response):
        if score_of(response) and len(fake.calls) > 10 and len(late) < 4:
            late.append(1)
            time.sleep(1.0)
        return response

    fake.mangle = mangle
    (answer,) = ask(probe, fake, limits=limits).answers
    assert set(answer.errors) == {"deadline"}
    assert 0 < answer.errors["deadline"] < len(probe) / 2
    assert answer.answered.sum() == len(probe) - answer.errors.total()


def test_one_request_that_is_always_turned_away_costs_no_other(fake_replica, probe):
    fake = fake_replica(name="a")
    refused = probe.rows(7)["user_id"][0].encode()

    def mangle(response):
        request = fake.calls[-1][1]
        if score_of(response) and wire.to_array(request.inputs["user_id"])[0] == refused:
            raise ConnectionResetError
        return response

    def answer_or_abort(path, request, context):
        try:
            return answer_all(path, request, context)
        except ConnectionResetError:
            context.abort(grpc.StatusCode.UNAVAILABLE, "queue full")

    answer_all, fake.answer = fake.answer, answer_or_abort
    fake.mangle = mangle
    limits = replace(PATIENT, concurrency=1, floor=0)
    (answer,) = ask(probe, fake, limits=limits).answers
    assert answer.errors == {"down": 1}
    assert np.flatnonzero(~answer.answered).tolist() == [7]
    sent = [
        r
        for r in fake.requests()
        if "user_id" in r.inputs and wire.to_array(r.inputs["user_id"])[0] == refused
    ]
    assert len(sent) == 3


@pytest.mark.parametrize("unsendable", [[0], [0, 4], range(40)])
def test_requests_that_cannot_be_sent_do_not_end_the_round(fake_replica, probe, unsendable):
    fake = fake_replica(name="a")
    for n in unsendable:
        probe.columns["age"][probe.row_slice(n)] = np.inf  # the client refuses infinite numbers
    rejected = []

    def answer_or_abort(path, request, context):
        response = answer_all(path, request, context)
        if score_of(response) and len(rejected) < 5:
            rejected.append(path)
            context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
        return response

    answer_all, fake.answer = fake.answer, answer_or_abort
    (answer,) = ask(probe, fake, limits=replace(PATIENT, concurrency=1, floor=0)).answers
    assert answer.errors == {"error": len(unsendable)}
    assert np.flatnonzero(~answer.answered).tolist() == list(unsendable)


def test_another_model_name_is_wrong_model(fake_replica, probe):
    collected = ask(probe, fake_replica(name="a"), model="another")
    assert collected.answers[0].errors == {"wrong_model": len(probe)}


def described(**values):
    def mangle(response):
        if isinstance(response, wire.PredictResponse) and "description" in response.outputs:
            response.outputs["description"].CopyFrom(
                wire.to_tensor(np.array(json.dumps(values), dtype=object))
            )
        return response

    return mangle


def test_a_replica_with_other_features_is_not_compared_and_says_so(fake_replica, probe):
    same = {"feature_spec": "f" * 16}
    good = [fake_replica(name=name, mangle=described(**same)) for name in "ab"]
    odd = fake_replica(name="odd", mangle=described(feature_spec="0" * 16))
    collected = ask(probe, *good, odd, expected=Expected(**same))
    refused = collected.answers[2]
    assert "feature_spec" in refused.refused
    assert refused.errors == {"incompatible": len(probe)}
    assert not [r for r in odd.requests() if r.model_spec.signature_name == "serving_default"]
    record = measure(collected, Settings(), (), {}).record
    assert not [k for k in record.statistics if "odd" in (k.a.replica, k.b.replica)]
    assert [(mark.kind, mark.replica) for mark in record.marks] == [("incompatible", "odd")]


def test_where_nobody_says_what_to_expect_the_few_are_not_compared(fake_replica, probe):
    hashes = {"x": "1" * 16, "a": "2" * 16, "b": "2" * 16}
    fakes = [fake_replica(name=name, mangle=described(feature_spec=value)) for name, value in hashes.items()]
    collected = ask(probe, *fakes)
    assert [bool(answer.refused) for answer in collected.answers] == [True, False, False]
    assert collected.answers[0].errors == {"incompatible": len(probe)}
    record = measure(collected, Settings(), (), {}).record
    assert {(k.a.replica, k.b.replica) for k in record.statistics if k.kind == "pair"} == {("a", "b")}


def test_another_schema_is_compared_once_most_replicas_have_it(fake_replica, probe):
    old, new = "1" * 16, "2" * 16
    fakes = [fake_replica(name=name, mangle=described(feature_spec=old)) for name in "abcd"]
    refused = []
    for fake in (None, *fakes):
        if fake is not None:
            fake.mangle = described(feature_spec=new)
        collected = ask(probe, *fakes, preferred=Expected(old))
        refused.append("".join(answer.replica for answer in collected.answers if answer.refused))
    assert refused == ["", "a", "ab", "d", ""]  # two against two: the preferred


def test_a_replica_without_a_description_is_compared(fake_replica, probe):
    plain = fake_replica(name="plain", signatures=("serving_default",))
    collected = ask(probe, plain, fake_replica(name="a"), expected=Expected("f" * 16))
    assert [answer.errors.total() for answer in collected.answers] == [0, 0]


def test_a_refresh_on_new_data_is_compared_although_its_vocabulary_is_another(fake_replica, probe):
    same = {"feature_spec": "f" * 16}
    fakes = [fake_replica(name=name, mangle=described(vocabulary=name * 16, **same)) for name in "ab"]
    collected = ask(probe, *fakes, expected=Expected("f" * 16))
    assert [answer.refused for answer in collected.answers] == ["", ""]
    assert [answer.labels["vocabulary"] for answer in collected.answers] == ["a" * 16, "b" * 16]


def test_two_versions_in_one_round_are_not_mixed(fake_replica, probe):
    fake = fake_replica(name="a", version=3)

    def mangle(response):
        if score_of(response):
            fake.version = 4 if len(fake.requests()) > 20 else 3
        return response

    fake.mangle = mangle
    limits = replace(LIMITS, concurrency=1)
    collected = ask(probe, fake, fake_replica(name="b"), limits=limits)
    answer = collected.answers[0]
    assert answer.version == 4
    assert 0 < answer.errors["version_change"] < len(probe)
    record = measure(collected, Settings(), (), {}).record
    pair = next(s for key, s in record.statistics.items() if key.kind == "pair")
    assert pair["top1_swap"].n == answer.answered.sum() == len(probe) - answer.errors["version_change"]
    assert {key.a.version for key in record.statistics if key.a.replica == "a"} == {4}


def test_a_refresh_is_measured_against_what_it_replaced(fake_replica, probe, noisy):
    fake = fake_replica(name="a", version=3, mangle=noisy(1, 0.05))
    other = fake_replica(name="b", mangle=noisy(9, 0.05))
    first = measure(ask(probe, fake, other), Settings(), (), {})
    fake.version, fake.mangle = 4, noisy(2, 0.05)
    second = measure(ask(probe, fake, other), Settings(), (), first.served)
    (refresh,) = [(key, s) for key, s in second.record.statistics.items() if key.kind == "refresh"]
    assert (refresh[0].a.version, refresh[0].b.version, refresh[0].level) == (3, 4, "L6")
    assert refresh[1]["pd_abs"].value > 0.01
    assert [(mark.kind, mark.replica, mark.detail) for mark in second.record.marks] == [
        ("refresh", "a", {"old": 3, "new": 4})
    ]
    third = measure(ask(probe, fake, other), Settings(), (), second.served)
    assert not third.record.marks


def test_a_single_replica_has_a_floor_and_no_pair(fake_replica, probe):
    record = measure(ask(probe, fake_replica(name="a")), Settings(), (), {}).record
    assert {key.kind for key in record.statistics} == {"again", "batch"}


def test_nobody_answers(fake_replica, probe):
    down = fake_replica(name="a", error=(grpc.StatusCode.UNAVAILABLE, "down"))
    measured = measure(ask(probe, down), Settings(), (), {})
    assert measured.record.statistics == {}
    assert measured.record.counts["a", "down"] == len(probe)


def test_a_process_that_hangs_is_told_from_a_port_where_nothing_listens(fake_replica, probe):
    alive = fake_replica(name="alive")
    with socket.create_server(("127.0.0.1", 0)) as hung, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but it does not listen
        targets = [
            Replica("alive", alive.target),
            Replica("hung", f"127.0.0.1:{hung.getsockname()[1]}"),
            Replica("closed", f"127.0.0.1:{closed.getsockname()[1]}"),
        ]
        collected = collect(targets, probe, connect, Expected(), RoundLimits(deadline=1, round=20))
    kinds = {answer.replica: set(answer.errors) for answer in collected.answers}
    assert kinds == {"alive": set(), "hung": {"deadline"}, "closed": {"down"}}
