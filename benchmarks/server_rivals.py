"""What `benchmarks/server.py` compares with: the bare session in a loop, and a plain Python server.

`bare SECONDS MODEL BODY` prints calls a second and percentiles of `SessionModel.run` on one thread.
`fastapi PORT MODEL` serves POST /predict with `tf.saved_model.load`, as tutorials do.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def bare(seconds: float, model_path: str, body: Path) -> None:
    """The C++ session alone, on decoded inputs."""
    from serving.server.models.backend import SessionModel
    from serving.server.requests.signatures import prepare_feeds, select_outputs
    from serving.server.requests.tensors import decode
    from serving.wire import PredictRequest

    model = SessionModel(model_path)
    request = PredictRequest.FromString(body.read_bytes())
    signature = model.signatures["serving_default"]
    feeds = prepare_feeds(signature, request.inputs, lambda alias: decode(request.inputs[alias]).copy())
    fetches = select_outputs(signature, [])
    for _ in range(300):
        model.run(feeds, fetches)
    latencies = []
    began = time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        model.run(feeds, fetches)
        latencies.append(time.perf_counter() - now)
    latencies.sort()
    print(
        json.dumps(
            {
                "calls_a_second": len(latencies) / (time.perf_counter() - began),
                "p50_ms": latencies[len(latencies) // 2] * 1e3,
                "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3,
            }
        )
    )


def fastapi(port: int, model_path: str) -> None:
    """FastAPI, uvicorn, an eager signature."""
    import uvicorn
    from fastapi import Body, FastAPI

    from ranker.backend import tf

    loaded = tf.saved_model.load(model_path)
    signature = loaded.signatures["serving_default"]
    dtypes = {name: spec.dtype for name, spec in signature.structured_input_signature[1].items()}
    app = FastAPI()

    @app.post("/predict")
    def predict(body: dict = Body(...)) -> dict:  # noqa: B008 - FastAPI's own form
        inputs = {name: tf.constant(values, dtypes[name]) for name, values in body["inputs"].items()}
        return {name: output.numpy().tolist() for name, output in signature(**inputs).items()}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    if sys.argv[1] == "bare":
        bare(float(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
    else:
        fastapi(int(sys.argv[2]), sys.argv[3])
