# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   tinynet:
#     allowed: [numpy, math]
#     refused: []
# ---

# %% [markdown]
# # Assignment 2: Convolution, forward and backward
#
# **Goal.** You write a convolution layer with everything that a real network asks of it: stride, padding and dilation,
# each different down and across, a bias, and all three gradients. At the end a ResNet-50 with its feature pyramid runs
# on your `im2col`, layer by layer with torch's numbers.
#
# **You need:** lesson 3 (im2col and col2im), lesson 1 (the gradients of a matrix product). **Time:** two to three hours.
# **Points:** 20.
#
# | task | points |
# |---|---|
# | 1 · How many windows fit | 2 |
# | 2 · im2col | 4 |
# | 3 · Forward: one matrix product | 2 |
# | 4 · The gradients of weight and bias | 3 |
# | 5 · The gradient of the columns | 2 |
# | 6 · col2im | 4 |
# | 7 · Finale: ResNet-50-FPN on your functions | 3 |
#
# **How to work.** Replace the lines `# YOUR CODE HERE` and `raise NotImplementedError()` with your code. Below each task
# stand checks that say at once what is wrong. Your submission is graded by them and by further tests with other shapes
# and fresh random numbers. Tasks 3, 4 and 5 need none of the others; `im2col` and `col2im` may call your `output_size`.
#
# **Your own work.** Everything is to be computed with NumPy and plain Python; no other library can be imported.
# tinynet has an answer to each task (`tinynet.kernels.im2col`, `F.unfold`, `F.conv2d`, ...): its use is refused. Keep the
# names and parameters of the functions. Cells without `YOUR CODE HERE` are given: they are replaced by the original ones
# before grading.
#
# **Names.** All sizes come as pairs, *(down, across)*: `kernel` is (kernel height, kernel width), and `stride`, `padding`
# and `dilation` are such pairs of ints, too. $N$ images, $C$ input channels, $O$ output channels, input $H \times W$,
# kernel $k_0 \times k_1$, output $R \times Q$ (rows and columns), stride $s$, padding $p$, dilation $d$.

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import numpy as np

# %% [markdown]
# ## Task 1 · How many windows fit · 2 points
#
# Along one axis of length $S$ a window of $k$ weights with dilation $d$ reaches over $d (k - 1) + 1$ numbers, and there
# are $S + 2p$ of them with the padding. The window starts at the left end and moves on by the stride as long as it fits:
#
# $$\Big\lfloor \frac{S + 2p - d (k - 1) - 1}{s} \Big\rfloor + 1$$
#
# If it does not fit even once, there is no output, and a layer should say so instead of returning something strange.


# %% nbgrader={"grade": false, "grade_id": "output_size", "locked": false, "schema_version": 3, "solution": true, "task": false}
def output_size(size, kernel, stride, padding, dilation):
    """Rows and columns of a convolution's output.

    Args:
        size: pair of ints, (height, width) of the input.
        kernel, stride, padding, dilation: pairs of ints, (down, across). Kernel, stride and dilation are at least 1,
            the padding at least 0; it stands on both sides of the image.

    Returns:
        tuple of two ints, (rows, columns).

    Raises:
        ValueError: along one of the axes the window reaches over more numbers than the padded input has.
    """
    ### BEGIN SOLUTION
    sizes = []
    for axis in range(2):
        free = size[axis] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1
        if free < 0:
            raise ValueError(f"a kernel of {kernel} does not fit an input of {tuple(size)} with padding {padding}")
        sizes.append(free // stride[axis] + 1)
    return tuple(sizes)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "output_size-values", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Sizes of some layers.
found = output_size((7, 8), (3, 3), (1, 1), (0, 0), (1, 1))
assert found is not None, "output_size returned None: is there a return?"
assert tuple(found) != (4, 5), "7 numbers, 3 weights: the window can be moved by 4, so it stands at 5 places (add 1)"
assert tuple(found) == (5, 6), f"7×8 pixels, kernel 3×3: the output is (5, 6), not {found}"
cases = {
    "padding 1 stands on both sides, so 5×5 becomes 7×7": (((5, 5), (3, 3), (1, 1), (1, 1), (1, 1)), (5, 5)),
    "stride 2: what is left over is dropped": (((7, 8), (3, 3), (2, 2), (0, 0), (1, 1)), (3, 3)),
    "dilation 2: three weights reach over five numbers": (((7, 9), (3, 3), (1, 1), (0, 0), (2, 2)), (3, 5)),
    "down and across are different": (((9, 8), (3, 2), (2, 1), (1, 0), (2, 3)), (4, 5)),
}
for words, (case, expected) in cases.items():
    found = output_size(*case)
    assert tuple(found) == expected, f"{words}: output_size{case} should be {expected}, not {tuple(found)}"
    whole = all(isinstance(number, (int, np.integer)) for number in found)
    assert whole, f"sizes are whole numbers, not {found}: divide with //"


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import fresh_generator, require_own_work

    require_own_work(output_size)
    rng = fresh_generator()
    for _ in range(60):
        kernel, stride, dilation = (tuple(int(number) for number in rng.integers(1, 4, 2)) for _ in range(3))
        padding = tuple(int(number) for number in rng.integers(0, 3, 2))
        size = tuple(int(number) for number in rng.integers(7, 15, 2))
        expected = tuple(
            sum(start + d * (k - 1) < s + 2 * p for start in range(0, s + 2 * p, step))
            for s, k, step, p, d in zip(size, kernel, stride, padding, dilation)
        )
        found = output_size(size, kernel, stride, padding, dilation)
        words = f"size {size}, kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}"
        assert isinstance(found, (tuple, list)) and tuple(found) == expected, (
            f"for {words} the output is {expected}, not {found}"
        )


hidden_tests()
### END HIDDEN TESTS


# %% nbgrader={"grade": true, "grade_id": "output_size-too-large", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# A kernel that does not fit is refused, a kernel that just fits is not.
def refuses(*case):
    try:
        output_size(*case)
    except ValueError:
        return True
    return False


assert tuple(output_size((3, 5), (3, 5), (2, 2), (0, 0), (1, 1))) == (1, 1), "a kernel as large as the input fits once"
assert refuses((2, 5), (3, 3), (1, 1), (0, 0), (1, 1)), "a 3×3 kernel does not fit on 2×5 pixels: raise a ValueError"
assert refuses((5, 2), (3, 3), (1, 1), (0, 0), (1, 1)), "a 3×3 kernel does not fit on 5×2 pixels, either: ValueError"


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import require_own_work

    require_own_work(output_size)
    assert refuses((4, 4), (3, 3), (1, 1), (0, 0), (2, 2)), (
        "3 weights with dilation 2 reach over 5 numbers: they do not fit on 4"
    )
    assert refuses((9, 1), (1, 4), (3, 3), (1, 1), (1, 1)), (
        "4 weights do not fit on 1 + 2 numbers, whatever the stride is"
    )
    assert not refuses((4, 4), (3, 3), (1, 1), (1, 1), (2, 2)), (
        "with padding 1, 3 weights with dilation 2 fit on 4 + 2 numbers"
    )
    assert not refuses((1, 1), (3, 3), (2, 2), (1, 1), (1, 1)), "with padding 1, a 3×3 kernel fits on a single pixel"
    found = output_size((4, 5), (2, 3), (2, 3), (0, 1), (3, 3))
    assert tuple(found) == (1, 1), f"a window that just fits stands at (1, 1) places, not {found}"


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2 · im2col · 4 points
#
# Every window becomes a column. The column of the output place (row $r$, column $q$) holds, for all channels $c$ and
# weights $(i, j)$, the number that this weight meets there:
#
# $$X_{n,\;(c\,k_0 + i)\,k_1 + j,\;\; r\,Q + q} \;=\; x_{n,\,c,\;\; r s_0 + i d_0 - p_0,\;\; q s_1 + j d_1 - p_1}$$
#
# and 0 where that index lies outside of the image. Write it with slices: for each weight $(i, j)$ one assignment that
# takes all places of all images and channels at once. A loop over images, channels or places would be far too slow for
# the finale.


# %% nbgrader={"grade": false, "grade_id": "im2col", "locked": false, "schema_version": 3, "solution": true, "task": false}
def im2col(x, kernel, stride, padding, dilation):
    """The windows of x as the columns of a matrix.

    Args:
        x: array of shape (N, C, H, W), float32 or float64. It must not change.
        kernel, stride, padding, dilation: pairs of ints, (down, across). The kernel fits.

    Returns:
        array of the dtype of x and the shape (N, C·k0·k1, R·Q), as in the formula: the rows go through the channels,
        then the kernel's rows, then its columns; the columns go through the output's rows, then its columns.
    """
    ### BEGIN SOLUTION
    images, channels, height, width = x.shape
    rows, columns = output_size((height, width), kernel, stride, padding, dilation)
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    windows = np.empty((images, channels, *kernel, rows, columns), x.dtype)
    for i, j in np.ndindex(*kernel):
        down = slice(i * dilation[0], i * dilation[0] + (rows - 1) * stride[0] + 1, stride[0])
        across = slice(j * dilation[1], j * dilation[1] + (columns - 1) * stride[1] + 1, stride[1])
        windows[:, :, i, j] = padded[:, :, down, across]
    return windows.reshape(images, channels * kernel[0] * kernel[1], rows * columns)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "im2col-plain", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Stride 1, no padding, no dilation.
x = np.arange(1.0, 13).reshape(1, 1, 3, 4)
found = im2col(x, (2, 3), (1, 1), (0, 0), (1, 1))
expected = np.array([[1, 2, 5, 6], [2, 3, 6, 7], [3, 4, 7, 8], [5, 6, 9, 10], [6, 7, 10, 11], [7, 8, 11, 12]])
assert found is not None, "im2col returned None: is there a return?"
assert np.shape(found) != (1, 4, 6), "your windows are rows: they should be the columns, shape (1, 6, 4)"
assert np.shape(found) == (1, 6, 4), (
    f"a 2×3 kernel on 3×4 pixels has 6 weights and 4 windows: shape (1, 6, 4), not {np.shape(found)}"
)
assert np.allclose(found[0], expected), (
    f"for the image\n{x[0, 0]}\nand a 2×3 kernel the columns are\n{expected}\nyours are\n{found[0]}"
)
found = im2col(np.stack([x[0], 100 * x[0]], axis=1), (1, 1), (1, 1), (0, 0), (1, 1))
assert np.allclose(found[0, :, 0], [1, 100]), (
    "with two channels and a 1×1 kernel a column has the channels' numbers below each other"
)
assert im2col(x.astype(np.float32), (1, 1), (1, 1), (0, 0), (1, 1)).dtype == np.float32, (
    "float32 went in, another dtype came out: allocate with x.dtype"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet import kernels
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(im2col)
    rng = fresh_generator()
    for shape, kernel in (((2, 3, 5, 6), (3, 2)), ((1, 2, 4, 4), (3, 3)), ((2, 2, 6, 6), (2, 2))):
        x = rng.standard_normal(shape)
        case = (kernel, (1, 1), (0, 0), (1, 1))
        with kernels.backend("numpy"):
            expected = kernels.im2col(x, *case)
        taps = expected.reshape(*shape[:2], *kernel, -1)
        wrong = {
            "the kernel's columns go before its rows": taps.swapaxes(2, 3).reshape(expected.shape),
            "the channels go last, not first": taps.transpose(0, 2, 3, 1, 4).reshape(expected.shape),
            "the kernel is turned around": taps[:, :, ::-1, ::-1].reshape(expected.shape),
        }
        compare(im2col(x.copy(), *case), expected, f"im2col of {shape} with kernel {kernel}", rtol=1e-12, wrong=wrong)
        single = im2col(x.astype(np.float32), *case)
        compare(single, expected, f"im2col of {shape} in float32", rtol=1e-6, dtype=np.float32)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "im2col-stride", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Strides, also different ones down and across.
x = np.arange(1.0, 26).reshape(1, 1, 5, 5)
found = im2col(x, (1, 1), (2, 2), (0, 0), (1, 1))
assert np.shape(found) == (1, 1, 9), (
    f"a 1×1 kernel with stride 2 on 5×5 pixels has 9 windows: shape (1, 1, 9), not {np.shape(found)}"
)
assert np.allclose(found[0, 0], [1, 3, 5, 11, 13, 15, 21, 23, 25]), (
    f"stride 2 takes every second pixel of every second row, yours takes {found[0, 0]}"
)
found = im2col(x, (1, 1), (2, 4), (0, 0), (1, 1))
assert np.shape(found) == (1, 1, 6), (
    f"stride (2, 4) on 5×5 pixels has 3·2 windows: shape (1, 1, 6), not {np.shape(found)}"
)
assert not np.allclose(found[0, 0], [1, 3, 11, 13, 21, 23]), "the stride down is used across, too: here it is (2, 4)"
assert np.allclose(found[0, 0], [1, 5, 11, 15, 21, 25]), (
    f"stride (2, 4) goes 2 down and 4 across, to the pixels 1, 5, 11, 15, 21, 25; yours takes {found[0, 0]}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet import kernels
    from tinynet.grading import compare, fresh_generator, require_own_work
    from tinynet.kernels.geometry import convolution_output_size

    require_own_work(im2col)
    rng = fresh_generator()
    for shape, kernel, stride in (
        ((2, 2, 9, 9), (3, 3), (2, 2)),
        ((1, 2, 8, 7), (3, 2), (2, 1)),
        ((2, 1, 7, 10), (2, 3), (1, 3)),
    ):
        x = rng.standard_normal(shape)
        rows, columns = convolution_output_size(shape[2:], kernel, stride, (0, 0), (1, 1))

        def with_stride(*stride):
            size = convolution_output_size(shape[2:], kernel, stride, (0, 0), (1, 1))
            with kernels.backend("numpy"):
                windows = kernels.im2col(x, kernel, stride, (0, 0), (1, 1)).reshape(shape[0], -1, *size)
            return windows[:, :, :rows, :columns].reshape(shape[0], -1, rows * columns)

        wrong = {
            "the stride is ignored": with_stride(1, 1),
            "the stride down is ignored (axis 2)": with_stride(1, stride[1]),
            "the stride across is ignored (axis 3)": with_stride(stride[0], 1),
        }
        expected = with_stride(*stride)
        wrong = {words: array for words, array in wrong.items() if not np.array_equal(array, expected)}
        compare(
            im2col(x.copy(), kernel, stride, (0, 0), (1, 1)),
            expected,
            f"im2col of {shape} with kernel {kernel} and stride {stride}",
            rtol=1e-12,
            wrong=wrong,
        )


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "im2col-padding", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Padding, on both sides of each axis.
x = np.arange(1.0, 5).reshape(1, 1, 2, 2)
found = im2col(x, (1, 1), (1, 1), (1, 1), (1, 1))
assert np.shape(found) == (1, 1, 16), f"with padding 1, 2×2 pixels become 4×4: shape (1, 1, 16), not {np.shape(found)}"
image = np.asarray(found).reshape(4, 4)
assert np.allclose(image[1:3, 1:3], x[0, 0]), f"the image should stand in the middle of its padding, yours is\n{image}"
assert np.isclose(np.abs(image).sum(), 10), f"the padding should be zeros, yours is\n{image}"
found = im2col(x, (1, 1), (1, 1), (0, 1), (1, 1))
assert np.shape(found) == (1, 1, 8), f"padding (0, 1) adds columns only: 2×4 windows, not {np.shape(found)[-1]} in all"


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet import kernels
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(im2col)
    rng = fresh_generator()
    for shape, kernel, padding in (
        ((2, 2, 5, 6), (3, 3), (1, 1)),
        ((1, 2, 6, 4), (3, 2), (2, 0)),
        ((2, 1, 4, 5), (2, 3), (1, 2)),
        ((1, 2, 1, 1), (3, 3), (1, 1)),
    ):
        x = rng.standard_normal(shape)
        zeros = ((0, 0), (0, 0))
        with kernels.backend("numpy"):
            expected = kernels.im2col(x, kernel, (1, 1), padding, (1, 1))
            behind, swapped = (
                kernels.im2col(np.pad(x, (*zeros, *sides)), kernel, (1, 1), (0, 0), (1, 1))
                for sides in (((0, 2 * padding[0]), (0, 2 * padding[1])), ((padding[1],) * 2, (padding[0],) * 2))
            )
            edges = kernels.im2col(
                np.pad(x, (*zeros, (padding[0],) * 2, (padding[1],) * 2), mode="edge"), kernel, (1, 1), (0, 0), (1, 1)
            )
        wrong = {
            "the padding stands behind the image only": behind,
            "the border is repeated, the padding should be zeros": edges,
        }
        if padding[0] != padding[1] and swapped.shape == expected.shape:
            wrong["padding down and padding across are exchanged"] = swapped
        compare(
            im2col(x.copy(), kernel, (1, 1), padding, (1, 1)),
            expected,
            f"im2col of {shape} with kernel {kernel} and padding {padding}",
            rtol=1e-12,
            wrong=wrong,
        )


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "im2col-dilation", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Dilation: gaps between the weights.
x = np.arange(1.0, 26).reshape(1, 1, 5, 5)
found = im2col(x, (3, 3), (1, 1), (0, 0), (2, 2))
assert np.shape(found) == (1, 9, 1), (
    f"a 3×3 kernel with dilation 2 fits once on 5×5 pixels: shape (1, 9, 1), not {np.shape(found)}"
)
assert np.allclose(found[0, :, 0], [1, 3, 5, 11, 13, 15, 21, 23, 25]), (
    f"with dilation 2 the weights meet every second pixel, yours meet {found[0, :, 0]}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet import kernels
    from tinynet.grading import compare, fresh_generator, require_own_work
    from tinynet.kernels.geometry import convolution_output_size

    require_own_work(im2col)
    rng = fresh_generator()
    for shape, kernel, stride, padding, dilation in (
        ((2, 2, 9, 9), (3, 3), (1, 1), (0, 0), (2, 2)),
        ((1, 2, 8, 9), (2, 3), (1, 1), (0, 0), (3, 1)),
        ((2, 1, 9, 8), (3, 2), (2, 1), (1, 2), (2, 3)),
    ):
        x = rng.standard_normal(shape)
        rows, columns = convolution_output_size(shape[2:], kernel, stride, padding, dilation)

        def with_dilation(*dilation):
            size = convolution_output_size(shape[2:], kernel, stride, padding, dilation)
            with kernels.backend("numpy"):
                windows = kernels.im2col(x, kernel, stride, padding, dilation).reshape(shape[0], -1, *size)
            return windows[:, :, :rows, :columns].reshape(shape[0], -1, rows * columns)

        expected = with_dilation(*dilation)
        wrong = {
            "the dilation is forgotten": with_dilation(1, 1),
            "the dilation down is forgotten (axis 2)": with_dilation(1, dilation[1]),
            "the dilation across is forgotten (axis 3)": with_dilation(dilation[0], 1),
        }
        wrong = {words: array for words, array in wrong.items() if not np.array_equal(array, expected)}
        words = f"im2col of {shape} with kernel {kernel}, stride {stride}, padding {padding} and dilation {dilation}"
        compare(im2col(x.copy(), kernel, stride, padding, dilation), expected, words, rtol=1e-12, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3 · Forward: one matrix product · 2 points
#
# With the columns $X_n$ of image $n$ and the weight as a matrix $W$ of shape $(O, C k_0 k_1)$, the output is
#
# $$Y_n = W X_n + b ,$$
#
# a matrix of shape $(O, R Q)$, where $b_o$ is added to all places of channel $o$. In memory the weight is already in the
# right order: its numbers go through channels, kernel rows, kernel columns, as the rows of $X$ do. This function gets the
# columns, so it does not need your `im2col`.


# %% nbgrader={"grade": false, "grade_id": "convolve_columns", "locked": false, "schema_version": 3, "solution": true, "task": false}
def convolve_columns(columns, weight, bias, size):
    """The output of a convolution from the columns of its input.

    Args:
        columns: array of shape (N, C·k0·k1, R·Q), as im2col returns it.
        weight: array of shape (O, C, k0, k1).
        bias: array of shape (O,).
        size: pair of ints, the output's (R, Q).

    Returns:
        array of shape (N, O, R, Q), in the dtype of the columns (all arguments have the same).
    """
    ### BEGIN SOLUTION
    y = weight.reshape(len(weight), -1) @ columns + bias.reshape(-1, 1)
    return y.reshape(len(columns), len(weight), *size)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "convolve_columns-product", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The product (the bias is 0).
columns = np.arange(12.0).reshape(1, 4, 3)  # one image, one channel, kernel 2×2, output 1×3
weight = np.array([[[[1.0, 10.0], [100.0, 1000.0]]], [[[0.0, 0.0], [0.0, 1.0]]]])
found = convolve_columns(columns, weight, np.zeros(2), (1, 3))
assert found is not None, "convolve_columns returned None: is there a return?"
assert np.shape(found) == (1, 2, 1, 3), (
    f"one image, 2 output channels, 1×3 places: shape (1, 2, 1, 3), not {np.shape(found)}"
)
assert not np.allclose(found[0, 1, 0], columns[0, 0]), (
    "the kernel is turned around: its last weight should meet the last row of the columns"
)
assert np.allclose(found[0, 1, 0], [9, 10, 11]), (
    f"a kernel with a single 1 at its end picks the last row of the columns, [9, 10, 11], not {found[0, 1, 0]}"
)
assert np.allclose(found[0, 0, 0], [9630, 10741, 11852]), (
    f"the first output is 0·1 + 3·10 + 6·100 + 9·1000 = 9630, ..., yours are {found[0, 0, 0]}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(convolve_columns)
    rng = fresh_generator()
    for images, channels, kernel, outputs, size in (
        (3, 2, (3, 3), 4, (2, 5)),
        (2, 3, (2, 1), 5, (3, 3)),
        (1, 4, (1, 1), 4, (2, 2)),
    ):
        weight = rng.standard_normal((outputs, channels, *kernel))
        columns = rng.standard_normal((images, channels * kernel[0] * kernel[1], size[0] * size[1]))
        taps = columns.reshape(images, channels, *kernel, *size)
        expected = np.einsum("ocij,ncijrq->norq", weight, taps)
        wrong = {
            "the kernel is turned around (flipped)": np.einsum("ocij,ncijrq->norq", weight[:, :, ::-1, ::-1], taps),
            "only the last input channel arrives": np.einsum("oij,nijrq->norq", weight[:, -1], taps[:, -1]),
            "a mean over the input channels stands where a sum should": expected / channels,
        }
        wrong = {words: array for words, array in wrong.items() if not np.allclose(array, expected)}
        words = f"{images} images, weight {weight.shape}, output {size}"
        compare(convolve_columns(columns, weight, np.zeros(outputs), size), expected, words, rtol=1e-9, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "convolve_columns-bias", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The bias: one number for each output channel.
columns, weight, bias = np.zeros((2, 4, 3)), np.zeros((3, 1, 2, 2)), np.array([1.0, 10.0, 100.0])
found = convolve_columns(columns, weight, bias, (1, 3))
assert np.shape(found) == (2, 3, 1, 3), (
    f"two images, 3 output channels, 1×3 places: shape (2, 3, 1, 3), not {np.shape(found)}"
)
assert np.asarray(found).any(), "with zeros as columns the output is the bias, yours is 0: is the bias added?"
assert not np.allclose(found[0, 0, 0], bias), "your bias goes along the places: it has one number for each *channel*"
assert np.allclose(found[0, :, 0, 0], bias) and np.allclose(found[1, :, 0, 2], bias), (
    f"all places of channel o hold bias[o]; yours are\n{found}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(convolve_columns)
    rng = fresh_generator()
    for images, outputs, size in ((3, 4, (2, 2)), (2, 3, (2, 5)), (4, 4, (1, 1))):
        weight, bias = rng.standard_normal((outputs, 2, 1, 1)), rng.standard_normal(outputs)
        columns = rng.standard_normal((images, 2, size[0] * size[1]))
        product = np.einsum("oc,ncl->nol", weight[:, :, 0, 0], columns).reshape(images, outputs, *size)
        wrong = {"the bias is forgotten": product, "the bias is subtracted": product - bias[:, None, None]}
        if outputs == size[0] * size[1]:
            wrong["the bias goes along the places, not along the channels"] = product + bias.reshape(size)
        words = f"{images} images, {outputs} output channels with a bias, output {size}"
        compare(
            convolve_columns(columns, weight, bias, size), product + bias[:, None, None], words, rtol=1e-9, wrong=wrong
        )


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4 · The gradients of weight and bias · 3 points
#
# Let $G_n$ of shape $(O, R Q)$ be the gradient at $Y_n$. From $Y_n = W X_n + b$, with the same $W$ and $b$ for all images
# and the same $b_o$ at all places:
#
# $$\frac{\partial L}{\partial W} = \sum_n G_n X_n^T , \qquad
# \frac{\partial L}{\partial b_o} = \sum_n \sum_{r, q} G_{n,\,o,\,r,\,q} .$$


# %% nbgrader={"grade": false, "grade_id": "parameter_gradients", "locked": false, "schema_version": 3, "solution": true, "task": false}
def parameter_gradients(grad, columns, weight_shape):
    """The gradients of a convolution's weight and bias.

    Args:
        grad: array of shape (N, O, R, Q), the gradient of the output.
        columns: array of shape (N, C·k0·k1, R·Q), as im2col returns it for the input.
        weight_shape: tuple of ints, (O, C, k0, k1).

    Returns:
        tuple (grad_weight, grad_bias): arrays of the shapes weight_shape and (O,), in the dtype of grad.
    """
    ### BEGIN SOLUTION
    flat = grad.reshape(*grad.shape[:2], -1)
    grad_weight = (flat @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(weight_shape)
    return grad_weight, flat.sum(axis=(0, 2))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "parameter_gradients-weight", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# The weight's gradient.
columns = np.stack([np.arange(12.0).reshape(4, 3), np.ones((4, 3))])  # two images, kernel 2×2, output 1×3
grad = np.array([[[[1.0, 0.0, 0.0]]], [[[10.0, 20.0, 30.0]]]])  # one output channel
answer = parameter_gradients(grad, columns, (1, 1, 2, 2))
assert isinstance(answer, (tuple, list)) and len(answer) == 2, "return two arrays: the gradients of weight and of bias"
found = answer[0]
assert np.shape(found) != (2, 1, 1, 2, 2), (
    "you have a gradient for each image: all images use the same weight, so add them up"
)
assert np.shape(found) == (1, 1, 2, 2), (
    f"the gradient of the weight has the weight's shape (1, 1, 2, 2), yours has {np.shape(found)}"
)
expected = np.array([[[[60.0, 63.0], [66.0, 69.0]]]])
assert not np.allclose(found, expected[:, :, ::-1, ::-1]), (
    "the kernel is turned around: the first row of the columns belongs to its first weight"
)
assert not np.allclose(found, expected / 2), (
    "the weight's gradient is half of what it should be: a sum over the images, not a mean"
)
assert np.allclose(found, expected), (
    f"the images contribute [0, 3, 6, 9] and [60, 60, 60, 60]: together {expected.ravel()}, yours is {np.ravel(found)}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(parameter_gradients)
    rng = fresh_generator()
    for images, channels, kernel, outputs, size in (
        (3, 2, (3, 3), 4, (2, 5)),
        (2, 3, (2, 3), 3, (3, 3)),
        (4, 2, (2, 2), 8, (2, 4)),
    ):
        grad = rng.standard_normal((images, outputs, *size))
        columns = rng.standard_normal((images, channels * kernel[0] * kernel[1], size[0] * size[1]))
        taps = columns.reshape(images, channels, *kernel, *size)
        expected = np.einsum("norq,ncijrq->ocij", grad, taps)
        wrong = {
            "a mean over the images stands where a sum should (the gradient is averaged)": expected / images,
            "only the last image counts: the images' gradients are added up": np.einsum(
                "orq,cijrq->ocij", grad[-1], taps[-1]
            ),
            "the kernel is turned around (flipped)": expected[:, :, ::-1, ::-1],
            "a mean over the places stands where a sum should": expected / (size[0] * size[1]),
        }
        if outputs == channels * kernel[0] * kernel[1]:
            wrong["transposed: it is G times the transpose of X"] = expected.reshape(outputs, -1).T.reshape(
                expected.shape
            )
        words = f"the gradient of a weight {expected.shape} for {images} images"
        compare(parameter_gradients(grad, columns, expected.shape)[0], expected, words, rtol=1e-9, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "parameter_gradients-bias", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The bias' gradient.
grad = np.arange(12.0).reshape(2, 3, 1, 2)  # two images, three output channels, 1×2 places
answer = parameter_gradients(grad, np.zeros((2, 4, 2)), (3, 1, 2, 2))
assert isinstance(answer, (tuple, list)) and len(answer) == 2, "return two arrays: the gradients of weight and of bias"
found = answer[1]
assert np.shape(found) != (2, 3), "you have a gradient for each image: all images use the same bias, so add them up"
assert np.shape(found) == (3,), (
    f"the gradient of the bias has the bias' shape (3,), yours has {np.shape(found)}: each place of each image used it"
)
assert not np.allclose(found, [7, 11, 15]), "the bias' gradient is a mean over the images: add them up"
assert not np.allclose(found, [3.5, 5.5, 7.5]), "the bias' gradient is a mean: every place used the bias, so add up"
assert np.allclose(found, [14, 22, 30]), (
    f"channel 0 has the gradients 0, 1 and 6, 7, so its bias gets 14; all three: [14, 22, 30], not {found}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(parameter_gradients)
    rng = fresh_generator()
    for images, outputs, size in ((3, 4, (2, 5)), (3, 3, (3, 3)), (2, 2, (1, 1))):
        grad = rng.standard_normal((images, outputs, *size))
        expected = np.array([grad[:, channel].sum() for channel in range(outputs)])
        wrong = {
            "not summed over the batch: only the first image counts": grad[0].sum((1, 2)),
            "a mean over all places and images stands where a sum should": expected / (images * size[0] * size[1]),
            "a mean over the images stands where a sum should": expected / images,
            "a mean over the places stands where a sum should": expected / (size[0] * size[1]),
        }
        if images == outputs:
            wrong["summed over the channels instead of over the batch"] = grad.sum((1, 2, 3))
        wrong = {words: array for words, array in wrong.items() if not np.allclose(array, expected)}
        answer = parameter_gradients(grad, rng.standard_normal((images, 8, size[0] * size[1])), (outputs, 2, 2, 2))
        compare(
            answer[1],
            expected,
            f"the gradient of the bias for {images} images, {outputs} channels, output {size}",
            rtol=1e-9,
            wrong=wrong,
        )


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5 · The gradient of the columns · 2 points
#
# The other operand of $W X_n$. Each image has columns of its own, so nothing is added up over the images:
#
# $$\frac{\partial L}{\partial X_n} = W^T G_n$$


# %% nbgrader={"grade": false, "grade_id": "columns_gradient", "locked": false, "schema_version": 3, "solution": true, "task": false}
def columns_gradient(grad, weight):
    """The gradient of a convolution's columns.

    Args:
        grad: array of shape (N, O, R, Q), the gradient of the output.
        weight: array of shape (O, C, k0, k1).

    Returns:
        array of shape (N, C·k0·k1, R·Q), in the dtype of grad: the columns' own shape and order.
    """
    ### BEGIN SOLUTION
    flat = grad.reshape(*grad.shape[:2], -1)
    return weight.reshape(len(weight), -1).T @ flat
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "columns_gradient-channels", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Kernels of 1×1: what the channels do.
weight = np.array([[1.0, 2.0], [10.0, 20.0]]).reshape(2, 2, 1, 1)  # 2 channels in, 2 out
found = columns_gradient(np.array([1.0, 0.0]).reshape(1, 2, 1, 1), weight)
assert found is not None, "columns_gradient returned None: is there a return?"
assert not np.allclose(np.ravel(found), [1, 10]), (
    "the weight is not transposed: output 0 was made with the weights 1 and 2, so its gradient 1 brings 1 and 2"
)
weight = np.array([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]]).reshape(3, 2, 1, 1)  # 2 channels in, 3 out
grad = np.arange(6.0).reshape(1, 3, 1, 2)
found = columns_gradient(grad, weight)
assert np.shape(found) == (1, 2, 2), (
    f"the columns have the shape (1, 2, 2), so has their gradient, not {np.shape(found)}"
)
expected = [[420, 531], [840, 1062]]
assert np.allclose(found[0], expected), (
    f"input channel 0 gets 0·1 + 2·10 + 4·100 = 420 at its first place; all: {expected}, yours: {found[0].tolist()}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(columns_gradient)
    rng = fresh_generator()
    for images, channels, outputs, size in ((3, 4, 4, (3, 3)), (2, 3, 5, (2, 4)), (1, 2, 6, (1, 5))):
        weight, grad = rng.standard_normal((outputs, channels, 1, 1)), rng.standard_normal((images, outputs, *size))
        matrix, flat = weight[:, :, 0, 0], grad.reshape(images, outputs, -1)
        wrong = {"the weight is not transposed": matrix @ flat} if channels == outputs else {}
        words = f"the gradient of the columns, {images} images, weight {weight.shape}"
        compare(columns_gradient(grad, weight), np.einsum("oc,nol->ncl", matrix, flat), words, rtol=1e-9, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "columns_gradient-kernel", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Larger kernels, several images.
weight = np.array([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])  # one channel in, one out, kernel 2×3
grad = np.array([1.0, 10.0]).reshape(2, 1, 1, 1)  # two images, one place
found = columns_gradient(grad, weight)
assert np.shape(found) != (6, 1), "you have one gradient for all images: each image has columns of its own"
assert np.shape(found) == (2, 6, 1), f"two images, 6 weights, one place: shape (2, 6, 1), not {np.shape(found)}"
assert not np.allclose(found[0, :, 0], [6, 5, 4, 3, 2, 1]), (
    "the kernel is turned around: the columns' first row met the first weight"
)
assert np.allclose(found[0, :, 0], [1, 2, 3, 4, 5, 6]), (
    f"for the gradient 1 the column gets the weights [1, 2, 3, 4, 5, 6], not {found[0, :, 0]}"
)
assert np.allclose(found[1], 10 * found[0]), (
    "the second image has the gradient 10, so its column gets ten times as much"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(columns_gradient)
    rng = fresh_generator()
    for images, channels, kernel, outputs, size in (
        (2, 3, (2, 2), 12, (3, 4)),
        (3, 2, (3, 3), 4, (2, 5)),
        (2, 1, (1, 4), 2, (2, 2)),
    ):
        weight, grad = rng.standard_normal((outputs, channels, *kernel)), rng.standard_normal((images, outputs, *size))
        shape = (images, channels * kernel[0] * kernel[1], size[0] * size[1])
        expected = np.einsum("ocij,norq->ncijrq", weight, grad).reshape(shape)
        wrong = {
            "the kernel is turned around (flipped)": np.einsum(
                "ocij,norq->ncijrq", weight[:, :, ::-1, ::-1], grad
            ).reshape(shape),
            "summed over the images: each has columns of its own": np.broadcast_to(expected.sum(0), shape),
            "a mean over the output channels stands where a sum should": expected / outputs,
        }
        if outputs == shape[1]:
            wrong["the weight is not transposed"] = weight.reshape(outputs, -1) @ grad.reshape(images, outputs, -1)
        words = f"the gradient of the columns, {images} images, weight {weight.shape}, output {size}"
        compare(columns_gradient(grad, weight), expected, words, rtol=1e-9, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6 · col2im · 4 points
#
# The last step back, from the columns to the image. im2col *copied* pixels; the way back from a copy is an addition:
# each pixel gets the sum of all numbers of the columns that were copied from it,
#
# $$\bar x_{n,c,h,w} = \sum_{i,\,j,\,r,\,q \;:\; r s_0 + i d_0 - p_0 = h, \;\; q s_1 + j d_1 - p_1 = w}
# \bar X_{n,\;(c\,k_0 + i)\,k_1 + j,\;\; r\,Q + q} .$$
#
# What was copied from the padding belongs to no pixel and is dropped. A pixel that no window reads gets 0. Again, one
# slice for each weight $(i, j)$.


# %% nbgrader={"grade": false, "grade_id": "col2im", "locked": false, "schema_version": 3, "solution": true, "task": false}
def col2im(columns, input_shape, kernel, stride, padding, dilation):
    """Every number of the columns added to the pixel that im2col copied it from.

    Args:
        columns: array of shape (N, C·k0·k1, R·Q), float32 or float64, in the order of im2col. It must not change.
        input_shape: tuple of ints, (N, C, H, W).
        kernel, stride, padding, dilation: pairs of ints, (down, across), as for im2col.

    Returns:
        array of the shape input_shape and the dtype of the columns.
    """
    ### BEGIN SOLUTION
    images, channels, height, width = input_shape
    rows, places = output_size((height, width), kernel, stride, padding, dilation)
    windows = columns.reshape(images, channels, *kernel, rows, places)
    padded = np.zeros((images, channels, height + 2 * padding[0], width + 2 * padding[1]), columns.dtype)
    for i, j in np.ndindex(*kernel):
        down = slice(i * dilation[0], i * dilation[0] + (rows - 1) * stride[0] + 1, stride[0])
        across = slice(j * dilation[1], j * dilation[1] + (places - 1) * stride[1] + 1, stride[1])
        padded[:, :, down, across] += windows[:, :, i, j]
    return padded[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width].copy()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "col2im-overlap", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Overlapping windows, without padding.
found = col2im(np.ones((1, 4, 6)), (1, 1, 3, 4), (2, 2), (1, 1), (0, 0), (1, 1))
reads = np.array([[1, 2, 2, 1], [2, 4, 4, 2], [1, 2, 2, 1]])  # how many windows read each pixel
assert found is not None, "col2im returned None: is there a return?"
assert np.shape(found) == (1, 1, 3, 4), f"the result has the input's shape (1, 1, 3, 4), yours has {np.shape(found)}"
assert np.asarray(found).max() != 1, (
    "every pixel gets a 1, but windows overlap: the second gift replaces the first, use +="
)
assert np.allclose(found[0, 0], reads), (
    f"columns of ones tell how many windows read each pixel:\n{reads}\nyou get\n{found[0, 0]}"
)
assert col2im(np.ones((1, 4, 6), np.float32), (1, 1, 3, 4), (2, 2), (1, 1), (0, 0), (1, 1)).dtype == np.float32, (
    "float32 went in, another dtype came out"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet import kernels
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(col2im)
    rng = fresh_generator()
    for shape, kernel in (((2, 3, 5, 6), (3, 2)), ((1, 2, 4, 4), (3, 3)), ((2, 2, 4, 5), (1, 1))):
        case = (kernel, (1, 1), (0, 0), (1, 1))
        with kernels.backend("numpy"):
            columns = rng.standard_normal(kernels.im2col(np.zeros(shape), *case).shape)
            expected = kernels.col2im(columns, shape, *case)
        windows = columns.reshape(*shape[:2], *kernel, shape[2] - kernel[0] + 1, shape[3] - kernel[1] + 1)
        overwritten = np.zeros(shape)
        for i, j in np.ndindex(*kernel):
            overwritten[:, :, i : i + windows.shape[4], j : j + windows.shape[5]] = windows[:, :, i, j]
        wrong = (
            {}
            if kernel == (1, 1)
            else {"overlapping windows are overwritten instead of added (= where += should stand)": overwritten}
        )
        compare(
            col2im(columns.copy(), shape, *case),
            expected,
            f"col2im to {shape} with kernel {kernel}",
            rtol=1e-9,
            wrong=wrong,
        )
        single = col2im(columns.astype(np.float32), shape, *case)
        compare(single, expected, f"col2im to {shape} in float32", rtol=1e-5, dtype=np.float32)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "col2im-padding", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Padding is cut off.
found = col2im(np.arange(1.0, 17).reshape(1, 1, 16), (1, 1, 2, 2), (1, 1), (1, 1), (1, 1), (1, 1))
assert np.shape(found) != (1, 1, 4, 4), "the result is 4×4, the image with its padding: cut the padding off at the end"
assert np.size(found), "nothing is left after cutting: mind that x[0:-0] is empty"
assert np.shape(found) == (1, 1, 2, 2), f"the result has the input's shape (1, 1, 2, 2), yours has {np.shape(found)}"
assert not np.allclose(found[0, 0], [[1, 2], [5, 6]]), "you cut at the far ends only: the padding stands on both sides"
assert np.allclose(found[0, 0], [[6, 7], [10, 11]]), (
    f"the pixels stand in the middle of the padding: [[6, 7], [10, 11]], yours are {found[0, 0].tolist()}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet import kernels
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(col2im)
    rng = fresh_generator()
    for shape, kernel, padding in (
        ((2, 2, 5, 6), (3, 3), (1, 1)),
        ((1, 2, 6, 4), (3, 2), (2, 0)),
        ((2, 1, 4, 5), (2, 3), (1, 2)),
        ((1, 2, 1, 1), (3, 3), (1, 1)),
    ):
        case = (kernel, (1, 1), padding, (1, 1))
        larger = (*shape[:2], shape[2] + 2 * padding[0], shape[3] + 2 * padding[1])
        with kernels.backend("numpy"):
            columns = rng.standard_normal(kernels.im2col(np.zeros(shape), *case).shape)
            expected = kernels.col2im(columns, shape, *case)
            padded = kernels.col2im(columns, larger, kernel, (1, 1), (0, 0), (1, 1))
        wrong = {
            "the padding is cut at the far ends only": padded[:, :, : shape[2], : shape[3]],
            "the padding is cut at the near ends only": padded[:, :, -shape[2] :, -shape[3] :],
        }
        compare(
            col2im(columns.copy(), shape, *case),
            expected,
            f"col2im to {shape} with kernel {kernel} and padding {padding}",
            rtol=1e-9,
            wrong=wrong,
        )


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "col2im-stride", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Strides, also different ones down and across, and pixels that no window reads.
found = col2im(np.array([[[1.0, 2.0, 3.0, 4.0]]]), (1, 1, 4, 4), (1, 1), (2, 2), (0, 0), (1, 1))
expected = np.array([[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]])
assert np.shape(found) == (1, 1, 4, 4), f"the result has the input's shape (1, 1, 4, 4), yours has {np.shape(found)}"
assert not np.allclose(found[0, 0, :2, :2], [[1, 2], [3, 4]]), (
    "the numbers stand close together: with stride 2 they go to every second pixel"
)
assert np.allclose(found[0, 0], expected), f"with stride 2 you get\n{found[0, 0]}\nit should be\n{expected}"


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet import kernels
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(col2im)
    rng = fresh_generator()
    for shape, kernel, stride in (
        ((2, 2, 8, 8), (3, 3), (2, 2)),
        ((1, 2, 8, 7), (3, 2), (2, 1)),
        ((2, 1, 7, 10), (2, 3), (1, 3)),
        ((1, 1, 9, 9), (2, 2), (3, 4)),
    ):
        case = (kernel, stride, (0, 0), (1, 1))
        with kernels.backend("numpy"):
            columns = rng.standard_normal(kernels.im2col(np.zeros(shape), *case).shape)
            expected = kernels.col2im(columns, shape, *case)
        windows = columns.reshape(*shape[:2], *kernel, (shape[2] - kernel[0]) // stride[0] + 1, -1)

        def with_stride(down, across):
            result = np.zeros(shape)
            for i, j in np.ndindex(*kernel):
                for r, q in np.ndindex(*windows.shape[4:]):
                    result[:, :, i + r * down, j + q * across] += windows[:, :, i, j, r, q]
            return result

        wrong = {
            "the stride is ignored": with_stride(1, 1),
            "the stride down is ignored (axis 2)": with_stride(1, stride[1]),
            "the stride across is ignored (axis 3)": with_stride(stride[0], 1),
        }
        wrong = {words: array for words, array in wrong.items() if not np.allclose(array, expected)}
        compare(
            col2im(columns.copy(), shape, *case),
            expected,
            f"col2im to {shape} with kernel {kernel} and stride {stride}",
            rtol=1e-9,
            wrong=wrong,
        )


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "col2im-dilation", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Dilation, and everything at once.
found = col2im(np.arange(1.0, 10).reshape(1, 9, 1), (1, 1, 5, 5), (3, 3), (1, 1), (0, 0), (2, 2))
expected = np.array([[1, 0, 2, 0, 3], [0, 0, 0, 0, 0], [4, 0, 5, 0, 6], [0, 0, 0, 0, 0], [7, 0, 8, 0, 9]])
assert np.shape(found) == (1, 1, 5, 5), f"the result has the input's shape (1, 1, 5, 5), yours has {np.shape(found)}"
assert np.allclose(found[0, 0], expected), (
    f"with dilation 2 a window's numbers go to every second pixel:\n{expected}\nyours are\n{found[0, 0]}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet import kernels
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(col2im)
    rng = fresh_generator()
    for shape, *case in (
        ((2, 2, 9, 9), (3, 3), (1, 1), (0, 0), (2, 2)),
        ((1, 2, 8, 9), (2, 3), (1, 1), (0, 0), (3, 1)),
        ((2, 1, 9, 8), (3, 2), (2, 1), (1, 2), (2, 3)),
    ):
        with kernels.backend("numpy"):
            columns = rng.standard_normal(kernels.im2col(np.zeros(shape), *case).shape)
            expected = kernels.col2im(columns, shape, *case)
        kernel, stride, padding, dilation = case
        rows = (shape[2] + 2 * padding[0] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
        windows = columns.reshape(*shape[:2], *kernel, rows, -1)
        forgotten = np.zeros((*shape[:2], shape[2] + 2 * padding[0], shape[3] + 2 * padding[1]))
        for i, j in np.ndindex(*kernel):
            for r, q in np.ndindex(*windows.shape[4:]):
                forgotten[:, :, i + r * stride[0], j + q * stride[1]] += windows[:, :, i, j, r, q]
        forgotten = forgotten[:, :, padding[0] : padding[0] + shape[2], padding[1] : padding[1] + shape[3]]
        words = f"col2im to {shape} with kernel {kernel}, stride {stride}, padding {padding} and dilation {dilation}"
        compare(
            col2im(columns.copy(), shape, *case),
            expected,
            words,
            rtol=1e-9,
            wrong={"the dilation is forgotten": forgotten},
        )


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 7 · Finale: ResNet-50-FPN on your functions · 3 points
#
# Nothing is left to write. The given cell puts your functions together into the three computations of a convolution
# layer, as tinynet's tape calls them. Then `kernels.override` puts functions of yours in the place of tinynet's own, and
# counts how often they were called: first your `im2col` in every convolution of a ResNet with its feature pyramid, then
# all that you have written, forward and backward, in a bottleneck block. Here the pyramid stands on a ResNet-18, which is
# built in a moment. The grading takes the ResNet-50, and torch's numbers for every stage and level.


# %% nbgrader={"grade": false, "grade_id": "layer", "locked": true, "schema_version": 3, "solution": false, "task": false}
def convolution(x, weight, bias, stride, padding, dilation, groups):
    """Your forward pass. `bias` may be None; groups is 1."""
    bias = np.zeros(len(weight), x.dtype) if bias is None else bias
    size = output_size(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return convolve_columns(im2col(x, weight.shape[2:], stride, padding, dilation), weight, bias, size)


def convolution_input_gradient(grad, weight, input_shape, stride, padding, dilation, groups):
    """Your way back to the input."""
    return col2im(columns_gradient(grad, weight), input_shape, weight.shape[2:], stride, padding, dilation)


def convolution_weight_gradient(grad, x, weight_shape, stride, padding, dilation, groups):
    """Your way back to the weight."""
    columns = im2col(x, weight_shape[2:], stride, padding, dilation)
    return parameter_gradients(grad, columns, weight_shape)[0]


# %% nbgrader={"grade": true, "grade_id": "finale-forward", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# A ResNet with its feature pyramid, an image of 64×64 pixels, your im2col.
import tinynet
from tinynet import kernels, models, nn

tinynet.manual_seed(0)
model, image = models.resnet_fpn_backbone(backbone_name="resnet18").eval(), tinynet.randn(1, 3, 64, 64)
convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
with tinynet.no_grad(), kernels.backend("numpy"):
    by_tinynet = {name: level.numpy() for name, level in model(image).items()}
    with kernels.override(im2col=im2col) as used:
        by_you = {name: level.numpy() for name, level in model(image).items()}
for name, expected in by_tinynet.items():
    error = np.abs(by_you[name] - expected).max() / np.abs(expected).max()
    print(f"level {name}: {expected.shape[1:]}, relative difference {error:.0e}")
    assert error < 1e-4, f"level {name} of the pyramid differs by {error:.0e} from tinynet's, it should be about 1e-6"
calls = used.calls["im2col"]
print(f"your im2col was called {calls} times")
assert calls == convolutions, f"your im2col was called {calls} times, there are {convolutions} convolutions"


### BEGIN HIDDEN TESTS
def hidden_tests():
    import sys
    from pathlib import Path
    from unittest import mock

    from tinynet.grading import require_own_work

    require_own_work(output_size, im2col)
    sys.path.insert(0, str(Path(tinynet.__file__).parents[1]))
    try:
        from tests.reference.cases import family_cases, generator, tensors
        from tests.reference.families.models import collect_maps, fill
        from tests.reference.store import difference, load, record, tolerance
    except ImportError:
        stored = {}  # installed without its tests: the comparison with tinynet above has to do
    else:
        stored = load("models")
    finally:
        del sys.path[0]
    if stored:  # torch's results for weights that are drawn by their names
        case = next(case for case in family_cases("models") if case.name == "models/resnet50 FPN 75x91")
        fillers = ("kaiming_normal_", "kaiming_uniform_", "uniform_")  # not needed, and 26 million numbers take a while
        with mock.patch.multiple(nn.init, **dict.fromkeys(fillers, lambda tensor, *args, **named: tensor)):
            model, stages = case.build(models), {}
        model = fill(tinynet, model, "float32").eval()
        collect_maps(model, stages)
        image = tinynet.from_numpy(generator("image", case.seed).standard_normal(case.shape).astype(np.float32))
        with tinynet.no_grad(), kernels.backend("numpy"), kernels.override(im2col=im2col) as used:
            levels = {name: level.numpy() for name, level in tensors(model(image))}
        assert used.calls["im2col"] == 61, f"im2col was called {used.calls['im2col']} times for 61 convolutions"
        for name, array in {**stages, **levels}.items():
            key = f"{case.name}|float32|{name}"
            problem = difference(record(key, array), stored[key], tolerance(key, "float32"))
            assert not problem, f"{name} of ResNet-50-FPN at 75×91 pixels, on your im2col, is not torch's: {problem}"


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "finale-backward", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# All of your functions, forward and backward, in a bottleneck block with stride 2 and a projection.
import tinynet
from tinynet import kernels, nn
from tinynet.models.resnet import Bottleneck

tinynet.manual_seed(0)
projection = nn.Sequential(nn.Conv2d(8, 16, 1, stride=2), nn.BatchNorm2d(16))
block = Bottleneck(8, 4, stride=2, downsample=projection).double()
x = tinynet.randn(2, 8, 7, 6, dtype=tinynet.float64)


def step():
    """The output of the block, and the gradients of its input and of its parameters."""
    block.zero_grad()
    leaf = x.clone().requires_grad_()
    y = block(leaf)
    (y * y).sum().backward()
    gradients = {f"the gradient of {name}": array.grad.numpy() for name, array in block.named_parameters()}
    return {"the output": y.detach().numpy(), "the gradient of x": leaf.grad.numpy(), **gradients}


yours = {
    "convolution": convolution,
    "convolution_input_gradient": convolution_input_gradient,
    "convolution_weight_gradient": convolution_weight_gradient,
}
with kernels.backend("numpy"):
    by_tinynet = step()
    with kernels.override(**yours) as used:
        by_you = step()
for name, expected in by_tinynet.items():
    error = np.abs(by_you[name] - expected).max() / max(np.abs(expected).max(), 1e-6)
    assert error < 1e-6, f"{name} in a bottleneck block differs by {error:.0e} from tinynet's, it should be about 1e-14"
print("your functions were called", used.calls)
assert set(used.calls.values()) == {4}, f"your functions were called {used.calls}, there are 4 convolutions"


### BEGIN HIDDEN TESTS
def hidden_tests():
    import sys
    from dataclasses import replace
    from pathlib import Path

    from tinynet.grading import require_own_work

    require_own_work(output_size, im2col, convolve_columns, parameter_gradients, columns_gradient, col2im)
    sys.path.insert(0, str(Path(tinynet.__file__).parents[1]))
    try:
        from tests.reference.cases import family_cases
        from tests.reference.store import difference, load, record, tolerance
    except ImportError:
        stored = {}
    else:
        stored = load("models")
    finally:
        del sys.path[0]
    if stored:  # torch's results for the first block of ResNet-50's second stage
        case = next(case for case in family_cases("models") if case.name == "models/resnet50 layer2.0")
        projection = nn.Sequential(nn.Conv2d(256, 512, 1, stride=2, bias=False), nn.BatchNorm2d(512))
        case = replace(case, build=lambda models: Bottleneck(256, 128, stride=2, downsample=projection))
        with kernels.backend("numpy"), kernels.override(**yours) as used:
            results = case.evaluate(tinynet, "float64")
        assert set(used.calls.values()) == {4}, f"your functions were called {used.calls}, there are 4 convolutions"
        for name, array in results.items():
            key = f"{case.name}|float64|{name}"
            problem = difference(record(key, array), stored[key], tolerance(key, "float64"))
            assert not problem, (
                f"{name or 'the output'} of a block of ResNet-50, on your functions, is not torch's: {problem}"
            )


hidden_tests()
### END HIDDEN TESTS
