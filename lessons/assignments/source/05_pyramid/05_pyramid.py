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
#     allowed: [math, numpy, tinynet]
#     refused: [tinynet.models, tinynet.detection, tinynet.detecting, tinynet.kernels, tinynet.ops, tinynet.fusion, tinynet.fuse, tinynet.image_pyramid, tinynet.nn.functional.interpolate, tinynet.nn.Upsample]
# ---

# %% [markdown]
# # Assignment 5: The feature pyramid
#
# **Goal.** A backbone gives maps C2 to C5: fine ones that know little, and coarse ones that know much. The feature
# pyramid network (Lin and others 2017) makes levels P2 to P6 of them, and each level knows both. You write it for
# pictures of **any** size: the sizes of the levels, enlarging with its gradient, the level P6, and the network. At the
# end your functions run inside ResNet-50-FPN.
#
# **You need:** lesson 11. **Time:** two hours. **Points:** 20.
#
# | task | points |
# |---|---|
# | 1 · The sizes of the levels | 2 |
# | 2 · Enlarging to any size | 3 |
# | 3 · The gradient of enlarging | 3 |
# | 4 · The level P6 | 2 |
# | 5 · The pyramid | 6 |
# | 6 · Finale: ResNet-50-FPN on your functions | 4 |
#
# **How to work.** Replace the lines `# YOUR CODE HERE` and `raise NotImplementedError()` with your code. Below each
# task stand checks that say at once what is wrong. Your submission is graded by them and by further tests with other
# shapes and fresh random numbers. The tasks are graded one by one: if you are stuck, go on with the next one. Only the
# finale needs the others.
#
# **Your own work.** Tasks 1 to 4 are about NumPy arrays: use NumPy, or plain Python with `math`. Task 5 is a tinynet
# module: use `tinynet`'s tensors and the layers in `tinynet.nn`. Nothing else can be imported. tinynet has an answer to
# each task, and its use is refused: everything in `tinynet.models`, `tinynet.detection`, `tinynet.kernels`,
# `tinynet.ops` and `tinynet.fusion`, and the functions `tinynet.image_pyramid`, `tinynet.nn.functional.interpolate` and
# `tinynet.nn.Upsample`. Keep the names and parameters of functions and classes. Cells without `YOUR CODE HERE` are
# given: they are replaced by the original ones before grading.

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import math

import numpy as np

import tinynet
from tinynet import nn
from tinynet.nn import functional as F

tinynet.kernels.set_backend("numpy")  # everything here is small: nothing is compiled

# What solutions may import, and what they may not use of it.
ALLOWED = ("math", "numpy", "tinynet")
REFUSED = ("tinynet.models", "tinynet.detection", "tinynet.detecting", "tinynet.kernels", "tinynet.ops",
           "tinynet.fusion", "tinynet.fuse", "tinynet.image_pyramid", "tinynet.nn.functional.interpolate",
           "tinynet.nn.Upsample")  # fmt: skip

# %% [markdown]
# ## Task 1 · The sizes of the levels · 2 points
#
# A ResNet halves its map five times, by convolutions and one pooling of stride 2, each of which turns $h$ rows into
# $h/2$ rows, **rounded up**. After the second halving comes C2, after the third C3, then C4, then C5. The levels P2 to
# P5 are as large as C2 to C5, and P6 is half of P5, rounded up again. The same holds for columns.

# %% nbgrader={"grade": false, "grade_id": "level_sizes", "locked": false, "schema_version": 3, "solution": true, "task": false}
def level_sizes(height, width):
    """The sizes of the levels P2 to P6 for a picture.

    Args:
        height, width: int, at least 1: the picture's size in pixels.

    Returns:
        A list of five pairs (rows, columns) of ints: of P2, P3, P4, P5, P6, finest first.
    """
    ### BEGIN SOLUTION
    return [((height - 1) // stride + 1, (width - 1) // stride + 1) for stride in (4, 8, 16, 32, 64)]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "level_sizes-even", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
sizes = [tuple(pair) for pair in level_sizes(128, 192)]
assert len(sizes) == 5, f"there are five levels, P2 to P6; you return {len(sizes)}"
assert sizes[0] != (2, 3), "your levels come coarsest first: P2 comes first"
assert sizes[0] != (64, 96), "P2 has half of the picture's rows with you: it comes after the second halving"
assert sizes[0] != (48, 32), "a size is (rows, columns): the height comes first"
expected = [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
assert sizes == expected, f"128×192 pixels: {expected}, yours are {sizes}"

### BEGIN HIDDEN TESTS
from tinynet.grading import fresh_generator, require_own_work

require_own_work(level_sizes, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
for rows, columns in rng.integers(2, 20, (5, 2)).tolist():
    expected = [(rows * times, columns * times) for times in (16, 8, 4, 2, 1)]
    got = [tuple(pair) for pair in level_sizes(64 * rows, 64 * columns)]
    assert got == expected, f"{64 * rows}×{64 * columns} pixels: got {got}, expected {expected}"
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "level_sizes-odd", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
sizes = [tuple(pair) for pair in level_sizes(100, 33)]
assert sizes != [(25, 8), (12, 4), (6, 2), (3, 1), (1, 0)], "100×33 pixels: you round down, a map of half a row has one"
expected = [(25, 9), (13, 5), (7, 3), (4, 2), (2, 1)]
assert sizes == expected, f"100×33 pixels: {expected}, every halving rounds up; yours are {sizes}"

### BEGIN HIDDEN TESTS
from tinynet.grading import fresh_generator, require_own_work

require_own_work(level_sizes, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
for height, width in rng.integers(20, 700, (20, 2)).tolist():
    expected = [(-(-height // stride), -(-width // stride)) for stride in (4, 8, 16, 32, 64)]
    got = [tuple(pair) for pair in level_sizes(height, width)]
    assert got == expected, f"{height}×{width} pixels: got {got}, expected {expected}; every halving rounds up"
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2 · Enlarging to any size · 3 points
#
# In nearest-neighbour enlarging, row $i$ of $H$ repeats row
#
# $$\left\lfloor \frac{i \cdot h}{H} \right\rfloor$$
#
# of the $h$ rows that there are, and columns likewise. So 3 rows become 7 as the rows 0 0 0 1 1 2 2. The target size is
# given, it is **not** always twice as large.
#
# tinynet calls its function for this `nearest(x, output_size, scale, exact)`. Yours gets the same four arguments, so
# that it can take its place. `scale` is always `None` and `exact` always `False`: ignore both.

# %% nbgrader={"grade": false, "grade_id": "nearest", "locked": false, "schema_version": 3, "solution": true, "task": false}
def nearest(x, output_size, scale, exact):
    """Maps at another size by nearest neighbour.

    Args:
        x: float array (N, C, h, w).
        output_size: the pair (H, W) of ints, at least (1, 1); larger than (h, w) or not.
        scale: None.
        exact: False.

    Returns:
        Array (N, C, H, W) of the dtype of x: element [n, c, i, j] is x[n, c, floor(i·h / H), floor(j·w / W)].
    """
    ### BEGIN SOLUTION
    (h, w), (height, width) = x.shape[2:], output_size
    rows = np.arange(height) * h // height
    columns = np.arange(width) * w // width
    return x[:, :, rows[:, None], columns]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "nearest-double", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
small = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
large = nearest(small, (4, 4), None, False)
assert isinstance(large, np.ndarray), f"nearest returns a {type(large).__name__}, a NumPy array is expected"
assert large.shape == (1, 1, 4, 4), f"2×2 to 4×4 gives shape (1, 1, 4, 4), yours is {large.shape}"
assert large[0, 0, 0].tolist() != [1, 2, 2, 2], "2×2 to 4×4 begins as 1 2 2 2 with you: do not round to the nearest"
assert large[0, 0, 0].tolist() != [1, 2, 1, 2], "your rows begin as 1 2 1 2: values are repeated in place, 1 1 2 2"
expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
assert large[0, 0].tolist() == expected, f"2×2 to 4×4: expected {expected}, yours is {large[0, 0].tolist()}"
kind = nearest(small.astype(np.float32), (4, 4), None, False).dtype
assert kind == np.float32, f"float32 comes in and {kind} comes out: keep the dtype"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(nearest, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
x = rng.standard_normal((2, 3, 4, 5))
wrong = {
    "the map is tiled, values are to be repeated in place": np.tile(x, (1, 1, 2, 2)),
    "bilinear or shifted: rows are repeated one too late": np.roll(x.repeat(2, 2).repeat(2, 3), 1, 2),
}
got = nearest(x, (8, 10), None, False)
compare(got, x.repeat(2, 2).repeat(2, 3), "nearest from 4×5 to 8×10", rtol=1e-12, wrong=wrong)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "nearest-sizes", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
column, row = np.arange(3.0).reshape(1, 1, 3, 1), np.arange(3.0).reshape(1, 1, 1, 3)
rows = nearest(column, (7, 1), None, False)
assert rows.shape != (1, 1, 6, 2), "you double, but the size is given: 3×1 to 7×1"
assert rows.shape != (1, 1, 1, 7), "7×1 is asked for and 1×7 comes out: output_size is (height, width)"
assert rows.shape == (1, 1, 7, 1), f"3×1 to 7×1 gives shape (1, 1, 7, 1), yours is {rows.shape}"
rows = rows[0, 0, :, 0].tolist()
advice = "that is doubling, cut or filled up, or rounding to the nearest; row i repeats i·3 // 7"
assert rows != [0, 0, 1, 1, 2, 2, 2], f"3 rows to 7 are the rows 0 0 1 1 2 2 2 with you: {advice}"
assert rows != [0, 0, 1, 1, 2, 2, 3], "3 rows to 7: there is no row 3"
advice = "that takes the middle of each row, (i + 0.5)·3 / 7; take i·3 / 7"
assert rows != [0, 0, 1, 1, 1, 2, 2], f"3 rows to 7 are the rows 0 0 1 1 1 2 2 with you: {advice}"
assert rows == [0, 0, 0, 1, 1, 2, 2], f"3 rows to 7 are the rows 0 0 0 1 1 2 2, with you {rows}"
columns = nearest(row, (1, 5), None, False)[0, 0, 0].tolist()
assert columns != [0, 1, 1, 2, 2], "3 columns to 5: 0 1 1 2 2 is rounded to the nearest, take the floor"
assert columns == [0, 0, 1, 1, 2], f"3 columns to 5 are the columns 0 0 1 1 2, with you {columns}"
fewer = nearest(np.arange(5.0).reshape(1, 1, 5, 1), (3, 1), None, False)[0, 0, :, 0].tolist()
assert fewer == [0, 1, 3], f"5 rows to 3 are the rows 0 1 3, with you {fewer}"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(nearest, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
for (h, w), (height, width) in (((3, 5), (7, 9)), ((4, 3), (11, 3)), ((2, 7), (5, 17)), ((6, 4), (5, 10))):
    x = rng.standard_normal((2, 3, h, w))
    expected = np.empty((2, 3, height, width))
    rounded, middle = expected.copy(), expected.copy()
    for i in range(height):
        for j in range(width):
            expected[:, :, i, j] = x[:, :, math.floor(i * h / height), math.floor(j * w / width)]
            rounded[:, :, i, j] = x[:, :, min(round(i * h / height), h - 1), min(round(j * w / width), w - 1)]
            middle[:, :, i, j] = x[:, :, int((i + 0.5) * h / height), int((j + 0.5) * w / width)]
    wrong = {
        "rounded to the nearest row, take the floor": rounded,
        "the middle of each row is taken (i + 0.5), take i·h / H as it is": middle,
    }
    got = nearest(x, (height, width), None, False)
    compare(got, expected, f"nearest from {h}×{w} to {height}×{width}", rtol=1e-12, wrong=wrong)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3 · The gradient of enlarging · 3 points
#
# Backward, element $[i, j]$ of the large map gives its gradient to the element that it repeated. An element that was
# repeated several times gets the **sum** of what they give; one that was never read gets 0.
#
# tinynet calls this `nearest_backward(grad, input_shape, scale, exact)`.

# %% nbgrader={"grade": false, "grade_id": "nearest_backward", "locked": false, "schema_version": 3, "solution": true, "task": false}
def nearest_backward(grad, input_shape, scale, exact):
    """The gradient of the input of `nearest`, from the gradient of its result.

    Args:
        grad: float array (N, C, H, W), the gradient that arrives. It must stay as it is.
        input_shape: the shape (N, C, h, w) of the input of `nearest`.
        scale: None.
        exact: False.

    Returns:
        Array of input_shape and of the dtype of grad.
    """
    ### BEGIN SOLUTION
    (h, w), (height, width) = input_shape[2:], grad.shape[2:]
    result = np.zeros(input_shape, grad.dtype)
    for i in range(height):
        for j in range(width):
            result[:, :, i * h // height, j * w // width] += grad[:, :, i, j]
    return result
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "nearest_backward-double", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
arriving = np.arange(8.0).reshape(1, 1, 2, 4)
result = nearest_backward(arriving, (1, 1, 1, 2), None, False)
assert isinstance(result, np.ndarray), f"nearest_backward returns a {type(result).__name__}, a NumPy array is expected"
assert result.shape == (1, 1, 1, 2), f"the gradient has the shape of the input, (1, 1, 1, 2), yours is {result.shape}"
assert arriving.tolist() == np.arange(8.0).reshape(1, 1, 2, 4).tolist(), "you changed the gradient that arrived"
assert result.ravel().tolist() != [2.5, 4.5], "1×2 to 2×4: you take the mean of four gradients, they add up"
assert result.ravel().tolist() != [5, 7], "1×2 to 2×4: only the last of four gradients arrives: += instead of ="
assert result.ravel().tolist() == [10, 18], f"1×2 to 2×4: gradients 0+1+4+5 and 2+3+6+7, yours are {result.ravel()}"
kind = nearest_backward(arriving.astype(np.float32), (1, 1, 1, 2), None, False).dtype
assert kind == np.float32, f"a gradient of float32 comes in and {kind} comes out: keep the dtype"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(nearest_backward, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
grad = rng.standard_normal((2, 3, 6, 8))
blocks = grad.reshape(2, 3, 3, 2, 4, 2)
wrong = {
    "the mean of the gradients, they add up": blocks.mean((3, 5)),
    "overwritten, not summed: the last gradient alone arrives": blocks[:, :, :, 1, :, 1],
    "the first gradient alone arrives, they add up": blocks[:, :, :, 0, :, 0],
}
got = nearest_backward(grad, (2, 3, 3, 4), None, False)
compare(got, blocks.sum((3, 5)), "gradient of nearest from 3×4 to 6×8", rtol=1e-9, wrong=wrong)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "nearest_backward-sizes", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
result = nearest_backward(np.ones((1, 1, 7, 5)), (1, 1, 3, 3), None, False)[0, 0]
total = float(result.sum())
assert abs(total - 35) < 1e-9, f"35 ones arrive and {total:g} come back: every gradient belongs to exactly one element"
rows = result[:, 0].tolist()
advice = "each pair of rows goes to one row with you; row i goes to i·3 // 7"
assert rows != [6, 6, 2] and rows != [4, 4, 6], f"3 rows to 7: {advice}"
assert result.tolist() == [[6, 6, 3], [4, 4, 2], [4, 4, 2]], (
    f"3×3 to 7×5: rows are used 3, 2, 2 times, columns 2, 2, 1 times, in products; yours are {result.tolist()}"
)
unread = nearest_backward(np.ones((1, 1, 3, 1)), (1, 1, 5, 1), None, False)[0, 0, :, 0].tolist()
assert unread == [1, 1, 0, 1, 0], f"5 rows to 3 reads the rows 0, 1, 3: gradients 1 1 0 1 0, yours are {unread}"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(nearest_backward, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
for (h, w), (height, width) in (((3, 5), (7, 9)), ((4, 3), (11, 3)), ((2, 7), (5, 17)), ((6, 4), (5, 10))):
    grad = rng.standard_normal((2, 3, height, width))
    to_row, to_column = (np.zeros((n, size)) for n, size in ((h, height), (w, width)))
    for i in range(height):
        to_row[math.floor(i * h / height), i] = 1
    for j in range(width):
        to_column[math.floor(j * w / width), j] = 1
    expected = to_row @ grad @ to_column.T
    last = np.zeros((2, 3, h, w))
    for i in range(height):
        for j in range(width):
            last[:, :, i * h // height, j * w // width] = grad[:, :, i, j]
    times = np.maximum(np.outer(to_row.sum(1), to_column.sum(1)), 1)
    wrong = {
        "the mean of the gradients, they add up": expected / times,
        "overwritten, not summed: the last gradient alone arrives": last,
    }
    got = nearest_backward(grad, (2, 3, h, w), None, False)
    compare(got, expected, f"gradient of nearest from {h}×{w} to {height}×{width}", rtol=1e-9, wrong=wrong)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4 · The level P6 · 2 points
#
# For the largest objects the paper adds one more level. P6 keeps every second row and column of P5, **the first one
# included**, and nothing else happens to the values. So 3 rows become 2, the rows 0 and 2.

# %% nbgrader={"grade": false, "grade_id": "subsample", "locked": false, "schema_version": 3, "solution": true, "task": false}
def subsample(p5):
    """The level P6: every second row and column of P5.

    Args:
        p5: float array (N, C, h, w).

    Returns:
        Array (N, C, ceil(h / 2), ceil(w / 2)) of the dtype of p5.
    """
    ### BEGIN SOLUTION
    return p5[:, :, ::2, ::2].copy()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "subsample-even", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
p5 = np.array([[[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]]])
p6 = subsample(p5)
assert p6.shape == (1, 1, 1, 2), f"2×4 becomes 1×2, shape (1, 1, 1, 2); yours is {p6.shape}"
assert p6.ravel().tolist() != [3.5, 5.5], "you take means over 2×2: keep single values"
assert p6.ravel().tolist() != [6, 8], "6 and 8: keep the first row and column, not the second; and no maximum over 2×2"
assert p6.ravel().tolist() == [1, 3], f"of 1 2 3 4 / 5 6 7 8 stay 1 and 3, with you {p6.ravel()}"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(subsample, allowed=ALLOWED, refused=REFUSED)
p5 = fresh_generator().standard_normal((2, 3, 6, 4))
blocks = p5.reshape(2, 3, 3, 2, 2, 2)
wrong = {
    "means over 2×2, single values are kept": blocks.mean((3, 5)),
    "the maximum over 2×2, the first value is kept": blocks.max((3, 5)),
    "the second row and column are kept, not the first": p5[:, :, 1::2, 1::2],
}
compare(subsample(p5), p5[:, :, ::2, ::2], "P6 of a P5 of 6×4", rtol=1e-12, wrong=wrong)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "subsample-odd", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
p6 = subsample(np.arange(15.0).reshape(1, 1, 3, 5))
assert p6.shape != (1, 1, 1, 2), "3×5 becomes 1×2 with you: half is rounded up, 2×3"
assert p6.shape == (1, 1, 2, 3), f"3×5 becomes 2×3, shape (1, 1, 2, 3); yours is {p6.shape}"
assert p6[0, 0].tolist() == [[0, 2, 4], [10, 12, 14]], f"the rows 0 and 2, the columns 0, 2 and 4; yours is {p6[0, 0]}"
assert subsample(np.ones((1, 1, 1, 1))).shape == (1, 1, 1, 1), "1×1 stays 1×1"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(subsample, allowed=ALLOWED, refused=REFUSED)
p5 = fresh_generator().standard_normal((2, 3, 7, 5))
compare(subsample(p5), p5[:, :, ::2, ::2], "P6 of a P5 of 7×5", rtol=1e-12)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5 · The pyramid · 6 points
#
# The maps $C_2$ to $C_5$ have different channels. A 1×1 convolution, the **lateral**, brings each to the same `width`.
# From the coarsest map to the finest, the merged maps are
#
# $$M_5 = \mathrm{lateral}_5(C_5) \qquad M_k = \mathrm{lateral}_k(C_k) + \mathrm{enlarge}(M_{k+1})$$
#
# where the merged map above is enlarged **to the size of** $C_k$. On each merged map works a 3×3 convolution of its
# own, and the results are the levels:
#
# $$P_k = \mathrm{smooth}_k(M_k)$$
#
# What goes down is $M$, not $P$. All convolutions have a bias, and there is no ReLU and no norm.
#
# `enlarge(x, size)` is handed to the constructor: a function of a tensor (N, C, h, w) and a pair (H, W) that returns a
# tensor (N, C, H, W). In the finale it is yours. The checks of this task hand in another one, so that they do not
# depend on task 2: it puts the map into the upper left corner and fills up with zeros.

# %% nbgrader={"grade": false, "grade_id": "feature_pyramid", "locked": false, "schema_version": 3, "solution": true, "task": false}
class FeaturePyramid(nn.Module):
    """The feature pyramid network on the maps of a backbone.

    Args:
        channels: list of ints, the channels of the maps, finest first; one or more.
        width: int, the channels of all levels.
        enlarge: a function, enlarge(tensor (N, C, h, w), (H, W)) gives a tensor (N, C, H, W).

    Attributes that must have these names:
        lateral: nn.ModuleList of 1×1 convolutions with bias, one for each map, finest first.
        smooth: nn.ModuleList of 3×3 convolutions with bias that keep the size, one for each map, finest first.
    """

    def __init__(self, channels, width, enlarge):
        super().__init__()
        ### BEGIN SOLUTION
        self.lateral = nn.ModuleList([nn.Conv2d(each, width, 1) for each in channels])
        self.smooth = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in channels])
        self.enlarge = enlarge
        ### END SOLUTION

    def forward(self, maps):
        """The levels of some maps.

        Args:
            maps: list of tensors (N, channels[k], h_k, w_k), finest first. Sizes need not halve exactly.

        Returns:
            List of tensors (N, width, h_k, w_k), finest first.
        """
        ### BEGIN SOLUTION
        levels, merged = [], None
        for features, lateral, smooth in list(zip(maps, self.lateral, self.smooth))[::-1]:
            above, merged = merged, lateral(features)
            if above is not None:
                merged = merged + self.enlarge(above, tuple(features.shape[2:]))
            levels.append(smooth(merged))
        return levels[::-1]
        ### END SOLUTION


# %% [markdown]
# The next cell runs your module for the checks: arrays in, arrays out, in float64.

# %% nbgrader={"grade": false, "grade_id": "pyramid-driver", "locked": true, "schema_version": 3, "solution": false, "task": false}
def in_the_corner(x, size):
    """The stand-in for enlarging: the map in the upper left corner, and zeros."""
    return F.pad(x, (0, size[1] - x.shape[3], 0, size[0] - x.shape[2]))


def pyramid_parameters(channels, width):
    """The names of all parameters of your module, and their shapes."""
    pyramid = FeaturePyramid(channels, width, in_the_corner)
    return {name: tuple(parameter.shape) for name, parameter in pyramid.named_parameters()}


def run_pyramid(channels, width, parameters, maps, cotangents):
    """The levels for given parameters (by name) and maps, and the gradients of both for the levels' cotangents."""
    pyramid = FeaturePyramid(channels, width, in_the_corner).double()
    pyramid.load_state_dict({name: tinynet.tensor(array) for name, array in parameters.items()})
    leaves = [tinynet.tensor(array, requires_grad=True) for array in maps]
    levels = list(pyramid(leaves))
    if cotangents:
        sum((level * tinynet.tensor(array)).sum() for level, array in zip(levels, cotangents)).backward()
    return {
        "levels": [level.detach().numpy() for level in levels],
        "maps": [np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy() for leaf in leaves],
        "parameters": {n: p.grad.numpy() for n, p in pyramid.named_parameters() if p.grad is not None},
    }


# %% nbgrader={"grade": true, "grade_id": "feature_pyramid-parameters", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
shapes = {name: tuple(shape) for name, shape in pyramid_parameters([6, 8, 12], 4).items()}
for number, count in enumerate([6, 8, 12]):
    for name, shape in ((f"lateral.{number}", (4, count, 1, 1)), (f"smooth.{number}", (4, 4, 3, 3))):
        advice = "each map has a 1×1 and a 3×3 of its own: do two of them share one?"
        assert f"{name}.weight" in shapes, f"there is no {name}.weight, only {sorted(shapes)}; {advice}"
        own = shapes[f"{name}.weight"]
        assert own == shape, f"channels [6, 8, 12], width 4: {name}.weight has the shape {shape}, yours {own}"
        assert f"{name}.bias" in shapes, f"{name} has no bias: no norm follows, so keep the convolution's own"
assert len(shapes) == 12, f"3 laterals and 3 smooths with weight and bias are 12, yours are {sorted(shapes)}"

### BEGIN HIDDEN TESTS
from tinynet.grading import fresh_generator, require_own_work

require_own_work(pyramid_parameters, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
channels, width = rng.integers(2, 30, 5).tolist(), int(rng.integers(2, 9))
expected = {}
for number, count in enumerate(channels):
    expected |= {f"lateral.{number}.weight": (width, count, 1, 1), f"lateral.{number}.bias": (width,)}
    expected |= {f"smooth.{number}.weight": (width, width, 3, 3), f"smooth.{number}.bias": (width,)}
got = {name: tuple(shape) for name, shape in pyramid_parameters(channels, width).items()}
assert got == expected, f"channels {channels}, width {width}: parameters {got}, expected {expected}"
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "feature_pyramid-coarsest", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
parameters = {
    "lateral.0.weight": np.array([[[[2.0]]]]), "lateral.0.bias": np.array([0.0]),
    "smooth.0.weight": np.ones((1, 1, 3, 3)), "smooth.0.bias": np.array([100.0]),
}  # fmt: skip
only_centre = np.pad([[[[1.0]]]], ((0, 0), (0, 0), (1, 1), (1, 1)))  # 3×3 zeros with a one in the middle
levels = run_pyramid([1], 1, parameters, [only_centre], [])["levels"]
assert len(levels) == 1, f"one map gives one level, you return {len(levels)}"
assert levels[0].shape == (1, 1, 3, 3), f"a level has the size of its map, 3×3; yours {levels[0].shape[2:]}: padding=1?"
values = levels[0].ravel().tolist()
assert values != [0, 0, 0, 0, 2, 0, 0, 0, 0], "these are the lateral's values: the coarsest map has its 3×3 as well"
assert values == [102] * 9, f"the lateral makes 2 of 1, a 3×3 of ones spreads it, plus 100: 102; yours {values}"

### BEGIN HIDDEN TESTS
from tinynet import tensor
from tinynet.grading import compare, fresh_generator, require_own_work
from tinynet.nn.functional import conv2d

require_own_work(run_pyramid, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
channels, sizes, width = [5, 6, 7], [(9, 11), (5, 6), (3, 3)], 4
maps = [rng.standard_normal((2, count, *size)) for count, size in zip(channels, sizes)]
parameters = {}
for number, count in enumerate(channels):
    for name, shape in (("lateral", (width, count, 1, 1)), ("smooth", (width, width, 3, 3))):
        parameters[f"{name}.{number}.weight"] = rng.standard_normal(shape) / 3
        parameters[f"{name}.{number}.bias"] = rng.standard_normal(width)
lateral = conv2d(tensor(maps[2]), tensor(parameters["lateral.2.weight"]), tensor(parameters["lateral.2.bias"]))
smooth = [tensor(parameters[f"smooth.2.{kind}"]) for kind in ("weight", "bias")]
expected = conv2d(lateral, *smooth, padding=1).numpy()
wrong = {
    "the 3×3 of the coarsest map is missing": lateral.numpy(),
    "a ReLU, there is none in the pyramid": conv2d(lateral.relu(), *smooth, padding=1).numpy(),
}
got = run_pyramid(channels, width, parameters, maps, [])["levels"]
assert len(got) == 3, f"3 maps give 3 levels, you return {len(got)}"
compare(got[2], expected, "the coarsest level, 3×3 of the lateral", rtol=1e-9, wrong=wrong)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "feature_pyramid-levels", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
one = {"weight": np.ones((1, 1, 1, 1)), "bias": np.zeros(1)}
parameters = {f"lateral.{number}.{kind}": array for number in range(3) for kind, array in one.items()}
for number in range(3):  # 3×3s that multiply by 1, 2 and 3: P2 = 1·M2, P3 = 2·M3, P4 = 3·M4
    parameters[f"smooth.{number}.weight"] = np.pad([[[[number + 1.0]]]], ((0, 0), (0, 0), (1, 1), (1, 1)))
    parameters[f"smooth.{number}.bias"] = np.zeros(1)
maps = [np.full((1, 1, 3, 3), 1.0), np.full((1, 1, 2, 2), 10.0), np.full((1, 1, 1, 1), 100.0)]
levels = run_pyramid([1, 1, 1], 1, parameters, maps, [])["levels"]
assert [level.shape[2:] for level in levels] == [(3, 3), (2, 2), (1, 1)], (
    f"the levels have the sizes of the maps, finest first, 3×3, 2×2, 1×1; yours {[level.shape[2:] for level in levels]}"
)
corners = [float(level[0, 0, 0, 0]) for level in levels]  # where the enlarged maps lie
assert corners[1] != 2 * (10 + 300), "620 in the second level: you hand down the level above, not its merged map"
assert corners[1] != 20, "20 in the second level: the map from above is missing, add it enlarged"
assert corners[1] != 200, "200 in the second level: the lateral of its own map is missing in the sum"
assert corners[0] != 11, "11 in the finest level: it gets the lateral above alone, not the merged map that knows more"
assert corners == [111, 220, 300], f"1, 10, 100 merge to 111, 110, 100, times 1, 2, 3; your corners are {corners}"

### BEGIN HIDDEN TESTS
from tinynet import tensor
from tinynet.grading import compare, fresh_generator, require_own_work
from tinynet.nn.functional import conv2d, pad

require_own_work(run_pyramid, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
channels, sizes, width = [5, 6, 7, 8], [(13, 19), (7, 10), (4, 5), (2, 3)], 4
maps = [rng.standard_normal((2, count, *size)) for count, size in zip(channels, sizes)]
parameters = {}
for number, count in enumerate(channels):
    for name, shape in (("lateral", (width, count, 1, 1)), ("smooth", (width, width, 3, 3))):
        parameters[f"{name}.{number}.weight"] = rng.standard_normal(shape) / 3
        parameters[f"{name}.{number}.bias"] = rng.standard_normal(width)


def right_levels(handed="merged", shared=None):
    """The levels; `handed` says what goes down, `shared` which 3×3 all levels use."""
    levels, above = [], None
    for number in (3, 2, 1, 0):
        kernels = [tensor(parameters[f"lateral.{number}.{kind}"]) for kind in ("weight", "bias")]
        lateral = merged = conv2d(tensor(maps[number]), *kernels)
        if above is not None:
            room = (0, sizes[number][1] - above.shape[3], 0, sizes[number][0] - above.shape[2])
            merged = lateral + pad(above, room)
        number = number if shared is None else shared
        kernels = [tensor(parameters[f"smooth.{number}.{kind}"]) for kind in ("weight", "bias")]
        levels.insert(0, conv2d(merged, *kernels, padding=1))
        above = {"merged": merged, "level": levels[0], "lateral": lateral, "nothing": 0 * merged}[handed]
    return [level.numpy() for level in levels]


mistakes = {
    "the level above is handed down, after its 3×3: hand down the merged map": right_levels("level"),
    "the lateral above is added, not the merged map that knows of all coarser ones": right_levels("lateral"),
    "the map from above is missing": right_levels("nothing"),
    "one 3×3 is shared by all levels": right_levels(shared=3),
    "one 3×3 is shared by all levels (the finest one's)": right_levels(shared=0),
}
got, expected = run_pyramid(channels, width, parameters, maps, [])["levels"], right_levels()
for number in (2, 1, 0):
    wrong = {words: levels[number] for words, levels in mistakes.items()}
    compare(got[number], expected[number], f"level P{number + 2} of P2 to P5", rtol=1e-9, wrong=wrong)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "feature_pyramid-gradient", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
one = {"weight": np.ones((1, 1, 1, 1)), "bias": np.zeros(1)}
parameters = {f"lateral.{number}.{kind}": array for number in range(3) for kind, array in one.items()}
for number in range(3):
    parameters[f"smooth.{number}.weight"] = np.zeros((1, 1, 3, 3))
    parameters[f"smooth.{number}.weight"][0, 0, 1, 1] = 1.0
    parameters[f"smooth.{number}.bias"] = np.zeros(1)
maps = [np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)), np.ones((1, 1, 1, 1))]
run = run_pyramid([1, 1, 1], 1, parameters, maps, [np.full((1, 1, side, side), 1.0) for side in (3, 2, 1)])
unreached = [number for number, gradient in enumerate(run["maps"]) if not gradient.any()]
assert not unreached, f"no gradient reaches the maps {unreached}: no lateral, or a step without tensors?"
arrived = float(run["maps"][2].sum())
assert arrived != 1, "the coarsest map gets a gradient from its own level only: does its merged map go down?"
assert arrived == 3, f"the coarsest map has a part in all three levels, once in each: gradient 3, yours is {arrived:g}"

### BEGIN HIDDEN TESTS
from tinynet import tensor
from tinynet.grading import compare, fresh_generator, require_own_work
from tinynet.nn.functional import conv2d, pad

require_own_work(run_pyramid, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
channels, sizes, width = [5, 6, 7], [(9, 11), (5, 6), (3, 3)], 4
maps = [rng.standard_normal((2, count, *size)) for count, size in zip(channels, sizes)]
cotangents = [rng.standard_normal((2, width, *size)) for size in sizes]
parameters = {}
for number, count in enumerate(channels):
    for name, shape in (("lateral", (width, count, 1, 1)), ("smooth", (width, width, 3, 3))):
        parameters[f"{name}.{number}.weight"] = rng.standard_normal(shape) / 3
        parameters[f"{name}.{number}.bias"] = rng.standard_normal(width)
leaves = [tensor(array, requires_grad=True) for array in maps]
given = {name: tensor(array, requires_grad=True) for name, array in parameters.items()}
total, above = 0.0, None
for number in (2, 1, 0):
    merged = conv2d(leaves[number], given[f"lateral.{number}.weight"], given[f"lateral.{number}.bias"])
    if above is not None:
        merged = merged + pad(above, (0, merged.shape[3] - above.shape[3], 0, merged.shape[2] - above.shape[2]))
    level = conv2d(merged, given[f"smooth.{number}.weight"], given[f"smooth.{number}.bias"], padding=1)
    total = total + (level * tensor(cotangents[number])).sum()
    above = merged
total.backward()
run = run_pyramid(channels, width, parameters, maps, cotangents)
for number, leaf in enumerate(leaves):
    compare(run["maps"][number], leaf.grad.numpy(), f"gradient of the map C{number + 2}", rtol=1e-9)
for name, leaf in given.items():
    assert name in run["parameters"], f"no gradient reaches {name}"
    compare(run["parameters"][name], leaf.grad.numpy(), f"gradient of {name}", rtol=1e-9)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6 · Finale: ResNet-50-FPN on your functions · 4 points
#
# Nothing is left to write. First, tinynet's own ResNet-50-FPN runs with **your enlarging**, forward and backward, on a
# picture whose sides are odd. `tinynet.kernels.override` puts your functions in the place of tinynet's own and counts
# how often they are called.

# %% nbgrader={"grade": true, "grade_id": "finale-enlarging", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
from tinynet import kernels
from tinynet.models import resnet_fpn_backbone


def draw_weights(network):
    """Gives every parameter values that depend on its name alone."""
    for name, value in network.state_dict().items():
        draw, shape = np.random.default_rng([*name.encode()]), tuple(value.shape)
        values = np.resize(draw.standard_normal(9973, np.float32), shape)  # repeated where that is not enough
        if len(shape) > 1:
            value.copy_(tinynet.tensor(values * np.float32((2 / math.prod(shape[1:])) ** 0.5)))
        else:
            positive = name.endswith(("running_var", "weight"))
            value.copy_(tinynet.tensor(0.2 * values if not positive else 0.5 + values.clip(-1, 1) ** 2))
    return network.eval()


def levels_and_gradients(network, image, seed):
    """The levels of a picture, and the gradients of C2 to C5 for random cotangents."""
    with tinynet.no_grad():
        maps = network.body(tinynet.tensor(image))
    leaves = {name: features.requires_grad_() for name, features in maps.items()}
    levels = network.fpn(leaves)
    draw = np.random.default_rng(seed)
    total = 0.0
    for level in levels.values():
        total = total + (level * tinynet.tensor(draw.standard_normal(tuple(level.shape)).astype(np.float32))).sum()
    total.backward()
    return [level.detach().numpy() for level in levels.values()], [leaf.grad.numpy() for leaf in leaves.values()]


with tinynet.no_grad():
    network = draw_weights(resnet_fpn_backbone("resnet50"))
image = np.random.default_rng(5).standard_normal((1, 3, 75, 91)).astype(np.float32)
with kernels.backend("numpy"):
    expected, expected_gradients = levels_and_gradients(network, image, 0)
    with kernels.override(nearest=nearest, nearest_backward=nearest_backward) as used:
        levels, gradients = levels_and_gradients(network, image, 0)
print("levels of the sizes", *(level.shape[2:] for level in levels), "calls of your functions:", used.calls)
assert used.calls == {"nearest": 3, "nearest_backward": 3}, f"three maps are enlarged, and back; calls: {used.calls}"
for number, (own, right) in enumerate(zip(levels, expected), start=2):
    error = np.abs(own - right).max() / np.abs(right).max()
    assert error < 1e-4, f"P{number} has the relative error {error:.0e} with your enlarging, should be about 1e-7"
for number, (own, right) in enumerate(zip(gradients, expected_gradients), start=2):
    error = np.abs(own - right).max() / np.abs(right).max()
    assert error < 1e-4, f"the gradient of C{number} has the relative error {error:.0e}, should be about 1e-7"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(nearest, allowed=ALLOWED, refused=REFUSED)
require_own_work(nearest_backward, allowed=ALLOWED, refused=REFUSED)
image = fresh_generator().standard_normal((1, 3, 83, 69)).astype(np.float32)
with kernels.backend("numpy"):
    expected, expected_gradients = levels_and_gradients(network, image, 1)
    with kernels.override(nearest=nearest, nearest_backward=nearest_backward) as used:
        levels, gradients = levels_and_gradients(network, image, 1)
assert used.calls == {"nearest": 3, "nearest_backward": 3}, f"your functions were not called: {used.calls}"
for number, (own, right) in enumerate(zip(levels, expected), start=2):
    compare(own, right, f"P{number} of ResNet-50-FPN", rtol=1e-4)
for number, (own, right) in enumerate(zip(gradients, expected_gradients), start=2):
    compare(own, right, f"gradient of C{number} of ResNet-50-FPN", rtol=1e-4)
### END HIDDEN TESTS

# %% [markdown]
# And second, **your pyramid** with your enlarging and your P6 on the maps of a ResNet-50, beside tinynet's.

# %% nbgrader={"grade": false, "grade_id": "assembly", "locked": true, "schema_version": 3, "solution": false, "task": false}
def run_own_pyramid(parameters, maps):
    """Your levels P2 to P6 for the maps C2 to C5, and how often your module and your enlarging were called."""
    calls = {"FeaturePyramid": 0, "nearest": 0}

    def enlarge(x, size):
        calls["nearest"] += 1
        return tinynet.tensor(nearest(x.numpy(), size, None, False))

    def count(module, inputs, output):
        calls["FeaturePyramid"] += 1

    width = len(parameters["lateral.0.bias"])
    pyramid = FeaturePyramid([array.shape[1] for array in maps], width, enlarge)
    pyramid.register_forward_hook(count)
    pyramid.load_state_dict({name: tinynet.tensor(array) for name, array in parameters.items()})
    with tinynet.no_grad():
        levels = [level.numpy() for level in pyramid([tinynet.tensor(array) for array in maps])]
    return {"levels": [*levels, subsample(levels[-1])], "calls": calls}


# %% nbgrader={"grade": true, "grade_id": "finale-pyramid", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
def levels_beside(image):
    """The levels of a picture by the network of the cell above, and by your pyramid with the same parameters."""
    parameters = {}
    for name, value in network.fpn.state_dict().items():
        name = name.replace("inner_blocks", "lateral").replace("layer_blocks", "smooth")
        parameters[name.replace(".0.weight", ".weight").replace(".0.bias", ".bias")] = value.numpy()
    with tinynet.no_grad(), kernels.backend("numpy"):
        maps = network.body(tinynet.tensor(image))
        expected = [level.numpy() for level in network.fpn(maps).values()]
    return expected, run_own_pyramid(parameters, [features.numpy() for features in maps.values()])


image = np.random.default_rng(5).standard_normal((1, 3, 75, 91)).astype(np.float32)
expected, own = levels_beside(image)
calls = own["calls"]
assert calls == {"FeaturePyramid": 1, "nearest": 3}, f"three maps are enlarged in one pyramid; calls: {calls}"
assert len(own["levels"]) == 5, f"P2 to P6 are five levels, yours are {len(own['levels'])}"
for number in (5, 4, 3, 2, 6):
    mine, right = own["levels"][number - 2], expected[number - 2]
    assert mine.shape == right.shape, f"P{number} has the shape {mine.shape}, expected {right.shape}"
    error = np.abs(mine - right).max() / np.abs(right).max()
    assert error < 1e-4, f"P{number} has the relative error {error:.0e} with your pyramid, should be about 1e-7"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(run_own_pyramid, allowed=ALLOWED, refused=REFUSED)
image = fresh_generator().standard_normal((1, 3, 83, 69)).astype(np.float32)
expected, own = levels_beside(image)
assert own["calls"] == {"FeaturePyramid": 1, "nearest": 3}, f"your functions were not called: {own['calls']}"
for number in (5, 4, 3, 2, 6):
    compare(own["levels"][number - 2], expected[number - 2], f"P{number} of your pyramid on ResNet-50", rtol=1e-4)
### END HIDDEN TESTS
