"""Telling an exercise that nobody has worked on from one that has an answer."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any


def unfinished(answer: Any) -> bool:
    """Whether a `...` still stands where the student writes.

    That is the value `...` itself, or a function or class that returns, assigns or is just `...` somewhere
    (`x[..., 0]` is not meant). What has no readable source counts as finished.
    """
    return answer is ... or any(map(_has_gap, _functions(answer)))


def _functions(answer: Any) -> Iterator[Any]:
    if inspect.isclass(answer):
        for member in vars(answer).values():
            if isinstance(member, property):
                yield member.fget
            elif inspect.isfunction(getattr(member, "__func__", member)):
                yield getattr(member, "__func__", member)
    elif inspect.isfunction(answer):
        yield answer


def _has_gap(function: Any) -> bool:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    return any(map(_is_gap, ast.walk(tree)))


def _is_gap(node: ast.AST) -> bool:
    if isinstance(node, (ast.Return, ast.Assign, ast.AugAssign, ast.Expr)):
        value = node.value
    elif isinstance(node, ast.Lambda):
        value = node.body
    else:
        return False
    values = value.elts if isinstance(value, ast.Tuple) else [value]
    return any(isinstance(part, ast.Constant) and part.value is ... for part in values)
