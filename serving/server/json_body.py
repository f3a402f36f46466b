"""A request body's JSON as RapidJSON reads it, with which TF Serving does: what it takes, what it calls a mistake.

Python's parser does the work. Where RapidJSON takes more (`Inf`, text that is not UTF-8) the text is made
ready for it; where it takes less (lone surrogates, numbers beyond a double) the text is looked through.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from serving.server.json_output import json_text
from serving.status import ServingError, invalid

_STRINGS_AND = r'"(?:[^"\\]|\\.)*"?|'
_INF = re.compile(_STRINGS_AND + r"-?\bInf\b", re.DOTALL)
_BRACKET = re.compile(_STRINGS_AND + r"[\[\]{}]", re.DOTALL)
_NUMBER = re.compile(_STRINGS_AND + r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.DOTALL)
_MAYBE_TOO_BIG = re.compile(r"[eE]\+?\d{3}|\d{300}")
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F])|.)", re.DOTALL)
_REASONS = (
    ("Extra data", "The document root must not be followed by other values."),
    ("Expecting property name", "Missing a name for object member."),
    ("Illegal trailing comma", "Missing a name for object member."),
    ("Expecting ':'", "Missing a colon after a name of object member."),
    ("Unterminated string", "Missing a closing quotation mark in string."),
    ("Invalid control", "Invalid encoding in string."),
    ("Invalid \\u", "Incorrect hex digit after \\u escape in string."),
    ("Invalid \\", "Invalid escape character in string."),
)


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a request body.

    Bytes that are not UTF-8 stand in its strings as surrogates: `encode("utf-8", "surrogateescape")` gives
    the bytes back.

    Raises:
        ServingError: INVALID_ARGUMENT if it is not JSON or not an object.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    text = body.decode("utf-8-sig", "surrogateescape")
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        document = _with_inf(text)
    except (RecursionError, ValueError):  # too deep, or an integer of thousands of digits
        _refuse_big_numbers(text)
        raise invalid("JSON Parse error: Terminate parsing due to Handler error. at offset: 0") from None
    _refuse_lone_surrogates(text)
    _refuse_big_numbers(text)
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {json_text(document)} Is not object")
    return document


def _with_inf(text: str) -> Any:
    try:
        # Numbers of the same length: what is wrong elsewhere stays where it is.
        json.loads(_replace_inf(text, {"Inf": "0.0", "-Inf": "-0.0"}))
    except json.JSONDecodeError as error:
        raise _mistake(text, error.msg, error.pos) from None
    return json.loads(_replace_inf(text, {"Inf": "Infinity", "-Inf": "-Infinity"}))


def _replace_inf(text: str, numbers: Mapping[str, str]) -> str:
    return _INF.sub(lambda match: numbers.get(match[0], match[0]), text)


def _mistake(text: str, problem: str, position: int) -> ServingError:
    after_digit = position > 0 and text[position - 1].isdigit()
    if after_digit and text[position : position + 1] == ".":
        return _error("Miss fraction part in number.", text, position + 1)
    if after_digit and text[position : position + 1] in ("e", "E"):
        end = position + (2 if text[position + 1 : position + 2] in ("+", "-") else 1)
        return _error("Miss exponent in number.", text, end)
    if problem.startswith("Expecting ','"):
        if _innermost_bracket(text[:position]) == "[":
            return _error("Missing a comma or ] after an array element.", text, position)
        return _error("Missing a comma or } after an object member.", text, position)
    if not text.strip(" \t\r\n"):
        return _error("The document is empty.", text, position)
    reason = next((reason for start, reason in _REASONS if problem.startswith(start)), "Invalid value.")
    return _error(reason, text, position)


def _error(reason: str, text: str, position: int) -> ServingError:
    offset = len(text[:position].encode("utf-8", "surrogateescape"))
    return invalid(f"JSON Parse error: {reason} at offset: {offset}")


def _innermost_bracket(text: str) -> str:
    open_ones: list[str] = []
    for match in _BRACKET.finditer(text):
        if match[0] in "[{":
            open_ones.append(match[0])
        elif match[0] in "]}":
            open_ones.pop()
    return open_ones[-1]


def _refuse_lone_surrogates(text: str) -> None:
    if "\\u" not in text:
        return
    for match in _ESCAPE.finditer(text):
        if match[1]:
            raise _error("The surrogate pair in string is invalid.", text, match.start())


def _refuse_big_numbers(text: str) -> None:
    if _MAYBE_TOO_BIG.search(text) is None:
        return
    for match in _NUMBER.finditer(text):
        if match[0][0] != '"' and math.isinf(float(match[0])):
            raise _error("Number too big to be stored in double.", text, match.start())
