"""HTTP/2 as far as unary gRPC needs it, without sockets: bytes in, bytes out, for both sides of a connection.

Why: the Python of `grpcio` spends 0.5 to 0.8 ms of processor time a call and side on moving events between
its threads and the interpreter; a ranking request needs 0.2 ms. The embedded server (`serving.server.http2`)
puts a thread of its own around these parts, the gateway an asyncio loop.

Reading order: `hpack` (header compression), `frames`, `messages` (gRPC's), `stream` (one call's bytes),
`books` (calls and windows), `reader` (bytes to messages) with `requests` and `responses` (what headers mean
to a server and to a client), `outgoing` (messages that wait for the peer).

Source: RFC 9113 (HTTP/2), RFC 7541 (HPACK), the gRPC over HTTP/2 protocol description.
"""
