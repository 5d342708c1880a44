"""The tiles, the walks over an image and the division of work, on their own."""

import numpy as np
import pytest

from tests.kernels.processes import output_of
from tinynet import kernels
from tinynet.kernels import indirect, tile
from tinynet.kernels.convolution import PackedConvolution

numba = pytest.importorskip("numba")

SHAPES = [  # (input, weight, stride, padding, dilation, groups): each takes another way through the kernels
    ((2, 64, 9, 7), (64, 64, 3, 3), (1, 1), (1, 1), (1, 1), 1),  # whole panels, several sums for each number
    ((1, 3, 23, 21), (40, 3, 7, 7), (2, 2), (3, 3), (1, 1), 1),  # a stem: rows of the kernel in one piece
    ((3, 16, 6, 5), (16, 16, 3, 3), (1, 1), (1, 1), (1, 1), 1),  # one vector wide
    ((2, 40, 9, 7), (50, 40, 1, 1), (2, 2), (0, 0), (1, 1), 1),  # idle lanes, phases without a tap
    ((1, 1100, 3, 3), (33, 1100, 1, 1), (1, 1), (0, 0), (1, 1), 1),  # deep: pieces of a tap
    ((2, 1024, 5, 4), (1024, 1024, 1, 1), (1, 1), (0, 0), (1, 1), 1),  # pixels that meet in one set of L1
    ((1, 1031, 3, 3), (33, 1031, 1, 1), (1, 1), (0, 0), (1, 1), 1),  # deep and prime
    ((2, 64, 8, 7), (96, 4, 3, 3), (2, 1), (1, 0), (1, 2), 16),  # small groups multiplied together
    ((1, 96, 5, 7), (96, 48, 3, 3), (1, 1), (1, 1), (1, 1), 2),  # large groups
    ((2, 5, 7, 6), (5, 1, 3, 3), (2, 3), (1, 1), (2, 1), 5),  # depthwise
    ((4, 64, 31, 29), (96, 64, 1, 1), (1, 1), (0, 0), (1, 1), 1),  # many tiles
    ((3, 8, 15, 17), (8, 8, 1, 1), (1, 1), (0, 0), (1, 1), 1),  # four parts of the pixels, but three chunks
]


def normal(shape, dtype, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def all_three(x_shape, weight_shape, window, dtype):
    """The convolution and its two gradients for a random gradient."""
    x, weight, bias = normal(x_shape, dtype, 0), normal(weight_shape, dtype, 1), normal(weight_shape[:1], dtype, 2)
    y = kernels.convolution(x, weight, bias, *window)
    grad = normal(y.shape, dtype, 3)
    grad_x = kernels.convolution_input_gradient(grad, weight, x_shape, *window)
    return y, grad_x, kernels.convolution_weight_gradient(grad, x, weight_shape, *window)


def assert_close(actual, expected):
    tolerance = 3e-6 if expected.dtype == np.float32 else 1e-14
    scale = max(1e-3, float(np.abs(expected).max()))
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    assert np.abs(actual - expected).max() <= tolerance * scale


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_way_through_equals_numpy(shape, dtype):
    x_shape, weight_shape, *window = shape
    with kernels.backend("numpy"):
        expected = all_three(x_shape, weight_shape, window, dtype)
    for actual, right in zip(all_three(x_shape, weight_shape, window, dtype), expected):
        assert_close(actual, right)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_packed_convolution_finishes_its_tiles(shape, joined, relu):
    x_shape, weight_shape, *window = shape
    x, weight = normal(x_shape, np.float32, 0), normal(weight_shape, np.float32, 1)
    bias = normal(weight_shape[0], np.float32, 2)
    packed = PackedConvolution(weight, bias, *window)
    residual = normal(packed.output_shape(x_shape), np.float32, 4) if joined else None
    with kernels.backend("numpy"):
        expected = packed(x, residual, relu)
    assert_close(packed(x, residual, relu), expected)
    out = kernels.layout.channels_last_empty(expected.shape, np.float32)
    if joined:  # the result may take the residual's memory
        out[...] = residual
        residual = out
    assert packed(x, residual, relu, out) is out
    assert_close(out, expected)


def test_a_packed_convolution_does_not_follow_its_weight():
    weight = normal((8, 4, 3, 3), np.float32, 0)
    packed = PackedConvolution(weight, None, (1, 1), (1, 1), (1, 1), 1)
    x = normal((1, 4, 5, 5), np.float32, 1)
    before = packed(x)
    weight[...] = 0
    assert np.array_equal(packed(x), before)


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("packed", [False, True])
def test_groups_do_not_see_what_is_not_finite_in_another(value, packed):
    """Small groups are multiplied together with zeros between them, and 0·inf is NaN."""
    x, weight = normal((1, 8, 4, 4), np.float32, 0), normal((8, 2, 3, 3), np.float32, 1)
    x[0, 0, 1, 1] = value
    window = ((1, 1), (1, 1), (1, 1), 4)
    y = PackedConvolution(weight, None, *window)(x) if packed else kernels.convolution(x, weight, None, *window)
    assert np.isfinite(y[:, 2:]).all() and not np.isfinite(y[:, :2]).all()
    grad_x = kernels.convolution_input_gradient(x, weight, x.shape, *window)
    assert np.isfinite(grad_x[:, 2:]).all() and not np.isfinite(grad_x[:, :2]).all()
    grad_weight = kernels.convolution_weight_gradient(x, np.ones_like(x), weight.shape, *window)
    assert np.isfinite(grad_weight[2:]).all() and not np.isfinite(grad_weight[:2]).all()


def test_relu_in_the_epilogue_keeps_nan():
    x = np.full((1, 4, 2, 2), np.nan, np.float32)
    packed = PackedConvolution(np.ones((32, 4, 1, 1), np.float32), None, (1, 1), (0, 0), (1, 1), 1)
    assert np.isnan(packed(x, relu=True)).all()
    narrow = PackedConvolution(np.ones((3, 4, 1, 1), np.float32), None, (1, 1), (0, 0), (1, 1), 1)
    assert np.isnan(narrow(x, relu=True)).all()


@pytest.mark.parametrize("bits", ["128", "256", "512"])
def test_vectors_of_other_machines(bits):
    """The same code for every width of vector; LLVM splits what this machine does not have."""
    code = """
    import numpy as np
    from tests.kernels.test_indirect import SHAPES, all_three, assert_close
    from tinynet import kernels
    for x_shape, weight_shape, *window in SHAPES[:8]:
        with kernels.backend("numpy"):
            expected = all_three(x_shape, weight_shape, window, np.float32)
        for actual, right in zip(all_three(x_shape, weight_shape, window, np.float32), expected):
            assert_close(actual, right)
    print(kernels.tile.vector_bytes())
    """
    assert output_of(code, TINYNET_VECTOR_BITS=bits).split() == [str(int(bits) // 8)]


def test_unknown_vectors_are_refused(monkeypatch):
    monkeypatch.setenv("TINYNET_VECTOR_BITS", "1024")
    tile.vector_bytes.cache_clear()
    try:
        with pytest.raises(ValueError, match="must be 128, 256 or 512, got '1024'"):
            tile.vector_bytes()
    finally:
        tile.vector_bytes.cache_clear()


class TestDivide:
    def test_one_thread_is_one_job(self):
        assert indirect.divide(100, 8, 1e3, 1e5, 1e5, 1) == (1, 1)

    def test_many_pixels_are_divided(self):
        """An early layer: 224 tiles, 2 panels; the weights are few, the input large."""
        assert indirect.divide(224, 2, 4e3, 1e6, 2e4, 2) == (2, 1)

    def test_many_weights_are_divided(self):
        """A late layer: 4 tiles, 64 panels; packing the weights twice would cost more than reading the input twice."""
        assert indirect.divide(4, 64, 4e3, 1e4, 1e6, 2) == (1, 2)

    def test_what_cannot_be_halved_is_left_whole(self):
        assert indirect.divide(1, 64, 1e3, 1e3, 0, 2) == (1, 2)
        assert indirect.divide(64, 1, 1e3, 1e6, 1e6, 2) == (2, 1)

    @pytest.mark.parametrize("threads", [3, 4, 6, 8])
    def test_every_thread_has_a_job(self, threads):
        pixel_parts, panel_parts = indirect.divide(50, 9, 1e3, 1e4, 1e4, threads)
        assert pixel_parts * panel_parts == threads


class TestWalks:
    def test_forward_reads_the_window(self):
        walk = indirect.forward_walk((3, 3), (3, 2), (2, 1), (1, 0), (1, 2))
        assert walk.rows.tolist() == [-1, -1, 0, 0, 1, 1] and walk.columns.tolist() == [0, 2, 0, 2, 0, 2]
        assert walk.step == (2, 1)

    def test_phases_share_the_taps_of_a_stride_among_them(self):
        walks = indirect.gradient_walks((7, 7), (3, 3), (2, 2), (1, 1), (1, 1))
        assert sorted(len(walk.taps) for walk in walks) == [1, 2, 2, 4]
        assert sum(walk.height * walk.width for walk in walks) == 49
        assert sorted(np.concatenate([walk.taps for walk in walks]).tolist()) == list(range(9))

    def test_a_pointwise_stride_leaves_phases_without_taps(self):
        walks = indirect.gradient_walks((6, 6), (1, 1), (2, 2), (0, 0), (1, 1))
        assert [len(walk.taps) for walk in walks] == [1, 0, 0, 0]

    def test_a_stride_larger_than_the_image(self):
        walks = indirect.gradient_walks((1, 2), (1, 1), (3, 3), (0, 0), (1, 1))
        assert sum(walk.height * walk.width for walk in walks) == 2


def test_long_sums_are_sums_of_sums():
    """2,048 products of one size: added one by one in float32 they are off by more than their parts are."""
    x = normal((1, 2048, 8, 8), np.float32, 0)
    weight = normal((32, 2048, 1, 1), np.float32, 1)
    exact = np.einsum("nchw,oc->nohw", x.astype(np.float64), weight[:, :, 0, 0].astype(np.float64))
    one_by_one = np.zeros(exact.shape, np.float32)
    for c in range(2048):
        one_by_one += x[:, c : c + 1] * weight[None, :, c]
    y = kernels.convolution(x, weight, None, (1, 1), (0, 0), (1, 1), 1)
    assert np.sqrt(np.mean((y - exact) ** 2)) < 0.7 * np.sqrt(np.mean((one_by_one - exact) ** 2))
