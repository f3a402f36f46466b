"""A sample of Predict requests and answers as PredictionLog records in a TFRecord file.

Sampling goes by a hash of the request's id (`x-request-id` in its metadata; its bytes if there is none),
so that every replica and every restart picks the same requests. The file can be given back to the
server as warm-up data, or read by the monitor.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
import time

from ranker.backend import tf
from serving.wire import PredictionLog, PredictRequest, PredictResponse

_LOG = logging.getLogger(__name__)
REQUEST_ID = "x-request-id"
_QUEUE_LENGTH = 1000


def is_sampled(request_id: bytes, rate: float) -> bool:
    """Whether a request belongs to the sample; the same answer everywhere.

    >>> [is_sampled(b"a", 0.0), is_sampled(b"a", 1.0)]
    [False, True]
    """
    number = int.from_bytes(hashlib.blake2b(request_id, digest_size=8).digest(), "big")
    return number < rate * 2**64


class RequestLog:
    """Writes on a thread of its own; a full queue drops records and counts them, callers never wait."""

    def __init__(self, path: str, rate: float):
        """Opens the file.

        Args:
            path: TFRecord file; the process id is added, since TFRecord files can't be appended to.
            rate: share of requests to log, in [0, 1].
        """
        self.rate = rate
        self.path = f"{path}.{os.getpid()}.{time.time_ns() // 1_000_000}"
        self.dropped = 0
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        self._writer = tf.io.TFRecordWriter(self.path)
        self._queue: queue.Queue[tuple[bytes, bytes] | None] = queue.Queue(_QUEUE_LENGTH)
        self._thread = threading.Thread(target=self._loop, name="request-log", daemon=True)
        self._thread.start()

    def offer(self, request: bytes, response: bytes, request_id: bytes | None) -> None:
        """Takes a serialised PredictRequest and its PredictResponse if the request is sampled."""
        if not is_sampled(request if request_id is None else request_id, self.rate):
            return
        try:
            self._queue.put_nowait((request, response))
        except queue.Full:
            self.dropped += 1

    def stop(self) -> None:
        """Writes what is queued and closes the file."""
        self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (entry := self._queue.get()) is not None:
            request, response = entry
            log = PredictionLog()
            log.predict_log.request.CopyFrom(PredictRequest.FromString(request))
            log.predict_log.response.CopyFrom(PredictResponse.FromString(response))
            log.log_metadata.model_spec.CopyFrom(log.predict_log.response.model_spec)
            log.log_metadata.sampling_config.sampling_rate = self.rate
            log.log_metadata.timestamp_secs = int(time.time())
            self._writer.write(log.SerializeToString())
            if self._queue.empty():
                self._writer.flush()
        self._writer.close()
