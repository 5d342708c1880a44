"""Winograd's algorithm against the definition: values, both channel orders, epilogues, and what is not finite."""

import numpy as np
import pytest

import tinynet
from tests.kernels.processes import output_of
from tests.kernels.test_indirect import all_three, assert_close, normal
from tinynet import kernels
from tinynet.kernels import indirect, winograd
from tinynet.kernels.convolution import PackedConvolution

numba = pytest.importorskip("numba")

ONE = (1, 1)
SHAPES = [  # (input, weight, padding): each takes another way through the kernels
    ((2, 32, 14, 14), (64, 32, 3, 3), (1, 1)),  # whole tiles, whole panels
    ((3, 64, 13, 11), (64, 64, 3, 3), (1, 1)),  # pixels outside of the image, a last group of few rows
    ((2, 16, 15, 18), (16, 16, 3, 3), (1, 1)),  # one vector wide
    ((2, 48, 16, 12), (48, 48, 3, 3), (0, 0)),  # a panel that is half full; no padding
    ((1, 32, 15, 16), (32, 32, 3, 3), (2, 2)),  # much padding
    ((1, 32, 17, 18), (48, 32, 3, 3), (0, 2)),  # two kinds of padding
    ((4, 32, 8, 8), (128, 32, 3, 3), (1, 1)),  # fewer tiles than output channels: weights are transformed on the way
    ((3, 1040, 9, 10), (32, 1040, 3, 3), (1, 1)),  # deep: sums in pieces
    ((1, 16, 64, 140), (32, 16, 3, 3), (1, 1)),  # many blocks
]


def window_of(padding):
    return ONE, padding, ONE, 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_shapes_of_these_tests_are_taken(shape):
    x_shape, weight_shape, padding = shape
    assert winograd.wins(x_shape, weight_shape, *window_of(padding), np.float32)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_those_of_the_definition(shape):
    x_shape, weight_shape, padding = shape
    with kernels.backend("numpy"):
        expected = all_three(x_shape, weight_shape, window_of(padding), np.float32)
    for actual, right in zip(all_three(x_shape, weight_shape, window_of(padding), np.float32), expected):
        assert_close(actual, right)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_packed_convolution_finishes_its_tiles(shape, joined, relu):
    x_shape, weight_shape, padding = shape
    x, packed = normal(x_shape, np.float32, 0), packed_of(weight_shape, padding)
    residual = normal(packed.output_shape(x_shape), np.float32, 4) if joined else None
    with kernels.backend("numpy"):
        expected = packed(x, residual, relu)
    assert_close(packed(x, residual, relu), expected)


def packed_of(weight_shape, padding, weight=None):
    weight = normal(weight_shape, np.float32, 1) if weight is None else weight
    return PackedConvolution(weight, normal(weight_shape[0], np.float32, 2), *window_of(padding))


def test_it_is_this_algorithm_that_runs(monkeypatch):
    def refused(*args, **kwargs):
        raise AssertionError("the other way was taken")

    monkeypatch.setattr(indirect, "convolve", refused)
    monkeypatch.setattr(indirect, "input_gradient", refused)
    x_shape, weight_shape, padding = SHAPES[0]
    all_three(x_shape, weight_shape, window_of(padding), np.float32)
    packed_of(weight_shape, padding)(normal(x_shape, np.float32, 0))
    with pytest.raises(AssertionError, match="the other way"):
        all_three(x_shape, weight_shape, window_of(padding), np.float64)


@pytest.mark.parametrize(
    "change",
    [
        {"weight": (64, 32, 1, 1), "padding": (0, 0)},
        {"weight": (64, 32, 5, 5), "padding": (2, 2)},
        {"stride": (2, 2)},
        {"stride": (1, 2)},
        {"dilation": (2, 2)},
        {"padding": (3, 1)},
        {"groups": 2, "weight": (64, 16, 3, 3)},
        {"dtype": np.float64},
        {"weight": (64, 24, 3, 3), "x": (2, 24, 14, 14)},  # channels that do not fill vectors (of 16)
        {"weight": (40, 32, 3, 3)},
        {"x": (1, 32, 14, 14)},  # 49 tiles
        {"x": (16, 32, 5, 5)},  # 9 tiles hold 36 pixels, of which 25 are there
    ],
    ids=str,
)
def test_others_go_the_other_way(change):
    case = {"x": (2, 32, 14, 14), "weight": (64, 32, 3, 3), "stride": ONE, "padding": ONE, "dilation": ONE,
            "groups": 1, "dtype": np.float32}  # fmt: skip
    assert winograd.wins(*case.values())
    if winograd.lanes(np.float32) < 16 and "weight" in change and change["weight"][2:] == (3, 3):
        pytest.skip("vectors of 8 are filled")
    assert not winograd.wins(*{**case, **change}.values())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_bits_do_not_depend_on_the_number_of_threads(shape):
    x_shape, weight_shape, padding = shape
    before = tinynet.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            tinynet.set_num_threads(threads)
            results.append(all_three(x_shape, weight_shape, window_of(padding), np.float32))
    finally:
        tinynet.set_num_threads(before)
    for one, two in zip(*results):
        assert np.array_equal(one, two)


def test_arrays_in_any_layout():
    x_shape, weight_shape, padding = SHAPES[1]
    x, weight = normal(x_shape, np.float32, 0), normal(weight_shape, np.float32, 1)
    y = kernels.convolution(x, weight, None, *window_of(padding))
    strided = np.zeros((*x_shape[:3], 2 * x_shape[3]), np.float32)[..., ::2]
    strided[...] = x
    turned = weight.transpose(2, 3, 0, 1).copy().transpose(2, 3, 0, 1)
    for other in (kernels.layout.channels_last(x), strided):
        assert np.array_equal(kernels.convolution(other, turned, None, *window_of(padding)), y)


def test_rounding_stays_within_twice_that_of_the_definition():
    """Mean squares over a layer of ResNet-50, against float64."""
    x, weight = normal((2, 128, 28, 28), np.float32, 0), normal((128, 128, 3, 3), np.float32, 1)
    exact = kernels.convolution(x.astype(np.float64), weight.astype(np.float64), None, *window_of(ONE))
    direct = np.empty_like(exact, np.float32)
    direct = kernels.layout.channels_last(direct)
    indirect.convolve(x, weight, None, None, *window_of(ONE), direct)
    results = kernels.convolution(x, weight, None, *window_of(ONE)), direct
    ours, theirs = (np.square(y - exact).mean() ** 0.5 for y in results)
    assert 0 < ours <= 2 * theirs


# --- what is not finite -------------------------------------------------------------------------------------

FEW_TILES = SHAPES[6]
MANY_TILES = SHAPES[1]


def assert_same(actual, expected):
    """Finite, infinite and NaN where the other is, and close where both are finite."""
    finite = np.isfinite(expected)
    assert not finite.all()
    assert np.array_equal(np.isfinite(actual), finite)
    assert np.array_equal(actual[~finite], expected[~finite], equal_nan=True)
    if finite.any():
        assert_close(np.where(finite, actual, 0), np.where(finite, expected, 0))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("shape", [MANY_TILES, FEW_TILES, SHAPES[3]], ids=str)
def test_a_number_that_is_not_finite_reaches_no_farther_than_its_windows(shape, value):
    x_shape, weight_shape, padding = shape
    x, weight = normal(x_shape, np.float32, 0), normal(weight_shape, np.float32, 1)
    x[1, 5, 2, 3] = x[0, 17, 6, 6] = value
    with kernels.backend("numpy"):
        expected = kernels.convolution(x, weight, None, *window_of(padding))
    y = kernels.convolution(x, weight, None, *window_of(padding))
    assert (~np.isfinite(y)).sum() == 2 * 9 * weight_shape[0]
    assert_same(y, expected)
    grad = normal(y.shape, np.float32, 3)
    grad[1, 3, 1, 1] = value
    with kernels.backend("numpy"):
        expected = kernels.convolution_input_gradient(grad, weight, x_shape, *window_of(padding))
    assert_same(kernels.convolution_input_gradient(grad, weight, x_shape, *window_of(padding)), expected)


@pytest.mark.parametrize("place", [(3, 7, 0, 0), (3, 7, 1, 1), (3, 7, 2, 1), (3, 7, 0, 2)])
@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("shape", [MANY_TILES, FEW_TILES], ids=str)
def test_a_weight_that_is_not_finite_spoils_its_channel_only(shape, value, place, monkeypatch):
    x_shape, weight_shape, padding = shape
    weight = normal(weight_shape, np.float32, 1)
    weight[place] = value

    def both():
        y = kernels.convolution(normal(x_shape, np.float32, 0), weight, None, *window_of(padding))
        grad = normal(y.shape, np.float32, 3)
        return y, kernels.convolution_input_gradient(grad, weight, x_shape, *window_of(padding))

    results = both()
    monkeypatch.setattr(winograd, "wins", lambda *shapes: False)
    for actual, expected, channel in zip(results, both(), place):
        assert_same(actual, expected)
        assert np.isfinite(np.delete(actual, channel, 1)).all()


@pytest.mark.parametrize("what", ["input", "weight"])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", [MANY_TILES, FEW_TILES], ids=str)
def test_what_is_left_to_the_definition_gets_its_epilogue_once(shape, relu, what):
    """The result may take the residual's memory: what has been written must not be added again."""
    x_shape, weight_shape, padding = shape
    x, weight = normal(x_shape, np.float32, 0), normal(weight_shape, np.float32, 1)
    (x if what == "input" else weight)[1, 5, 2, 2] = np.nan
    packed = packed_of(weight_shape, padding, weight)
    residual = normal(packed.output_shape(x_shape), np.float32, 4)
    with kernels.backend("numpy"):
        expected = packed(x, residual, relu)
    out = kernels.layout.channels_last(residual.copy())
    assert packed(x, out, relu, out) is out
    assert_same(out, expected)


@pytest.mark.parametrize("bits", ["128", "256", "512"])
def test_vectors_of_other_machines(bits):
    code = """
    import numpy as np
    from tests.kernels.test_winograd import SHAPES, all_three, assert_close, window_of
    from tinynet import kernels
    for x_shape, weight_shape, padding in SHAPES[:4]:
        with kernels.backend("numpy"):
            expected = all_three(x_shape, weight_shape, window_of(padding), np.float32)
        for actual, right in zip(all_three(x_shape, weight_shape, window_of(padding), np.float32), expected):
            assert_close(actual, right)
    print(kernels.tile.vector_bytes())
    """
    assert output_of(code, TINYNET_VECTOR_BITS=bits).split() == [str(int(bits) // 8)]
