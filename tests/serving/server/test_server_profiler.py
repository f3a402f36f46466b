"""ProfilerService through TensorFlow's own client, as TensorBoard's "Capture profile" uses it."""

from __future__ import annotations

import threading

import grpc
import numpy as np
import pytest
from tensorflow.python.profiler import profiler_client
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from serving.server import profiler
from serving.wire import ProfileRequest, ProfileResponse
from tests.processes import PATIENCE, wait_until
from tests.serving.server.server_client import failure

ROOT = "/tensorflow.ProfilerService/"


@pytest.fixture
def answers():
    """One entry for each prediction that the busy server has made."""
    return []


@pytest.fixture
def busy(shared, answers):
    """The shared server while a caller keeps it at work."""
    done = threading.Event()

    def ask():
        while not done.is_set():
            answers.append(shared.predict(model="half_plus_two", x=np.float32([2.0])))

    caller = threading.Thread(target=ask)
    caller.start()
    yield shared
    done.set()
    caller.join()


def test_a_trace_is_written_where_the_client_says(busy, tmp_path):
    profiler_client.trace(f"grpc://127.0.0.1:{busy.server.port}", str(tmp_path), 300, num_tracing_attempts=10)
    [trace] = (tmp_path / "plugins" / "profile").glob(f"*/127.0.0.1_{busy.server.port}.xplane.pb")
    events = [
        event
        for plane in XSpace.FromString(trace.read_bytes()).planes
        for line in plane.lines
        for event in line.events
    ]
    assert events


def test_a_trace_ends_early_when_told_and_may_come_in_the_answer(busy, answers, monkeypatch):
    started = threading.Event()

    class Session(profiler._pywrap_profiler.ProfilerSession):
        def start(self, *arguments):
            super().start(*arguments)
            started.set()

    monkeypatch.setattr(profiler._pywrap_profiler, "ProfilerSession", Session)
    request = ProfileRequest(session_id="s", emit_xspace=True, opts={"duration_ms": 100_000})
    running = busy.channel.unary_unary(ROOT + "Profile").future(request.SerializeToString(), timeout=60)
    terminate = busy.channel.unary_unary(ROOT + "Terminate")
    assert started.wait(PATIENCE)
    before = len(answers)
    wait_until(lambda: len(answers) > before + 5)  # predictions for the trace to hold
    while not running.done():
        terminate(b"\x0a\x01s", timeout=10)
    response = ProfileResponse.FromString(running.result())
    assert not response.empty_trace
    assert XSpace.FromString(response.xspace).planes


def test_mistakes(shared, tmp_path):
    profile = shared.channel.unary_unary(ROOT + "Profile")
    outside = ProfileRequest(repository_root=str(tmp_path), session_id="../x", host_name="h")
    assert failure(profile, outside.SerializeToString(), timeout=20)[0] == grpc.StatusCode.INVALID_ARGUMENT
    (tmp_path / "file").touch()
    nowhere = ProfileRequest(repository_root=str(tmp_path / "file"), session_id="s", host_name="h")
    assert failure(profile, nowhere.SerializeToString(), timeout=20)[0] == grpc.StatusCode.INTERNAL
    monitor = shared.channel.unary_unary(ROOT + "Monitor")
    assert failure(monitor, b"", timeout=10)[0] == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("options", [{"strict": True}, {"enable_profiler": False}])
def test_the_service_can_be_off(serve, models, options):
    client = serve(model_name="m", model_base_path=str(models / "half_plus_two"), **options)
    profile = client.channel.unary_unary(ROOT + "Profile")
    assert failure(profile, b"", timeout=10)[0] == grpc.StatusCode.UNIMPLEMENTED
