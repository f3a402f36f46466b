"""Writes the page of an incident by running it: `python docs/tutorial/incident.py > docs/tutorial/incident.md`.

Every command of the page is run, in a directory of its own, and its output is what the page shows. Only paths and ports of
this machine are replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PORT = 8500
"""The first replica's port on the page."""
WAIT_SECONDS = 900


class Workplace:
    """A directory in which the page's commands run.

    Args:
        directory: where.
        port: of this machine, that the page shows as `PORT`.
    """

    def __init__(self, directory: Path, port: int) -> None:
        self.directory, self.port = directory, port
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """Adds a paragraph or a heading."""
        self.lines += [text, ""]

    def show(self, command: str, code: int = 0, last: int | None = None) -> None:
        """Runs a command and adds it with what it prints.

        Args:
            command: as the page shows it.
            code: the exit code that it must end with.
            last: how many of its last lines the page shows; None: all.
        """
        done = self._run(command)
        output = self._shown(done.stderr + done.stdout).splitlines()
        if done.returncode != code:
            raise SystemExit("\n".join([f"{command} ended with {done.returncode}:", *output]))
        if last is not None and len(output) > last:
            output = ["[...]", *output[-last:]]
        block = [f"$ {command}", *output, *([f"(exit code {code})"] if code else [])]
        self.lines += ["```text", *block, "```", ""]

    def wait_for_version(self, replica: int, version: int) -> None:
        """Waits until a replica serves a version."""
        candidates = "--candidate item_id=1 --candidate item_id=2"
        command = f"ranker rank --target 127.0.0.1:{PORT + replica} {candidates} --json"

        def is_served() -> bool:
            done = self._run(command)
            return done.returncode == 0 and json.loads(done.stdout)["version"] == version

        wait(is_served)

    def arguments(self, command: str) -> list[str]:
        """A command of the page as this machine runs it."""
        words = shlex.split(
            re.sub(r"(?<=127\.0\.0\.1:)85\d\d", lambda port: str(int(port[0]) - PORT + self.port), command)
        )
        if words[0] == "ranker":
            return [sys.executable, "-m", "ranker.cli", *words[1:]]
        return [sys.executable, *words[1:]] if words[0] == "python" else words

    @contextlib.contextmanager
    def in_background(self, command: str, *further: str) -> Iterator[None]:
        """Adds a command to the page and runs it until the end of the context, with further words that the page leaves out."""
        self.lines += ["```text", f"$ {command}", "```", ""]
        process = subprocess.Popen(
            [*self.arguments(command), *further],
            cwd=self.directory, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    def _run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.arguments(command),
            cwd=self.directory, env=environment(), capture_output=True, text=True, check=False,
        )

    def _shown(self, text: str) -> str:
        text = re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda port: str(int(port[0]) - self.port + PORT), text)
        return text.replace(str(self.directory), ".").strip()


def environment() -> dict[str, str]:
    """Of the commands: this checkout, and quiet TensorFlow."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def wait(condition: Callable[[], bool]) -> None:
    """Waits for a condition.

    Raises:
        SystemExit: it does not come true.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("waited in vain")
        time.sleep(0.5)


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    for port in range(18500, 30000, 10):
        with contextlib.ExitStack() as stack:
            try:
                for number in range(port, port + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except OSError:
                continue
            return port
    raise SystemExit("no free ports")


def story(work: Workplace, requests: int) -> None:
    """The page, from top to bottom."""
    work.say("# An incident, from the page to the roll-back")
    work.say(
        "Three replicas of a ranking model serve. One of them gets a version that it should not have. This page shows what the\n"
        "monitor says, how the replica is found, how it is rolled back, and which check would have stopped it. Each command was\n"
        "run and each output is what it printed (`make tutorial` runs it all again)."
    )
    work.say("## Before: replicas that agree")
    work.say(
        "A generated log, and the pipeline on it: two recipes (`smelu` and `relu`), three replicas each. This takes some minutes. The\n"
        "log is small, and the last line says first what that means; for an incident it is enough."
    )
    work.show(f"python -m ranker.synthetic log {requests}")
    work.show("ranker run --config quickstart.yaml --set data.root=log --run-dir runs/shop", last=4)
    work.say("Serve the deployed recipe's replicas, in a terminal of its own:")
    with work.in_background("ranker serve --run-dir runs/shop", "--base-port", str(work.port)):
        for replica in range(3):
            work.wait_for_version(replica, 1)
        work.say("One round of the monitor asks every replica the same requests and stores what it measures.")
        work.show("ranker monitor --run-dir runs/shop --once")
        work.show("ranker status --run-dir runs/shop")
        work.say("## The incident")
        work.say(
            "Somebody copies a model of the other recipe into the base path of the second replica. The server loads it, as TF Serving\n"
            "does with any newer version."
        )
        work.show("cp -r runs/shop/replicas/relu/0/1 runs/shop/replicas/smelu/1/2")
        work.wait_for_version(1, 2)
        work.show("ranker monitor --run-dir runs/shop --once")
        work.say("## The page")
        work.say(
            "The verdict names the replica after one round. The rule `odd-replica` pages whoever is on call once that has held for a\n"
            "minute (rules and receivers are in [Alerts](../alerts.md))."
        )
        work.show("ranker status --run-dir runs/shop", code=1)
        work.say("## Is it really this replica?")
        work.say(
            "The gate asks the same of it that it would have asked before the version went live: does it differ from the other two by\n"
            "more than they differ from each other?"
        )
        work.show(
            f"ranker gate --run-dir runs/shop --candidate 127.0.0.1:{PORT + 1} "
            f"--baseline 127.0.0.1:{PORT} --baseline 127.0.0.1:{PORT + 2}",
            code=1,
        )
        work.say(
            "On the dashboard (`ranker dashboard --run-dir runs/shop`) the page of a request shows the lists side by side."
        )
        work.say("## The roll-back")
        work.say("Without version 2 the server goes back to version 1; no restart is needed.")
        work.show("rm -r runs/shop/replicas/smelu/1/2")
        work.wait_for_version(1, 1)
        work.show("ranker monitor --run-dir runs/shop --once")
        work.show("ranker status --run-dir runs/shop")
    work.say("## What would have stopped it")
    work.say(
        "`ranker gate` before a version is copied, with its directory as the candidate; exit code 1 ends a deployment's script. See\n"
        "[Run it in production](../operations.md) for the gate, and [Watch models of your own](../how-to/monitor.md) for models\n"
        "from elsewhere."
    )


def main() -> None:
    """Runs the story and prints the page. The first argument says how many requests the log has."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 6_000
    with tempfile.TemporaryDirectory() as directory:
        work = Workplace(Path(directory), free_ports(3))
        (work.directory / "quickstart.yaml").write_bytes((ROOT / "configs" / "quickstart.yaml").read_bytes())
        story(work, requests)
    print("\n".join(work.lines).rstrip())


if __name__ == "__main__":
    main()
