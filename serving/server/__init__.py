"""The embedded model server: TF Serving's API, flags and error texts, on the same C++ session.

`python -m serving.server --port=8500 --model_name=m --model_base_path=DIR` starts it; `serving.server.api`
starts it inside another process. Importing this package loads nothing else.

Read it in this order:

- `models`: `version_policy` decides which versions should run, `manager` loads and unloads them, `backend` runs one.
- `requests`: `predict` and `examples` compute one request; `endpoints` has the API's methods as functions of bytes.
- `transports`: gRPC and REST.
- `api`: puts the parts together.
"""

import os

# Some modules import parts of TensorFlow, and imports are sorted: those may come before `ranker.backend`, which
# must find Keras 2 chosen.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
