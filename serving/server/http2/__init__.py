"""A gRPC transport of our own for plain text connections: HTTP/2 as far as unary gRPC needs it.

Why: `grpcio`'s Python server spends about 0.6 ms of processor time a call on moving events between its
threads and the interpreter; a ranking request needs 0.2 ms. Here one thread waits for all sockets, and
answers a quick call where it read it: 0.05 ms a call. `grpc_server` (grpcio) stays for what is rarer: TLS
and gRPC channel arguments. Both serve the same methods and pass the same tests.

Reading order: `hpack` (header compression), `frames`, `stream` (one call's bytes), `reader` (bytes to
requests), `books` (calls and windows), `outbox` (bytes to write), `loop` (one thread for all sockets),
`workers` (threads for long calls), `connection` (one client), `server` (listening, draining).

Source: RFC 9113 (HTTP/2), RFC 7541 (HPACK), the gRPC over HTTP/2 protocol description.
"""
