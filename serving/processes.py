"""One server process a replica: started, waited for, started again when it dies, stopped."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ranker.address import parse_address
from ranker.errors import UserError
from serving.client import RankerClient, ServingError
from serving.deployment import Deployment, Replica

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
    """

    def __init__(
        self,
        deployment: Deployment,
        run: Path,
        flags: Sequence[str] = ("--strict",),
        report: Callable[[str], None] = lambda line: None,
    ):
        self._deployment, self._run, self._flags, self._report = deployment, run, list(flags), report
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._died: dict[str, float] = {}

    def __enter__(self) -> ReplicaServers:
        for replica in self._deployment.replicas:
            check_free(replica)
        try:
            for replica in self._deployment.replicas:
                self._start(replica)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pids(self) -> dict[str, int]:
        """Replica name to process id."""
        return {name: process.pid for name, process in self._processes.items()}

    def wait_available(self, seconds: float = 120.0) -> None:
        """Returns when every replica answers.

        Raises:
            UserError: one has ended or does not answer in time.
        """
        deadline = time.monotonic() + seconds
        for replica in self._deployment.replicas:
            while not self._answers(replica):
                code = self._processes[replica.name].poll()
                if code is not None:
                    raise UserError(
                        f"replica {replica.name}: its server ended with exit code {code}; see {self._log(replica)}"
                    )
                if time.monotonic() > deadline:
                    raise UserError(
                        f"replica {replica.name}: not available at {replica.target} in {seconds:g} s"
                    )
                time.sleep(0.1)

    def tend(self) -> None:
        """Starts processes again that have died, not more often than every few seconds; call it now and then."""
        for replica in self._deployment.replicas:
            code = self._processes[replica.name].poll()
            if code is None:
                continue
            now = time.monotonic()
            if now - self._died.get(replica.name, -_RESTART_SECONDS) >= _RESTART_SECONDS:
                self._report(
                    f"replica {replica.name}: its server ended with exit code {code}; starting it again"
                )
                self._died[replica.name] = now
                self._start(replica)

    def stop(self, seconds: float = 15.0) -> None:
        """Ends all processes: SIGTERM, which drains, then SIGKILL for what is still there after `seconds`."""
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
        command = [
            *(sys.executable, "-m", "serving.server"),
            *(f"--host={host}", f"--port={port}"),
            f"--model_name={self._deployment.model_name}",
            f"--model_base_path={(self._run / replica.path).resolve()}",
            *self._flags,
        ]
        log = self._log(replica)
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

    def _log(self, replica: Replica) -> Path:
        return self._run / "logs" / f"{replica.name}.log"

    def _answers(self, replica: Replica) -> bool:
        try:
            with RankerClient(
                replica.target, model_name=self._deployment.model_name, deadline=2.0, retries=0
            ) as client:
                return any(status.state == "AVAILABLE" for status in client.status())
        except ServingError:
            return False


def check_free(replica: Replica) -> None:
    """Checks that a replica's port can be listened on.

    Raises:
        UserError: it cannot, most likely because another process does.
    """
    address = parse_address(replica.target)
    with socket.socket(socket.AF_INET6 if address.is_ipv6 else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise UserError(
                f"port {address.port} of {address.host} cannot be used for replica {replica.name}: {error.strerror};"
                " choose others with --base-port"
            ) from None


def _end_with_parent() -> None:
    # kill -9 of the parent runs no clean-up: the kernel then ends the servers, or their ports would stay taken.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
