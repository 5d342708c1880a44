"""The compiled steps of SGD with momentum and of Adam against the NumPy ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tinynet
from tinynet.kernels import descent as compiled
from tinynet.optim import SGD, Adam, AdamW

OPTIONS = [
    {"momentum": 0.9, "dampening": dampening, "weight_decay": decay, "nesterov": nesterov}
    for dampening, decay, nesterov in itertools.product((0, 0.3), (0, 0.05), (False, True))
    if not (nesterov and dampening)
]
SIZE = 40_003  # does not divide into the jobs


def drawn(seed: int, dtype, size=SIZE) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(dtype)


def trained(backend: str, options, dtype, prepare=lambda array: array, steps=4):
    with tinynet.kernels.backend(backend):
        parameter = tinynet.tensor(drawn(0, dtype)).requires_grad_()
        optimizer = SGD([parameter], lr=0.1, **options)
        for step in range(steps):
            parameter.grad = tinynet.from_numpy(prepare(drawn(1 + step, dtype)))
            optimizer.step()
        return parameter.detach().numpy(), optimizer.state[parameter]["momentum_buffer"].numpy()


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 3e-7), (np.float64, 5e-16)])
@pytest.mark.parametrize("options", OPTIONS)
def test_it_is_numpys_step(options, dtype, tolerance, monkeypatch):
    calls = []
    step = compiled.descend
    monkeypatch.setattr("tinynet.optim.sgd.descend", lambda *args: calls.append(args) or step(*args))
    actual, expected = trained("numba", options, dtype), trained("numpy", options, dtype)
    assert len(calls) == 3  # the first step makes the buffer
    for mine, wanted in zip(actual, expected):
        assert mine.dtype == dtype
        np.testing.assert_allclose(mine, wanted, rtol=0, atol=4 * tolerance)  # 4 steps, one rounding each


def test_it_is_torchs_step():
    torch = pytest.importorskip("torch")
    options = {"momentum": 0.9, "weight_decay": 0.05, "nesterov": True}
    parameter = torch.from_numpy(drawn(0, np.float32)).requires_grad_()
    optimizer = torch.optim.SGD([parameter], lr=0.1, **options)
    for step in range(4):
        parameter.grad = torch.from_numpy(drawn(1 + step, np.float32))
        optimizer.step()
    np.testing.assert_allclose(trained("numba", options, np.float32)[0], parameter.detach().numpy(), rtol=0, atol=2e-6)


def test_the_number_of_threads_changes_nothing():
    threads = tinynet.kernels.get_num_threads()
    try:
        results = []
        for count in (1, 2):
            tinynet.kernels.set_num_threads(count)
            results.append(trained("numba", OPTIONS[0], np.float32)[0])
    finally:
        tinynet.kernels.set_num_threads(threads)
    np.testing.assert_array_equal(*results)


def _read_only(array):
    array.flags.writeable = False
    return array


def _strided(array):
    return np.repeat(array, 2)[::2]


@pytest.mark.parametrize("prepare", [_read_only, _strided])
def test_any_gradient_is_taken_and_none_is_changed(prepare):
    seen = []

    def keep(array):
        seen.append((prepare(array), array.copy()))
        return seen[-1][0]

    actual = trained("numba", OPTIONS[1], np.float32, keep)
    np.testing.assert_allclose(actual[0], trained("numpy", OPTIONS[1], np.float32)[0], rtol=0, atol=2e-6)
    for array, before in seen:
        np.testing.assert_array_equal(array, before)


def test_without_decay_an_infinite_parameter_does_not_spoil_its_gradient():
    parameter, buffer = np.full(1 << 15, np.inf, np.float32), np.zeros(1 << 15, np.float32)
    compiled.descend(parameter, np.ones_like(parameter), buffer, 0.1, 0.9, 1.0, 0.0, False)
    assert (buffer == 1).all() and np.isposinf(parameter).all()


ADAMS = [(Adam, {}), (Adam, {"weight_decay": 0.05, "betas": (0.8, 0.99)}), (AdamW, {"weight_decay": 0.05, "eps": 1e-3})]


def adapted(backend: str, kind, options, dtype, steps=4):
    """Parameter and both buffers after some steps."""
    with tinynet.kernels.backend(backend):
        parameter = tinynet.tensor(drawn(0, dtype)).requires_grad_()
        optimizer = kind([parameter], lr=0.1, **options)
        for step in range(steps):
            parameter.grad = tinynet.from_numpy(drawn(1 + step, dtype))
            optimizer.step()
        state = optimizer.state[parameter]
        return [each.detach().numpy() for each in (parameter, state["exp_avg"], state["exp_avg_sq"])]


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (np.float64, 2e-15)])
@pytest.mark.parametrize("kind, options", ADAMS)
def test_adam_is_numpys_step(kind, options, dtype, tolerance, monkeypatch):
    calls = []
    step = compiled.descend_adaptively
    monkeypatch.setattr("tinynet.optim.adam.descend_adaptively", lambda *args: calls.append(args) or step(*args))
    actual, expected = adapted("numba", kind, options, dtype), adapted("numpy", kind, options, dtype)
    assert len(calls) == 4
    for mine, wanted in zip(actual, expected):
        assert mine.dtype == dtype
        np.testing.assert_allclose(mine, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind, options", ADAMS)
def test_adam_is_torchs_step(kind, options):
    torch = pytest.importorskip("torch")
    parameter = torch.from_numpy(drawn(0, np.float64)).requires_grad_()
    optimizer = getattr(torch.optim, kind.__name__)([parameter], lr=0.1, **options)
    for step in range(4):
        parameter.grad = torch.from_numpy(drawn(1 + step, np.float64))
        optimizer.step()
    actual = adapted("numba", kind, options, np.float64)[0]
    np.testing.assert_allclose(actual, parameter.detach().numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("option", ["amsgrad", "maximize"])
def test_what_the_compiled_adam_cannot_do_goes_through_numpy(option):
    actual, expected = (adapted(backend, Adam, {option: True}, np.float32) for backend in ("numba", "numpy"))
    for mine, wanted in zip(actual, expected):
        np.testing.assert_array_equal(mine, wanted)


def test_without_decay_an_infinite_parameter_does_not_spoil_adams_buffers():
    parameter, mean, square = np.full(SIZE, np.inf, np.float32), np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
    compiled.descend_adaptively(parameter, np.ones_like(mean), mean, square, 0.1, (0.9, 0.99), 1, 1e-8, 0.0, 1.0)
    assert np.isfinite(mean).all() and np.isfinite(square).all() and np.isposinf(parameter).all()
