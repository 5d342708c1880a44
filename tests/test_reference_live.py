"""The same comparisons beside a live torch: every case on fresh numbers, and random geometry.

A random geometry is a property: either both libraries refuse it, or both give the same values and gradients.
torch is imported inside the tests, after tinynet's kernels have their thread pool (see kernels/launch.py).
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinynet
from tests.comparison import assert_same_results
from tests.reference.cases import DTYPES, AnyCase, Case, Input, all_cases, integers, normal

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::UserWarning")]

bounded = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
FEW = settings(bounded, max_examples=30)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def outcome(lib, case: AnyCase, dtype: str, seed: int):
    """The results of a case, or the error that refused it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return case.evaluate(lib, dtype, seed)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        return error


def compare(torch, function, inputs: tuple[Input, ...], dtype: str = "float64", seed: int = 1) -> None:
    """Fails unless both libraries refuse, or both give the same dtypes, shapes, values and gradients."""
    case = Case("live", function, inputs)
    expected, actual = outcome(torch, case, dtype, seed), outcome(tinynet, case, dtype, seed)
    if isinstance(expected, Exception):
        assert isinstance(actual, Exception), f"torch refuses this: {expected}"
        return
    if isinstance(actual, Exception):
        raise AssertionError("tinynet refuses what torch computes") from actual
    assert_same_results(actual, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in all_cases()])
def test_case_on_fresh_numbers(torch, case: AnyCase, dtype: str) -> None:
    assert_same_results(case.evaluate(tinynet, dtype, seed=1), case.evaluate(torch, dtype, seed=1))


# --- arithmetic, products, reductions ---------------------------------------------------------------------

BINARY = {
    "add": lambda lib, F, x, y: x + y,
    "subtract": lambda lib, F, x, y: x - y,
    "multiply": lambda lib, F, x, y: x * y,
    "divide": lambda lib, F, x, y: x / (y * y + 0.5),
    "power": lambda lib, F, x, y: (x * x + 0.5) ** y,
    "maximum": lambda lib, F, x, y: lib.maximum(x, y),
    "minimum": lambda lib, F, x, y: lib.minimum(x, y),
    "where": lambda lib, F, x, y: lib.where(x > y, x * 2, y),
}
REDUCTIONS = ("sum", "mean", "var", "std")


@bounded
@given(
    shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4, min_side=0),
    name=st.sampled_from(sorted(BINARY)),
    dtype=st.sampled_from(DTYPES),
)
def test_broadcasting(torch, shapes, name, dtype) -> None:
    compare(torch, BINARY[name], tuple(normal(*shape) for shape in shapes.input_shapes), dtype)


@FEW
@given(
    first=hnp.array_shapes(min_dims=0, max_dims=3, max_side=3),
    second=hnp.array_shapes(min_dims=0, max_dims=3, max_side=3),
)
def test_shapes_that_may_not_broadcast(torch, first, second) -> None:
    compare(torch, BINARY["add"], (normal(*first), normal(*second)))


@bounded
@given(
    shapes=hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, max_side=4, min_side=0),
    dtype=st.sampled_from(DTYPES),
)
def test_matmul(torch, shapes, dtype) -> None:
    compare(torch, lambda lib, F, x, y: x @ y, tuple(normal(*shape) for shape in shapes.input_shapes), dtype)


@FEW
@given(
    first=hnp.array_shapes(min_dims=0, max_dims=4, max_side=3),
    second=hnp.array_shapes(min_dims=0, max_dims=4, max_side=3),
)
def test_matmul_that_may_not_fit(torch, first, second) -> None:
    compare(torch, lambda lib, F, x, y: x @ y, (normal(*first), normal(*second)))


@bounded
@given(
    shape=hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5),
    keepdim=st.booleans(),
    name=st.sampled_from(REDUCTIONS),
    data=st.data(),
)
def test_reductions(torch, shape, keepdim, name, data) -> None:
    rank = len(shape)
    dims = data.draw(st.sets(st.integers(0, rank - 1), min_size=1)) if rank else set()
    signed = tuple(dim - rank if data.draw(st.booleans()) else dim for dim in sorted(dims))
    dim = data.draw(st.sampled_from([None, signed, signed[0]]))
    extent = np.prod([shape[d] for d in (dims if dim is signed else range(rank) if dim is None else [signed[0]])])
    correction = 1 if extent > 1 else 0  # one value has no unbiased variance: NaN, and a warning, in torch
    options = {"correction": correction} if name in ("var", "std") else {}
    if name == "std" and extent == 1:
        return  # the slope of a root at 0
    compare(torch, lambda lib, F, x: getattr(x, name)(dim=dim, keepdim=keepdim, **options), (normal(*shape),))


@bounded
@given(
    shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=5),
    keepdim=st.booleans(),
    data=st.data(),
    name=st.sampled_from(["max", "min", "argmax", "argmin", "amax", "amin"]),
)
def test_extremes(torch, shape, keepdim, name, data) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    compare(torch, lambda lib, F, x: getattr(x, name)(dim=dim, keepdim=keepdim), (normal(*shape),))


@FEW
@given(shape=hnp.array_shapes(min_dims=1, max_dims=3, max_side=6), largest=st.booleans(), data=st.data())
def test_order(torch, shape, largest, data) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    k = data.draw(st.integers(1, shape[dim]))
    compare(torch, lambda lib, F, x: lib.topk(x, k, dim=dim, largest=largest), (normal(*shape),))
    compare(torch, lambda lib, F, x: lib.sort(x, dim=dim, descending=largest), (normal(*shape),))


# --- shapes and indices --------------------------------------------------------------------------------------


@st.composite
def indices(draw):
    """A shape and an index into it: integers, slices, None, Ellipsis, lists and masks in any mixture."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))
    length = draw(st.integers(1, 3))
    index, ellipsis = [], False
    axis = 0
    while axis < len(shape):
        size = shape[axis]
        kinds = ["integer", "slice", "slice", "none", "list", "mask"] + ([] if ellipsis else ["ellipsis"])
        kind = draw(st.sampled_from(kinds))
        if kind == "none":
            index.append(None)
            continue
        if kind == "ellipsis":
            index.append(Ellipsis)
            axis += draw(st.integers(0, len(shape) - axis))
            ellipsis = True
            continue
        if kind == "integer":
            index.append(draw(st.integers(-size, size - 1)))
        elif kind == "slice":
            bound = st.one_of(st.none(), st.integers(-size - 1, size + 1))
            index.append(slice(draw(bound), draw(bound), draw(st.sampled_from([None, 1, 2, 3]))))
        elif kind == "list":
            index.append(draw(st.lists(st.integers(-size, size - 1), min_size=length, max_size=length)))
        else:  # a mask that keeps `length` of the axis, so that it broadcasts with the lists
            kept = draw(st.permutations(range(size)))[: min(length, size)]
            index.append([position in kept for position in range(size)])
        axis += 1
        if draw(st.integers(0, 4)) == 0:
            break
    return shape, tuple(index)


def with_tensors(lib, index):
    return tuple(lib.tensor(part) if isinstance(part, list) else part for part in index)


@settings(bounded, max_examples=150)
@given(case=indices())
def test_reading_by_index(torch, case) -> None:
    shape, index = case
    compare(torch, lambda lib, F, x: x[with_tensors(lib, index)], (normal(*shape),))


@bounded
@given(case=indices())
def test_writing_by_index(torch, case) -> None:
    shape, index = case
    try:
        target = np.zeros(shape)[tuple(np.array(part) if isinstance(part, list) else part for part in index)]
    except IndexError:
        return
    cells = np.arange(np.prod(shape)).reshape(shape)
    written = cells[tuple(np.array(part) if isinstance(part, list) else part for part in index)]
    if len(np.unique(written)) < written.size:
        return  # which of two values stays is not defined

    def write(lib, F, x, v):
        z = x * 1
        z[with_tensors(lib, index)] = v.sum()
        return z * 2

    compare(torch, write, (normal(*shape), normal(*target.shape)))


@FEW
@given(
    shape=hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    data=st.data(),
)
def test_cat_and_stack(torch, shape, sizes, data) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = []
    for size in sizes:
        part = list(shape)
        part[dim] = size
        parts.append(normal(*part))
    compare(torch, lambda lib, F, *x: lib.cat(x, dim), tuple(parts))
    place = data.draw(st.integers(-len(shape) - 1, len(shape)))
    compare(torch, lambda lib, F, *x: lib.stack(x, place), (normal(*shape),) * len(sizes))


@FEW
@given(shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=6), size=st.integers(1, 7), data=st.data())
def test_split_and_chunk(torch, shape, size, data) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    compare(torch, lambda lib, F, x: x.split(size, dim), (normal(*shape),))
    compare(torch, lambda lib, F, x: x.chunk(size, dim), (normal(*shape),))


@bounded
@given(shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=4), data=st.data())
def test_chains_of_views(torch, shape, data) -> None:
    order = data.draw(st.permutations(range(len(shape))))
    start = data.draw(st.integers(0, len(shape) - 1))
    end = data.draw(st.integers(start, len(shape) - 1))
    place = data.draw(st.integers(-len(shape) - 1, len(shape)))

    def chain(lib, F, x):
        y = x.permute(*order)
        return (y.flatten(start, end) * 2, y.unsqueeze(place), y.squeeze(), y.reshape(-1), y.transpose(start, end))

    compare(torch, chain, (normal(*shape),))


@FEW
@given(
    shape=hnp.array_shapes(min_dims=1, max_dims=4, min_side=3, max_side=5),
    pads=st.lists(st.integers(-1, 3), min_size=2, max_size=8),
)
def test_pad(torch, shape, pads) -> None:
    pads = pads[: min(len(pads) // 2, len(shape)) * 2]
    compare(torch, lambda lib, F, x: F.pad(x, pads, value=1.5), (normal(*shape),))


# --- images ----------------------------------------------------------------------------------------------------

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
image = st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))


@bounded
@given(
    shape=image,
    multiple=st.integers(1, 3),
    groups=st.integers(1, 4),
    kernel=pairs,
    stride=pairs,
    dilation=pairs,
    padding=st.one_of(st.sampled_from(["same", "valid"]), st.tuples(st.integers(0, 3), st.integers(0, 3))),
    bias=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
def test_conv2d(torch, shape, multiple, groups, kernel, stride, padding, dilation, bias, dtype) -> None:
    batch, per_group, height, width = shape
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    inputs = [normal(batch, per_group * groups, height, width), normal(multiple * groups, per_group, *kernel)]
    if bias:
        inputs.append(normal(multiple * groups))
    compare(torch, lambda lib, F, *x: F.conv2d(*x, **geometry), tuple(inputs), dtype)


@bounded
@given(
    shape=image,
    outputs=st.integers(1, 3),
    groups=st.integers(1, 2),
    kernel=pairs,
    stride=pairs,
    dilation=pairs,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    extra=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_conv_transpose2d(torch, shape, outputs, groups, kernel, stride, padding, extra, dilation) -> None:
    _, per_group, height, width = shape
    batch = 2  # of a batch of 0 torch takes any output_padding
    geometry = {
        "stride": stride,
        "padding": padding,
        "output_padding": extra,
        "dilation": dilation,
        "groups": groups,
    }
    inputs = (
        normal(batch, per_group * groups, height, width),
        normal(per_group * groups, outputs, *kernel),
        normal(outputs * groups),
    )
    compare(torch, lambda lib, F, x, w, b: F.conv_transpose2d(x, w, b, **geometry), inputs)


def some_window_is_empty(size, kernel, stride, padding, dilation) -> bool:
    """Whether a dilated window may meet no pixel at all: torch's backward then writes outside of its memory."""
    for axis in range(2):
        positions = range(-padding[axis], size[axis] + padding[axis], stride[axis])
        taps = [{start + i * dilation[axis] for i in range(kernel[axis])} for start in positions]
        if any(window.isdisjoint(range(size[axis])) for window in taps):
            return True
    return False


@bounded
@given(
    shape=image,
    kernel=pairs,
    stride=pairs,
    padding=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    dilation=pairs,
    ceil_mode=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
def test_max_pool2d(torch, shape, kernel, stride, padding, dilation, ceil_mode, dtype) -> None:
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    values = normal(*shape)
    if some_window_is_empty(shape[2:], kernel, stride, padding, dilation):
        values = values.constant()
    compare(torch, lambda lib, F, x: F.max_pool2d(x, kernel, **geometry, return_indices=True), (values,), dtype)


@bounded
@given(
    shape=image,
    kernel=pairs,
    stride=pairs,
    padding=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    ceil_mode=st.booleans(),
    counted=st.booleans(),
    divisor=st.one_of(st.none(), st.integers(1, 7)),
)
def test_avg_pool2d(torch, shape, kernel, stride, padding, ceil_mode, counted, divisor) -> None:
    compare(
        torch,
        lambda lib, F, x: F.avg_pool2d(x, kernel, stride, padding, ceil_mode, counted, divisor),
        (normal(*shape),),
    )


@FEW
@given(shape=image, size=st.tuples(st.integers(1, 11), st.integers(1, 11)))
def test_adaptive_avg_pool2d(torch, shape, size) -> None:
    compare(torch, lambda lib, F, x: F.adaptive_avg_pool2d(x, size), (normal(*shape),))


MODES = [("nearest", None), ("nearest-exact", None), ("bilinear", False), ("bilinear", True)]


@bounded
@given(
    shape=image,
    size=st.tuples(st.integers(1, 25), st.integers(1, 25)),
    mode=st.sampled_from(MODES),
    dtype=st.sampled_from(DTYPES),
)
def test_interpolate_to_a_size(torch, shape, size, mode, dtype) -> None:
    name, corners = mode
    compare(
        torch, lambda lib, F, x: F.interpolate(x, size=size, mode=name, align_corners=corners), (normal(*shape),), dtype
    )


@bounded
@given(
    shape=image,
    mode=st.sampled_from(MODES),
    recompute=st.sampled_from([None, True, False]),
    scale=st.one_of(st.integers(1, 4), st.floats(0.3, 4).map(lambda value: round(value, 2))),
)
def test_interpolate_by_a_scale(torch, shape, scale, mode, recompute) -> None:
    name, corners = mode
    settings = {"scale_factor": scale, "mode": name, "align_corners": corners, "recompute_scale_factor": recompute}
    compare(torch, lambda lib, F, x: F.interpolate(x, **settings), (normal(*shape),))


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest_for_every_pair_of_sizes(torch, mode: str) -> None:
    """The rounding of in/out in single precision, for every input below 70 and output below 140."""
    for size in range(1, 70):
        row = np.arange(size, dtype=np.float32).reshape(1, 1, 1, size)
        for out in range(1, 140):
            expected = torch.nn.functional.interpolate(torch.from_numpy(row), size=(1, out), mode=mode).numpy()
            actual = tinynet.nn.functional.interpolate(tinynet.from_numpy(row), size=(1, out), mode=mode).numpy()
            assert np.array_equal(actual, expected), f"{size} to {out}"


@FEW
@given(
    rows=st.integers(1, 6),
    classes=st.integers(1, 5),
    spatial=st.lists(st.integers(1, 3), max_size=2),
    smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    ignored=st.integers(-1, 4),
    weighted=st.booleans(),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_cross_entropy(torch, rows, classes, spatial, smoothing, ignored, weighted, reduction) -> None:
    inputs = [normal(rows, classes, *spatial), integers(0, classes, rows, *spatial)]
    if weighted:
        inputs.append(Input((classes,), lambda rng, size: rng.uniform(0.5, 2, size), requires_grad=False))
    options = {"ignore_index": ignored, "label_smoothing": smoothing, "reduction": reduction}
    compare(torch, lambda lib, F, *x: F.cross_entropy(*x, **options), tuple(inputs))


# --- dtypes -----------------------------------------------------------------------------------------------------

NAMES = ("float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")
SCALARS = {
    "bool": True,
    "int": 3,
    "float": 1.5,
    "numpy int32": np.int32(3),
    "numpy float32": np.float32(1.5),
    "numpy float64": np.float64(1.5),
}
OPERATORS = {
    "add": lambda a, b: a + b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "compare": lambda a, b: a < b,
    "reversed add": lambda a, b: b + a,
}


def dtype_name(result) -> str:
    return str(result.dtype).split(".")[-1]


@pytest.mark.parametrize("operator", sorted(OPERATORS))
@pytest.mark.parametrize("first_rank, second_rank", [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_promotion_of_tensors(torch, operator: str, first_rank: int, second_rank: int) -> None:
    wrong = []
    for first in NAMES:
        for second in NAMES:
            results = []
            for lib in (torch, tinynet):
                a = lib.ones((2,) * first_rank, dtype=getattr(lib, first))
                b = lib.ones((2,) * second_rank, dtype=getattr(lib, second))
                results.append(dtype_name(OPERATORS[operator](a, b)))
            if results[0] != results[1]:
                wrong.append(f"{first}, {second}: torch {results[0]}, tinynet {results[1]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("operator", ["add", "multiply", "divide", "compare"])
@pytest.mark.parametrize("rank", [0, 1])
def test_promotion_with_scalars(torch, operator: str, rank: int) -> None:
    """torch treats a NumPy scalar on the right as a Python number; so does tinynet, on either side."""
    wrong = []
    for name in NAMES:
        for label, scalar in SCALARS.items():
            results = []
            for lib in (torch, tinynet):
                a = lib.ones((2,) * rank, dtype=getattr(lib, name))
                results.append(dtype_name(OPERATORS[operator](a, scalar)))
            if results[0] != results[1]:
                wrong.append(f"{name}, {label}: torch {results[0]}, tinynet {results[1]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("scalar", [np.float64(2), np.float32(2), np.int64(2)], ids=lambda s: type(s).__name__)
def test_numpy_scalar_on_the_left_keeps_float32(scalar) -> None:
    x = tinynet.ones(3)
    for result in (scalar + x, scalar * x, scalar - x, scalar / x):
        assert isinstance(result, tinynet.Tensor)
        assert result.dtype == tinynet.float32


@pytest.mark.parametrize(
    "name", ["exp", "sqrt", "sigmoid", "relu", "abs", "sum", "mean", "max", "argmax", "float", "var"]
)
def test_dtype_of_a_function(torch, name: str) -> None:
    wrong = []
    for dtype in NAMES:
        results = []
        for lib in (torch, tinynet):
            try:
                results.append(dtype_name(getattr(lib.ones(3, dtype=getattr(lib, dtype)), name)()))
            except (RuntimeError, TypeError):
                results.append("refused")
        if results[0] not in (results[1], "refused"):
            wrong.append(f"{dtype}: torch {results[0]}, tinynet {results[1]}")
    assert not wrong, "\n".join(wrong)


# --- printing ---------------------------------------------------------------------------------------------------

PRINTED = [
    1,
    1.5,
    True,
    [],
    [1, 2, 3],
    [1.0, 2.0],
    [0.1, 0.25, 3.0],
    [[1, 2], [3, 4]],
    [[1.5, -2.0], [0.0, 1e-3]],
    [True, False],
    [float("nan"), 1.0, float("inf")],
    [1e-9, 1.0],
    [1e10, 1.0],
    [100000.0, 0.5],
    [[[1.0], [2.0]]],
    [-1, 10, 100],
    [[1e-5, 2.0]],
    [1e-8],
    list(range(30)),
    [0.5] * 30,
    [[]],
]


def printed(lib, make) -> str:
    return repr(make(lib)).replace("tinynet.", "torch.")


@pytest.mark.parametrize("values", PRINTED, ids=str)
def test_repr_of_values(torch, values) -> None:
    assert printed(tinynet, lambda lib: lib.tensor(values)) == printed(torch, lambda lib: lib.tensor(values))


@pytest.mark.parametrize("name", NAMES)
def test_repr_of_dtypes(torch, name: str) -> None:
    def make(lib):
        return lib.ones(2, 2, dtype=getattr(lib, name))

    assert printed(tinynet, make) == printed(torch, make)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (1001,), (50, 50), (2, 3, 4), (12, 2, 100), (3, 400)], ids=str)
def test_repr_of_shapes(torch, shape) -> None:
    def make(lib):
        return lib.arange(int(np.prod(shape))).reshape(shape).float() / 2

    assert printed(tinynet, make) == printed(torch, make)


def test_repr_of_a_leaf(torch) -> None:
    assert printed(tinynet, lambda lib: lib.ones(2, requires_grad=True)) == printed(
        torch, lambda lib: lib.ones(2, requires_grad=True)
    )
