"""Load for `benchmarks/server.py`: plain sockets, one connection a client, little processor time of its own.

gRPC frames and HTTP requests are put together once and sent again and again; answers are only checked for
their status. One process, one thread a client. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import threading
import time
from pathlib import Path

PREDICT = "/tensorflow.serving.PredictionService/Predict"
_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 4, 6, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_BYTES = 16384
_WINDOW = 2**30


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_block(fields: dict[str, str]) -> bytes:
    """Headers as literals that enter no table; names and values of fewer than 127 bytes."""
    texts = (text.encode() for field in fields.items() for text in field)
    encoded = [bytes([len(text)]) + text for text in texts]
    return b"".join(b"\0" + name + value for name, value in zip(encoded[::2], encoded[1::2], strict=True))


class GrpcClient:
    """Unary Predict calls on one connection."""

    def __init__(self, port: int, message: bytes):
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        initial_window = frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, _WINDOW))
        window = frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW))
        self._socket.sendall(_PREFACE + initial_window + window)
        fields = {":method": "POST", ":scheme": "http", ":path": PREDICT, ":authority": "load"}
        fields |= {"content-type": "application/grpc", "te": "trailers", "grpc-timeout": "60S"}
        self._block = header_block(fields)
        message = b"\0" + struct.pack(">I", len(message)) + message
        self._parts = [
            message[start : start + _FRAME_BYTES] for start in range(0, len(message), _FRAME_BYTES)
        ]
        self._stream = 1
        self._buffer = b""

    def call(self) -> bool:
        """One call; True if its status is OK."""
        number = self._stream
        self._stream += 2
        request = frame(_HEADERS, _END_HEADERS, number, self._block)
        request += b"".join(frame(_DATA, 0, number, part) for part in self._parts[:-1])
        request += frame(_DATA, _END_STREAM, number, self._parts[-1])
        self._socket.sendall(request)
        if number % 10001 == 0:
            self._socket.sendall(frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**20)))
        with_data = False
        while True:
            while len(self._buffer) >= 9:
                length = int.from_bytes(self._buffer[:3], "big")
                kind, flags, stream = struct.unpack(">BBI", self._buffer[3:9])
                if len(self._buffer) < 9 + length:
                    break
                payload, self._buffer = self._buffer[9 : 9 + length], self._buffer[9 + length :]
                if kind in (_SETTINGS, _PING) and not flags & _ACK:
                    self._socket.sendall(frame(kind, _ACK, 0, payload if kind == _PING else b""))
                if stream == number and kind == _DATA:
                    with_data = True
                if stream == number and flags & _END_STREAM and kind in (_HEADERS, _DATA):
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
