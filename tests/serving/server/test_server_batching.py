"""Batching: rows come back to their callers, limits and texts as TF Serving's."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.server.metrics import Metrics
from serving.server.requests.batching import BatchedModel, BatchingOptions, merge, options_from_proto
from serving.server.requests.signatures import ServedSignature, SignatureTensor
from serving.status import StatusError
from serving.wire import BatchingParameters
from tests.processes import PATIENCE, wait_until
from tests.serving.server.server_client import Code, failure

X, Y, Z = (SignatureTensor(name, f"{name}:0", 1, (-1,)) for name in "xyz")


class Doubler:
    """A model that doubles x, remembers the batches it saw, and can be held back."""

    def __init__(self):
        self.signatures = {"serving_default": ServedSignature("serving_default", "", {"x": X}, {"y": Y})}
        self.signature_defs = {}
        self.batches = []
        self.is_running = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def run(self, feeds, fetches, timeout_ms=0):
        self.is_running.set()
        self.gate.wait()
        [(_, array)] = feeds
        self.batches.append(len(array))
        return [array * 2 if fetch is Y else array + 1 for fetch in fetches]

    def close(self):
        self.closed = True


@pytest.fixture
def batched():
    models = []

    def make(**options):
        model = Doubler()
        options.setdefault("num_batch_threads", 1)
        wrapped = BatchedModel(model, BatchingOptions(**options), Metrics())
        models.append((model, wrapped))
        return model, wrapped

    yield make
    for model, wrapped in models:
        model.gate.set()
        wrapped.close()
        assert model.closed


def ask(model, values, fetches=(Y,)):
    return model.run([(X, np.asarray(values, np.float32))], list(fetches))


def together(model, wrapped, requests):
    """Sends requests while the only batch thread is held, so that they queue; gives their answers."""
    model.gate.clear()
    model.is_running.clear()
    with ThreadPoolExecutor(len(requests) + 1) as pool:
        first = pool.submit(ask, wrapped, [0.0])
        assert model.is_running.wait(PATIENCE)
        rest = [pool.submit(ask, wrapped, values) for values in requests]
        wait_until(lambda: wrapped.waiting() == len(requests) or any(answer.done() for answer in rest))
        model.gate.set()
        first.result()
        return [f.exception() or f.result()[0] for f in rest]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=4), min_size=1, max_size=6))
def test_every_caller_gets_its_own_rows(requests):
    model = Doubler()
    wrapped = BatchedModel(
        model, BatchingOptions(num_batch_threads=1, batch_timeout_micros=20_000), Metrics()
    )
    with ThreadPoolExecutor(len(requests)) as pool:
        answers = list(pool.map(lambda values: ask(wrapped, values)[0], requests))
    wrapped.close()
    for values, answer in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(answer, np.asarray(values, np.float32) * 2)


def test_waiting_requests_run_as_one_batch(batched):
    model, wrapped = batched()
    answers = together(model, wrapped, [[1.0], [2.0, 3.0], [4.0]])
    assert [answer.tolist() for answer in answers] == [[2.0], [4.0, 6.0], [8.0]]
    assert model.batches == [1, 4]


def test_a_batch_never_exceeds_its_size(batched):
    model, wrapped = batched(max_batch_size=3)
    together(model, wrapped, [[1.0]] * 7)
    assert max(model.batches) <= 3
    assert sum(model.batches) == 8


def test_allowed_sizes_round_up_and_padding_is_dropped(batched):
    model, wrapped = batched(max_batch_size=8, allowed_batch_sizes=(4, 8))
    assert ask(wrapped, [1.0, 2.0, 3.0])[0].tolist() == [2.0, 4.0, 6.0]
    assert model.batches == [4]


def test_large_requests_are_split_if_allowed(batched):
    model, wrapped = batched(max_batch_size=10, enable_large_batch_splitting=True, max_execution_batch_size=4)
    assert ask(wrapped, np.arange(9.0))[0].tolist() == (np.arange(9.0) * 2).tolist()
    assert sorted(model.batches) == [1, 4, 4]


def test_outputs_come_in_the_order_asked_for(batched):
    _, wrapped = batched()
    z, y = ask(wrapped, [3.0], [Z, Y])
    assert (z.tolist(), y.tolist()) == ([4.0], [6.0])


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ([np.float32(1)], "Batching Run() input tensors must have at least one dimension"),
        ([np.ones(2), np.ones(3)], "Batching Run() input tensors must have equal 0th-dimension size"),
        ([np.ones(9)], "Task size 9 is larger than maximum input batch size 8"),
    ],
)
def test_inputs_that_cannot_be_batched(batched, arrays, text):
    _, wrapped = batched(max_batch_size=8)
    with pytest.raises(StatusError) as caught:
        wrapped.run(list(zip([X, Z], map(np.asarray, arrays), strict=False)), [Y])
    assert str(caught.value) == f"INVALID_ARGUMENT: {text}"


def test_a_full_queue_is_unavailable(batched):
    model, wrapped = batched(max_batch_size=1, max_enqueued_batches=1)
    answers = together(model, wrapped, [[1.0]] * 5)
    refused = [answer for answer in answers if isinstance(answer, StatusError)]
    assert refused
    assert {error.code for error in refused} == {14}


def test_different_lengths_need_padding():
    tasks = [[(X, np.ones((1, 2)))], [(X, np.ones((1, 3)))]]
    with pytest.raises(
        StatusError, match="FAILED_PRECONDITION: Tensors with name 'x:0' from different tasks"
    ):
        merge(tasks, 0, pad_lengths=False)
    [(_, merged)] = merge(tasks, 1, pad_lengths=True)
    assert merged.tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    "settings", [{"max_batch_size": 8, "allowed_batch_sizes": [4]}, {"allowed_batch_sizes": [4, 2, 1000]}]
)
def test_contradicting_parameters_are_refused(settings):
    proto = BatchingParameters(allowed_batch_sizes=settings["allowed_batch_sizes"])
    if "max_batch_size" in settings:
        proto.max_batch_size.value = settings["max_batch_size"]
    with pytest.raises(StatusError, match="allowed_batch_sizes"):
        options_from_proto(proto)


def test_a_batching_server_answers_single_rows_of_many_callers(serve, models, tmp_path):
    parameters = tmp_path / "batching.config"
    parameters.write_text(
        "max_batch_size { value: 64 } batch_timeout_micros { value: 2000 } max_enqueued_batches { value: 1000 } "
        "num_batch_threads { value: 1 } allowed_batch_sizes: 16 allowed_batch_sizes: 64"
    )
    client = serve(
        model_name="m",
        model_base_path=str(models / "half_plus_two"),
        enable_batching=True,
        batching_parameters_file=str(parameters),
    )

    def ask_row(value):
        return client.predict(x=np.array([[value]], np.float32)).outputs["y"].float_val[0]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask_row, range(200))) == [value / 2 + 2 for value in range(200)]
    code, text = failure(client.predict, x=np.float32(1))
    assert (code, text) == (
        Code.INVALID_ARGUMENT,
        "Batching Run() input tensors must have at least one dimension",
    )


def test_parameters_beside_a_model_need_their_flag(serve, models, tmp_path):
    (tmp_path / "p").write_text("max_batch_size { value: 64 }")
    with pytest.raises(StatusError, match="batching_parameters_file is set without setting"):
        serve(model_base_path=str(models / "ranker"), batching_parameters_file=str(tmp_path / "p"))
