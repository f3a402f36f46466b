"""Expressions (label, grade, weight) on Arrow columns, vectorised.

Values have one of three kinds, which their use decides. A column is a number beside a number, in arithmetic and in `<` or
`>`. It is text beside text, and so are two columns compared by `==` or `!=`. It is a 0/1 flag where a truth value is needed.
Missing text is the empty text. A missing or unreadable number makes the value of the whole row missing.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.prepare.read.columns import NumberFormat, as_numbers, as_text, decode
from ranker.config import expression

_ORDER = {
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}
_ARITHMETIC = {ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide}


def evaluate(
    text: str, columns: Mapping[str, pa.Array], rows: int, formats: Mapping[str, NumberFormat] | None = None
) -> np.ndarray:
    """Evaluates an expression.

    Args:
        text: a checked expression.
        columns: the columns it reads, by name.
        rows: how many.
        formats: how numbers are written in columns of text, where not plainly.

    Returns:
        float64 [rows]: 0 or 1 for a truth value, the number itself for a numeric expression, NaN where it cannot be
        computed or is not finite.
    """
    tree = expression.parse(text)
    evaluation = _Evaluate(columns, rows, formats or {})
    with np.errstate(all="ignore"):
        value = evaluation.truth(tree) if _is_truth(tree) else evaluation.flag_or_number(tree)
    return np.where(np.isfinite(value), value, np.nan)


_FLAGS = {"true": 1.0, "t": 1.0, "yes": 1.0, "y": 1.0, "false": 0.0, "f": 0.0, "no": 0.0, "n": 0.0}


def flag_values(column: pa.Array, values: np.ndarray) -> np.ndarray:
    """Numbers of a column with 1 and 0 where it has truth values in words, in any case: true, t, yes, y, false, ..."""
    words = pc.utf8_trim_whitespace(pc.utf8_lower(decode(as_text(column))))
    place = pc.index_in(words, pa.array(list(_FLAGS))).fill_null(-1).to_numpy(zero_copy_only=False)
    return np.where(place >= 0, np.array(list(_FLAGS.values()))[place], values)


class _Evaluate:
    """Walks a tree. Truth values and numbers are float64 [rows] with NaN for missing."""

    def __init__(self, columns: Mapping[str, pa.Array], rows: int, formats: Mapping[str, NumberFormat]):
        self._columns = columns
        self._formats = formats
        self._rows = rows

    def truth(self, node: ast.expr) -> np.ndarray:
        if isinstance(node, ast.BoolOp):
            values = [self.truth(value) for value in node.values]
            combine = np.minimum if isinstance(node.op, ast.And) else np.maximum
            return combine.reduce(values)  # both hand NaN on
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return 1.0 - self.truth(node.operand)
        if isinstance(node, ast.Compare):
            return self._compare(node)
        value = self.flag_or_number(node)
        return np.where((value == 0) | (value == 1), value, np.nan)

    def flag_or_number(self, node: ast.expr) -> np.ndarray:
        return self._number(node)

    def _number(self, node: ast.expr) -> np.ndarray:
        if isinstance(node, ast.Name):
            return self._column(node.id)
        if isinstance(node, ast.Constant) and not isinstance(node.value, str):
            return np.full(self._rows, float(str(node.value)))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self._number(node.operand)
        if isinstance(node, ast.BinOp):
            value = _ARITHMETIC[type(node.op)](self._number(node.left), self._number(node.right))
            return np.where(np.isfinite(value), value, np.nan)
        if _is_truth(node):
            return self.truth(node)
        return np.full(self._rows, np.nan)

    def _column(self, name: str) -> np.ndarray:
        column = self._columns[name]
        values, bad = as_numbers(column, self._formats.get(name, NumberFormat()))
        return flag_values(column, values) if bad.any() else values

    def _text(self, node: ast.expr) -> np.ndarray | str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.Name):
            return decode(as_text(self._columns[node.id]))
        raise ValueError("text can only be compared with text or a column")

    def _compare(self, node: ast.Compare) -> np.ndarray:
        left_operand, parts = node.left, []
        for operator, right_operand in zip(node.ops, node.comparators, strict=True):
            parts.append(self._compare_two(left_operand, operator, right_operand))
            left_operand = right_operand
        return np.minimum.reduce(parts)

    def _compare_two(
        self, left_operand: ast.expr, operator: ast.cmpop, right_operand: ast.expr
    ) -> np.ndarray:
        if isinstance(operator, (ast.In, ast.NotIn)):
            is_member = self._member(left_operand, right_operand)
            return is_member if isinstance(operator, ast.In) else 1.0 - is_member
        both = (left_operand, right_operand)
        names = all(isinstance(side, ast.Name) for side in both)
        if any(_is_text(side) for side in both) or (names and isinstance(operator, (ast.Eq, ast.NotEq))):
            kernel = {
                ast.Eq: pc.equal,
                ast.NotEq: pc.not_equal,
                ast.Lt: pc.less,
                ast.LtE: pc.less_equal,
                ast.Gt: pc.greater,
                ast.GtE: pc.greater_equal,
            }[type(operator)]
            result = kernel(self._text(left_operand), self._text(right_operand))
            if isinstance(result, pa.Scalar):
                return np.full(self._rows, float(result.as_py()))
            return result.to_numpy(zero_copy_only=False).astype(np.float64)
        a, b = self._number(left_operand), self._number(right_operand)
        result = _ORDER[type(operator)](a, b).astype(np.float64)
        return np.where(np.isnan(a) | np.isnan(b), np.nan, result)

    def _member(self, left_operand: ast.expr, right_operand: ast.expr) -> np.ndarray:
        items = right_operand.elts if isinstance(right_operand, (ast.Tuple, ast.List)) else [right_operand]
        return np.maximum.reduce([self._compare_two(left_operand, ast.Eq(), item) for item in items])


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_truth(node: ast.expr) -> bool:
    return isinstance(node, (ast.BoolOp, ast.Compare)) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    )


def check(text: str) -> None:
    """Tries an expression on one row, so that one that can never work fails before the data are read.

    Raises:
        ValueError: what is wrong.
    """
    columns = {name: pa.array(["1"]) for name in expression.columns(text)}
    if not columns:
        raise ValueError("must read at least one column")
    evaluate(text, columns, 1)


def reads_numbers(text: str) -> set[str]:
    """The columns an expression reads as numbers only, nowhere as text."""
    tree = expression.parse(text)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names - _text_names(tree)


def _text_names(tree: ast.expr) -> set[str]:
    compared_as_text: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        items = [
            item
            for side in sides
            for item in (side.elts if isinstance(side, (ast.Tuple, ast.List)) else [side])
        ]
        names = {item.id for item in items if isinstance(item, ast.Name)}
        if any(_is_text(item) for item in items) or len(names) > 1:
            compared_as_text |= names
    return compared_as_text
