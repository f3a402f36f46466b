"""The gateway's pure parts: sampling, breaker, routing, comparison, frames, options, spool."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.errors import UserError
from serving import wire
from serving.gateway import GatewayOptions, MirrorOptions, frames
from serving.gateway.breaker import Breaker
from serving.gateway.compare import Question, Sampled, question, usable_answer
from serving.gateway.routing import Router
from serving.gateway.sampling import fraction, is_sampled, request_id
from serving.mirrored import MirroredRequest, ReplicaAnswer, from_json, to_json
from serving.spool import SpoolWriter, finished, read


def test_sampling_is_uniform_nested_and_fixed():
    identifiers = [f"request-{number}" for number in range(20_000)]
    for rate in (0.0, 0.01, 0.1, 0.5, 1.0):
        share = np.mean([is_sampled(identifier, rate) for identifier in identifiers])
        assert abs(share - rate) <= 4 * np.sqrt(rate * (1 - rate) / len(identifiers))
    assert all(is_sampled(i, 0.5) for i in identifiers if is_sampled(i, 0.1))
    # A golden value: a gateway of another release must pick the same requests.
    assert fraction("request-1", "mirror") == pytest.approx(0.7351082175, abs=1e-9)


def test_a_request_without_an_id_has_its_hash():
    assert request_id("given", b"x") == "given"
    assert request_id(None, b"x") == request_id("", b"x") != request_id(None, b"y")
    assert len(request_id(None, b"x")) == 32


def test_a_breaker_opens_tries_and_closes():
    breaker = Breaker(failures=2, pause=1.0, longest_pause=3.0)
    breaker.record(False, 0.0)
    breaker.record(True, 0.1)
    breaker.record(False, 0.2)
    assert breaker.allows(0.3)
    breaker.record(False, 0.4)
    assert not breaker.allows(1.3)
    assert breaker.allows(1.4)
    breaker.begin(1.4)
    assert not breaker.allows(1.5)
    breaker.record(False, 1.6)
    assert not breaker.allows(3.5)
    assert breaker.allows(3.6)
    for now in (4.0, 8.0, 12.0):
        breaker.record(False, now)
    assert breaker.allows(15.0)
    assert not breaker.allows(14.9)
    breaker.record(True, 15.0)
    assert breaker.allows(15.0)
    assert not breaker.is_open


@given(st.sets(st.sampled_from("abcde")), st.one_of(st.none(), st.text(max_size=5)))
def test_every_replica_stands_once_and_the_healthy_first(healthy, key):
    router = Router("abcde")
    for _ in range(3):
        order = router.order(key, healthy)
        assert sorted(order) == list("abcde")
        assert set(order[: len(healthy)]) == healthy


def test_a_replica_that_leaves_moves_only_its_own_keys():
    router = Router("abcd")
    keys = [f"user-{number}" for number in range(400)]
    before = {key: router.order(key, set("abcd"))[0] for key in keys}
    after = {key: router.order(key, set("abc"))[0] for key in keys}
    assert {key for key in keys if before[key] != after[key]} == {key for key in keys if before[key] == "d"}
    assert all(60 <= list(before.values()).count(name) <= 140 for name in "abcd")


def test_turns_stay_even_when_one_is_ill():
    router = Router("abc")
    firsts = [router.order(None, {"a", "c"})[0] for _ in range(10)]
    assert (firsts.count("a"), firsts.count("c")) == (5, 5)


def predict_request(**changes):
    made = {"name": "ranker", "signature": "", "column": "item_id"} | changes
    request = wire.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = made["name"], made["signature"]
    request.inputs[made["column"]].CopyFrom(wire.to_tensor(["1", "ü"]))
    return request.SerializeToString()


def test_what_is_comparable():
    assert question(predict_request(), "ranker", "item_id") == Question("serving_default", ("1", "ü"))
    for other in ({"name": "other"}, {"signature": "describe"}, {"column": "movie"}):
        assert question(predict_request(**other), "ranker", "item_id") is None


def test_a_question_keeps_the_features_it_is_asked_for():
    request = wire.PredictRequest.FromString(predict_request())
    request.inputs["device"].CopyFrom(wire.to_tensor(["tv", "tv"]))
    request.inputs["price"].CopyFrom(wire.to_tensor(np.array([1.5, 2.0], np.float32)))
    request.inputs["secret"].CopyFrom(wire.to_tensor(["a", "b"]))
    asked = question(request.SerializeToString(), "ranker", "item_id", ("device", "price", "absent"))
    assert asked.features == {"device": ("tv",), "price": (1.5, 2.0)}


@given(st.binary(max_size=80))
def test_any_bytes_are_a_question_or_none_and_an_answer_or_malformed(data):
    asked = question(data, "ranker", "item_id")
    assert asked is None or isinstance(asked, Question)
    for signature in ("rank", "serving_default"):
        answer = usable_answer(Question(signature, ("1",)), "a", False, 0.1, data)
        assert (answer.scores is None) == (answer.error == "MALFORMED")


@given(st.text(max_size=10), st.floats(0, 1e10), st.binary(max_size=99), st.binary(max_size=99))
def test_frames_survive_the_pipe(identifier, clock, request, answer):
    calls = [Sampled(identifier, clock, "a", 0.25, request, answer), Sampled("2", 1.0, "b", 0.5, answer, b"")]

    async def through():
        stream = asyncio.StreamReader()
        for call in calls:
            for piece in frames.encode(call):
                stream.feed_data(piece)
        stream.feed_data(b"\x01\x00")  # the parent was killed here
        stream.feed_eof()
        return [await frames.read(stream) for _ in range(3)]

    assert asyncio.run(through()) == [*calls, None]


def mirrored(identifier="r"):
    answers = (
        ReplicaAnswer(
            "a", True, 3, 0.0123456, 2, np.array([0.1, np.nextafter(np.float32(1), 2)], np.float32)
        ),
        ReplicaAnswer("b", False, None, 1.0, 2, None, "DEADLINE_EXCEEDED"),
    )
    return MirroredRequest(identifier, 1e9, "rank", ("1", "ü"), answers)


def same(first, second):
    return to_json(first) == to_json(second)


def test_records_read_back_as_the_same_float32():
    back = from_json(to_json(mirrored()))
    assert same(back, mirrored())
    np.testing.assert_array_equal(back.answers[0].scores, mirrored().answers[0].scores)
    assert back.answers[0].scores.dtype == np.float32
    with pytest.raises(UserError, match="not a mirrored request"):
        from_json('{"request_id": 1}')


def test_a_spool_hands_over_whole_files(tmp_path):
    sink = SpoolWriter(tmp_path / "spool", max_records=2)
    for number in range(5):
        sink(mirrored(f"r{number}"))
    files = finished(tmp_path / "spool")
    assert [[record.request_id for record in read(path)] for path in files] == [["r0", "r1"], ["r2", "r3"]]
    sink.hand_over()
    sink.hand_over()
    assert len(finished(tmp_path / "spool")) == 3
    assert not list((tmp_path / "spool").glob("*.part"))


def test_an_unread_spool_loses_its_oldest(tmp_path):
    size = len(to_json(mirrored("r0")).encode()) + 1
    sink = SpoolWriter(tmp_path, max_records=1, max_bytes=3 * size)
    for number in range(5):
        sink(mirrored(f"r{number}"))
    assert [next(read(path)).request_id for path in finished(tmp_path)] == ["r2", "r3", "r4"]
    assert sink.discarded == 2


def test_a_killed_writers_whole_lines_are_kept(tmp_path):
    line = to_json(mirrored("kept"))
    (tmp_path / f"{1:020d}-999999999-000001.part").write_text(f"{line}\n{line[:20]}")
    SpoolWriter(tmp_path)
    (path,) = finished(tmp_path)
    assert [record.request_id for record in read(path)] == ["kept"]


def test_a_spool_needs_a_directory(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot use the spool directory"):
        SpoolWriter(tmp_path / "file")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: GatewayOptions(d, listen="8600"), "`listen` must read host:port"),
        (lambda d: GatewayOptions(d, metrics="h:x"), "`metrics` must read host:port"),
        (lambda d: GatewayOptions(d, sticky="X-User"), "lower case"),
        (lambda d: GatewayOptions(d, slow=0), "`slow`"),
        (lambda d: GatewayOptions(d, drain=-1), "`drain`"),
        (lambda d: MirrorOptions(rate=1.5), "from 0 to 1. Received: 1.5"),
        (lambda d: MirrorOptions(rate=float("nan")), "from 0 to 1"),
        (lambda d: MirrorOptions(deadline=0), "mirror deadline"),
        (lambda d: MirrorOptions(queue=0), "mirror queue"),
        (lambda d: MirrorOptions(workers=0), "mirror workers"),
    ],
)
def test_wrong_options_are_one_line(make, message):
    from serving.deployment import from_targets

    with pytest.raises(UserError, match=message):
        make(from_targets(["a=127.0.0.1:1"]))
