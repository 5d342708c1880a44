"""Max, average and adaptive average pooling."""

from __future__ import annotations

from tests.reference.cases import Case, fixed, normal, rounded

MAXIMUM = {
    "2": ((2, 3, 6, 7), {"kernel_size": 2}),
    "3 stride 2 padding 1": ((2, 3, 7, 8), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "3 stride 1": ((2, 3, 5, 6), {"kernel_size": 3, "stride": 1}),
    "rectangular": ((1, 2, 7, 9), {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0)}),
    "dilation": ((1, 2, 9, 9), {"kernel_size": 3, "stride": 2, "dilation": 2, "padding": 1}),
    "ceil_mode": ((2, 3, 6, 7), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "ceil_mode with padding": (
        (1, 2, 5, 6),
        {"kernel_size": 2, "stride": 2, "padding": 1, "ceil_mode": True},
    ),
    "ceil_mode, last window in the padding": (
        (1, 2, 4, 5),
        {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True},
    ),
    "stride larger than the kernel": ((1, 2, 9, 8), {"kernel_size": 2, "stride": 3, "ceil_mode": True}),
    "one pixel": ((2, 3, 1, 1), {"kernel_size": 1}),
    "unbatched": ((3, 6, 7), {"kernel_size": 2}),
}
AVERAGE = {
    "2": ((2, 3, 6, 7), {"kernel_size": 2}),
    "3 stride 2 padding 1": ((2, 3, 7, 8), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "padding not counted": (
        (2, 3, 7, 8),
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    ),
    "divisor": ((2, 3, 7, 8), {"kernel_size": 3, "stride": 2, "padding": 1, "divisor_override": 5}),
    "ceil_mode": ((2, 3, 6, 7), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "ceil_mode with padding": (
        (1, 2, 5, 6),
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    ),
    "ceil_mode, padding not counted": (
        (1, 2, 6, 5),
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
    ),
    "ceil_mode with divisor": (
        (1, 2, 6, 7),
        {"kernel_size": 3, "stride": 2, "ceil_mode": True, "divisor_override": 7},
    ),
    "rectangular": ((1, 2, 7, 9), {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0)}),
    "stride larger than the kernel": ((1, 2, 9, 8), {"kernel_size": 2, "stride": 3}),
    "unbatched": ((3, 6, 7), {"kernel_size": 2}),
}
ADAPTIVE = [
    ((2, 3, 6, 7), 1),
    ((2, 3, 6, 7), (1, 1)),
    ((2, 3, 6, 7), (3, 4)),
    ((1, 2, 5, 5), (7, 3)),
    ((1, 2, 8, 8), 4),
    ((1, 2, 7, 9), (None, 2)),
    ((3, 6, 7), (2, 3)),
    ((0, 3, 4, 4), 1),
    ((1, 1, 1, 1), 2),
    ((2, 2, 13, 10), (5, 4)),
]
NAN = float("nan")
INFINITE = float("-inf")


def maximum(settings):
    return lambda lib, F, x: F.max_pool2d(x, **settings)


def maximum_and_indices(settings):
    return lambda lib, F, x: F.max_pool2d(x, **settings, return_indices=True)


def average(settings):
    return lambda lib, F, x: F.avg_pool2d(x, **settings)


def adaptive(size):
    return lambda lib, F, x: F.adaptive_avg_pool2d(x, size)


OVERLAPPING = {"kernel_size": 3, "stride": 2, "padding": 1}

CASES = [
    *[Case(f"max {name}", maximum_and_indices(k), (normal(*s),)) for name, (s, k) in MAXIMUM.items()],
    *[Case(f"max ties {name}", maximum_and_indices(k), (rounded(*s),)) for name, (s, k) in MAXIMUM.items()],
    *[Case(f"average {name}", average(k), (normal(*s),)) for name, (s, k) in AVERAGE.items()],
    *[Case(f"adaptive {s} to {size}", adaptive(size), (normal(*s),)) for s, size in ADAPTIVE],
    Case("max of a batch of 0", maximum(OVERLAPPING), (normal(0, 3, 6, 6),)),
    Case("average of a batch of 0", average(OVERLAPPING), (normal(0, 3, 6, 6),)),
    Case(
        "max NaN",
        maximum(OVERLAPPING),
        (fixed([[[[1, 2, NAN, 4], [1, 2, 3, 4], [NAN, NAN, 1, 0], [5, 5, 5, 5]]]]),),
    ),
    Case("max of all NaN", maximum_and_indices({"kernel_size": 2}), (fixed([[[[NAN] * 4] * 4]]),)),
    Case("max of all -inf", maximum_and_indices(OVERLAPPING), (fixed([[[[INFINITE] * 5] * 4]]),)),
    Case("max of some -inf", maximum_and_indices(OVERLAPPING), (fixed([[[[INFINITE] * 4, [1, 2, 3, 4]] * 2]]),)),
    Case("average NaN", average(OVERLAPPING), (fixed([[[[1, 2, NAN, 4], [1, 2, 3, 4]] * 2]]),)),
    Case(
        "max of a transposed input",
        lambda lib, F, x: F.max_pool2d(x.transpose(2, 3), 2),
        (normal(2, 3, 7, 6),),
    ),
    Case(
        "average of a transposed input",
        lambda lib, F, x: F.avg_pool2d(x.transpose(1, 3), 2),
        (normal(2, 6, 7, 3),),
    ),
    Case(
        "adaptive of a transposed input",
        lambda lib, F, x: F.adaptive_avg_pool2d(x, 3),
        (normal(2, 3, 7, 6).lying("transposed"),),
    ),
    Case("max positional", lambda lib, F, x: F.max_pool2d(x, 3, 2, 1), (normal(2, 3, 7, 6),)),
    Case("average positional", lambda lib, F, x: F.avg_pool2d(x, 3, 2, 1, False, False), (normal(2, 3, 7, 6),)),
    Case("max large", maximum(OVERLAPPING), (normal(2, 8, 21, 19),)),
]
