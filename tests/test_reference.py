"""Every operation against torch's stored results: values, gradients, dtypes, shapes; torch is not needed.

The table is tests/reference/families/, the files are made by tests/reference/generate.py.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest

import tinynet
from tests.reference.cases import DTYPES, FAMILIES, KERNEL_FAMILIES, AnyCase, all_cases, family_cases
from tests.reference.store import FOLDER, Record, difference, load, record

CASES = all_cases()
RUNS = [
    pytest.param(case, dtype, backend, id=f"{case.name}-{dtype}-{backend}")
    for case in CASES
    for dtype in DTYPES
    for backend in (("numpy", "numba") if case.family in KERNEL_FAMILIES else ("numpy",))
]


@functools.cache
def references(family: str) -> dict[str, dict[str, Record]]:
    """The stored records of a family: '<case>|<dtype>' to result name to record."""
    grouped: dict[str, dict[str, Record]] = {}
    for key, kept in load(family).items():
        run, _, name = key.rpartition("|")
        grouped.setdefault(run, {})[name] = kept
    return grouped


def differences(case: AnyCase, dtype: str) -> list[str]:
    """One line for every result of tinynet that is not torch's."""
    key = f"{case.name}|{dtype}"
    expected = references(case.family)[key]
    actual = {name: record(f"{key}|{name}", array) for name, array in case.evaluate(tinynet, dtype).items()}
    lines = [f"{name}: torch has no such result" for name in actual.keys() - expected.keys()]
    lines += [f"{name}: missing" for name in expected.keys() - actual.keys()]
    for name in expected.keys() & actual.keys():
        message = difference(actual[name], expected[name])
        lines += [f"{name}: {message}"] if message else []
    return sorted(lines)


@pytest.mark.parametrize("case, dtype, backend", RUNS)
def test_operation_equals_torch(case: AnyCase, dtype: str, backend: str) -> None:
    with tinynet.kernels.backend(backend):
        wrong = differences(case, dtype)
    assert not wrong, "\n".join(wrong)


# --- the power of the table ------------------------------------------------------------------------------------


def operations() -> list[type]:
    """Every Operation with a backward that tinynet.ops defines."""
    found = []
    for module in pkgutil.iter_modules(tinynet.ops.__path__):
        content = vars(importlib.import_module(f"tinynet.ops.{module.name}"))
        found += [
            value
            for value in content.values()
            if isinstance(value, type)
            and value.__module__ == f"tinynet.ops.{module.name}"
            and issubclass(value, tinynet.tape.Operation)
            and "backward" in vars(value)
        ]
    return found


@contextmanager
def replaced_backward(operation: type, replacement) -> Iterator[None]:
    """`replacement(gradients)` gets and returns the tuple of gradients that the operation's backward made."""
    original = operation.backward

    def backward(ctx, *gradients):
        results = original(ctx, *gradients)
        return replacement(results if isinstance(results, tuple) else (results,))

    operation.backward = staticmethod(backward)
    try:
        yield
    finally:
        operation.backward = staticmethod(original)


@functools.cache
def users() -> dict[tuple[type, int], list[AnyCase]]:
    """Which cases use the gradient of an operation in its i-th input, found by running them all."""
    found: dict[tuple[type, int], list[AnyCase]] = {}
    with tinynet.kernels.backend("numpy"):
        for case in CASES:
            used = backward_calls(case)
            for key in used:
                found.setdefault(key, []).append(case)
    return found


def slightly_off(gradient: np.ndarray | None) -> np.ndarray | None:
    """0.1 % too large; a gradient of zeros becomes one of ones."""
    if gradient is None:
        return None
    return gradient * 1.001 if gradient.any() else gradient + 1


def backward_calls(case: AnyCase) -> set[tuple[type, int]]:
    calls: set[tuple[type, int]] = set()

    def recorder(operation):
        def note(gradients):
            calls.update((operation, index) for index, array in enumerate(gradients) if array is not None)
            return gradients

        return note

    with ExitStack() as stack:
        for operation in operations():
            stack.enter_context(replaced_backward(operation, recorder(operation)))
        try:
            case.evaluate(tinynet, "float64")
        except RuntimeError:
            return set()  # reported by test_operation_equals_torch
    return calls


# torchvision's, not torch's: tests/detection compare them, with definitions and with its detectors.
OF_TORCHVISION = {"RoIAlign", "SigmoidFocalLoss"}


@pytest.mark.parametrize(
    "operation",
    [operation for operation in operations() if operation.__name__ not in OF_TORCHVISION],
    ids=lambda operation: operation.__name__,
)
def test_a_wrong_backward_does_not_pass(operation: type) -> None:
    """For every input of every operation: a gradient that is 0.1 % off must contradict a reference."""
    positions = sorted(index for used, index in users() if used is operation)
    assert positions, f"no case goes backward through {operation.__name__}"
    for position in positions:
        cases = users()[operation, position]

        def wrong(gradients, position=position):
            return tuple(slightly_off(g) if i == position else g for i, g in enumerate(gradients))

        with replaced_backward(operation, wrong), tinynet.kernels.backend("numpy"):
            caught = any(differences(case, "float64") for case in cases[:20])
        assert caught, f"input {position}: none of {[case.name for case in cases[:20]]} notices"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_stored_result_has_a_case(family: str) -> None:
    names = {f"{case.name}|{dtype}" for case in family_cases(family) for dtype in DTYPES}
    assert references(family).keys() == names


def test_files_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*.npz")) <= 2 * 2**20


class TestPower:
    """A wrong result must not pass: one mutant per way of being wrong."""

    @staticmethod
    def refused(mutant, size: int, dtype: str = "float32") -> bool:
        array = np.random.default_rng(0).standard_normal(size).astype(dtype)
        return difference(record("mutant", mutant(array.copy())), record("mutant", array)) is not None

    @pytest.mark.parametrize("size", [1, 64, 65, 5000])
    def test_an_equal_array_passes(self, size: int) -> None:
        assert not self.refused(lambda a: a, size)
        assert not self.refused(lambda a: a * np.float32(1 + 1e-6), size)

    @pytest.mark.parametrize("size", [1, 64, 65, 5000])
    @pytest.mark.parametrize(
        "mutant",
        [
            lambda a: -a,
            lambda a: a * np.float32(1.001),
            lambda a: a + np.float32(0.01),
            lambda a: a.astype(np.float64),
            lambda a: a[None],
            lambda a: np.full_like(a, np.nan),
            lambda a: np.zeros_like(a),
        ],
        ids=["sign", "factor", "offset", "dtype", "shape", "NaN", "zero"],
    )
    def test_mutant(self, mutant, size: int) -> None:
        assert self.refused(mutant, size)

    @pytest.mark.parametrize("size", [64, 65, 5000])
    def test_permuted_entries(self, size: int) -> None:
        assert self.refused(lambda a: a[::-1].copy(), size)

    @pytest.mark.parametrize("size", [64, 1000, 5000])
    def test_one_wrong_element(self, size: int) -> None:
        def one_wrong(a):
            a[size // 3] += np.float32(0.1)
            return a

        assert self.refused(one_wrong, size)

    def test_float64_is_held_to_1e_9(self) -> None:
        assert self.refused(lambda a: a * (1 + 1e-7), 500, "float64")
        assert not self.refused(lambda a: a * (1 + 1e-12), 500, "float64")
