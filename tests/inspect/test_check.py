"""`tinynet check`: every operation has cases, passes, and a broken one is found."""

from __future__ import annotations

import numpy as np
import pytest

from tinynet import kernels
from tinynet.autograd.gradcheck import Verdict
from tinynet.inspect import check as checker
from tinynet.inspect.check import check, differentiable_operations, run, table
from tinynet.inspect.check_cases import operation_cases
from tinynet.ops import activation, arithmetic, convolution, normalization


def test_every_operation_has_cases_and_no_case_is_left_over():
    operations, cases = differentiable_operations(), operation_cases()
    assert {op.__name__ for op in operations} == {op.__name__ for op in cases}
    assert all(cases[operation] for operation in operations)
    assert {convolution.Convolution, arithmetic.Add, normalization.BatchNorm} <= set(operations)


def test_operations_without_a_gradient_are_named_and_exist():
    assert all(hasattr(arithmetic, name) for name in checker.WITHOUT_GRADIENT)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_every_operation_passes(backend):
    with kernels.backend(backend):
        rows = check()
    assert [row.operation.__name__ for row in rows if row.verdict is not Verdict.PASS] == [], table(rows)
    assert max(row.relative_error for row in rows) < 1e-6
    assert sum(row.cases for row in rows) > 250


def test_names_choose_by_class_torch_name_or_file(capsys):
    assert [row.operation.__name__ for row in check(["conv2d"])] == ["Convolution"]
    assert [row.operation.__name__ for row in check(["logsoftmax", "Sigmoid"])] == ["LogSoftmax", "Sigmoid"]
    assert {row.family for row in check(["activation"])} == {"activation"}
    assert run(["relu"]) == 0
    assert "1 operation, 3 cases" in capsys.readouterr().out


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"no operation fits 'convolve'; there are .*Convolution"):
        check(["convolve"])


def test_a_wrong_backward_fails_with_exit_code_1_and_its_diagnosis(monkeypatch, capsys):
    monkeypatch.setattr(activation.Tanh, "backward", staticmethod(lambda ctx, grad: -grad * (1 - ctx.output**2)))
    assert run(["tanh", "sigmoid"]) == 1
    text = capsys.readouterr().out
    assert "not passed: Tanh" in text and "wrong sign" in text
    assert next(line for line in text.splitlines() if line.startswith("Sigmoid")).endswith("PASS")


def test_an_operation_that_breaks_down_is_a_failure_not_a_crash(monkeypatch):
    def broken(ctx, *arrays, **settings):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(activation.Sigmoid, "forward", staticmethod(broken))
    (row,) = check(["sigmoid"])
    assert row.verdict is Verdict.FAIL and "ZeroDivisionError: oops" in table([row])


def test_a_missing_case_is_an_error(monkeypatch):
    monkeypatch.setattr(checker, "operation_cases", lambda: {})
    with pytest.raises(LookupError, match="Tanh"):
        check(["tanh"])


MUTANTS = {
    "stride": (convolution.Convolution, lambda grads: (grads[0], grads[1] * 1.001, grads[2])),
    "bias": (convolution.Convolution, lambda grads: (grads[0], grads[1], None if grads[2] is None else grads[2] / 2)),
    "mean": (normalization.BatchNorm, lambda grads: (grads[0] + 1e-3, *grads[1:])),
    "one": (arithmetic.Multiply, lambda grads: (_one_changed(grads[0]), grads[1])),
}


def _one_changed(gradient):
    if gradient is None or gradient.size < 5:
        return gradient
    changed = np.array(gradient)
    changed.flat[3] *= 1.0001
    return changed


@pytest.mark.parametrize("name", MUTANTS)
def test_the_table_finds_mutants(name, monkeypatch):
    operation, mutate = MUTANTS[name]
    original = operation.backward
    monkeypatch.setattr(operation, "backward", staticmethod(lambda ctx, grad: mutate(original(ctx, grad))))
    (row,) = [row for row in check([operation.__name__]) if row.operation is operation]
    assert row.verdict is Verdict.FAIL


def test_the_table_is_aligned():
    lines = table(check(["softmax", "logsoftmax"])).splitlines()
    header, rows = lines[0], lines[2:4]
    assert header.startswith("operation") and header.endswith("verdict")
    assert all(row.endswith("PASS") and row.index("PASS") == header.index("verdict") for row in rows)
