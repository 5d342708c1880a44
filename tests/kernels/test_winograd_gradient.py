"""The weight gradient by Winograd's algorithm against the definition."""

import numpy as np
import pytest

import tinynet
from tests.kernels.processes import output_of
from tests.kernels.test_indirect import assert_close, normal
from tinynet import kernels
from tinynet.kernels import correlation

numba = pytest.importorskip("numba")

ONE = (1, 1)
SHAPES = [  # (input, output channels, padding): each takes another way through the kernels
    ((2, 128, 14, 14), 128, (1, 1)),  # a chunk of few tiles
    ((3, 128, 13, 11), 160, (1, 1)),  # pixels outside of the image; channels that are no multiple of the tile's
    ((2, 144, 12, 16), 128, (0, 0)),  # no padding
    ((1, 128, 16, 15), 128, (2, 1)),  # much padding
    ((5, 128, 26, 30), 128, (1, 1)),  # several chunks, and parts of chunks
]


def gradients(shape):
    x_shape, outs, padding = shape
    size = [n + 2 * p - 2 for n, p in zip(x_shape[2:], padding)]
    return normal((x_shape[0], outs, *size), np.float32, 3), normal(x_shape, np.float32, 0)


def weight_gradient(grad, x, padding):
    shape = (grad.shape[1], x.shape[1], 3, 3)
    return kernels.convolution_weight_gradient(grad, x, shape, ONE, padding, ONE, 1)


@pytest.fixture
def alone(monkeypatch):
    """Refuses the other way."""

    def refused(*args, **kwargs):
        raise AssertionError("the other way was taken")

    monkeypatch.setattr(correlation, "weight_gradient", refused)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_that_of_the_definition(shape, alone):
    grad, x = gradients(shape)
    with kernels.backend("numpy"):
        expected = weight_gradient(grad, x, shape[2])
    assert_close(weight_gradient(grad, x, shape[2]), expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_bits_do_not_depend_on_the_number_of_threads(shape, alone):
    grad, x = gradients(shape)
    before, results = tinynet.get_num_threads(), []
    try:
        for threads in (1, 2):
            tinynet.set_num_threads(threads)
            results.append(weight_gradient(grad, x, shape[2]))
    finally:
        tinynet.set_num_threads(before)
    assert np.array_equal(*results)


def test_arrays_in_any_layout(alone):
    grad, x = gradients(SHAPES[1])
    expected = weight_gradient(grad, x, ONE)
    strided = np.zeros((*x.shape[:3], 2 * x.shape[3]), np.float32)[..., ::2]
    strided[...] = x
    assert np.array_equal(weight_gradient(kernels.layout.channels_last(grad), strided, ONE), expected)


@pytest.mark.parametrize(
    "case",
    [
        ((2, 128, 14, 14), (128, 128, 3, 3), (2, 2), ONE, np.float32),
        ((2, 128, 14, 14), (128, 128, 3, 3), ONE, ONE, np.float64),
        ((2, 128, 14, 14), (144, 128, 3, 3), ONE, ONE, np.float32),
        ((2, 32, 14, 14), (128, 32, 3, 3), ONE, ONE, np.float32),
        ((1, 128, 8, 8), (128, 128, 3, 3), ONE, ONE, np.float32),
    ],
    ids=str,
)
def test_others_go_the_other_way(case, alone):
    x_shape, weight_shape, stride, padding, dtype = case
    size = [(n - 1) // s + 1 for n, s in zip(x_shape[2:], stride)]
    grad, x = normal((x_shape[0], weight_shape[0], *size), dtype, 3), normal(x_shape, dtype, 0)
    with pytest.raises(AssertionError, match="the other way"):
        kernels.convolution_weight_gradient(grad, x, weight_shape, stride, padding, ONE, 1)


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("where", ["input", "gradient"])
def test_what_is_not_finite_stays_with_its_channel(where, value):
    grad, x = gradients(SHAPES[0])
    (x if where == "input" else grad)[1, 7, 5, 5] = value
    result = weight_gradient(grad, x, ONE)
    spoiled = ~np.isfinite(result)
    expected = np.zeros_like(spoiled)
    expected[(slice(None), 7) if where == "input" else 7] = True
    assert np.array_equal(spoiled, expected)
    with kernels.backend("numpy"):
        assert np.array_equal(np.isnan(result), np.isnan(weight_gradient(grad, x, ONE)))


@pytest.mark.parametrize("bits", ["128", "256", "512"])
def test_vectors_of_other_machines(bits):
    code = """
    from tests.kernels.test_winograd_gradient import SHAPES, assert_close, gradients, weight_gradient
    from tinynet import kernels
    for shape in SHAPES[:3]:
        with kernels.backend("numpy"):
            expected = weight_gradient(*gradients(shape), shape[2])
        assert_close(weight_gradient(*gradients(shape), shape[2]), expected)
    print(kernels.tile.vector_bytes())
    """
    assert output_of(code, TINYNET_VECTOR_BITS=bits).split() == [str(int(bits) // 8)]
