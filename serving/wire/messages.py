"""The message classes, and the methods that carry them."""

from __future__ import annotations

from typing import Any, NamedTuple

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from serving.wire.pool import build, message_class
from serving.wire.schema import SCHEMA

_POOL = build(SCHEMA)


def _serving(name: str) -> Any:
    return message_class(_POOL, f"tensorflow.serving.{name}")


# As generated code does it: `DataType.Value("DT_FLOAT")`, `DataType.Name(1)`.
DataType: Any = EnumTypeWrapper(_POOL.FindEnumTypeByName("tensorflow.DataType"))
TensorProto: Any = message_class(_POOL, "tensorflow.TensorProto")
Example: Any = message_class(_POOL, "tensorflow.Example")
ModelSpec: Any = _serving("ModelSpec")
PredictRequest: Any = _serving("PredictRequest")
PredictResponse: Any = _serving("PredictResponse")
ClassificationRequest: Any = _serving("ClassificationRequest")
ClassificationResponse: Any = _serving("ClassificationResponse")
RegressionRequest: Any = _serving("RegressionRequest")
RegressionResponse: Any = _serving("RegressionResponse")
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
PredictionLog: Any = _serving("PredictionLog")


class Method(NamedTuple):
    """A unary gRPC method: its path on the wire, and the messages it takes and gives."""

    path: str
    request: Any
    response: Any


PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

PREDICT = Method(f"/{PREDICTION_SERVICE}/Predict", PredictRequest, PredictResponse)
CLASSIFY = Method(f"/{PREDICTION_SERVICE}/Classify", ClassificationRequest, ClassificationResponse)
REGRESS = Method(f"/{PREDICTION_SERVICE}/Regress", RegressionRequest, RegressionResponse)
MULTI_INFERENCE = Method(
    f"/{PREDICTION_SERVICE}/MultiInference", MultiInferenceRequest, MultiInferenceResponse
)
GET_MODEL_METADATA = Method(
    f"/{PREDICTION_SERVICE}/GetModelMetadata", GetModelMetadataRequest, GetModelMetadataResponse
)
GET_MODEL_STATUS = Method(f"/{MODEL_SERVICE}/GetModelStatus", GetModelStatusRequest, GetModelStatusResponse)
RELOAD_CONFIG = Method(
    f"/{MODEL_SERVICE}/HandleReloadConfigRequest", ReloadConfigRequest, ReloadConfigResponse
)
METHODS = (PREDICT, CLASSIFY, REGRESS, MULTI_INFERENCE, GET_MODEL_METADATA, GET_MODEL_STATUS, RELOAD_CONFIG)
