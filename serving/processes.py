"""Runs one server process a replica: starts it, waits for it, restarts it when it ends, stops it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ranker.address import parse_address
from ranker.errors import UserError
from ranker.storage import is_remote
from serving.client import RankerClient, ServingError
from serving.deployment import Deployment, Replica

_FLAGS_PER_REPLICA = (
    "host",
    "port",
    "model_name",
    "model_base_path",
    "model_config_file",
    "grpc_socket_path",
    "rest_api_port",
)
_RESTART_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1


class ReplicaServers:
    """The server processes of a deployment.

    Use as a context: on leaving, every process has ended, whatever happened inside.

    Args:
        deployment: who serves where.
        run: the run directory that the replicas' paths start from.
        flags: further flags of `python -m serving.server`, the same for all.
        report: called with a line when something happens.
        rest_base_port: the first replica's REST port, the others follow; None for no REST.

    Raises:
        UserError: a flag that cannot be the same for all replicas, or ports that do not fit.
    """

    def __init__(
        self,
        deployment: Deployment,
        run: Path,
        flags: Sequence[str] = ("--strict",),
        report: Callable[[str], None] = lambda line: None,
        rest_base_port: int | None = None,
    ):
        check_flags(flags)
        self._rest_ports = rest_ports(deployment, rest_base_port) if rest_base_port is not None else {}
        self._deployment, self._run, self._flags, self._report = deployment, run, list(flags), report
        # Of a run directory in an object store they are here, and stay.
        self._logs = Path(tempfile.mkdtemp(prefix="ranker-serve-")) if is_remote(run) else run / "logs"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._restart_times: dict[str, float] = {}

    def __enter__(self) -> ReplicaServers:
        for replica in self._deployment.replicas:
            host, port = parse_address(replica.target, f"the target of replica {replica.name}")
            check_free(replica.name, host, port, "--base-port")
            if replica.name in self._rest_ports:
                check_free(replica.name, host, self._rest_ports[replica.name], "--rest-base-port")
        try:
            for replica in self._deployment.replicas:
                self._start(replica)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_available(self, seconds: float = 120.0) -> None:
        """Returns when every replica answers.

        Raises:
            UserError: one has ended or does not answer in time.
        """
        deadline = time.monotonic() + seconds
        for replica in self._deployment.replicas:
            while not self._is_available(replica):
                code = self._processes[replica.name].poll()
                if code is not None:
                    raise UserError(
                        f"replica {replica.name}: its server ended with exit code {code}; see {self._log_path(replica)}"
                    )
                if time.monotonic() > deadline:
                    raise UserError(
                        f"replica {replica.name}: not available at {replica.target} in {seconds:g} s"
                    )
                time.sleep(0.1)

    def restart_ended(self) -> None:
        """Restarts processes that have ended, each at most every few seconds. Call it regularly."""
        for replica in self._deployment.replicas:
            code = self._processes[replica.name].poll()
            if code is None:
                continue
            now = time.monotonic()
            if now - self._restart_times.get(replica.name, -_RESTART_SECONDS) >= _RESTART_SECONDS:
                self._report(
                    f"replica {replica.name}: its server ended with exit code {code}; starting it again"
                )
                self._restart_times[replica.name] = now
                self._start(replica)

    def stop(self, seconds: float = 15.0) -> None:
        """Ends all processes: SIGTERM, which drains, then SIGKILL for those that still run after `seconds`."""
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        for process in self._processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, replica: Replica) -> None:
        host, port = parse_address(replica.target)
        base_path = self._run / replica.path
        if not is_remote(self._run):
            base_path = base_path.resolve()
        command = [
            *(sys.executable, "-m", "serving.server"),
            *(f"--host={host}", f"--port={port}"),
            f"--model_name={self._deployment.model_name}",
            f"--model_base_path={base_path}",
            *self._flags,
        ]
        if replica.name in self._rest_ports:
            command.append(f"--rest_api_port={self._rest_ports[replica.name]}")
        log = self._log_path(replica)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            # Its own session: Ctrl-C in the terminal goes to us alone, and we stop the servers in order.
            self._processes[replica.name] = subprocess.Popen(
                command,
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
                env={**os.environ, "TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "-1"},
            )

    def _log_path(self, replica: Replica) -> Path:
        return self._logs / f"{replica.name}.log"

    def _is_available(self, replica: Replica) -> bool:
        try:
            with RankerClient(
                replica.target, model_name=self._deployment.model_name, deadline=2.0, retries=0
            ) as client:
                return any(status.state == "AVAILABLE" for status in client.status())
        except ServingError:
            return False


def check_flags(flags: Sequence[str]) -> None:
    """Checks that no flag is one that every replica needs another value of.

    Raises:
        UserError: one is.
    """
    for flag in flags:
        name = flag.split("=")[0].lstrip("-").replace("-", "_")
        if flag.startswith("-") and name in _FLAGS_PER_REPLICA:
            instead = {"port": "; use --base-port", "rest_api_port": "; use --rest-base-port"}.get(name, "")
            raise UserError(f"--flag: --{name} differs from replica to replica{instead}. Received: {flag}")


def rest_ports(deployment: Deployment, base_port: int) -> dict[str, int]:
    """Replica name to its REST port: `base_port` for the first, counting up.

    Raises:
        UserError: a port is above 65535, or a replica serves gRPC on it.
    """
    last = base_port + len(deployment.replicas) - 1
    if not 1 <= base_port <= last <= 65535:
        raise UserError(
            f"--rest-base-port must leave room for {len(deployment.replicas)} ports from 1 to 65535. "
            f"Received: {base_port}"
        )
    ports = {replica.name: base_port + index for index, replica in enumerate(deployment.replicas)}
    for replica in deployment.replicas:
        if parse_address(replica.target, f"the target of replica {replica.name}").port in ports.values():
            raise UserError(
                f"--rest-base-port: ports {base_port} to {last} must be other than gRPC's; "
                f"replica {replica.name} serves at {replica.target}. Received: {base_port}"
            )
    return ports


def check_free(name: str, host: str, port: int, option: str) -> None:
    """Checks that a replica's port can be listened on.

    Raises:
        UserError: it cannot, most likely because another process does.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            raise UserError(
                f"port {port} of {host} cannot be used for replica {name}: {error.strerror};"
                f" choose others with {option}"
            ) from None


def _end_with_parent() -> None:
    # kill -9 of the parent runs no clean-up: the kernel then ends the servers, or their ports would stay taken.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
