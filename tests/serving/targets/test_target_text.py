"""Targets as users write them."""

from __future__ import annotations

import pytest

from ranker.errors import UserError
from serving.targets.target import PROTOCOLS, parse_target


@pytest.mark.parametrize("scheme", PROTOCOLS)
@pytest.mark.parametrize("address", ["ranker-0.models:8500", "[::1]:1", "127.0.0.1:65535"])
def test_what_is_written_is_what_is_read(scheme, address):
    target = parse_target(f"{scheme}://{address}")
    assert parse_target(str(target)) == target
    assert str(target.address) == address
    assert str(target) == (address if scheme == "grpc" else f"{scheme}://{address}")


def test_paths():
    assert parse_target("tfserving+https://h:1/models/eu/").url == "https://h:1/models/eu"
    assert parse_target("json+http://h:1/score/?v=2").url == "http://h:1/score/?v=2"
    assert parse_target("v2+http://h:1/").url == "http://h:1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "h:0",
        "http://h:1",
        "ftp://h:1",
        "v2+http://h",
        "v2+http://h:1?x=1",
        "grpc://h:1/x",
        "json+http://h:1/a b",
        8500,
    ],
)
def test_mistakes_name_the_rule_and_the_value(text):
    with pytest.raises(UserError, match=r"target.*must.*Received"):
        parse_target(text)
