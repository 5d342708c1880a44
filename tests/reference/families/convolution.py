"""conv2d and conv_transpose2d: strides that do not divide, dilation, groups, padding, layouts."""

from __future__ import annotations

from tests.reference.cases import Case, normal

# name: (input, weight, settings)
CONVOLUTIONS = {
    "plain": ((2, 3, 5, 6), (4, 3, 3, 3), {}),
    "1x1": ((2, 3, 5, 6), (4, 3, 1, 1), {}),
    "1x1 stride 2": ((2, 3, 5, 7), (4, 3, 1, 1), {"stride": 2}),
    "padding 1": ((2, 3, 5, 6), (4, 3, 3, 3), {"padding": 1}),
    "stride not dividing": ((2, 3, 8, 9), (4, 3, 3, 3), {"stride": 2}),
    "stride 3 not dividing": ((1, 2, 9, 11), (3, 2, 2, 2), {"stride": 3, "padding": 1}),
    "stem": ((1, 3, 15, 17), (4, 3, 7, 7), {"stride": 2, "padding": 3}),
    "dilation 2": ((2, 2, 9, 8), (3, 2, 3, 3), {"dilation": 2}),
    "dilation, stride, padding": ((2, 2, 9, 8), (3, 2, 3, 3), {"dilation": 2, "stride": 2, "padding": 2}),
    "rectangular": ((2, 3, 6, 9), (4, 3, 2, 5), {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}),
    "kernel 1x5": ((2, 3, 4, 9), (2, 3, 1, 5), {"padding": (0, 2)}),
    "kernel as large as the input": ((2, 3, 4, 5), (2, 3, 4, 5), {}),
    "stride larger than the kernel": ((1, 2, 11, 10), (3, 2, 2, 2), {"stride": (3, 4)}),
    "padding larger than the kernel": ((1, 2, 3, 3), (3, 2, 2, 2), {"padding": 3}),
    "groups 2": ((2, 4, 5, 6), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
    "groups 3 stride 2": ((1, 6, 7, 6), (3, 2, 3, 3), {"groups": 3, "stride": 2, "padding": 1}),
    "depthwise": ((2, 4, 6, 5), (4, 1, 3, 3), {"groups": 4, "padding": 1}),
    "depthwise multiplier 2 dilated": ((2, 3, 9, 7), (6, 1, 3, 3), {"groups": 3, "dilation": 2, "stride": 2}),
    "padding same": ((2, 3, 5, 6), (4, 3, 3, 3), {"padding": "same"}),
    "padding same, even kernel": ((2, 3, 5, 6), (4, 3, 2, 4), {"padding": "same"}),
    "padding same, dilated": ((1, 2, 7, 8), (2, 2, 3, 2), {"padding": "same", "dilation": (2, 3)}),
    "padding valid": ((2, 3, 5, 6), (4, 3, 3, 3), {"padding": "valid", "stride": 2}),
    "one pixel": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    "one pixel, kernel 3": ((2, 3, 1, 1), (2, 3, 3, 3), {"padding": 1}),
    "batch of 0": ((0, 3, 5, 6), (4, 3, 3, 3), {"stride": 2, "padding": 1}),
    "batch of 1": ((1, 3, 7, 7), (5, 3, 3, 3), {"padding": 1}),
    "unbatched": ((3, 5, 6), (4, 3, 3, 3), {"padding": 1}),
    "larger": ((2, 16, 13, 11), (24, 16, 3, 3), {"padding": 1}),
    "larger 1x1": ((2, 33, 9, 7), (17, 33, 1, 1), {}),
}
TRANSPOSED = {
    "plain": ((2, 3, 4, 5), (3, 2, 3, 3), {}),
    "stride 2": ((2, 3, 4, 5), (3, 2, 3, 3), {"stride": 2}),
    "stride 2 padding 1 output_padding 1": (
        (2, 3, 4, 5),
        (3, 2, 3, 3),
        {"stride": 2, "padding": 1, "output_padding": 1},
    ),
    "doubling": ((2, 3, 4, 5), (3, 2, 2, 2), {"stride": 2}),
    "groups": ((2, 4, 3, 5), (4, 3, 3, 3), {"groups": 2, "stride": 2, "padding": 1}),
    "dilation": ((1, 2, 4, 5), (2, 3, 3, 2), {"dilation": 2, "padding": (1, 0)}),
    "rectangular": (
        (1, 2, 4, 5),
        (2, 3, 2, 4),
        {"stride": (1, 3), "padding": (0, 2), "output_padding": (0, 1)},
    ),
    "1x1 input": ((2, 3, 1, 1), (3, 2, 4, 4), {"stride": 2, "padding": 1}),
    "batch of 0": ((0, 3, 4, 5), (3, 2, 3, 3), {"stride": 2}),
    "unbatched": ((3, 4, 5), (3, 2, 3, 3), {"stride": 2}),
}

WINDOWS = {
    "plain": ((2, 3, 5, 6), {"kernel_size": 3}),
    "all settings": ((2, 2, 9, 8), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}),
    "batch of 0": ((0, 2, 4, 4), {"kernel_size": 2}),
}


def unfold(settings):
    return lambda lib, F, x: F.unfold(x, **settings)


def fold(size, settings):
    """The windows of an image, weighted, added up again."""
    return lambda lib, F, x, y: F.fold(F.unfold(x, **settings) * y[: x.shape[0], :1], size, **settings)


def convolve(settings):
    return lambda lib, F, x, w: F.conv2d(x, w, **settings)


def convolve_with_bias(settings):
    return lambda lib, F, x, w, b: F.conv2d(x, w, b, **settings)


def transposed(settings):
    return lambda lib, F, x, w, b: F.conv_transpose2d(x, w, b, **settings)


CASES = [
    *[Case(f"unfold {n}", unfold(k), (normal(*s),)) for n, (s, k) in WINDOWS.items()],
    *[Case(f"fold {n}", fold(s[2:], k), (normal(*s), normal(2, 1, 1))) for n, (s, k) in WINDOWS.items()],
    *[Case(f"conv2d {n}", convolve(k), (normal(*x), normal(*w))) for n, (x, w, k) in CONVOLUTIONS.items()],
    *[
        Case(f"conv2d with bias, {n}", convolve_with_bias(k), (normal(*x), normal(*w), normal(w[0])))
        for n, (x, w, k) in CONVOLUTIONS.items()
    ],
    *[
        Case(
            f"conv_transpose2d {n}",
            transposed(k),
            (normal(*x), normal(*w), normal(w[1] * k.get("groups", 1))),
        )
        for n, (x, w, k) in TRANSPOSED.items()
    ],
    Case(
        "conv_transpose2d without bias",
        lambda lib, F, x, w: F.conv_transpose2d(x, w, stride=2),
        (normal(2, 3, 4, 5), normal(3, 2, 3, 3)),
    ),
    Case(
        "conv2d of a transposed input",
        lambda lib, F, x, w: F.conv2d(x.transpose(2, 3), w.transpose(2, 3), stride=2),
        (normal(2, 3, 6, 5), normal(4, 3, 2, 3)),
    ),
    Case(
        "conv2d of other layouts",
        lambda lib, F, x, w: F.conv2d(x, w, padding=1),
        (normal(2, 3, 6, 5).lying("transposed"), normal(4, 3, 3, 3).lying("strided")),
    ),
    Case(
        "conv2d of an expanded input",
        lambda lib, F, x, w: F.conv2d(x.expand(2, 3, 6, 5), w, padding=1),
        (normal(2, 1, 6, 1), normal(4, 3, 3, 3)),
    ),
    Case(
        "conv2d constant input",
        lambda lib, F, x, w: F.conv2d(x, w, padding=1),
        (normal(2, 3, 6, 5).constant(), normal(4, 3, 3, 3)),
    ),
    Case(
        "conv2d constant weight",
        lambda lib, F, x, w: F.conv2d(x, w, padding=1),
        (normal(2, 3, 6, 5), normal(4, 3, 3, 3).constant()),
    ),
    Case(
        "conv2d used twice",
        lambda lib, F, x, w: F.conv2d(F.conv2d(x, w, padding=1).relu(), w, padding=1),
        (normal(2, 3, 6, 5), normal(3, 3, 3, 3)),
    ),
]
