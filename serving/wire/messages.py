"""The message classes, and the methods that carry them.

`contract.binpb` is the descriptor set of protos/*.proto, made by `make protos`. Its messages live in a pool of their
own: the default pool belongs to whoever imports TensorFlow, and a name can be registered there only once.
"""

from __future__ import annotations

from importlib import resources
from typing import Any, NamedTuple

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper


def _load() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for module in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    contract = resources.files("serving.wire").joinpath("contract.binpb").read_bytes()
    files = {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(contract).file}
    names = ("error_codes", "tensorflow", "server_config", "serving", "health", "profiler", "open_inference")
    for name in (f"{name}.proto" for name in names):
        pool.Add(files[name])
    return pool


POOL = _load()
"""All messages of the contract, by their public names."""


def _tensorflow(name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"tensorflow.{name}"))


def _serving(name: str) -> Any:
    return _tensorflow(f"serving.{name}")


# As generated code does it: `DataType.Value("DT_FLOAT")`, `DataType.Name(1)`.
DataType: Any = EnumTypeWrapper(POOL.FindEnumTypeByName("tensorflow.DataType"))
TensorProto: Any = _tensorflow("TensorProto")
UnpackedTensorProto: Any = _tensorflow("UnpackedTensorProto")
SignatureDef: Any = _tensorflow("SignatureDef")
Example: Any = _tensorflow("Example")
Feature: Any = _tensorflow("Feature")
ModelSpec: Any = _serving("ModelSpec")
PredictRequest: Any = _serving("PredictRequest")
PredictResponse: Any = _serving("PredictResponse")
Input: Any = _serving("Input")
ClassificationResult: Any = _serving("ClassificationResult")
ClassificationRequest: Any = _serving("ClassificationRequest")
ClassificationResponse: Any = _serving("ClassificationResponse")
RegressionResult: Any = _serving("RegressionResult")
RegressionRequest: Any = _serving("RegressionRequest")
RegressionResponse: Any = _serving("RegressionResponse")
InferenceResult: Any = _serving("InferenceResult")
MultiInferenceRequest: Any = _serving("MultiInferenceRequest")
MultiInferenceResponse: Any = _serving("MultiInferenceResponse")
GetModelMetadataRequest: Any = _serving("GetModelMetadataRequest")
GetModelMetadataResponse: Any = _serving("GetModelMetadataResponse")
SignatureDefMap: Any = _serving("SignatureDefMap")
GetModelStatusRequest: Any = _serving("GetModelStatusRequest")
GetModelStatusResponse: Any = _serving("GetModelStatusResponse")
ModelVersionStatus: Any = _serving("ModelVersionStatus")
ModelServerConfig: Any = _serving("ModelServerConfig")
ReloadConfigRequest: Any = _serving("ReloadConfigRequest")
ReloadConfigResponse: Any = _serving("ReloadConfigResponse")
BatchingParameters: Any = _serving("BatchingParameters")
MonitoringConfig: Any = _serving("MonitoringConfig")
SSLConfig: Any = _serving("SSLConfig")
PredictionLog: Any = _serving("PredictionLog")
ProfileRequest: Any = _tensorflow("ProfileRequest")
ProfileResponse: Any = _tensorflow("ProfileResponse")
TerminateRequest: Any = _tensorflow("TerminateRequest")
HealthCheckRequest: Any = message_factory.GetMessageClass(
    POOL.FindMessageTypeByName("grpc.health.v1.HealthCheckRequest")
)
HealthCheckResponse: Any = message_factory.GetMessageClass(
    POOL.FindMessageTypeByName("grpc.health.v1.HealthCheckResponse")
)
ModelMetadataRequest: Any = message_factory.GetMessageClass(
    POOL.FindMessageTypeByName("inference.ModelMetadataRequest")
)
ModelInferRequest: Any = message_factory.GetMessageClass(
    POOL.FindMessageTypeByName("inference.ModelInferRequest")
)


class Method(NamedTuple):
    """A unary gRPC method: its path on the wire, and the messages it takes and gives."""

    path: str
    request: Any
    response: Any


PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"


def _method(service: str, name: str) -> Method:
    method = POOL.FindServiceByName(service).methods_by_name[name]
    messages = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
    return Method(f"/{service}/{name}", *messages)


PREDICT = _method(PREDICTION_SERVICE, "Predict")
CLASSIFY = _method(PREDICTION_SERVICE, "Classify")
REGRESS = _method(PREDICTION_SERVICE, "Regress")
MULTI_INFERENCE = _method(PREDICTION_SERVICE, "MultiInference")
GET_MODEL_METADATA = _method(PREDICTION_SERVICE, "GetModelMetadata")
GET_MODEL_STATUS = _method(MODEL_SERVICE, "GetModelStatus")
RELOAD_CONFIG = _method(MODEL_SERVICE, "HandleReloadConfigRequest")
OPEN_INFERENCE_SERVICE = "inference.GRPCInferenceService"
MODEL_METADATA = _method(OPEN_INFERENCE_SERVICE, "ModelMetadata")
MODEL_INFER = _method(OPEN_INFERENCE_SERVICE, "ModelInfer")
METHODS = (PREDICT, CLASSIFY, REGRESS, MULTI_INFERENCE, GET_MODEL_METADATA, GET_MODEL_STATUS, RELOAD_CONFIG)
