"""Mirrored calls to requests: what can be asked of every replica, what cannot and why, and bytes of any kind."""

from __future__ import annotations

import random

import numpy as np
import pytest

from serving import wire
from serving.monitor.measurement.slices import cuts
from serving.monitor.requests.live import MAX_ELEMENTS, live_requests, live_slices
from serving.monitor.requests.probe import probe_set
from serving.monitor.requests.reservoir import MirroredCall

PROBE = probe_set(
    np.repeat(["p0", "p1", "p2"], 2),
    {
        "user_id": np.repeat(["u0", "u1", "u2"], 2).astype(object),
        "age": np.repeat([20, 30, 40], 2).astype(np.float32),
        "item_id": np.array(["x", "y"] * 3, dtype=object),
    },
    "item_id",
)


def body(inputs, signature="serving_default", model="ranker"):
    request = wire.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, values in inputs.items():
        tensor = values if isinstance(values, wire.TensorProto) else wire.to_tensor(np.asarray(values))
        request.inputs[name].CopyFrom(tensor)
    return request.SerializeToString()


def floats(*values):
    return np.array(values, np.float32)


RANK = {"user_id": ["u7"], "age": floats(35), "item_id": ["x", "y", "z"]}
FLAT = {"user_id": ["u7"] * 3, "age": floats(35, 35, 35), "item_id": ["x", "y", "z"]}


def decode(*calls):
    mirrored = [call if isinstance(call, MirroredCall) else MirroredCall(call) for call in calls]
    return live_requests(mirrored, "ranker", "item_id", PROBE)


@pytest.mark.parametrize("signature", ["", "serving_default", "rank"])
def test_a_call_of_either_signature_is_one_request(signature):
    live = decode(MirroredCall(body(RANK if signature == "rank" else FLAT, signature), "id-1"))
    assert not live.unreadable
    assert live.requests.requests == ("id-1",)
    assert live.requests.hash == ""
    rows = live.requests.rows(0)
    assert {name: values.tolist() for name, values in rows.items()} == {
        "user_id": ["u7"] * 3,
        "age": [35.0] * 3,
        "item_id": ["x", "y", "z"],
    }
    assert live.requests.contexts(("user_id", "age")) == {"id-1": {"user_id": "u7", "age": 35.0}}


def test_a_column_of_one_is_shared_and_scalars_and_narrow_matrices_are_columns():
    shapes = {"user_id": np.array("u7"), "age": floats(35)[:, None], "item_id": np.array([["x"], ["y"]])}
    live = decode(body(shapes, "rank"))
    assert {name: values.tolist() for name, values in live.requests.rows(0).items()} == {
        "user_id": ["u7"] * 2,
        "age": [35.0] * 2,
        "item_id": ["x", "y"],
    }


def test_numbers_of_any_type_are_numbers_and_ids_are_text():
    live = decode(
        body(
            {"user_id": ["a", "b"], "age": np.array([1, 2], np.int64), "item_id": np.array([7, 8], np.int64)}
        ),
        body({"user_id": ["a", "b"], "age": np.array([1.5, 2.5]), "item_id": floats(7, 8)}),
    )
    assert not live.unreadable
    assert [live.requests.rows(n)["item_id"].tolist() for n in range(2)] == [["7", "8"]] * 2
    assert live.requests.columns["age"].tolist() == [1.0, 2.0, 1.5, 2.5]


def test_text_that_is_not_utf_8_is_asked_and_shown():
    live = decode(body({"user_id": [b"\xff\xfe", b"a"], "age": floats(1, 2), "item_id": [b"\xff", b"b"]}))
    assert live.requests.items.tolist() == ["\ufffd", "b"]


def test_single_rows_are_asked_of_a_model_that_is_probed_by_single_rows():
    columns = {name: values[::2] for name, values in PROBE.columns.items()}
    single = probe_set(["p0", "p1", "p2"], columns, "item_id")
    call = MirroredCall(body({"user_id": ["u"], "age": floats(1), "item_id": ["x"]}))
    assert live_requests([call], "ranker", "item_id", single).requests.items.tolist() == ["x"]
    assert live_requests([call], "ranker", "item_id", PROBE).requests is None


UNREADABLE = [
    (b"\xff\xff\xff\xff", "no PredictRequest"),
    (b"", "model ''"),
    (body(FLAT, model="another"), "model 'another'"),
    (body(FLAT, "regress"), "signature 'regress'"),
    (body({}, "describe"), "signature 'describe'"),
    (body({"user_id": ["u"], "age": floats(1)}), "no `item_id`"),
    (body(FLAT | {"item_id": ["x"], "user_id": ["u"], "age": floats(1)}), "fewer than two"),
    (body(FLAT | {"item_id": ["x", "x", "x"]}), "fewer than two"),
    (
        body({"user_id": np.array([], object), "age": floats(), "item_id": np.array([], object)}),
        "fewer than two",
    ),
    (body(FLAT | {"age": floats(1, 2)}), "different numbers"),
    (body(FLAT | {"age": floats(1)}), "different numbers"),
    (body(FLAT | {"age": ["a", "b", "c"]}), "`age` is text"),
    (body(FLAT | {"user_id": floats(1, 2, 3)}), "`user_id` is numbers"),
    (body(FLAT | {"age": floats(1, np.inf, 2)}), "infinite"),
    (body(RANK | {"age": floats(-np.inf)}, "rank"), "infinite"),
    (body(FLAT | {"age": np.ones(3, np.complex64)}), "complex"),
    (body(FLAT | {"age": wire.TensorProto(dtype=999)}), "dtype 999"),
    (body(FLAT | {"age": wire.TensorProto(dtype=1, tensor_content=b"abc")}), "tensor_content"),
]


@pytest.mark.parametrize(("call", "reason"), UNREADABLE, ids=[reason for _, reason in UNREADABLE])
def test_what_cannot_be_asked_is_counted_with_its_reason(call, reason):
    live = decode(call, body(FLAT))
    assert live.unreadable.total() == 1
    assert reason in next(iter(live.unreadable))
    assert len(live.requests) == 1


def test_hundred_bytes_that_claim_gigabytes_take_none():
    tensor = wire.to_tensor(floats(1), typed_fields=True)
    for size in (MAX_ELEMENTS, 4):
        tensor.tensor_shape.dim.add(size=size)
    negative = wire.TensorProto(dtype=1)
    negative.tensor_shape.dim.add(size=-(1 << 62))
    live = decode(body(FLAT | {"age": tensor}), body(FLAT | {"age": negative}))
    assert live.requests is None
    assert sorted(reason.split(" ")[0] for reason in live.unreadable) == ["it", "tensor"]


def test_a_reason_is_short_and_of_one_line_whatever_the_caller_writes():
    live = decode(body(FLAT, model="\n" * 300 + "\x1b[31m"))
    (reason,) = live.unreadable
    assert len(reason) <= 120
    assert reason.isprintable()


def test_an_item_that_comes_again_is_left_out():
    live = decode(body(FLAT | {"item_id": ["x", "y", "x"], "age": floats(1, 2, 3)}))
    assert live.requests.repeated == 1
    assert live.requests.rows(0)["age"].tolist() == [1.0, 2.0]


def test_ids_are_the_callers_or_of_the_content_and_distinct():
    other = body(FLAT | {"user_id": ["u8"] * 3})
    calls = [MirroredCall(body(FLAT), "same"), MirroredCall(other, "same"), body(FLAT), body(FLAT)]
    calls += [MirroredCall(body(FLAT), "x" * 1000), MirroredCall(other, "a\nb")]
    requests = decode(*calls).requests.requests
    assert requests[:2] == ("same", "same#2")
    assert [identifier.partition("#")[0] for identifier in requests[3:5]] == [requests[2]] * 2
    assert len(set(requests)) == 6
    assert all(len(identifier) <= 36 and identifier.isprintable() for identifier in requests)


def test_requests_of_other_features_are_asked_as_they_came():
    lacking = {name: values for name, values in FLAT.items() if name != "age"}
    live = decode(body(FLAT), body(lacking), body(FLAT | {"new": ["a"] * 3}), body(FLAT))
    requests = live.requests
    assert [sorted(requests.rows(n)) for n in range(4)] == [
        sorted(FLAT),
        sorted(lacking),
        sorted([*FLAT, "new"]),
        sorted(FLAT),
    ]
    assert [requests.companion(n) for n in range(4)] == [3, 1, 2, 0]
    assert len(requests.rows(0, 3)["age"]) == 6
    assert requests.contexts(("age",))[requests.requests[1]] == {}


def test_live_requests_are_cut_as_the_probe_is():
    probe_cuts = cuts(PROBE, ("user_id", "age"))
    live = decode(
        body(FLAT | {"user_id": ["u1"] * 3, "age": floats(30, 30, 30)}),
        body(FLAT | {"age": floats(20, np.nan, 99)}),
        body({name: values for name, values in FLAT.items() if name != "age"}),
    )
    parts = {(part.feature, part.value): part.rows.sum() for part in live_slices(live.requests, probe_cuts)}
    assert parts == {
        ("user_id", "u1"): 3,
        ("user_id", "(other)"): 6,
        ("age", "30"): 3,
        ("age", "20"): 1,
        ("age", "(missing)"): 4,
        ("age", "(other)"): 1,
    }


def test_bytes_of_any_kind_never_raise():
    generator = random.Random(5)
    valid = [body(FLAT), body(RANK, "rank")]
    calls = []
    for _ in range(3000):
        hostile = bytearray(generator.choice(valid))
        for _ in range(generator.randrange(1, 8)):
            place = generator.randrange(len(hostile))
            match generator.randrange(3):
                case 0:
                    hostile[place] = generator.randrange(256)
                case 1:
                    del hostile[place : place + generator.randrange(1, 9)]
                    hostile = hostile or bytearray(b"\x00")
                case 2:
                    hostile[place:place] = generator.randbytes(4)
        calls.append(MirroredCall(bytes(hostile)))
    live = live_requests(calls, "ranker", "item_id", PROBE)
    assert 0 < live.unreadable.total() < len(calls)
    assert len(live.requests) + live.unreadable.total() == len(calls)
    for n in range(len(live.requests)):
        live.requests.rows(n, live.requests.companion(n))
