"""A gRPC transport of our own for plain text connections: HTTP/2 as far as unary gRPC needs it.

Why: `grpcio`'s Python server spends about 0.6 ms of processor time a call on moving events between its
threads and the interpreter; a ranking request needs 0.2 ms. Here the thread that read a request answers
it, so a call costs one read and one write. `grpc_server` (grpcio) stays for what is rarer: TLS and gRPC
channel arguments. Both serve the same methods and pass the same tests.

Reading order: `hpack` (header compression), `frames`, `stream` (one call's bytes), `connection` (one
client), `server` (listening, draining).

Source: RFC 9113 (HTTP/2), RFC 7541 (HPACK), the gRPC over HTTP/2 protocol description.
"""
