"""Values and gradients of every kernel equal torch's, on the shapes of `cases`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels import cases
from tinynet import kernels

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.torch

BACKENDS = ["numpy", "numba"]
DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 1e-4, np.float64: 1e-10}


@pytest.fixture(autouse=True, params=BACKENDS)
def backend(request):
    with kernels.backend(request.param):
        yield request.param


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


def close(actual, expected):
    expected = expected.detach().numpy()
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    tolerance = TOLERANCE[expected.dtype.type] if expected.dtype.kind == "f" else 0
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=1.0)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * scale)


def normal(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def leaf(array):
    return torch.from_numpy(array).requires_grad_()


@pytest.mark.parametrize("case", cases.CONVOLUTIONS, ids=str)
def test_convolution(case, dtype):
    check_convolution(case, dtype)


def check_convolution(case, dtype):
    shape, weight_shape, *window, groups = case
    rng = np.random.default_rng(1)
    x, weight, bias = (normal(rng, s, dtype) for s in (shape, weight_shape, weight_shape[:1]))
    tx, tw, tb = leaf(x), leaf(weight), leaf(bias)
    ty = F.conv2d(tx, tw, tb, *window, groups)
    y = kernels.convolution(x, weight, bias, *window, groups)
    close(y, ty)
    grad = normal(rng, y.shape, dtype)
    tgx, tgw, tgb = torch.autograd.grad(ty, (tx, tw, tb), torch.from_numpy(grad))
    close(kernels.convolution_input_gradient(grad, weight, shape, *window, groups), tgx)
    close(kernels.convolution_weight_gradient(grad, x, weight_shape, *window, groups), tgw)
    close(kernels.channel_sum(grad), tgb)


@pytest.mark.parametrize("case", [case for case in cases.CONVOLUTIONS if case[0][0]], ids=str)
def test_im2col(case, dtype):
    shape, weight_shape, stride, padding, dilation, _ = case
    kernel = weight_shape[2:]
    x = normal(np.random.default_rng(1), shape, dtype)
    columns = kernels.im2col(x, kernel, stride, padding, dilation)
    close(columns, F.unfold(torch.from_numpy(x), kernel, dilation, padding, stride))
    folded = F.fold(torch.from_numpy(columns), shape[2:], kernel, dilation, padding, stride)
    close(kernels.col2im(columns, shape, kernel, stride, padding, dilation), folded)


# Large enough for the tiled paths: several tiles, several images in one tile, blocks of channels, chunks.
LARGE = [
    ((3, 40, 30, 31), (24, 40, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((5, 24, 29, 30), (32, 24, 3, 3), (2, 2), (1, 1), (1, 1), 1),
    ((9, 70, 7, 7), (50, 70, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((2, 32, 40, 40), (48, 32, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((17, 32, 9, 9), (48, 32, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((2, 32, 41, 40), (48, 16, 1, 1), (2, 2), (0, 0), (1, 1), 2),
    ((1, 3, 100, 90), (16, 3, 7, 7), (2, 2), (3, 3), (1, 1), 1),
    ((4, 24, 33, 34), (36, 8, 3, 3), (2, 1), (2, 1), (2, 1), 3),
    ((1, 600, 6, 6), (40, 600, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((2, 20, 50, 50), (40, 1, 5, 5), (2, 2), (2, 2), (1, 1), 20),
]


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_large_convolution(case):
    check_convolution(case, np.float32)


@pytest.mark.parametrize("case", [case for case in cases.MAX_POOLS if case[0][0]], ids=str)
def test_max_pool(case, dtype):
    shape, kernel, stride, padding, dilation, ceil_mode = case
    rng = np.random.default_rng(2)
    x = rng.integers(-3, 4, shape).astype(dtype)
    x[rng.random(shape) < 0.1] = np.nan
    x[rng.random(shape) < 0.2] = -np.inf
    tx = leaf(x)
    ty, tindices = F.max_pool2d(tx, kernel, stride, padding, dilation, ceil_mode, return_indices=True)
    y, indices = kernels.max_pool(x, kernel, stride, padding, dilation, ceil_mode)
    close(y, ty)
    close(indices, tindices)
    if (indices < shape[2] * shape[3]).all():  # torch itself writes out of bounds for padding-only windows
        grad = normal(rng, y.shape, dtype)
        close(
            kernels.max_pool_backward(grad, indices, shape),
            torch.autograd.grad(ty, tx, torch.from_numpy(grad))[0],
        )


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1.0])
def test_max_pool_of_one_value(value, dtype):
    x = np.full((1, 2, 5, 5), value, dtype)
    window = ((3, 3), (2, 2), (1, 1), (1, 1), True)
    ty, tindices = F.max_pool2d(torch.from_numpy(x), *window, return_indices=True)
    y, indices = kernels.max_pool(x, *window)
    close(y, ty)
    close(indices, tindices)


@pytest.mark.parametrize("case", [case for case in cases.AVERAGE_POOLS if case[0][0]], ids=str)
def test_average_pool(case, dtype):
    shape, *settings = case
    rng = np.random.default_rng(3)
    x = normal(rng, shape, dtype)
    tx = leaf(x)
    ty = F.avg_pool2d(tx, *settings)
    y = kernels.average_pool(x, *settings)
    close(y, ty)
    grad = normal(rng, y.shape, dtype)
    close(
        kernels.average_pool_backward(grad, shape, *settings),
        torch.autograd.grad(ty, tx, torch.from_numpy(grad))[0],
    )


@pytest.mark.parametrize("case", [case for case in cases.ADAPTIVE_POOLS if case[0][0]], ids=str)
def test_adaptive_average_pool(case, dtype):
    shape, size = case
    rng = np.random.default_rng(4)
    x = normal(rng, shape, dtype)
    tx = leaf(x)
    ty = F.adaptive_avg_pool2d(tx, size)
    y = kernels.adaptive_average_pool(x, size)
    close(y, ty)
    grad = normal(rng, y.shape, dtype)
    close(
        kernels.adaptive_average_pool_backward(grad, shape),
        torch.autograd.grad(ty, tx, torch.from_numpy(grad))[0],
    )


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "aligned"])
@pytest.mark.parametrize("case", [case for case in cases.RESIZES if case[0][0]], ids=str)
def test_resize(case, mode, dtype):
    shape, size, scale = case
    if mode == "aligned" and scale:
        scale = None
    rng = np.random.default_rng(5)
    x = normal(rng, shape, dtype)
    tx = leaf(x)
    wanted = {"scale_factor": scale} if scale else {"size": size}
    bilinear = mode in ("bilinear", "aligned")
    if bilinear:
        wanted["align_corners"] = mode == "aligned"
    ty = F.interpolate(tx, mode="bilinear" if bilinear else mode, **wanted)
    assert tuple(ty.shape[2:]) == size
    grad = normal(rng, ty.shape, dtype)
    if bilinear:
        y = kernels.bilinear(x, size, mode == "aligned", scale)
        grad_x = kernels.bilinear_backward(grad, shape, mode == "aligned", scale)
    else:
        y = kernels.nearest(x, size, scale, mode == "nearest-exact")
        grad_x = kernels.nearest_backward(grad, shape, scale, mode == "nearest-exact")
    close(y, ty)
    close(grad_x, torch.autograd.grad(ty, tx, torch.from_numpy(grad))[0])


BATCH_NORM_SHAPES = [shape for shape in cases.CHANNEL_SHAPES if shape[0] * shape[2] > 1] + [(6, 40, 700)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", BATCH_NORM_SHAPES, ids=str)
def test_batch_norm(shape, affine, training, dtype):
    rng = np.random.default_rng(6)
    x = (normal(rng, shape, dtype) * 3 + 20).astype(dtype)  # a mean that dwarfs the deviation
    channels = shape[1]
    weight, bias = (normal(rng, channels, dtype), normal(rng, channels, dtype)) if affine else (None, None)
    mean, variance = normal(rng, channels, dtype), rng.uniform(0.5, 2, channels).astype(dtype)
    tx, *tparameters = (None if a is None else leaf(a) for a in (x, weight, bias))
    ty = F.batch_norm(tx, torch.from_numpy(mean), torch.from_numpy(variance), *tparameters, training, 0.0)
    if training:
        y, mean, variance = kernels.batch_norm_train(x, weight, bias, 1e-5)
        close(mean, torch.from_numpy(x.astype(np.float64).mean((0, 2)).astype(dtype)))
        close(variance, torch.from_numpy(x.astype(np.float64).var((0, 2)).astype(dtype)))
        backward = kernels.batch_norm_train_backward
    else:
        y = kernels.batch_norm_eval(x, weight, bias, mean, variance, 1e-5)
        backward = kernels.batch_norm_eval_backward
    close(y, ty)
    grad = normal(rng, shape, dtype)
    gradients = backward(grad, x, weight, mean, variance, 1e-5)
    wanted = [tensor for tensor in (tx, *tparameters) if tensor is not None]
    for got, expected in zip(gradients, torch.autograd.grad(ty, wanted, torch.from_numpy(grad))):
        close(got, expected)


def test_constant_channel(dtype):
    x = np.full((4, 2, 9), 7, dtype)
    y, mean, variance = kernels.batch_norm_train(x, None, None, 1e-5)
    grad = normal(np.random.default_rng(7), x.shape, dtype)
    grad_x, *_ = kernels.batch_norm_train_backward(grad, x, None, mean, variance, 1e-5)
    assert (y == 0).all() and (mean == 7).all() and (variance == 0).all()
    assert np.isfinite(grad_x).all()


def test_relu(dtype):
    x = normal(np.random.default_rng(8), (3, 4, 70, 70), dtype)
    x[0, 0, 0, :5] = [0, -0.0, np.nan, np.inf, -np.inf]
    tx = leaf(x)
    ty = F.relu(tx)
    y = kernels.relu(x)
    close(y, ty)
    grad = normal(np.random.default_rng(9), x.shape, dtype)
    close(kernels.relu_backward(grad, y), torch.autograd.grad(ty, tx, torch.from_numpy(grad))[0])


@pytest.mark.parametrize("shape", [(5, 6, 7), (200, 300, 150), (300, 900, 70), (40, 2000, 70), (1, 3000, 2000)])
@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
def test_matrix_product(shape, turned, dtype):
    rng = np.random.default_rng(10)
    rows, inner, columns = shape
    a = normal(rng, (inner, rows), dtype).T if "a" in turned else normal(rng, (rows, inner), dtype)
    b = normal(rng, (columns, inner), dtype).T if "b" in turned else normal(rng, (inner, columns), dtype)
    product = kernels.matrix_product(a, b)
    assert product.flags.c_contiguous
    close(product, torch.from_numpy(a) @ torch.from_numpy(b))
