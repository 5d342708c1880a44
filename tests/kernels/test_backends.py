"""The three implementations of every kernel agree, on every shape and memory layout."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from tests.kernels.cases import Case, arguments, cases, results
from tinynet import kernels
from tinynet.kernels.layout import pixels

CASES = [pytest.param(case, id=f"{case.kernel} {case.name}") for case in cases()]
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}


def run(case: Case, backend: str, args) -> tuple[np.ndarray, ...]:
    with kernels.backend(backend):
        return results(getattr(kernels, case.kernel)(*args))


def is_channels_last(array) -> bool:
    return np.shares_memory(array, pixels(array)) and array.flags.aligned


def assert_close(actual, expected, tolerance):
    assert len(actual) == len(expected)
    for got, wanted in zip(actual, expected):
        assert got.shape == wanted.shape
        assert got.dtype == wanted.dtype
        assert (got.flags.c_contiguous or is_channels_last(got)) and got.flags.writeable
        scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=1.0)
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_the_backends_agree(case, dtype):
    args = arguments(case, dtype)
    expected = run(case, "loops", args)
    assert_close(run(case, "numpy", args), expected, TOLERANCE[dtype])
    assert_close(run(case, "numba", args), expected, TOLERANCE[dtype])


def _every_second(array):
    """The same values with gaps between them."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def _read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def _misaligned(array):
    buffer = bytearray(array.nbytes + 1)
    result = np.frombuffer(buffer, array.dtype, array.size, offset=1).reshape(array.shape)
    result[...] = array
    return result


def _reversed(array):
    return array[::-1].copy()[::-1]


def _column_major(array):
    return np.asfortranarray(array)


LAYOUTS = [_every_second, _read_only, _misaligned, _reversed, _column_major]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_memory_layout_changes_nothing(layout, backend):
    for case in cases():
        args = arguments(case, np.float32)
        originals = [value.copy() for value in args if isinstance(value, np.ndarray)]
        expected = run(case, backend, args)
        laid_out = [layout(value) if isinstance(value, np.ndarray) else value for value in args]
        actual = run(case, backend, laid_out)
        assert_close(actual, expected, 1e-6)
        for value, original in zip([v for v in laid_out if isinstance(v, np.ndarray)], originals):
            np.testing.assert_array_equal(value, original, err_msg=f"{case.kernel} changed its input")
            assert not any(np.shares_memory(value, result) for result in actual), case.kernel


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_zero_stride_inputs(backend):
    for case in cases():
        args = [
            np.broadcast_to(value[:1], value.shape) if isinstance(value, np.ndarray) and len(value) else value
            for value in arguments(case, np.float32)
        ]
        packed = [value.copy() if isinstance(value, np.ndarray) else value for value in args]
        assert_close(run(case, backend, args), run(case, backend, packed), 1e-6)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_batch_in_pieces_gives_the_same(backend, monkeypatch):
    """Long launches and large columns are split by images; here each image on its own."""
    family = importlib.import_module("tinynet.kernels.convolution")
    convolutions = [case for case in cases() if case.kernel.startswith("convolution")]
    whole = [run(case, backend, arguments(case, np.float64)) for case in convolutions]
    monkeypatch.setattr(family, "_LONGEST_LAUNCH", 1)
    monkeypatch.setattr(family, "_COLUMN_BYTES", 1)
    for case, expected in zip(convolutions, whole):
        assert_close(run(case, backend, arguments(case, np.float64)), expected, 1e-12)


@pytest.mark.parametrize("backend", ["loops", "numpy", "numba"])
@pytest.mark.parametrize("size", [7, 40_000])
def test_nan_stays_nan_in_relu(backend, size):
    if backend == "loops" and size > 1000:
        pytest.skip("slow and the same")
    x = np.linspace(-1, 1, size).astype(np.float32)
    x[[1, -2]] = np.nan
    with kernels.backend(backend):
        y = kernels.relu(x)
        grad = kernels.relu_backward(np.ones_like(x), y)
    assert np.isnan(y[[1, -2]]).all() and np.isnan(y).sum() == 2
    assert grad[0] == 0 and grad[-1] == 1
    shifted = kernels.scale_shift(x.reshape(1, 1, -1), np.ones(1, np.float32), np.zeros(1, np.float32), None, True)
    assert np.isnan(shifted[0, 0, [1, -2]]).all()
