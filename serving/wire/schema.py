"""TF Serving's messages as a table: name, number, type.

Field names, numbers and types are those of the public wire contract (tensorflow/core and
tensorflow_serving/apis). Only what a client, a proxy or a monitor reads is listed: protobuf keeps
unknown fields, so a message that passes through loses nothing.

A line at the margin opens a package, a message (a nested one by its dotted name) or an enum;
an indented line is a field `name number type` or an enum value `NAME number`. `*` marks a repeated
field, `%` a map from string, `|choice` membership in a oneof.
"""

from __future__ import annotations

SCHEMA = """
package google.protobuf
message Int64Value
  value 1 int64
message StringValue
  value 1 string
message BoolValue
  value 1 bool
message Any
  type_url 1 string
  value 2 bytes

package tensorflow
enum DataType
  DT_INVALID 0
  DT_FLOAT 1
  DT_DOUBLE 2
  DT_INT32 3
  DT_UINT8 4
  DT_INT16 5
  DT_INT8 6
  DT_STRING 7
  DT_COMPLEX64 8
  DT_INT64 9
  DT_BOOL 10
  DT_QINT8 11
  DT_QUINT8 12
  DT_QINT32 13
  DT_BFLOAT16 14
  DT_QINT16 15
  DT_QUINT16 16
  DT_UINT16 17
  DT_COMPLEX128 18
  DT_HALF 19
  DT_RESOURCE 20
  DT_VARIANT 21
  DT_UINT32 22
  DT_UINT64 23
message TensorShapeProto
  dim 2 *TensorShapeProto.Dim
  unknown_rank 3 bool
message TensorShapeProto.Dim
  size 1 int64
  name 2 string
message TensorProto
  dtype 1 DataType
  tensor_shape 2 TensorShapeProto
  version_number 3 int32
  tensor_content 4 bytes
  float_val 5 *float
  double_val 6 *double
  int_val 7 *int32
  string_val 8 *bytes
  scomplex_val 9 *float
  int64_val 10 *int64
  bool_val 11 *bool
  dcomplex_val 12 *double
  half_val 13 *int32
  uint32_val 16 *uint32
  uint64_val 17 *uint64
message TensorInfo
  name 1 string |encoding
  dtype 2 DataType
  tensor_shape 3 TensorShapeProto
message SignatureDef
  inputs 1 %TensorInfo
  outputs 2 %TensorInfo
  method_name 3 string
  defaults 4 %TensorProto
message BytesList
  value 1 *bytes
message FloatList
  value 1 *float
message Int64List
  value 1 *int64
message Feature
  bytes_list 1 BytesList |kind
  float_list 2 FloatList |kind
  int64_list 3 Int64List |kind
message Features
  feature 1 %Feature
message Example
  features 1 Features

package tensorflow.serving
message ModelSpec
  name 1 string
  version 2 google.protobuf.Int64Value |version_choice
  signature_name 3 string
  version_label 4 string |version_choice
message PredictRequest
  model_spec 1 ModelSpec
  inputs 2 %tensorflow.TensorProto
  output_filter 3 *string
message PredictResponse
  outputs 1 %tensorflow.TensorProto
  model_spec 2 ModelSpec
message ExampleList
  examples 1 *tensorflow.Example
message ExampleListWithContext
  examples 1 *tensorflow.Example
  context 2 tensorflow.Example
message Input
  example_list 1 ExampleList |kind
  example_list_with_context 2 ExampleListWithContext |kind
message Class
  label 1 string
  score 2 float
message Classifications
  classes 1 *Class
message ClassificationResult
  classifications 1 *Classifications
message ClassificationRequest
  model_spec 1 ModelSpec
  input 2 Input
message ClassificationResponse
  result 1 ClassificationResult
  model_spec 2 ModelSpec
message Regression
  value 1 float
message RegressionResult
  regressions 1 *Regression
message RegressionRequest
  model_spec 1 ModelSpec
  input 2 Input
message RegressionResponse
  result 1 RegressionResult
  model_spec 2 ModelSpec
message InferenceTask
  model_spec 1 ModelSpec
  method_name 2 string
message InferenceResult
  model_spec 1 ModelSpec
  classification_result 2 ClassificationResult |result
  regression_result 3 RegressionResult |result
message MultiInferenceRequest
  tasks 1 *InferenceTask
  input 2 Input
message MultiInferenceResponse
  results 1 *InferenceResult
message SignatureDefMap
  signature_def 1 %tensorflow.SignatureDef
message GetModelMetadataRequest
  model_spec 1 ModelSpec
  metadata_field 2 *string
message GetModelMetadataResponse
  model_spec 1 ModelSpec
  metadata 2 %google.protobuf.Any
message StatusProto
  error_code 1 int32
  error_message 2 string
message GetModelStatusRequest
  model_spec 1 ModelSpec
enum ModelVersionStatus.State
  UNKNOWN 0
  START 10
  LOADING 20
  AVAILABLE 30
  UNLOADING 40
  END 50
message ModelVersionStatus
  version 1 int64
  state 2 ModelVersionStatus.State
  status 3 StatusProto
message GetModelStatusResponse
  model_version_status 1 *ModelVersionStatus
message FileSystemStoragePathSourceConfig
message FileSystemStoragePathSourceConfig.ServableVersionPolicy
  latest 100 FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest |policy_choice
  all 101 FileSystemStoragePathSourceConfig.ServableVersionPolicy.All |policy_choice
  specific 102 FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific |policy_choice
message FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest
  num_versions 1 uint32
message FileSystemStoragePathSourceConfig.ServableVersionPolicy.All
message FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific
  versions 1 *int64
message ModelConfig
  name 1 string
  base_path 2 string
  model_platform 4 string
  model_version_policy 7 FileSystemStoragePathSourceConfig.ServableVersionPolicy
  version_labels 8 %int64
message ModelConfigList
  config 1 *ModelConfig
message ModelServerConfig
  model_config_list 1 ModelConfigList |config
message ReloadConfigRequest
  config 1 ModelServerConfig
  metric_names 2 *string
message ReloadConfigResponse
  status 1 StatusProto
message LogMetadata
  model_spec 1 ModelSpec
  timestamp_secs 4 int64
message PredictLog
  request 1 PredictRequest
  response 2 PredictResponse
message PredictionLog
  log_metadata 1 LogMetadata
  predict_log 6 PredictLog |log_type
"""
