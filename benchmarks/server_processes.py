"""The server, its rivals and the load generator, each a process of its own."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(HERE.parent),
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


@contextmanager
def server(base: Path, *arguments: str):
    """A server process; gives (process, gRPC port, REST port)."""
    descriptor, log = tempfile.mkstemp(suffix=".log")
    command = [sys.executable, "-m", "serving.server", "--port=0", "--rest_api_port=-1", "--model_name=m"]
    process = subprocess.Popen(
        [*command, f"--model_base_path={base}", *arguments], stderr=descriptor, env=ENVIRONMENT
    )
    os.close(descriptor)
    try:
        ports: list[str] = []
        for _ in range(1800):
            ports = re.findall(r"(?:ModelServer at|REST API at:) ?127\.0\.0\.1:(\d+)", Path(log).read_text())
            if len(ports) == 2 or process.poll() is not None:
                break
            time.sleep(0.1)
        if len(ports) != 2:
            raise RuntimeError(f"the server did not start: {Path(log).read_text()[-2000:]}")
        yield process, int(ports[0]), int(ports[1])
    finally:
        process.terminate()
        process.wait(60)
        os.unlink(log)


@contextmanager
def plain_python_server(model: Path):
    """The FastAPI rival; gives its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "server_rivals.py"), "fastapi", str(port), str(model)], env=ENVIRONMENT
    )
    try:
        for _ in range(1800):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(60)


def load(port: int, body: Path, **options: object) -> dict[str, float]:
    """Runs the load generator in its own process."""
    flags = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, str(HERE / "server_load.py"), str(port), str(body), *flags]
    return json.loads(
        subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout
    )


def bare(seconds: float, model: Path, body: Path) -> dict[str, float]:
    """The session alone, in its own process."""
    command = [sys.executable, str(HERE / "server_rivals.py"), "bare", str(seconds), str(model), str(body)]
    out = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout
    return json.loads(out.strip().splitlines()[-1])
