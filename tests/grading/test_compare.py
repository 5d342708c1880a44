"""Hidden tests' comparison: what passes, what fails, and what the message says to a student."""

from __future__ import annotations

import numpy as np
import pytest

from tinynet.grading import Mismatch, compare, fresh_generator
from tinynet.grading.compare import SEED, begin_test

X = np.random.default_rng(0).standard_normal((3, 4, 5))


def message(got, expected=X, **options) -> str:
    with pytest.raises(Mismatch) as caught:
        compare(got, expected, "the case", **options)
    return str(caught.value)


@pytest.mark.parametrize("got, expected", [
    (X, X), (X + 1e-9, X), (X.astype(np.float32), X), (np.zeros(3), np.zeros(3)), (2, 2.0), (np.float64(0.5), 0.5),
    (np.array([1, 2]), np.array([1, 2], np.int32)), (np.array([True]), np.array([True])), ((1, X), [1, X]),
    ({"a": X, "b": 1.0}, {"a": X}), (np.array([np.nan, np.inf, 1]), np.array([np.nan, np.inf, 1])),
    (np.empty((0, 3)), np.empty((0, 3))), (3, np.int64(3)), (True, True),
])  # fmt: skip
def test_equal_results_pass(got, expected):
    compare(got, expected, "the case")


def test_tolerance_is_relative_to_the_largest_magnitude():
    big = 1e6 * X
    compare(big + 1e-3, big, "the case")
    assert "allowed: 3e-08" in message(X + 1e-6) or "allowed: 2e-08" in message(X + 1e-6)
    compare(X + 1e-6, X, "the case", rtol=1e-5)
    compare(X.astype(np.float32) * (1 + 5e-5), X, "the case")
    message(X.astype(np.float32) * (1 + 5e-4))


def test_the_message_names_case_place_and_values():
    got = X.copy()
    got[1, 2, 3] = 7
    text = message(got)
    assert "case: the case" in text and f"expected: {X[1, 2, 3]:.6g} at index (1, 2, 3)" in text
    assert "got: 7 at index (1, 2, 3)" in text and "1 of 60 elements (shape (3, 4, 5))" in text
    assert "times the largest expected magnitude" in text


@pytest.mark.parametrize("got, says", [
    (-X, "wrong sign"),
    (X * 0, "zero everywhere"),
    (X * 2, "a factor 2 too large"),
    (X * 0.37, "a constant factor 0.37"),
    (X * 20, "20 is the size of axes (1, 2) of the result"),
    (X[:, :, ::-1], "flipped: the right result is this one reversed along axis 2"),
    (np.roll(X, 1, 2), "shifted: the right result is this one moved by -1 along axis 2"),
    (X + X.mean((0, 1), keepdims=True), "the error is constant along axes (0, 1)"),
    (np.where(np.arange(5) == 4, 0, X), "the result is zero there"),
    (X * np.array([1, 2, 3, 4.0])[:, None], "a factor that depends only on the index along axes (1,)"),
    (np.where(np.arange(5) == 1, np.nan, X), "NaN) at index (0, 0, 1)"),
    (np.where(np.arange(5) == 1, -np.inf, X), "infinite) at index (0, 0, 1)"),
    (np.random.default_rng(1).standard_normal(X.shape), "no simple pattern"),
])  # fmt: skip
def test_the_likely_cause_of_wrong_values(got, says):
    text = message(got)
    assert says in text.split("likely cause: ")[1] and "gradient" not in text


def test_a_gradient_is_explained_as_one():
    upstream = np.random.default_rng(2).standard_normal(X.shape)
    text = message(-upstream, upstream + 0.0, inputs=(X,), upstream=upstream)
    assert "the gradient is -1 times the right one" in text
    text = message(2 * upstream * X - upstream, 2 * upstream * X, inputs=(X,), upstream=upstream)
    assert "a path is dropped" in text
    centred = X - X.mean((1, 2), keepdims=True)
    assert "variance's gradient dropped" in message(
        upstream - 3 * centred, upstream, inputs=(X,), upstream=np.ones_like(X)
    )


def test_sizes_of_inputs_explain_factors():
    mean = X.mean((1, 2))
    assert "20 is the size of axes (1, 2) of an input" in message(20 * mean, mean, inputs=(X,))
    unbiased = X.var((1, 2), ddof=1)
    assert "biased or unbiased variance" in message(X.var((1, 2)), unbiased, inputs=(X,))


def test_named_wrong_results_come_first():
    wrong = {"the sum is forgotten": lambda: X[0], "twice the result": 2 * X, "another shape": X[0, 0]}
    assert message(2 * X, wrong=wrong).endswith("likely cause: twice the result")
    assert "wrong sign" in message(-X, wrong=wrong)
    pair = {"both doubled": (2 * X, 2.0)}
    assert message((2 * X, 1.0), (X, 1.0), wrong=pair).endswith("likely cause: both doubled")


@pytest.mark.parametrize("got, expected, says", [
    (X.transpose(0, 2, 1), X, "got: shape (3, 5, 4)\nlikely cause: the same sizes in another order"),
    (X.ravel(), X, "a reshape is missing"),
    (X[:, 1:], X, "axis 1 has 3 instead of 4"),
    (None, X, "got: None (is a return missing?)"),
    ([1.0, 2.0], np.ones(2), "expected: an array of shape (2,), float64\ngot: a list of 2"),
    (np.ones(2, int), np.ones(2), "got: an array of shape (2,), int64"),
    (np.ones(2), np.ones(2, bool), "expected: an array of shape (2,), bool"),
    (X, 1.0, "expected: a number (float64)"),
    (X, (X, X), "expected: 2 results"),
    ({"a": 1}, {"a": 1, "b": 2}, "expected: a dict with a, b\ngot: a"),
    (np.array([object()]), np.ones(1), "expected: an array of shape (1,)"),
    (np.ones(1).view(np.matrix), np.ones((1, 1)), "got: a matrix"),
    ("text", 1.0, "got: a str"),
    (np.array([1, 2, 4]), np.array([1, 2, 3]), "got: 4 at index (2,)"),
])  # fmt: skip
def test_results_of_another_kind(got, expected, says):
    assert says in message(got, expected)


def test_a_dtype_can_be_demanded():
    compare(X.astype(np.float32), X, "the case", dtype=np.float32)
    assert "expected: dtype float32\ngot: dtype float64" in message(X, X, dtype=np.float32)


def test_an_object_that_equals_everything_is_no_result():
    class Equal:
        def __eq__(self, other):
            return True

    assert "got: a Equal" in message(Equal())


def test_fresh_inputs_are_the_same_for_everybody_and_not_known_before(monkeypatch):
    def drawn(name, seed):
        begin_test(name, seed)
        return [fresh_generator().standard_normal(), fresh_generator().standard_normal()]

    first = drawn("a", 5)
    assert first == drawn("a", 5) and first[0] != first[1]
    assert not set(first) & set(drawn("b", 5)) and not set(first) & set(drawn("a", 6))
    monkeypatch.setitem(fresh_generator.__globals__["_place"], "seed", None)
    monkeypatch.setenv(SEED, "5")
    assert fresh_generator().standard_normal() is not None
    assert fresh_generator.__globals__["_place"]["seed"] == 5
