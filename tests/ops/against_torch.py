"""Runs one function on torch and on tinynet, on the same drawn inputs, and compares values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

import tinynet
from tests.comparison import assert_same_results
from tests.reference.cases import Case, Input

bounded = settings(max_examples=100, deadline=None, derandomize=True)


def compare(function: Callable[..., Any], *inputs: Input, dtype: str = "float64", seed: int = 0) -> None:
    """`function(lib, F, *tensors)`: outputs, and the gradient of every floating input under random cotangents."""
    torch = pytest.importorskip("torch")
    case = Case("live", function, inputs)
    assert_same_results(case.evaluate(tinynet, dtype, seed), case.evaluate(torch, dtype, seed))
