"""The servers, started once a module."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from ranker.backend import tf
from serving.server.api import ServerOptions, start
from tests.processes import answers, wait_until
from tests.serving.targets.scoring_servers import (
    INPUTS,
    MLSERVER_MODEL,
    ShopModel,
    application,
    open_inference_grpc,
    running,
)


@pytest.fixture(scope="module")
def mlserver(tmp_path_factory):
    """Protocol -> the address of MLServer, which serves the same model."""
    python = os.environ.get("STEADY_RANKER_MLSERVER")
    if python is None:
        pytest.skip("STEADY_RANKER_MLSERVER names no Python with MLServer (make test-mlserver)")
    directory = tmp_path_factory.mktemp("mlserver")
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    http_port, grpc_port, metrics_port = (opened.getsockname()[1] for opened in sockets)
    for opened in sockets:
        opened.close()
    settings = {"http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    (directory / "settings.json").write_text(
        json.dumps(settings | {"host": "127.0.0.1", "parallel_workers": 0, "debug": False})
    )
    (directory / "shop.py").write_text(MLSERVER_MODEL)
    (directory / "model-settings.json").write_text(
        json.dumps(
            {"name": "shop", "implementation": "shop.Shop", "inputs": INPUTS, "parameters": {"version": "v3"}}
        )
    )
    log = (directory / "log").open("wb")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.Popen(
        [Path(python).with_name("mlserver"), "start", "."],
        cwd=directory,
        stdout=log,
        stderr=log,
        env=environment,
    )
    try:
        wait_until(
            lambda: (
                process.poll() is not None or answers(f"http://127.0.0.1:{http_port}/v2/models/shop/ready")
            ),
            reason=(directory / "log").read_text,
        )
        assert process.poll() is None, (directory / "log").read_text()
        yield {"v2": f"v2+http://127.0.0.1:{http_port}", "v2+grpc": f"v2+grpc://127.0.0.1:{grpc_port}"}
    finally:
        process.terminate()
        process.wait()
        log.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Protocol -> the address of a server that speaks it; and the directory of the model."""
    base = tmp_path_factory.mktemp("models")
    model = ShopModel()
    tf.saved_model.save(
        model, str(base / "shop" / "3"), {"serving_default": model.score, "matrix": model.matrix}
    )
    server = start(
        ServerOptions(
            port=0,
            rest_api_port=-1,
            model_name="shop",
            model_base_path=str(base / "shop"),
            max_num_load_retries=0,
        )
    )
    served = application()
    with running(served) as port, open_inference_grpc(port) as grpc_port:
        yield {
            "v2+grpc": f"v2+grpc://127.0.0.1:{grpc_port}",
            "grpc": f"127.0.0.1:{server.port}",
            "tfserving": f"tfserving+http://127.0.0.1:{server.rest_port}",
            "v2": f"v2+http://127.0.0.1:{port}/",
            "json": f"json+http://127.0.0.1:{port}/score",
            "saved_model": str(base / "shop"),
        }
    server.stop(2)
