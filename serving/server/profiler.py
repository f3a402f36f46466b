"""tensorflow.ProfilerService: a trace of this process for TensorBoard, asked for over the serving port.

TensorFlow's own client (`tf.profiler.experimental.client.trace`, TensorBoard's "Capture profile") names a
directory, and the profiled server writes the trace there. TensorFlow offers a recorder to Python but no
service, so the service is here. Because the caller says where to write,
the service is off with `--strict`.

Source: tensorflow/tsl's profiler_service.proto and profiler_service_impl.cc.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from google.protobuf import message
from tensorflow.python.profiler.internal import _pywrap_profiler
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from ranker.backend import tf
from ranker.errors import UserError
from ranker.files import temporary_directory
from serving.server.requests.endpoints import CallContext, Method
from serving.status import Code, StatusError, invalid
from serving.wire import ProfileRequest, ProfileResponse, TerminateRequest

_SERVICE = "/tensorflow.ProfilerService/"
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

    def profile(self, data: bytes, call: CallContext) -> bytes:
        """ProfilerService.Profile: records for the time asked and writes (or returns) the trace.

        Raises:
            StatusError: INTERNAL if another trace is being recorded or the directory can't be written.
        """
        request = _parse(ProfileRequest, data)
        options = request.opts
        levels = {}
        if options.version:
            levels = {
                name: getattr(options, name)
                for name in ("host_tracer_level", "device_tracer_level", "python_tracer_level")
            }
        end = self._ends.setdefault(request.session_id, threading.Event())
        try:
            with temporary_directory() as scratch:
                session = _pywrap_profiler.ProfilerSession()
                session.start(str(scratch), levels)
                stop = time.monotonic() + options.duration_ms / 1000
                while (seconds := stop - time.monotonic()) > 0 and not call.expired():
                    if end.wait(min(seconds, _TICK_SECONDS)):
                        break
                session.export_to_tb()
                [trace] = [path.read_bytes() for path in scratch.rglob("*.xplane.pb")]
            response = ProfileResponse(empty_trace=_is_empty(trace))
            if request.emit_xspace:
                response.xspace = trace
            else:
                _save(request, trace)
        except tf.errors.OpError as error:
            raise StatusError(Code.INTERNAL, error.message or "Another profiler session is active.") from None
        except (OSError, UserError) as error:
            raise StatusError(Code.INTERNAL, f"Could not write the trace: {error}") from None
        finally:
            self._ends.pop(request.session_id, None)
        return response.SerializeToString()

    def monitor(self, data: bytes, call: CallContext) -> bytes:
        """ProfilerService.Monitor, which TensorFlow has for TPUs only.

        Raises:
            StatusError: UNIMPLEMENTED.
        """
        raise StatusError(Code.UNIMPLEMENTED, "unimplemented.")

    def terminate(self, data: bytes, call: CallContext) -> bytes:
        """ProfilerService.Terminate: ends a running trace early; it is answered as if its time were up."""
        end = self._ends.get(_parse(TerminateRequest, data).session_id)
        if end is not None:
            end.set()
        return b""


def _parse(message_class: Any, data: bytes) -> Any:
    try:
        return message_class.FromString(data)
    except message.DecodeError as error:
        raise StatusError(Code.INTERNAL, f"Failed to parse the request: {error}") from None


def _is_empty(trace: bytes) -> bool:
    planes = xplane_pb2.XSpace.FromString(trace).planes
    return not any(line.events for plane in planes for line in plane.lines)


def _save(request: Any, trace: bytes) -> None:
    """Where TensorBoard's profile plugin looks: ROOT/SESSION/HOST.xplane.pb."""
    session, host = request.session_id, request.host_name.replace(":", "_")
    if any(part != os.path.basename(part) or part in (".", "..") for part in (session, host)):
        raise invalid(f"session_id and host_name must be plain names. Received: {session!r}, {host!r}")
    directory = Path(request.repository_root) / session
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{host}.xplane.pb").write_bytes(trace)
