"""Our messages against the public ones (in a process of its own: that package imports TensorFlow)."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving import wire

PUBLIC = """
import json
import numpy as np
import tensorflow as tf
from google.protobuf import descriptor_pool
from tensorflow_serving.apis import prediction_log_pb2, prediction_service_pb2, model_service_pb2
from tensorflow_serving.config import model_server_config_pb2

pool = descriptor_pool.Default()
fields, enums = {}, {}

def add(message):
    fields[message.full_name] = {
        field.name: [field.number, field.type, field.is_repeated,
                     field.message_type.full_name if field.message_type else "",
                     field.containing_oneof.name if field.containing_oneof else ""]
        for field in message.fields
    }
    for nested in message.nested_types:
        add(nested)
    for field in message.fields:
        if field.message_type and field.message_type.full_name not in fields:
            add(field.message_type)
        if field.enum_type:
            enums[field.enum_type.full_name] = {value.name: value.number for value in field.enum_type.values}

for module in (prediction_log_pb2, prediction_service_pb2, model_service_pb2, model_server_config_pb2):
    for file in [module.DESCRIPTOR, *module.DESCRIPTOR.dependencies]:
        for message in file.message_types_by_name.values():
            add(message)
services = {
    "/" + service.full_name + "/" + method.name: [method.input_type.full_name, method.output_type.full_name]
    for module in (prediction_service_pb2, model_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
arrays = [np.arange(6).reshape(2, 3).astype(kind) for kind in
          ("f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16")]
tensors = [tf.make_tensor_proto(array) for array in arrays]
tensors += [tf.make_tensor_proto(array[0, 1]) for array in arrays]
tensors += [tf.make_tensor_proto(["a", "b"]), tf.make_tensor_proto(tf.constant([1.5, -2.0], tf.bfloat16).numpy())]
values = [tf.make_ndarray(tensor) for tensor in tensors]
print(json.dumps({
    "fields": fields, "enums": enums, "services": services,
    "tensors": [tensor.SerializeToString().hex() for tensor in tensors],
    "values": [np.vectorize(str)(value.astype("f4") if value.dtype.name == "bfloat16" else value).tolist()
               for value in values],
}))
"""


@pytest.fixture(scope="module")
def public():
    done = subprocess.run([sys.executable, "-c", PUBLIC], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


PROTOS = Path(wire.__file__).parent / "protos"
# Not in the public packages (session_bundle, model_servers, tsl and gRPC have them), and what is ours.
NOT_PUBLIC = {
    "BatchingParameters",
    "HealthCheckRequest",
    "HealthCheckResponse",
    "MonitoringConfig",
    "ProfileOptions",
    "ProfileRequest",
    "ProfileResponse",
    "PrometheusConfig",
    "SSLConfig",
    "TerminateRequest",
    "UnpackedTensorProto",
}
BLOCKS = {"float_val", "double_val", "scomplex_val", "dcomplex_val"}


def described():
    """Every message of the contract by its full name."""
    for path in set(PROTOS.glob("*.proto")) - {PROTOS / "open_inference.proto"}:  # of another public package
        nested = list(wire.POOL.FindFileByName(path.name).message_types_by_name.values())
        while nested:
            message = nested.pop()
            nested += message.nested_types
            if message.name not in NOT_PUBLIC:
                yield message.full_name, message


def test_the_descriptor_set_is_that_of_the_proto_files(tmp_path):
    compiled = tmp_path / "contract.binpb"
    files = sorted(str(path) for path in PROTOS.glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTOS}"]
    subprocess.run([*command, f"--descriptor_set_out={compiled}", *files], check=True)
    committed = (PROTOS.parent / "contract.binpb").read_bytes()
    assert FileDescriptorSet.FromString(committed) == FileDescriptorSet.FromString(compiled.read_bytes())


def test_every_field_is_the_public_one(public):
    checked = 0
    for name, message in described():
        for field in message.fields:
            number, kind, repeated, type_name, oneof = public["fields"][name][field.name]
            assert field.number == number, (name, field.name)
            is_block = name == "tensorflow.TensorProto" and field.name in BLOCKS
            assert field.type == (field.TYPE_BYTES if is_block else kind), (name, field.name)
            assert field.is_repeated == repeated, (name, field.name)
            assert (field.message_type.full_name if field.message_type else "") == type_name
            assert (field.containing_oneof.name if field.containing_oneof else "") == oneof
            checked += 1
    assert checked > 150


def test_enums_and_methods_are_the_public_ones(public):
    enums = [
        wire.POOL.FindEnumTypeByName(f"tensorflow.{name}")
        for name in ("DataType", "error.Code", "serving.ModelType")
    ]
    enums += [enum for _, message in described() for enum in message.enum_types]
    for enum in enums:
        for value in enum.values:
            assert public["enums"][enum.full_name][value.name] == value.number
    assert len(enums) > 3
    ours = {
        method.path: [method.request.DESCRIPTOR.full_name, method.response.DESCRIPTOR.full_name]
        for method in wire.METHODS
    }
    assert ours == public["services"]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (
            "BatchingParameters",
            "max_batch_size { value: 128 } allowed_batch_sizes: [1, 2]",
            "max_batch_size.value",
        ),
        ("SSLConfig", 'server_key: "k" client_verify: true', "client_verify"),
        ("MonitoringConfig", 'prometheus_config { enable: true path: "/m" }', "prometheus_config.path"),
        (
            "ModelServerConfig",
            """model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow" model_type: TENSORFLOW
               model_version_policy { specific { versions: 1 versions: 2 } } version_labels { key: "stable" value: 1 }
               logging_config { log_collector_config { type: "file" } sampling_config { sampling_rate: 0.1 } } } }""",
            "model_config_list.config",
        ),
    ],
)
def test_text_files_of_the_server_are_read(kind, text, value):
    message = text_format.Parse(text, getattr(wire, kind)())
    for name in value.split("."):
        message = getattr(message, name)
    assert message


def test_tensors_made_by_tensorflow_are_read(public):
    for tensor, values in zip(public["tensors"], public["values"], strict=True):
        array = wire.to_array(wire.TensorProto.FromString(bytes.fromhex(tensor)))
        assert np.vectorize(str)(array).tolist() == values


def test_unknown_fields_survive():
    newer = b"\x0a\x03\x0a\x01r" + b"\xa2\x06\x02hi"
    assert wire.PredictRequest.FromString(newer).SerializeToString() == newer


numbers = st.one_of(
    hnp.floating_dtypes(endianness="="),
    hnp.integer_dtypes(endianness="="),
    hnp.unsigned_integer_dtypes(endianness="="),
    hnp.boolean_dtypes(),
    hnp.complex_number_dtypes(endianness="=", sizes=(64, 128)),
)


@settings(max_examples=150, deadline=None)
@given(hnp.arrays(numbers, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)), st.booleans())
def test_arrays_survive_the_wire(array, typed_fields):
    tensor = wire.to_tensor(array, typed_fields=typed_fields)
    data = tensor.SerializeToString()
    back = wire.to_array(wire.TensorProto.FromString(data))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@settings(deadline=None)
@given(st.lists(st.one_of(st.text(), st.binary()), max_size=6))
def test_texts_survive_the_wire_as_utf8(values):
    array = np.empty(len(values), object)
    array[:] = values
    back = wire.to_array(wire.to_tensor(array))
    assert back.tolist() == [value.encode() if isinstance(value, str) else value for value in values]


def tensor(shape, **fields):
    floats = {
        name: [np.array(fields.pop(name), kind).tobytes()] for name, kind in WIDTHS.items() if name in fields
    }
    made = wire.TensorProto(**fields, **floats)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


WIDTHS = {"float_val": "<f4", "double_val": "<f8", "scomplex_val": "<f4", "dcomplex_val": "<f8"}
FLOAT, INT32, STRING, HALF, BFLOAT16 = 1, 3, 7, 19, 14


@pytest.mark.parametrize(
    ("proto", "expected"),
    [
        (tensor([3], dtype=FLOAT, float_val=[1, 2]), [1, 2, 2]),
        (tensor([2], dtype=FLOAT), [0, 0]),
        (tensor([2], dtype=FLOAT, int_val=[1, 2]), [0, 0]),
        (tensor([1], dtype=INT32, int_val=[-5, 6]), [-5]),
        (tensor([2], dtype=STRING, string_val=[b"a"]), [b"a", b"a"]),
        (tensor([2], dtype=STRING), [b"", b""]),
        (tensor([2], dtype=HALF, half_val=[0x3C00]), [1, 1]),
        (tensor([2], dtype=BFLOAT16, half_val=[0x3F80, 0xC000]), [1, -2]),
        (tensor([1], dtype=FLOAT, float_val=[9], tensor_content=np.float32([4]).tobytes()), [4]),
        (tensor([], dtype=FLOAT, float_val=[7]), 7),
    ],
)
def test_typed_values_read_as_tf_serving_reads_them(proto, expected):
    assert wire.to_array(proto).tolist() == expected


def test_an_unknown_rank_is_a_scalar():
    proto = tensor([], dtype=FLOAT, float_val=[7, 8])
    proto.tensor_shape.unknown_rank = True
    assert wire.to_array(proto).tolist() == 7


@pytest.mark.parametrize(
    "proto",
    [
        tensor([-1], dtype=FLOAT),
        tensor([1 << 20, 1 << 20], dtype=FLOAT, float_val=[1]),
        tensor([1 << 62, 1 << 62, 0], dtype=FLOAT),
        tensor([1] * 70, dtype=FLOAT),
        wire.TensorProto(dtype=FLOAT, float_val=[b"12345"]),
        tensor([2], dtype=FLOAT, tensor_content=b"1234"),
        tensor([1], dtype=20),
        tensor([1]),
    ],
)
def test_hostile_tensors_are_refused_before_memory_is_taken(proto):
    with pytest.raises(ValueError, match="Received"):
        wire.to_array(proto)


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_decode_or_are_refused(data):
    message = wire.TensorProto()
    with contextlib.suppress(DecodeError, ValueError):
        message.ParseFromString(data)
        assert (
            wire.to_array(message).ndim == len(message.tensor_shape.dim) or message.tensor_shape.unknown_rank
        )


@pytest.mark.parametrize("kind", ["f4", "f8", "c8", "c16"])
def test_numbers_sent_unpacked_are_read(kind):
    array = np.arange(3).astype(kind)
    whole = wire.to_tensor(array, typed_fields=True)
    field = next(name for name in WIDTHS if getattr(whole, name))
    width = np.dtype(WIDTHS[field]).itemsize
    tag = bytes([whole.DESCRIPTOR.fields_by_name[field].number << 3 | (5 if width == 4 else 1)])
    data = array.tobytes()
    unpacked = b"".join(tag + data[at : at + width] for at in range(0, len(data), width))
    whole.ClearField(field)
    message = wire.TensorProto.FromString(whole.SerializeToString() + unpacked)
    assert wire.to_array(message).tolist() == array.tolist()


def test_bfloat16_is_read_as_the_dtype_asked_for():
    values = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    for typed_fields in (True, False):
        message = wire.to_tensor(values, typed_fields=typed_fields)
        assert wire.to_array(message).tolist() == [1.5, -2.0]
        assert wire.to_array(message, bfloat16=ml_dtypes.bfloat16).dtype == values.dtype


def test_what_has_no_tensor_form_is_said():
    with pytest.raises(TypeError, match="datetime64"):
        wire.to_tensor(np.array(["2020-01-01"], "datetime64[D]"))
    with pytest.raises(TypeError, match="str or bytes"):
        wire.to_tensor(np.array([{}], object))


def test_the_client_and_the_gateway_load_no_tensorflow():
    code = "import sys, serving.client, serving.gateway; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
