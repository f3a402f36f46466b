"""One SavedModel on TensorFlow's C++ session, loaded the way TF Serving's loader does.

The graph runs on DirectSession, not on eager functions. So kernels, error texts and feed names are those of
`tensorflow_model_server`, for TF1 and TF2 models. A call takes about a fifth of the time of one through
`tf.saved_model.load` (0.1 ms against 0.5 ms for a small network).

Three choices need a word:

- Calls go through `TF_SessionRun_wrapper`, a private entry that `tf.compat.v1.Session.run` itself uses
  last; skipping the rest of `Session.run` saves 0.3 ms a call. It releases the interpreter lock while
  kernels run. `SessionModel._call` falls back to `Session.run` if it disappears.
- A graph without loops and blocking ops runs on the calling thread (`inter_op_thread_pool=-1`), which
  nearly doubles throughput on few cores. A deadline can't interrupt such a call, and needs not: its
  time is bounded by its input. Graphs with loops run on TensorFlow's pool, where a deadline cancels.
- An op has one thread unless a flag says otherwise. Calls run beside each other, so every core has work, and
  the threads of a pool that wait for their share of a small op cost a third of a call's processor time.

Source: tensorflow/cc/saved_model/loader.cc (order of restore, assets and init op), direct_session.cc.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import message, text_format
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from ranker.backend import tf
from serving.server.requests.signatures import Feeds, ServedSignature, SignatureTensor
from serving.status import Code, StatusError

try:
    from tensorflow.python.client import pywrap_tf_session as _native
except ImportError:  # pragma: no cover - the private module moved
    _native = None

_INIT_OP_SIGNATURE = "__saved_model_init_op"
_UNBOUNDED = (
    "While",
    "Enter",
    "Dataset",
    "Iterator",
    "Queue",
    "Dequeue",
    "PyFunc",
    "Barrier",
    "Unstage",
    "Recv",
)
_UNBOUNDED_EXACT = {"For", "MapDefun"}


class SessionModel:
    """A loaded SavedModel version.

    Attributes:
        signatures: by name, without the init op.
        signature_defs: the `SignatureDef` protos as saved, including the init op.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        tags: Sequence[str] = ("serve",),
        inter_op_threads: int = 0,
        intra_op_threads: int = 1,
        strict: bool = False,
    ):
        """Loads the version directory `path`.

        Args:
            path: a directory with `saved_model.pb`.
            tags: the meta graph to load.
            inter_op_threads: threads for independent ops; 0 lets TensorFlow choose.
            intra_op_threads: threads within an op; 0 lets TensorFlow choose. The first session of a process
                decides it for all: they share a pool.
            strict: refuse a graph with variables when `variables/` is missing. TF Serving loads it and
                then fails every request.

        Raises:
            StatusError: with the code and text of TF Serving's loader.
        """
        self.path = Path(path)
        meta_graph = _read_meta_graph(self.path, tags)
        self.signature_defs = dict(meta_graph.signature_def)
        self._graph = tf.Graph()
        config = tf.compat.v1.ConfigProto(
            inter_op_parallelism_threads=inter_op_threads,
            intra_op_parallelism_threads=intra_op_threads,
            use_per_session_threads=bool(inter_op_threads),
            allow_soft_placement=True,
        )
        self._session = tf.compat.v1.Session(graph=self._graph, config=config)
        self._close_lock = threading.Lock()
        try:
            with self._graph.as_default():
                tf.import_graph_def(meta_graph.graph_def, name="")
            self._restore(meta_graph, strict)
            self.signatures = {
                name: _signature(name, definition, self._graph)
                for name, definition in self.signature_defs.items()
                if name != _INIT_OP_SIGNATURE
            }
        except tf.errors.OpError as error:
            self.close()
            raise StatusError(error.error_code, error.message) from None
        except (ValueError, KeyError) as error:
            self.close()
            raise StatusError(Code.INVALID_ARGUMENT, f"{error}") from None
        except StatusError:
            self.close()
            raise
        bounded = not _may_run_long(meta_graph.graph_def)
        self._inline_options: Any = None
        if _native is not None and bounded:
            options = tf.compat.v1.RunOptions(inter_op_thread_pool=-1)
            self._inline_options = _native.TF_NewBufferFromString(options.SerializeToString())

    def run(self, feeds: Feeds, fetches: Sequence[SignatureTensor], timeout_ms: int = 0) -> list[np.ndarray]:
        """Runs the graph once.

        Args:
            feeds: inputs with their arrays.
            fetches: outputs wanted.
            timeout_ms: 0 for none.

        Returns:
            One array for each fetch; strings as object arrays of `bytes`.

        Raises:
            StatusError: with the kernel's code and text.
        """
        for spec in (*(spec for spec, _ in feeds), *fetches):
            if spec.endpoint is None:
                raise StatusError(
                    Code.INVALID_ARGUMENT,
                    f"Tensor {spec.name}, specified in either feed_devices or fetch_devices was not found "
                    "in the Graph",
                )
        try:
            outputs = self._call(feeds, fetches, timeout_ms)
        except tf.errors.OpError as error:
            raise StatusError(error.error_code, error.message) from None
        return [
            np.asarray(value, object) if spec.dtype == 7 else np.asarray(value)
            for spec, value in zip(fetches, outputs, strict=True)
        ]

    def _call(self, feeds: Feeds, fetches: Sequence[SignatureTensor], timeout_ms: int) -> list[Any]:
        session = self._session
        if _native is None:  # pragma: no cover - only on a TensorFlow without the private entry
            options = tf.compat.v1.RunOptions(timeout_in_ms=timeout_ms)
            return session.run(
                [spec.name for spec in fetches], {spec.name: array for spec, array in feeds}, options=options
            )
        feed = {spec.endpoint: array for spec, array in feeds}
        fetch = [spec.endpoint for spec in fetches]
        if self._inline_options is not None:
            return _native.TF_SessionRun_wrapper(
                session._session, self._inline_options, feed, fetch, [], None
            )
        buffer = _native.TF_NewBufferFromString(
            tf.compat.v1.RunOptions(timeout_in_ms=timeout_ms).SerializeToString()
        )
        try:
            return _native.TF_SessionRun_wrapper(session._session, buffer, feed, fetch, [], None)
        finally:
            _native.TF_DeleteBuffer(buffer)

    def close(self) -> None:
        """Frees the session and its graph. No call may be in flight."""
        with self._close_lock:
            if getattr(self, "_inline_options", None) is not None:
                _native.TF_DeleteBuffer(self._inline_options)
                self._inline_options = None
            self._session.close()
            self._session = self._graph = None
            self.signatures = {}

    def _restore(self, meta_graph: Any, strict: bool) -> None:
        assets: dict[str, Any] = {
            asset.tensor_info.name: str(self.path / "assets" / asset.filename)
            for asset in _assets(meta_graph)
        }
        saver = meta_graph.saver_def
        index = self.path / "variables" / "variables.index"
        if saver.restore_op_name:
            if index.exists():
                prefix = str(self.path / "variables" / "variables")
                self._session.run(saver.restore_op_name, {saver.filename_tensor_name: prefix, **assets})
            elif strict and _has_variables(meta_graph.graph_def):
                raise StatusError(
                    Code.NOT_FOUND,
                    f"The graph has variables but {index} is missing; the version was copied incompletely",
                )
        elif strict and _has_variables(meta_graph.graph_def):
            raise StatusError(
                Code.NOT_FOUND, f"The graph in {self.path} has variables but nothing to restore them from"
            )
        init_op = _init_op(meta_graph)
        if init_op:
            self._session.run(self._graph.get_operation_by_name(init_op), assets)


def _read_meta_graph(path: Path, tags: Sequence[str]) -> Any:
    file = path / "saved_model.pb"
    text = path / "saved_model.pbtxt"
    if not file.is_file() and not text.is_file():
        raise StatusError(
            Code.NOT_FOUND,
            "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
            f"`saved_model.pb`)\nSpecified file path: {path}",
        )
    proto = saved_model_pb2.SavedModel()
    try:
        if file.is_file():
            proto.ParseFromString(file.read_bytes())
        else:
            text_format.Parse(text.read_text(), proto)
    except (message.DecodeError, text_format.ParseError):
        raise StatusError(Code.DATA_LOSS, f"Can't parse {file} as binary proto") from None
    except OSError as error:
        raise StatusError(Code.UNKNOWN, f"{file}: {error.strerror}") from None
    tag_set = set(tags)
    for meta_graph in proto.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == tag_set:
            return meta_graph
    raise StatusError(
        Code.NOT_FOUND,
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(sorted(tag_set))} }}. "
        "To inspect available tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`",
    )


def _assets(meta_graph: Any) -> list[Any]:
    if meta_graph.asset_file_def:
        return list(meta_graph.asset_file_def)
    assets = []
    for packed in meta_graph.collection_def["saved_model_assets"].any_list.value:
        asset = meta_graph_pb2.AssetFileDef()
        packed.Unpack(asset)
        assets.append(asset)
    return assets


def _init_op(meta_graph: Any) -> str:
    if _INIT_OP_SIGNATURE in meta_graph.signature_def:
        tensor = meta_graph.signature_def[_INIT_OP_SIGNATURE].outputs[_INIT_OP_SIGNATURE].name
        return tensor.split(":")[0]
    for collection in ("saved_model_main_op", "legacy_init_op"):
        if collection in meta_graph.collection_def:
            nodes = meta_graph.collection_def[collection].node_list.value
            if nodes:
                return nodes[0]
    return ""


def _signature(name: str, definition: Any, graph: tf.Graph) -> ServedSignature:
    return ServedSignature(
        name=name,
        method_name=definition.method_name,
        inputs=_specs(definition.inputs, graph),
        outputs=_specs(definition.outputs, graph),
        defaults={alias: tf.make_ndarray(proto) for alias, proto in sorted(definition.defaults.items())},
        text=str(definition),
    )


def _specs(infos: Mapping[str, Any], graph: tf.Graph) -> dict[str, SignatureTensor]:
    specs = {}
    for alias, info in sorted(infos.items()):
        try:
            endpoint = graph.get_tensor_by_name(info.name)._as_tf_output()
        except (KeyError, ValueError):
            endpoint = None
        shape = None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
        specs[alias] = SignatureTensor(alias, info.name, info.dtype, shape, endpoint)
    return specs


def _nodes(graph_def: Any) -> Any:
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def


def _has_variables(graph_def: Any) -> bool:
    return any(node.op in {"VarHandleOp", "VariableV2", "Variable"} for node in graph_def.node)


def _may_run_long(graph_def: Any) -> bool:
    """True if the graph can loop or block, so that a deadline must be able to interrupt it."""
    return any(
        node.op in _UNBOUNDED_EXACT or any(word in node.op for word in _UNBOUNDED)
        for node in _nodes(graph_def)
    )
