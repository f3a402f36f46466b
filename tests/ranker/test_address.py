"""Addresses as users write them."""

import pytest

from ranker.address import HostPort, parse_address
from ranker.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8500", HostPort("127.0.0.1", 8500)),
        ("ranker_0.models.svc:1", HostPort("ranker_0.models.svc", 1)),
        ("example.org.:65535", HostPort("example.org.", 65535)),
        ("[::1]:8500", HostPort("::1", 8500)),
        ("[fe80::1%eth0]:8500", HostPort("fe80::1%eth0", 8500)),
        ("[::ffff:127.0.0.1]:80", HostPort("::ffff:127.0.0.1", 80)),
    ],
)
def test_addresses_read_and_write(text, expected):
    assert parse_address(text) == expected
    assert str(expected) == text


BAD = [
    "",
    ":",
    "host",
    "host:",
    ":8500",
    "::1:8500",
    "[::1]",
    "[::1:8500",
    "[]:80",
    "[host]:80",
    "[1.2.3.4]:80",
    "host:0",
    "host:65536",
    "host:-1",
    "host:+1",
    "host:1.0",
    "host: 80",
    "host:80 ",
    " host:80",
    "host:٣",
    "host:²",
    "a b:80",
    "user@host:80",
    "http://host:80",
    "host:80/path",
    "-host:80",
    "unix:/tmp/a",
    8500,
    None,
]


@pytest.mark.parametrize("text", BAD)
def test_other_forms_are_refused_by_name(text):
    with pytest.raises(UserError, match=r"`listen` must read host:port.*Received: ") as caught:
        parse_address(text, "`listen`")
    assert str(caught.value).endswith(repr(text))


def test_port_0_only_where_it_means_any():
    assert parse_address("127.0.0.1:0", lowest_port=0).port == 0


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "LocalHost.:1", "[::1]:1"])
def test_loopback(text):
    assert parse_address(text).is_loopback


@pytest.mark.parametrize("text", ["10.0.0.1:1", "localhost.example:1", "[::2]:1", "0.0.0.0:1"])
def test_not_loopback(text):
    assert not parse_address(text).is_loopback
