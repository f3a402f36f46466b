"""Expressions of labels, grades and weights: a small, safe language over columns.

One is written as one would say it: `rating >= 4`, `clicked`, `rating >= 4 and not skipped`, `(watched / length) > 0.5`,
`event in ("click", "buy")`, `rating / 5`, `1 / propensity`. It is Python's expression syntax restricted to columns, numbers,
strings, `true`/`false`, comparisons, `and`/`or`/`not`, `in` and the four operations; nothing is ever executed. A column
whose name is no plain word stands in backticks: `` `Item rating` >= 4``. This module parses and checks; `pipelines`
evaluates the tree on Arrow columns.
"""

from __future__ import annotations

import ast
import re

_ALLOWED = (
    ast.Expression,
    ast.BoolOp,
    ast.And,
    ast.Or,
    ast.UnaryOp,
    ast.Not,
    ast.USub,
    ast.BinOp,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.Compare,
    ast.Eq,
    ast.NotEq,
    ast.Lt,
    ast.LtE,
    ast.Gt,
    ast.GtE,
    ast.In,
    ast.NotIn,
    ast.Name,
    ast.Load,
    ast.Constant,
    ast.Tuple,
    ast.List,
)


_QUOTED_NAME = re.compile(r"`([^`]+)`")


def parse(text: str) -> ast.expr:
    """Parses an expression into a tree of allowed nodes.

    Args:
        text: the expression, for example `rating >= 4`.

    Returns:
        The checked syntax tree.

    Raises:
        ValueError: the text is not an expression, or uses something the language does not have.
    """
    names: list[str] = []

    def plain(match: re.Match[str]) -> str:
        names.append(match[1])
        return f" _column_{len(names) - 1} "

    try:
        tree = _Names(names).visit(ast.parse(_QUOTED_NAME.sub(plain, text).strip(), mode="eval"))
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(
            f"must be an expression over columns such as 'rating >= 4' ({reason}); a column whose name is no plain"
            " word stands in backticks"
        ) from None
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise ValueError(
                "may use columns, numbers, strings, comparisons, and/or/not, in, + - * / only;"
                f" '{type(node).__name__}' is not allowed"
            )
        if isinstance(node, ast.Constant) and not isinstance(node.value, (int, float, str)):
            raise ValueError(f"constants must be numbers or strings, not {node.value!r}")
    return tree.body


class _Names(ast.NodeTransformer):
    """Puts the names in backticks back, and 1 and 0 in place of true and false."""

    def __init__(self, names: list[str]):
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        place = re.fullmatch(r"_column_(\d+)", node.id)
        if place and int(place[1]) < len(self._names):
            return ast.copy_location(ast.Name(self._names[int(place[1])], ast.Load()), node)
        if node.id in ("true", "false"):
            return ast.copy_location(ast.Constant(int(node.id == "true")), node)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, bool):
            return ast.copy_location(ast.Constant(int(node.value)), node)
        return node


def columns(text: str) -> tuple[str, ...]:
    """The column names an expression reads, in order of appearance, without repetition."""
    names = [node.id for node in ast.walk(parse(text)) if isinstance(node, ast.Name)]
    return tuple(dict.fromkeys(names))
