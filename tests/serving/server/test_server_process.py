"""The command line: flags, exit codes, start, drain."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading

import grpc
import numpy as np
import psutil
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

from ranker.errors import UserError
from serving.server.api import start
from serving.server.options import ServerOptions, channel_arguments, parse
from serving.status import StatusError
from tests.processes import wait_until
from tests.serving.server.server_client import predict_request


def test_flags_in_tf_servings_style(capsys):
    options = parse(
        [
            "--port=8501",
            "--rest_api_port",
            "8502",
            "--enable_batching",
            "--enable_model_warmup=false",
            "--file_system_poll_wait_seconds=0.5",
            "--strict",
            "--tensorflow_gpu_magic=1",
            "--enable_serving_magic",
            "--tensorflow_gpu_memory",
            "0.5",
        ]
    )
    assert (options.port, options.rest_api_port, options.enable_batching) == (8501, 8502, True)
    assert (options.enable_model_warmup, options.file_system_poll_wait_seconds, options.strict) == (
        False,
        0.5,
        True,
    )
    warnings = capsys.readouterr().err
    assert "--tensorflow_gpu_magic has no effect" in warnings
    assert "--enable_serving_magic has no effect" in warnings
    assert "flag 0.5" not in warnings
    assert parse(["--strict", "--no-strict"]) == ServerOptions()


@pytest.mark.parametrize(
    "flag", ["--prefer_tflite_model", "--prefer-tflite-model", "--use_tflite_model=true"]
)
def test_tensorflow_lite_is_asked_for_by_its_present_or_former_flag(flag):
    assert parse([flag]) == ServerOptions(prefer_tflite_model=True)


@pytest.mark.parametrize("argument", ["--port=x", "--enable_batching=maybe"])
def test_a_value_of_the_wrong_type_is_one_line(argument):
    with pytest.raises(UserError, match=argument.split("=")[0]):
        parse([argument])


def test_channel_arguments():
    assert channel_arguments("grpc.max_connection_age_ms=2000,grpc.lb_policy_name=grpclb") == [
        ("grpc.max_connection_age_ms", 2000),
        ("grpc.lb_policy_name", "grpclb"),
    ]
    with pytest.raises(UserError, match="key=value"):
        channel_arguments("grpc.x")


def test_threads_are_configured_in_one_way_only(models):
    names = (
        "tensorflow_session_parallelism",
        "tensorflow_intra_op_parallelism",
        "tensorflow_inter_op_parallelism",
    )
    with pytest.raises(StatusError, match="You cannot configure all"):
        start(ServerOptions(port=0, model_base_path=str(models / "ranker"), **dict.fromkeys(names, 1)))


def launch(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "serving.server", "--port=0", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def port_of(process):
    for line in process.stderr:
        if match := re.search(r"Running gRPC ModelServer at 127\.0\.0\.1:(\d+)", line):
            return match.group(1)
    raise AssertionError("the server did not start")


def test_a_call_that_never_ends_does_not_keep_the_process(models):
    process = launch("--model_name=m", f"--model_base_path={models / 'ranker'}", "--drain_seconds=0.5")
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port_of(process)}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            assert stub.Predict(predict_request(item_id=["a"], age=[1.0]), 20).outputs["score"].float_val
            endless = stub.Predict.future(predict_request(signature="loop", steps=np.array([10**12])))
            running = psutil.Process(process.pid)
            before = running.cpu_times().user
            # Only a graph that runs takes so many processor seconds.
            wait_until(lambda: running.cpu_times().user > before + 0.3)
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
            assert endless.exception().code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert process.returncode == 1
        assert "Calls that did not end in 0.5 s were abandoned: 1" in errors
    finally:
        process.kill()
        process.communicate()


def test_a_signal_drains_and_the_exit_code_is_zero(models):
    process = launch("--model_name=m", f"--model_base_path={models / 'ranker'}")
    try:
        port = port_of(process)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            slow = stub.Predict.future(
                predict_request(signature="loop", steps=np.array([3000], np.int64)), 60
            )
            assert stub.Predict(predict_request(item_id=["a"], age=[1.0]), 20).outputs["score"].float_val
            process.send_signal(signal.SIGTERM)
            assert slow.result().outputs["total"].float_val
        drain = threading.Thread(target=process.stderr.read)
        drain.start()
        assert process.wait(60) == 0
        drain.join()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_version_is_printed_without_a_model():
    command = [sys.executable, "-m", "serving.server", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "TensorFlow Library: 2." in done.stdout


@pytest.mark.parametrize("case", ["bad config", "no model", "broken model"])
def test_failing_starts_exit_with_255_and_one_reason(tmp_path, case):
    config = tmp_path / "bad.config"
    config.write_text("improperly formatted file\n")
    (tmp_path / "b" / "1").mkdir(parents=True)
    arguments, text = {
        "bad config": (
            [f"--model_config_file={config}"],
            "Error parsing text-format tensorflow.serving.ModelServerConfig",
        ),
        "no model": (
            [],
            "Both server_options.model_base_path and server_options.model_config_file are empty!",
        ),
        "broken model": (
            ["--model_name=b", f"--model_base_path={tmp_path / 'b'}", "--max_num_load_retries=0"],
            "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: {{{name: b version: 1}",
        ),
    }[case]
    process = launch(*arguments)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 255
    assert text in errors
    assert "Traceback" not in errors
