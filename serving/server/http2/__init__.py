"""The gRPC transport for plain text connections: one thread that waits for all sockets.

It answers a quick call where it read it: 0.05 ms a call. `grpc_server` (grpcio) stays for what is rarer: TLS
and gRPC channel arguments. Both serve the same methods and pass the same tests.

Reading order, after `serving.http2`: `outbox` (bytes to write), `loop` (one thread for all sockets),
`workers` (threads for long calls), `connection` (one client), `server` (listening, draining).
"""
