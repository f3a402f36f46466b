"""Header compression of the plain text transport, as RFC 7541 has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.http2 import hpack, huffman


@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=200)), max_size=10))
def test_encoded_headers_decode_to_themselves(headers):
    assert hpack.Decoder().decode(hpack.encode(headers)) == headers


def test_hpack_examples_of_the_rfc():
    decoder = hpack.Decoder()
    first = bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")
    second = bytes.fromhex("828684be5886a8eb10649cbf")
    third = bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf")
    common = [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
    ]
    assert decoder.decode(first) == common
    assert decoder.decode(second) == [*common, (b"cache-control", b"no-cache")]
    assert decoder.decode(third) == [
        (b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/index.html"),
        (b":authority", b"www.example.com"), (b"custom-key", b"custom-value"),
    ]  # fmt: skip


def test_hpack_table_evicts_and_refuses_nonsense():
    decoder = hpack.Decoder()
    entry = bytes([0x40, 1]) + b"a" + bytes([0x7F, 0xF1, 0x0F]) + b"b" * 2160
    assert decoder.decode(entry)[0][1] == b"b" * 2160
    assert decoder.decode(bytes([0xBE]))[0][0] == b"a"
    decoder.decode(entry)
    assert decoder.decode(bytes([0xBE]))
    for block in (bytes([0xBF]), bytes([0x80]), b"\x3f\xff\xff\xff\x7f", b"\x00\x81\x00\x00"):
        with pytest.raises(hpack.HpackError):
            decoder.decode(block)


@given(st.binary(max_size=30))
def test_huffman_never_raises_anything_but_value_error(data):
    try:
        decoded = huffman.decode(data)
    except ValueError:
        return
    assert len(decoded) * 5 <= len(data) * 8
