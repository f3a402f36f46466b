"""What `--strict` adds, and the server's security: shapes, reloads, tokens, TLS, limits, logs."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tensorflow_serving.apis import prediction_log_pb2, prediction_service_pb2_grpc

from ranker.backend import tf
from serving.server.requests.request_log import is_sampled
from serving.status import StatusError
from tests.serving.server.server_client import (
    TWO,
    Code,
    config_text,
    examples,
    failure,
    predict_request,
    reload_request,
)


@pytest.fixture
def half(models):
    return {"model_name": "m", "model_base_path": str(models / "half_plus_two")}


def test_strict_names_the_input_with_the_wrong_shape(serve, half):
    client = serve(strict=True, **half)
    assert failure(client.predict, x=np.ones((2, 3), np.float32)) == (
        Code.INVALID_ARGUMENT,
        'Input "x" of signature "serving_default" must have shape [?,1]. Received: [2,3]',
    )
    assert failure(client.predict, x=np.float32(1))[0] == Code.INVALID_ARGUMENT
    assert list(client.predict(x=TWO).outputs["y"].float_val) == [3.0]


def test_row_limit(serve, half):
    client = serve(max_batch_size=4, **half)
    assert failure(client.predict, x=np.ones((5, 1), np.float32)) == (
        Code.INVALID_ARGUMENT,
        'Input "x" must have at most 4 rows. Received: 5',
    )
    assert len(client.predict(x=np.ones((4, 1), np.float32)).outputs["y"].float_val) == 4


def test_message_limit(serve, half):
    client = serve(max_message_bytes=10_000, rest_api_port=-1, **half)
    assert failure(client.predict, x=np.ones((5000, 1), np.float32))[0] == Code.RESOURCE_EXHAUSTED
    assert client.http("/v1/models/m:predict", b" " * 20_000)[0] == 413
    assert list(client.predict(x=TWO).outputs["y"].float_val) == [3.0]


def test_strict_refuses_reloads_unless_enabled(serve, half):
    client = serve(strict=True, **half)
    request = reload_request(config_text({"m": half["model_base_path"]}))
    assert failure(client.model.HandleReloadConfigRequest, request, 10)[0] == Code.PERMISSION_DENIED


def test_strict_reloads_stay_below_the_roots(serve, half, models, tmp_path):
    client = serve(strict=True, enable_reload_config=True, reload_base_path_roots=str(tmp_path), **half)
    outside = reload_request(config_text({"n": models / "ranker"}))
    assert failure(client.model.HandleReloadConfigRequest, outside, 10)[0] == Code.PERMISSION_DENIED
    (tmp_path / "link").symlink_to(models / "ranker")
    sneaky = reload_request(config_text({"n": tmp_path / "link"}))
    assert failure(client.model.HandleReloadConfigRequest, sneaky, 10)[0] == Code.PERMISSION_DENIED
    dots = reload_request(config_text({"n": f"{tmp_path}/../../../etc"}))
    assert failure(client.model.HandleReloadConfigRequest, dots, 10)[0] == Code.PERMISSION_DENIED
    shutil.copytree(models / "half_plus_two", tmp_path / "inside")
    client.model.HandleReloadConfigRequest(reload_request(config_text({"n": tmp_path / "inside"})), 10)
    assert client.predict(model="n", x=TWO).model_spec.version.value == 1


def test_reload_token(serve, half, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    client = serve(admin_token_file=str(tmp_path / "token"), **half)
    call, request = (
        client.model.HandleReloadConfigRequest,
        reload_request(config_text({"m": half["model_base_path"]})),
    )
    assert failure(call, request, 10)[0] == Code.UNAUTHENTICATED
    assert failure(call, request, 10, metadata=[("authorization", "Bearer wrong")])[0] == Code.UNAUTHENTICATED
    assert call(request, 10, metadata=[("authorization", "Bearer secret")]).status.error_code == 0


def certificate(name, issuer=None, issuer_key=None):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(issuer is None, None), True)
    )
    signed = builder.sign(issuer_key or key, hashes.SHA256())
    pem = signed.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return signed, key, pem, secret


@pytest.mark.parametrize("mutual", [False, True])
def test_tls_and_mutual_tls(serve, half, tmp_path, mutual):
    authority, authority_key, authority_pem, _ = certificate("authority")
    _, _, server_pem, server_key = certificate("localhost", authority, authority_key)
    _, _, client_pem, client_key = certificate("client", authority, authority_key)

    def quoted(pem):
        return '"' + pem.decode().replace("\n", "\\n") + '"'

    config = tmp_path / "ssl.config"
    config.write_text(
        f"server_key: {quoted(server_key)} server_cert: {quoted(server_pem)} custom_ca: {quoted(authority_pem)} "
        f"client_verify: {'true' if mutual else 'false'}"
    )
    client = serve(ssl_config_file=str(config), **half)
    address = f"localhost:{client.server.port}"

    def ask(credentials):
        with grpc.secure_channel(address, credentials) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            return list(stub.Predict(predict_request(x=TWO), 10).outputs["y"].float_val)

    assert ask(grpc.ssl_channel_credentials(authority_pem, client_key, client_pem)) == [3.0]
    anonymous = grpc.ssl_channel_credentials(authority_pem)
    if mutual:
        assert failure(ask, anonymous)[0] == Code.UNAVAILABLE
    else:
        assert ask(anonymous) == [3.0]
    assert failure(client.predict, x=TWO)[0] == Code.UNAVAILABLE


def test_ssl_file_without_a_key_is_refused(serve, half, tmp_path):
    (tmp_path / "ssl.config").write_text('server_cert: "x"')
    with pytest.raises(StatusError, match="must hold server_key and server_cert"):
        serve(ssl_config_file=str(tmp_path / "ssl.config"), **half)


def test_health_service(serve, half):
    client = serve(enable_grpc_healthcheck_service=True, **half)
    check = client.channel.unary_unary("/grpc.health.v1.Health/Check")
    watch = client.channel.unary_stream("/grpc.health.v1.Health/Watch")
    for service in (b"", b"\x0a\x0cModelService", b"\x0a\x11PredictionService"):
        assert check(service, timeout=10) == b"\x08\x01"
    assert failure(check, b"\x0a\x01x", timeout=10)[0] == Code.NOT_FOUND
    stream = watch(b"")
    assert next(stream) == b"\x08\x01"
    stream.cancel()


def test_health_service_is_off_by_default(shared):
    check = shared.channel.unary_unary("/grpc.health.v1.Health/Check")
    assert failure(check, b"", timeout=10)[0] == Code.UNIMPLEMENTED


def test_unix_socket(serve, half, tmp_path):
    serve(grpc_socket_path=str(tmp_path / "s.sock"), **half)
    with grpc.insecure_channel(f"unix:{tmp_path / 's.sock'}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert list(stub.Predict(predict_request(x=TWO), 10).outputs["y"].float_val) == [3.0]


def records(folder):
    paths = [str(path) for path in Path(folder).iterdir()]
    return [
        prediction_log_pb2.PredictionLog.FromString(record)
        for path in paths
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator()
    ]


def test_request_log_samples_by_request_id(serve, half, tmp_path):
    client = serve(request_log_file=str(tmp_path / "log" / "requests"), request_log_sampling_rate=0.5, **half)
    ids = [f"request-{index}" for index in range(40)]
    for index, request_id in enumerate(ids):
        request = predict_request(x=np.array([[index]], np.float32))
        client.prediction.Predict(request, 10, metadata=[("x-request-id", request_id)])
    client.server.stop(2)
    logged = {log.predict_log.request.inputs["x"].tensor_content for log in records(tmp_path / "log")}
    logged |= {
        np.array(log.predict_log.request.inputs["x"].float_val, np.float32).tobytes()
        for log in records(tmp_path / "log")
    }
    expected = {np.float32(i).tobytes() for i, name in enumerate(ids) if is_sampled(name.encode(), 0.5)}
    assert 5 < len(expected) < 35
    assert expected <= logged
    [first, *_] = records(tmp_path / "log")
    assert first.log_metadata.model_spec.version.value == 1
    assert first.log_metadata.sampling_config.sampling_rate == 0.5
    assert first.predict_log.response.outputs["y"].float_val


def warm(models, base, logs, raw=None):
    shutil.copytree(models / "half_plus_two" / "00000001", base / "1")
    extra = base / "1" / "assets.extra"
    extra.mkdir()
    path = extra / "tf_serving_warmup_requests"
    if raw is not None:
        path.write_bytes(raw)
        return
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs:
            writer.write(log if isinstance(log, bytes) else log.SerializeToString())


def predict_log(**fields):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict_request("whatever", **fields))
    return log


def test_warm_up_records_of_each_kind_are_run(serve, models, tmp_path):
    regress = prediction_log_pb2.PredictionLog()
    regress.regress_log.request.model_spec.signature_name = "regress_x_to_y"
    regress.regress_log.request.input.CopyFrom(examples(1.0))
    classify = prediction_log_pb2.PredictionLog()
    classify.classify_log.request.model_spec.signature_name = "classify_x_to_y"
    classify.classify_log.request.input.CopyFrom(examples(1.0))
    warm(models, tmp_path, [predict_log(x=TWO), regress, classify])
    client = serve(model_name="m", model_base_path=str(tmp_path))
    assert client.server.metrics.counter("/tensorflow/serving/model_warmup_records_read") == 3


@pytest.mark.parametrize(
    ("logs", "raw", "text"),
    [
        ([predict_log(x=TWO, z=TWO)], None, "input size does not match signature"),
        ([predict_log(signature="no", x=TWO)], None, 'Serving signature key "no" not found.'),
        ([b"\xff\xff"], None, "Failed to parse warmup record"),
        ([predict_log(x=TWO)] * 1001, None, "Number of warmup records exceeds the maximum (1000) at "),
        ([], b"not a record file", "Please verify your warmup data is in TFRecord format."),
    ],
    ids=["wrong input", "wrong signature", "unparsable", "too many", "not TFRecord"],
)
def test_a_failing_warm_up_fails_the_load(serve, models, tmp_path, logs, raw, text):
    warm(models, tmp_path, logs, raw)
    with pytest.raises(StatusError) as caught:
        serve(model_name="m", model_base_path=str(tmp_path))
    assert text in str(caught.value)
    serve(model_name="m", model_base_path=str(tmp_path), enable_model_warmup=False)
