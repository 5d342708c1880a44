"""Kernels on activations whose channels lie last in memory: layout, sums in blocks, tap numbers, given outputs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels import cases
from tests.kernels.test_backends import is_channels_last
from tinynet import kernels
from tinynet.kernels import elementwise, launch, pooling, upsampling
from tinynet.kernels.layout import channels_last, channels_last_empty

needs_numba = pytest.mark.skipif(launch.numba_problem() is not None, reason="needs numba")
BACKENDS = [pytest.param("numba", marks=needs_numba), "numpy", "loops"]
FAMILIES = ("batch_norm", "elementwise", "pooling", "upsampling")

# Several blocks of sums, with a last line that is cut off; 1, 3 and 17 channels; lines longer than usual.
SHAPES = [(2, 3, 10_007), (3, 17, 2_001), (5, 1, 20_011), (9, 600, 13), (70, 1031, 1), (6, 64, 2_000)]


@pytest.fixture
def numba():
    with kernels.backend("numba"):
        yield


def normal(seed: int, shape, dtype=np.float32) -> np.ndarray:
    """Random numbers, channels last in memory."""
    return channels_last(np.random.default_rng(seed).standard_normal(shape).astype(dtype))


def relative_error(actual, expected) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@needs_numba
@pytest.mark.usefixtures("numba")
def test_results_are_channels_last():
    for case in cases.cases():
        kernel = getattr(kernels, case.kernel)
        if kernel.family not in FAMILIES:
            continue
        args = [
            channels_last(value) if isinstance(value, np.ndarray) and value.ndim > 2 else value
            for value in cases.arguments(case, np.float32)
        ]
        for result in cases.results(kernel(*args)):
            assert result.ndim < 3 or not result.size or is_channels_last(result), f"{case.kernel} {case.name}"


# --- sums and batch norm -----------------------------------------------------------------------------------


@needs_numba
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_of_many_blocks(shape, numba):
    """Against float64; a lost or doubled line would be far outside of float32's rounding."""
    x, grad = normal(0, shape) + np.float32(3), normal(1, shape)
    exact_x, exact_grad = x.astype(np.float64), grad.astype(np.float64)
    exact_mean, exact_variance = exact_x.mean((0, 2)), exact_x.var((0, 2))
    y, mean, variance = kernels.batch_norm_train(x, None, None, 1e-5)
    assert relative_error(mean, exact_mean) < 1e-6
    assert relative_error(variance, exact_variance) < 1e-6
    deviation = np.sqrt(exact_variance[:, None] + 1e-5)
    normalised = (exact_x - exact_mean[:, None]) / deviation
    assert np.abs(y - normalised).max() < 2e-6
    grad_x, grad_weight, grad_bias = kernels.batch_norm_train_backward(grad, x, None, mean, variance, 1e-5)
    count = shape[0] * shape[2]
    for actual, parts in ((grad_bias, exact_grad), (grad_weight, exact_grad * normalised)):
        assert np.abs(actual - parts.sum((0, 2))).max() < 1e-6 * count**0.5
    assert np.abs(kernels.channel_sum(grad) - exact_grad.sum((0, 2))).max() < 1e-6 * count**0.5
    slope = (exact_grad * normalised).mean((0, 2))[:, None]
    expected = (exact_grad - exact_grad.mean((0, 2))[:, None] - normalised * slope) / deviation
    assert np.abs(grad_x - expected).max() < 5e-6
    shift = kernels.scale_shift(x, mean, variance, grad, True)
    wanted = np.maximum(exact_x * mean[:, None] + variance[:, None] + exact_grad, 0)
    assert np.abs(shift - wanted).max() < 1e-5


@needs_numba
@pytest.mark.parametrize("centre", [1e2, 1e4, -1e6])
def test_the_variance_of_numbers_far_from_zero(centre, numba):
    x = (normal(2, (8, 5, 4_000)) + np.float32(centre)).astype(np.float32)
    _, mean, variance = kernels.batch_norm_train(x, None, None, 1e-5)
    exact = x.astype(np.float64)
    assert relative_error(variance, exact.var((0, 2))) < 1e-6
    assert relative_error(mean, exact.mean((0, 2))) < 1e-7


@needs_numba
def test_the_variance_where_the_first_pixel_is_an_outlier(numba):
    x = normal(3, (4, 3, 5_000))
    x[0, :, 0] = 1e4
    _, _, variance = kernels.batch_norm_train(x, None, None, 1e-5)
    assert relative_error(variance, x.astype(np.float64).var((0, 2))) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_channel_with_infinity_spoils_itself_only(backend):
    x = normal(4, (3, 4, 50))
    x[0, 1, 0] = x[1, 2, 7] = np.inf
    x[2, 3, 9] = np.nan
    with kernels.backend(backend), np.errstate(invalid="ignore"):
        y, mean, variance = kernels.batch_norm_train(x, None, None, 1e-5)
    assert np.isposinf(mean[[1, 2]]).all() and np.isnan(mean[3]) and np.isnan(variance[1:]).all()
    assert np.isfinite(y[:, 0]).all() and np.isnan(y[:, 1:]).all()


@needs_numba
@pytest.mark.skipif(launch.available_threads() < 2, reason="needs two cores")
def test_one_and_two_threads_give_the_same_bits(numba, monkeypatch):
    monkeypatch.setattr(launch, "_NANOSECONDS_PER_THREAD", 1e-9)
    before = kernels.get_num_threads()
    found = []
    for threads in (1, 2):
        kernels.set_num_threads(threads)
        bits = []
        for shape in SHAPES:
            x, grad = normal(5, shape), normal(6, shape)
            bits += [*kernels.batch_norm_train(x, None, None, 1e-5), kernels.channel_sum(x)]
            bits += kernels.batch_norm_train_backward(grad, x, None, bits[-3], bits[-2], 1e-5)
        x = normal(7, (3, 17, 23, 21))
        window = ((3, 3), (2, 2), (1, 1), (1, 1))
        y, taps = pooling.max_pool_for_training(x, *window, True)
        bits += [pooling.max_pool_training_backward(y, taps, x.shape, *window)]
        bits += [kernels.bilinear_backward(x, (3, 17, 10, 9), False, None), kernels.adaptive_average_pool(x, (2, 3))]
        bits += [kernels.nearest_backward(x, (3, 17, 10, 9), None, False)]
        found.append(bits)
    kernels.set_num_threads(before)
    for one, two in zip(*found):
        np.testing.assert_array_equal(one, two)


# --- ReLU --------------------------------------------------------------------------------------------------


def _every_second(x):
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def _misaligned(x):
    result = np.frombuffer(bytearray(x.nbytes + 1), x.dtype, x.size, offset=1).reshape(x.shape)
    result[...] = x
    return result


ORDERS = {
    "rows": np.ascontiguousarray, "channels last": channels_last, "columns": np.asfortranarray,
    "gaps": _every_second, "misaligned": _misaligned,
}  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (4, 6, 40, 30), (300, 70)], ids=str)
def test_relu_in_place(order, shape, backend):
    if backend == "loops" and np.prod(shape) > 1000:
        pytest.skip("slow and the same")
    values = np.random.default_rng(8).standard_normal(shape).astype(np.float32)
    values[0, 0] = np.nan
    x = channels_last(values) if len(shape) > 2 and order == "channels last" else ORDERS[order](values)
    with kernels.backend(backend):
        assert elementwise.relu_into(x, x) is x
        np.testing.assert_array_equal(x, np.maximum(values, 0))
        out = ORDERS[order](np.zeros_like(values))
        elementwise.relu_into(values, out)
        np.testing.assert_array_equal(out, np.maximum(values, 0))
        for other in ORDERS.values():
            grad_x = kernels.relu_backward(other(values), x)
            np.testing.assert_array_equal(grad_x, np.where(x <= 0, 0, values))


@needs_numba
@pytest.mark.parametrize("size", [5, 60])
def test_relu_keeps_the_order_of_memory(size, numba):
    x = normal(9, (2, 6, size, size))
    assert kernels.relu(x).strides == x.strides
    assert kernels.relu(np.ascontiguousarray(x)).flags.c_contiguous
    assert kernels.relu_backward(np.ascontiguousarray(x), x).strides == x.strides
    assert is_channels_last(kernels.relu(np.asfortranarray(x)))


# --- max pooling with tap numbers --------------------------------------------------------------------------

WINDOWS = [
    *cases.MAX_POOLS,
    ((3, 17, 23, 31), (5, 3), (2, 1), (2, 1), (1, 2), True),
    ((2, 5, 20, 20), (3, 3), (5, 5), (0, 0), (1, 1), False),  # gaps between windows
    ((2, 3, 4, 4), (3, 3), (1, 1), (1, 1), (3, 3), False),
    ((1, 2, 16, 16), (16, 16), (16, 16), (0, 0), (1, 1), False),  # 256 taps, as many as a byte holds
    ((1, 2, 20, 20), (16, 17), (3, 2), (2, 2), (1, 1), True),  # 272 taps
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", WINDOWS, ids=str)
def test_tap_numbers_lead_where_indices_lead(case, backend):
    shape, *window = case
    if backend == "loops" and np.prod(shape) > 1000:
        pytest.skip("slow and the same")
    rng = np.random.default_rng(10)
    x = rng.integers(-3, 4, shape).astype(np.float32)
    x[rng.random(shape) < 0.1] = np.nan
    x[rng.random(shape) < 0.2] = -np.inf
    with kernels.backend(backend):
        y, found = pooling.max_pool_for_training(x, *window)
        expected, indices = kernels.max_pool(x, *window)
        small = backend == "numba" and window[0][0] * window[0][1] <= 256
        assert found.dtype == (np.uint8 if small else np.int64)
        np.testing.assert_array_equal(y, expected)
        grad = rng.standard_normal(y.shape).astype(np.float32)
        grad_x = pooling.max_pool_training_backward(grad, found, shape, *window[:4])
        np.testing.assert_allclose(grad_x, kernels.max_pool_backward(grad, indices, shape), rtol=1e-6)


@needs_numba
def test_a_max_pool_of_ones_own_is_called(numba):
    x, window = normal(11, (1, 2, 6, 6)), ((2, 2), (2, 2), (0, 0), (1, 1))

    def mine(x, kernel, stride, padding, dilation, ceil_mode):
        return np.full((1, 2, 3, 3), 7, np.float32), np.zeros((1, 2, 3, 3), np.int64)

    with kernels.override(max_pool=mine) as report:
        y, _ = pooling.max_pool_for_training(x, *window, False)
        out = pooling.max_pool_into(x, *window, False, channels_last_empty(y.shape, y.dtype))
    assert report.calls == {"max_pool": 2} and (y == 7).all() and (out == 7).all()


# --- results written to given memory -----------------------------------------------------------------------


def _into(name):
    """The function that writes a kernel's result to its last argument, and the kernel's arguments for it."""
    return {
        "scale_shift": (elementwise.scale_shift_into, lambda *args: args),
        "relu": (elementwise.relu_into, lambda x: (x,)),
        "max_pool": (pooling.max_pool_into, lambda *args: args),
        "average_pool": (pooling.average_pool_into, lambda *args: args),
        "adaptive_average_pool": (pooling.adaptive_average_pool_into, lambda x, size: (x,)),
        "nearest": (upsampling.nearest_into, lambda x, size, scale, exact: (x, scale, exact)),
        "bilinear": (upsampling.bilinear_into, lambda x, size, aligned, scale: (x, aligned, scale)),
    }[name]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["scale_shift", "relu", "max_pool", "average_pool", "adaptive_average_pool",
                                  "nearest", "bilinear"])  # fmt: skip
def test_results_in_given_memory(name, backend):
    write, select = _into(name)
    for case in cases.cases():
        if case.kernel != name:
            continue
        args = cases.arguments(case, np.float32)
        with kernels.backend(backend):
            expected = cases.results(getattr(kernels, name)(*args))[0]
            out = channels_last_empty(expected.shape, expected.dtype)
            out[...] = 1234
            assert write(*select(*args), out) is out
        np.testing.assert_array_equal(out, expected, err_msg=f"{case.kernel} {case.name}")


def test_scale_and_shift_of_images_in_given_memory():
    x, residual = normal(12, (2, 5, 6, 7)), normal(13, (2, 5, 6, 7))
    scale, shift = normal(14, (5, 1)).reshape(-1), normal(15, (5, 1)).reshape(-1)
    expected = np.maximum(x * scale[:, None, None] + shift[:, None, None] + residual, 0)
    for backend in kernels.BACKENDS if launch.numba_problem() is None else ("numpy", "loops"):
        out = channels_last_empty(x.shape, x.dtype)
        with kernels.backend(backend):
            elementwise.scale_shift_into(x, scale, shift, residual, True, out)
        np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)


# --- gradients gathered along bands ------------------------------------------------------------------------


@needs_numba
def test_gradients_are_the_transposes(numba):
    """⟨A·x, g⟩ = ⟨x, Aᵀ·g⟩ for windows and resizings of random sizes."""
    rng = np.random.default_rng(16)
    for _ in range(60):
        size, output = (tuple(int(v) for v in rng.integers(1, 14, 2)) for _ in range(2))
        shape = (2, 3, *size)
        x = normal(17, shape, np.float64)
        kernel = tuple(int(rng.integers(1, s + 1)) for s in size)
        stride = tuple(int(v) for v in rng.integers(1, 5, 2))
        padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
        pool = (kernel, stride, padding, bool(rng.integers(2)), bool(rng.integers(2)), [None, 3][rng.integers(2)])
        flag = bool(rng.integers(2))
        calls = [
            ("average_pool", (x, *pool), (shape, *pool)),
            ("adaptive_average_pool", (x, output), (shape,)),
            ("nearest", (x, output, None, flag), (shape, None, flag)),
            ("bilinear", (x, output, flag, None), (shape, flag, None)),
        ]
        for name, forward, backward in calls:
            y = getattr(kernels, name)(*forward)
            grad = normal(18, y.shape, np.float64)
            grad_x = getattr(kernels, f"{name}_backward")(grad, *backward)
            assert np.vdot(y, grad) == pytest.approx(np.vdot(x, grad_x), rel=1e-11, abs=1e-11), name
