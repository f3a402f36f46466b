"""tensorflow.ProfilerService: a trace of this process for TensorBoard, asked for over the serving port.

TensorFlow's own client (`tf.profiler.experimental.client.trace`, TensorBoard's "Capture profile") names a
directory, and the profiled server writes the trace there. TensorFlow offers a recorder to Python but no
service, so the service is here; its messages are declared by hand. Because the caller says where to write,
the service is off with `--strict`.

Source: tensorflow/tsl's profiler_service.proto and profiler_service_impl.cc.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from google.protobuf import message
from tensorflow.python.profiler.internal import _pywrap_profiler

from ranker.backend import tf
from serving.server.endpoints import Call, Method
from serving.server.wire import declare
from serving.status import Code, ServingError, invalid

_SERVICE = "/tensorflow.ProfilerService/"
_messages = declare(
    "steady_ranker.profiler",
    {
        "Options": [
            "uint32 host_tracer_level 2",
            "uint32 device_tracer_level 3",
            "uint32 python_tracer_level 4",
            "uint32 version 5",
            "uint64 duration_ms 9",
        ],
        "ProfileRequest": [
            "Options opts 4",
            "string repository_root 5",
            "string session_id 6",
            "string host_name 7",
            "bool emit_xspace 9",
        ],
        "ProfileResponse": ["bool empty_trace 7", "bytes xspace 8"],
        "TerminateRequest": ["string session_id 1"],
        "Space": ["repeated Plane planes 1"],
        "Plane": ["repeated Line lines 3"],
        "Line": ["repeated bytes events 4"],
    },
)
_TICK_SECONDS = 0.05


class Profiler:
    """One trace at a time, as TensorFlow's recorder has it."""

    def __init__(self) -> None:
        self._ends: dict[str, threading.Event] = {}

    def methods(self) -> dict[str, Method]:
        """The gRPC path of each method."""
        return {
            _SERVICE + "Profile": self.profile,
            _SERVICE + "Monitor": self.monitor,
            _SERVICE + "Terminate": self.terminate,
        }

    def profile(self, data: bytes, call: Call) -> bytes:
        """ProfilerService.Profile: records for the time asked and writes (or returns) the trace.

        Raises:
            ServingError: INTERNAL if another trace is being recorded or the directory can't be written.
        """
        request = _parse("ProfileRequest", data)
        options = request.opts
        levels = {}
        if options.version:
            levels = {
                name: getattr(options, name)
                for name in ("host_tracer_level", "device_tracer_level", "python_tracer_level")
            }
        end = self._ends.setdefault(request.session_id, threading.Event())
        try:
            with tempfile.TemporaryDirectory() as scratch:
                session = _pywrap_profiler.ProfilerSession()
                session.start(scratch, levels)
                stop = time.monotonic() + options.duration_ms / 1000
                while (left := stop - time.monotonic()) > 0 and not call.expired():
                    if end.wait(min(left, _TICK_SECONDS)):
                        break
                session.export_to_tb()
                [trace] = [path.read_bytes() for path in Path(scratch).rglob("*.xplane.pb")]
            response = _messages["ProfileResponse"](empty_trace=_is_empty(trace))
            if request.emit_xspace:
                response.xspace = trace
            else:
                _save(request, trace)
        except tf.errors.OpError as error:
            raise ServingError(
                Code.INTERNAL, error.message or "Another profiler session is active."
            ) from None
        except OSError as error:
            raise ServingError(Code.INTERNAL, f"Could not write the trace: {error}") from None
        finally:
            self._ends.pop(request.session_id, None)
        return response.SerializeToString()

    def monitor(self, data: bytes, call: Call) -> bytes:
        """ProfilerService.Monitor, which TensorFlow has for TPUs only.

        Raises:
            ServingError: UNIMPLEMENTED.
        """
        raise ServingError(Code.UNIMPLEMENTED, "unimplemented.")

    def terminate(self, data: bytes, call: Call) -> bytes:
        """ProfilerService.Terminate: ends a running trace early; it is answered as if its time were up."""
        end = self._ends.get(_parse("TerminateRequest", data).session_id)
        if end is not None:
            end.set()
        return b""


def _parse(name: str, data: bytes) -> Any:
    try:
        return _messages[name].FromString(data)
    except message.DecodeError as error:
        raise ServingError(Code.INTERNAL, f"Failed to parse the request: {error}") from None


def _is_empty(trace: bytes) -> bool:
    planes = _messages["Space"].FromString(trace).planes
    return not any(line.events for plane in planes for line in plane.lines)


def _save(request: Any, trace: bytes) -> None:
    """Where TensorBoard's profile plugin looks: ROOT/SESSION/HOST.xplane.pb."""
    session, host = request.session_id, request.host_name.replace(":", "_")
    if any(part != os.path.basename(part) or part in (".", "..") for part in (session, host)):
        raise invalid(f"session_id and host_name must be plain names. Received: {session!r}, {host!r}")
    directory = Path(request.repository_root) / session
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{host}.xplane.pb").write_bytes(trace)
