"""The plain text transport on the wire: HTTP/2 as RFC 9113 has it, against raw sockets."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.http2 import frames, hpack, messages
from serving.server.http2 import connection
from tests.serving.server.http2.peer import ECHO, Raw, call_frames, request_headers


def test_small_windows_hold_the_answer_back(raw):
    peer = raw(greet=False)
    peer.send(frames.PREFACE, frames.settings([(frames.INITIAL_WINDOW_SIZE, 10)]), call_frames(1, b"x" * 30))
    got, total = b"", 35
    while len(got) < total:
        _, _, _, payload = peer.until(frames.DATA, 1)
        assert len(payload) <= 10
        got += payload
        peer.send(frames.window_update(1, 10))
    assert got == messages.pack(b"x" * 30)
    assert peer.until(frames.HEADERS, 1)[1] & frames.END_STREAM


def test_a_window_change_while_waiting_counts(raw):
    peer = raw(greet=False)
    peer.send(frames.PREFACE, frames.settings([(frames.INITIAL_WINDOW_SIZE, 0)]), call_frames(1, b"abc"))
    assert peer.until(frames.HEADERS, 1) is not None
    peer.send(frames.settings([(frames.INITIAL_WINDOW_SIZE, 100)]))
    assert peer.until(frames.DATA, 1)[3] == messages.pack(b"abc")


def test_a_stalled_peer_does_not_stop_its_other_calls(raw):
    peer = raw(greet=False)
    peer.send(frames.PREFACE, frames.settings([(frames.INITIAL_WINDOW_SIZE, 20)]))
    peer.send(call_frames(1, b"x" * 100), call_frames(3, b"y"))
    assert peer.until(frames.DATA, 3)[3] == messages.pack(b"y")
    peer.send(frames.rst_stream(1, frames.CANCEL), call_frames(5, b"z"))
    assert peer.until(frames.DATA, 5)[3] == messages.pack(b"z")


def test_an_answer_that_nobody_takes_is_given_up(raw, monkeypatch):
    monkeypatch.setattr(connection, "_STALL_SECONDS", 0.5)
    peer = raw(greet=False)
    peer.send(frames.PREFACE, frames.settings([(frames.INITIAL_WINDOW_SIZE, 20)]))
    peer.send(call_frames(1, b"x" * 100))
    assert peer.until(frames.RST_STREAM, 1)[3] == frames.CANCEL.to_bytes(4, "big")
    peer.send(frames.window_update(1, 1000), call_frames(3, b"y"))
    assert peer.until(frames.DATA)[2] == 3


def test_a_peer_that_never_greets_is_let_go(raw, monkeypatch):
    monkeypatch.setattr(connection, "_GREETING_SECONDS", 0.5)
    assert raw(greet=False).frame() is None


def test_ping_padding_priority_continuation_and_unknown_frames(raw):
    peer = raw()
    block = request_headers()
    padded = bytes([3]) + b"\0" * 4 + b"\x10" + block[:7] + b"\0" * 3
    message = messages.pack(b"hi")
    peer.send(
        frames.frame(frames.PING, 0, 0, b"12345678"),
        frames.frame(99, 7, 0, b"??"),
        frames.frame(frames.HEADERS, frames.PADDED | frames.HAS_PRIORITY, 1, padded),
        frames.frame(frames.CONTINUATION, 0, 1, block[7:20]),
        frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[20:]),
        frames.frame(frames.DATA, frames.PADDED, 1, bytes([2]) + message[:3] + b"\0\0"),
        frames.frame(frames.DATA, frames.END_STREAM, 1, message[3:]),
    )
    assert peer.until(frames.PING) == (frames.PING, frames.ACK, 0, b"12345678")
    assert peer.until(frames.DATA, 1)[3] == message


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([frames.frame(frames.DATA, 0, 1, b"x")], frames.PROTOCOL_ERROR),
        ([frames.frame(frames.HEADERS, frames.END_HEADERS, 2, b"")], frames.PROTOCOL_ERROR),
        ([frames.frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff")], frames.COMPRESSION_ERROR),
        ([frames.frame(frames.HEADERS, 0, 1, b""), frames.frame(frames.PING, 0, 0, b"12345678")], frames.PROTOCOL_ERROR),
        ([frames.frame(frames.CONTINUATION, 0, 1, b"")], frames.PROTOCOL_ERROR),
        ([frames.frame(frames.HEADERS, 0, 1, b"")] + [frames.frame(frames.CONTINUATION, 0, 1, b"\0" * 16000)] * 9,
         frames.ENHANCE_YOUR_CALM),
        ([frames.frame(frames.PING, 0, 0, b"1")], frames.FRAME_SIZE_ERROR),
        ([frames.frame(frames.SETTINGS, 0, 0, b"1")], frames.FRAME_SIZE_ERROR),
        ([frames.settings([(frames.INITIAL_WINDOW_SIZE, 2**31)])], frames.FLOW_CONTROL_ERROR),
        ([frames.settings([(frames.MAX_FRAME_SIZE, 1)])], frames.PROTOCOL_ERROR),
        ([frames.window_update(0, 2**31 - 1)], frames.FLOW_CONTROL_ERROR),
        ([frames.window_update(0, 0)], frames.FLOW_CONTROL_ERROR),
        ([frames.frame(frames.PUSH_PROMISE, 0, 1, b"")], frames.PROTOCOL_ERROR),
        ([b"\xff\xff\xff\0\0\0\0\0\1"], frames.FRAME_SIZE_ERROR),
        ([frames.frame(frames.HEADERS, frames.PADDED | frames.END_HEADERS, 1, b"\xff")], frames.PROTOCOL_ERROR),
        ([frames.rst_stream(1, 8)] * 600, frames.ENHANCE_YOUR_CALM),
    ],
)  # fmt: skip
def test_broken_protocol_ends_the_connection_with_its_code(raw, channel, parts, code):
    peer = raw()
    peer.send(*parts)
    ended = peer.until(frames.GOAWAY)
    if ended is not None:  # the end may overtake the reason
        assert struct.unpack(">II", ended[3][:8])[1] == code
    assert peer.until(frames.DATA) is None
    assert channel.unary_unary(ECHO)(b"still here", timeout=10) == b"still here"


def test_not_http2_is_closed(raw, channel):
    peer = raw(greet=False)
    peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    peer.until(frames.DATA)
    assert channel.unary_unary(ECHO)(b"ok", timeout=10) == b"ok"


def test_wrong_method_and_content_type(raw):
    peer = raw()
    get = hpack.encode([(b":method", b"GET"), (b":path", b"/"), (b":scheme", b"http")])
    text = hpack.encode([(b":method", b"POST"), (b":path", b"/"), (b"content-type", b"text/plain")])
    peer.send(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, get))
    assert hpack.Decoder().decode(peer.until(frames.HEADERS, 1)[3]) == [(b":status", b"405")]
    peer.send(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 3, text))
    assert hpack.Decoder().decode(peer.until(frames.HEADERS, 3)[3]) == [(b":status", b"415")]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=60)),
        max_size=12,
    )
)
def test_random_frames_never_take_the_server_down(server, parts):
    peer = Raw(server)
    try:
        peer.send(*[frames.frame(*part) for part in parts])
        peer.socket.shutdown(socket.SHUT_WR)
        while peer.frame() is not None:
            pass
    except ConnectionError:
        pass
    finally:
        peer.close()
    good = Raw(server)
    good.send(call_frames(1, b"good"))
    assert good.until(frames.DATA, 1)[3] == messages.pack(b"good")
    good.close()
