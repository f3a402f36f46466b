"""Load for `benchmarks/server.py`: plain sockets, one connection a client, little processor time of its own.

gRPC frames and HTTP requests are put together once and sent again and again; answers are only checked for
their status. One process, one thread a client. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from pathlib import Path

from serving.http2 import frames, hpack

PREDICT = b"/tensorflow.serving.PredictionService/Predict"


class GrpcClient:
    """Unary Predict calls on one connection."""

    def __init__(self, port: int, message: bytes):
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        window = frames.settings([(frames.INITIAL_WINDOW_SIZE, 2**30)]) + frames.window_update(0, 2**30)
        self._socket.sendall(frames.PREFACE + window)
        fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", PREDICT), (b":authority", b"load")]
        fields += [(b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"grpc-timeout", b"60S")]
        self._block = hpack.encode(fields)
        self._message = b"\0" + len(message).to_bytes(4, "big") + message
        self._stream = 1
        self._buffer = b""

    def call(self) -> bool:
        """One call; True if its status is OK."""
        number = self._stream
        self._stream += 2
        request = frames.frame(frames.HEADERS, frames.END_HEADERS, number, self._block)
        request += frames.frame(frames.DATA, frames.END_STREAM, number, self._message)
        self._socket.sendall(request)
        if number % 10001 == 0:
            self._socket.sendall(frames.window_update(0, 2**20))
        with_data = False
        while True:
            while len(self._buffer) >= 9:
                length, kind, flags, stream = frames.parse_header(self._buffer, 0)
                if len(self._buffer) < 9 + length:
                    break
                self._buffer = self._buffer[9 + length :]
                if kind == frames.SETTINGS and not flags & frames.ACK:
                    self._socket.sendall(frames.frame(frames.SETTINGS, frames.ACK, 0))
                if stream == number and kind == frames.DATA:
                    with_data = True
                if stream == number and flags & frames.END_STREAM and kind in (frames.HEADERS, frames.DATA):
                    return with_data
            data = self._socket.recv(65536)
            if not data:
                return False
            self._buffer += data


class HttpClient:
    """JSON POSTs on one kept-alive connection."""

    def __init__(self, port: int, path: str, body: bytes):
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = f"POST {path} HTTP/1.1\r\nHost: l\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body

    def call(self) -> bool:
        """One call; True if its status is 200."""
        self._socket.sendall(self._request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._socket.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(
            next(
                line.split(b":")[1]
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            )
        )
        while len(body) < length:
            body += self._socket.recv(65536)
        return head.startswith(b"HTTP/1.1 200")


def run(make, clients: int, seconds: float, rate: float) -> dict[str, float]:
    """Closed loop, or an open one with `rate` calls a second over all clients."""
    latencies: list[tuple[float, float]] = []
    failures = [0]
    barrier = threading.Barrier(clients + 1)
    limits = [0.0]

    def client(index: int) -> None:
        connection = make()
        for _ in range(20):
            connection.call()
        barrier.wait()
        due = time.perf_counter() + (index / rate if rate else 0)
        while time.perf_counter() < limits[0]:
            if rate:
                pause = due - time.perf_counter()
                if pause > 0:
                    time.sleep(pause)
            started = due if rate else time.perf_counter()
            if not connection.call():
                failures[0] += 1
            latencies.append((started, time.perf_counter() - started))
            due += clients / rate if rate else 0

    threads = [threading.Thread(target=client, args=(index,)) for index in range(clients)]
    for thread in threads:
        thread.start()
    limits[0] = time.perf_counter() + 1e9
    barrier.wait()
    began, processor = time.perf_counter(), time.process_time()
    limits[0] = began + seconds
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - began
    ordered = sorted(latency for _, latency in latencies)
    return {
        "calls_a_second": len(ordered) / elapsed,
        "p50_ms": ordered[len(ordered) // 2] * 1e3,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1e3,
        "failures": failures[0],
        "calls": len(ordered),
        "client_cpu_us_a_call": (time.process_time() - processor) / len(ordered) * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("body", type=Path)
    parser.add_argument("--path", default="", help="HTTP path; gRPC Predict without it")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, default=0)
    options = parser.parse_args()
    body = options.body.read_bytes()

    def make():
        if options.path:
            return HttpClient(options.port, options.path, body)
        return GrpcClient(options.port, body)

    print(json.dumps(run(make, options.clients, options.seconds, options.rate)))


if __name__ == "__main__":
    main()
