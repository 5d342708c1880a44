"""The compiled step of SGD with momentum against the NumPy one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tinynet
from tinynet.kernels import momentum as compiled
from tinynet.optim import SGD

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
