# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["goal"]
# # Lesson 3: Convolution is a matrix product
#
# **Goal.** You write a convolution as six loops, turn it into one matrix product, find its two gradients, and put your
# functions into a real ResNet, which does not notice.
#
# **Time:** 50-60 minutes, of which the computer needs a few seconds.
#
# **You need:** lesson 1 (the gradients of `x @ weight`), lesson 2 (checking them), and NumPy's slices.
#
# **New in tinynet:** `tinynet.nn.functional.conv2d`, `tinynet.nn.functional.unfold`, `tinynet.nn.functional.fold`,
# `tinynet.from_numpy`, `tinynet.kernels.override`, `tinynet.models.resnet18`

# %%
import time

import numpy as np

import tinynet
from tinynet import plot
from tinynet.autograd import Function, gradcheck
from tinynet.kernels import override
from tinynet.lesson import Lesson, relative_error
from tinynet.models import resnet18
from tinynet.nn import functional as F

tinynet.manual_seed(0)
random = np.random.default_rng(0)
lesson = Lesson(3)

# %% [markdown]
# ## 1. The same small question at every place
#
# Is it brighter here than on the left? That question can be asked anywhere in an image, and the answer is a weighted sum
# of a few neighbouring pixels. Write the weights as a little matrix, the **kernel**:

# %%
image = np.array([[0.0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]])
kernel = np.array([[-1.0, 1], [-1, 1]])
print(image, kernel, sep="\n\n")

# %% [markdown] tags=["predict"]
# **Predict.** Lay the kernel on the image, multiply what lies on top of each other, and add up. Which number comes out in
# the upper left corner? And one place further to the right?

# %% tags=["predict"]
in_the_corner = ...  # the kernel covers columns 0 and 1
one_further = ...  # the kernel covers columns 1 and 2


# %%
def slide(image, kernel):
    """The kernel laid on every place of one image, multiplied and added up."""
    size = len(kernel)
    height, width = image.shape
    result = np.zeros((height - size + 1, width - size + 1))
    for row in range(result.shape[0]):
        for column in range(result.shape[1]):
            result[row, column] = (image[row : row + size, column : column + size] * kernel).sum()
    return result


edges = slide(image, kernel)
lesson.reveal("in the corner", in_the_corner, edges[0, 0])
lesson.reveal("one further", one_further, edges[0, 1])
print(edges)

# %% [markdown]
# A column of 2 where the image turns from dark to bright, 0 where it is even. This is a **convolution**: the same few
# weights at every place. (Mathematicians turn the kernel around first and call ours a *cross-correlation*. Since nets
# learn the weights, nobody in this field bothers.) Other weights ask other questions. In the two maps of edges a middle
# grey is 0, light is positive (yes) and dark is negative (the other way round):

# %%
down, across = np.mgrid[:64, :64]
picture = 1.0 * ((across - 20) ** 2 + (down - 24) ** 2 < 200)
picture += 0.6 * ((across > 36) & (across < 58) & (down > 14) & (down < 54)) + 0.2 * (down > 40)
kernels = {
    "brighter on the right?": np.array([[-1.0, 0, 1], [-1, 0, 1], [-1, 0, 1]]),
    "brighter below?": np.array([[-1.0, -1, -1], [0, 0, 0], [1, 1, 1]]),
    "the mean of 7 by 7": np.full((7, 7), 1 / 49),
}
lesson.show(
    plot.images([picture, *[slide(picture, kernel) for kernel in kernels.values()]], ["image", *kernels]),
    "An image of a disc and a bar, and three results: vertical edges, horizontal edges, and a blurred copy.",
)

# %% [markdown]
# Why not let every output look at every pixel, as `x @ weight` does? Count.

# %% [markdown] tags=["predict"]
# **Predict.** From a map of 64 by 64 to a map of 64 by 64. How many weights does it take if every output has a weight of
# its own for every input? And how many does a 3×3 convolution take?

# %% tags=["predict"]
weights_for_all_pairs = ...  # a number
weights_of_the_kernel = ...  # a number

# %%
lesson.reveal("a weight for every pair", weights_for_all_pairs, (64 * 64) * (64 * 64))
lesson.reveal("3×3", weights_of_the_kernel, 3 * 3)

# %% [markdown]
# Nine weights do, however large the map is: every place uses the same ones.
#
# ## 2. Channels: six loops
#
# One question is not enough. A layer asks many: each has a kernel of its own and makes a map of its own, a **channel** of
# the output. And its input has channels, too (red, green and blue; later the maps of the layer before). A kernel then has
# a 3×3 for every input channel, and **all input channels are added up** into one number. So the weight has four axes:
#
# $$y_{o,\,row,\,column} = \sum_{c,\,i,\,j} w_{o,c,i,j} \; x_{c,\; row + i,\; column + j}$$
#
# Three axes of the output, three to sum over. Six loops.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 · Six loops · 2/5 · 10 minutes
#
# Write them, with no trick at all. `x` is (channels, height, width), `weight` is (outputs, channels, size, size). Where
# the kernel would reach over the edge there is no output.

# %% tags=["stub"]
def convolve_loops(x, weight):
    """The convolution of one image: an array (outputs, height - size + 1, width - size + 1)."""
    return ...


# %% tags=["check"]
def check(convolve_loops):
    found = convolve_loops(image[None], kernel[None, None])
    error = relative_error(found, edges[None])
    assert relative_error(found, image[None, 1:, 1:]) > 1e-9, "only the last product of each window arrives: use +="
    assert relative_error(found, -edges[None]) > 1e-9, "the sign is turned: the kernel is turned around"
    assert error < 1e-12, f"for the small image above you get\n{np.asarray(found)[0]}\nand slide gave\n{edges}"
    x, weight = random.standard_normal((3, 6, 7)), random.standard_normal((2, 3, 3, 3))
    each = np.array([[slide(x[c], weight[o, c]) for c in range(3)] for o in range(2)])
    found = convolve_loops(x, weight)
    assert relative_error(found, each.sum(1)[::-1]) > 1e-9, "the output channels are in reversed order"
    assert relative_error(found, each[:, 2]) > 1e-9, "only the last input channel arrives: add up with +="
    assert relative_error(found, each.mean(1)) > 1e-9, "the input channels are added up, not averaged"
    error = relative_error(found, each.sum(1))
    words = f"with 3 input channels the relative error is {error:.0e}, should be about 1e-16"
    assert error < 1e-12, f"{words}: is it weight[o, c, …] times x[c, …]?"


convolve_loops = lesson.check(check, convolve_loops)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Make an array of zeros, then `for o in range(outputs):`, `for row …`, `for column …`, `for c …`, `for i …`, `for j …`,
# and inside of all six one line that adds a product to `y[o, row, column]`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def convolve_loops(x, weight):
#     """The convolution of one image: an array (outputs, height - size + 1, width - size + 1)."""
#     channels, height, width = x.shape
#     outputs, _, size, _ = weight.shape
#     y = np.zeros((outputs, height - size + 1, width - size + 1))
#     for o in range(outputs):
#         for row in range(y.shape[1]):
#             for column in range(y.shape[2]):
#                 for c in range(channels):
#                     for i in range(size):
#                         for j in range(size):
#                             y[o, row, column] += weight[o, c, i, j] * x[c, row + i, column + j]
#     return y
# ```
#
# </details>

# %% [markdown]
# ## 3. How large is the output?
#
# Three numbers change where the windows stand. Here is one row of the image, and below it a line for each output with a
# dot on every pixel that it reads. A white pixel is read by none. (In two dimensions the same holds up and down.)

# %%
lesson.show(
    plot.windows([(7, 3, 1, 0, 1), (7, 3, 2, 0, 1), (8, 3, 2, 0, 1)], ["stride 1", "stride 2", "stride 2, 8 pixels"]),
    "Windows of three dots on 7 pixels: five of them with stride 1, three with stride 2. On 8 pixels with stride 2 "
    "there are also three, and the last pixel is read by none.",
)
lesson.show(
    plot.windows([(5, 3, 1, 1, 1), (7, 3, 1, 0, 2)], ["padding 1", "dilation 2"]),
    "With padding 1, five windows on 5 pixels and a grey pixel at each end. With dilation 2 the dots are 2 apart and "
    "three windows fit on 7 pixels.",
)

# %% [markdown]
# - The **stride** is how far the window moves from one output to the next. Stride 2 halves the map.
# - **Padding** puts zeros around the image (grey), so that the map need not shrink and the border gets its share.
# - **Dilation** leaves gaps between the weights: the same nine weights look further.

# %% [markdown] tags=["exercise"]
# ### Exercise 2 · The output's size · 1/5 · 5 minutes
#
# One formula, for one axis. First: how many pixels does a window reach over, from its first dot to its last? Then: by
# how many pixels can it be moved from the left end until it touches the right one? And then: how many strides is that?

# %% tags=["stub"]
def output_size(size, kernel, stride, padding, dilation):
    """How many windows fit on `size` pixels."""
    return ...


# %% tags=["check"]
def check(output_size):
    found = output_size(7, 3, 1, 0, 1)
    assert isinstance(found, int), f"a whole number is expected, not {found!r}: divide with //"
    assert found != 4, "7 pixels, kernel 3: the window can be moved by 4, so it stands at 5 places (add 1)"
    assert found == 5, f"7 pixels, kernel 3: 5 outputs, as in the first picture, not {found}"
    assert output_size(5, 3, 1, 1, 1) != 4, "padding stands on both sides: 5 pixels become 7"
    assert output_size(5, 3, 1, 1, 1) == 5, f"padding 1: 5 outputs, not {output_size(5, 3, 1, 1, 1)}"
    assert output_size(7, 3, 2, 0, 1) == 3, f"stride 2 on 7 pixels: 3 outputs, not {output_size(7, 3, 2, 0, 1)}"
    assert output_size(8, 3, 2, 0, 1) == 3, "stride 2 on 8 pixels: 3 outputs, what is left over is dropped"
    found = output_size(7, 3, 1, 0, 2)
    assert found == 3, f"dilation 2: the window of 3 reaches over 5 pixels, so 3 outputs on 7 pixels, not {found}"
    for case in np.ndindex(9, 3, 3, 3, 3):
        size, kernel, stride, padding, dilation = (number + add for number, add in zip(case, (7, 1, 1, 0, 1)))
        reach = [place for place in range(0, size + 2 * padding, stride)
                 if place + dilation * (kernel - 1) < size + 2 * padding]  # fmt: skip
        found = output_size(size, kernel, stride, padding, dilation)
        words = f"size {size}, kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}"
        assert found == len(reach), f"for {words}: {len(reach)} outputs, not {found}"


output_size = lesson.check(check, output_size)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# A window reaches over `dilation * (kernel - 1) + 1` pixels. There are `size + 2 * padding`. The difference is how far it
# can be moved. Divide by the stride, drop the rest, and add 1 for the place where it started.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def output_size(size, kernel, stride, padding, dilation):
#     """How many windows fit on `size` pixels."""
#     reach = dilation * (kernel - 1) + 1
#     return (size + 2 * padding - reach) // stride + 1
# ```
#
# </details>

# %% [markdown] tags=["predict"]
# **Predict.** The first layer of a ResNet has a 7×7 kernel, stride 2, padding 3. For an image of 224 pixels: how many
# outputs along one axis? And how many pixels of the padded row are read by no window at all?

# %% tags=["predict"]
stem_outputs = ...  # a number
unread = ...  # a number

# %%
outputs = output_size(224, 7, 2, 3, 1)
lesson.reveal("outputs of the first layer", stem_outputs, outputs)
lesson.reveal("pixels that no window reads", unread, (224 + 2 * 3) - ((outputs - 1) * 2 + 7))

# %% [markdown]
# The stride does not divide evenly, and that is normal. Libraries that refused such sizes could not run a ResNet. What
# the dropped pixels mean for the gradient: nothing depends on them, so theirs is 0.
#
# ## 4. im2col: every window becomes a column
#
# Look at the formula again. For one output place, the sum over $c, i, j$ is a dot product: a row of weights times the
# numbers in the window. All outputs of one place share the window; all places share the weights. Rows times columns:
# that is a *matrix product*, if somebody writes the windows side by side as columns. This is called **im2col**.

# %%
small = np.arange(1.0, 13).reshape(1, 1, 3, 4)
print("a 3 by 4 image:", small[0, 0], "its windows of 2 by 2, as columns:", sep="\n")
print(F.unfold(tinynet.from_numpy(small), kernel_size=2).numpy()[0])

# %% [markdown]
# The first column is the window in the upper left corner, read line by line: 1, 2, 5, 6. (torch calls im2col `unfold`,
# and so does tinynet.) Now read the matrix by *rows*. The first row is `1 2 3 5 6 7`: what the window's upper left weight
# meets as it slides. **Each row is the image itself, shifted and cut.** That is how to make the matrix fast: a few slices
# in place of millions of steps.

# %% [markdown] tags=["predict"]
# **Predict.** A layer in the middle of a ResNet has 64 input channels, maps of 56 by 56, a 3×3 kernel, padding 1 and
# stride 1. How many rows and columns does its matrix have? And how many times as many numbers is that as the input has?

# %% tags=["predict"]
rows_and_columns = ...  # a tuple (rows, columns)
times_as_many = ...  # a number

# %%
matrix = F.unfold(tinynet.randn(1, 64, 56, 56), kernel_size=3, padding=1)
lesson.reveal("rows and columns", rows_and_columns, tuple(matrix.shape[1:]))
lesson.reveal("times as many numbers", times_as_many, matrix[0].numel() / (64 * 56 * 56))

# %% [markdown] tags=["exercise"]
# ### Exercise 3 · im2col · 4/5 · 15 minutes
#
# Write it for a batch: `x` is (images, channels, height, width), the result (images, channels · kernel height · kernel
# width, output height · output width). `kernel`, `stride`, `padding` and `dilation` are pairs, (down, across). The
# stub pads `x` for you. What is left: for each weight $(i, j)$ of the kernel, one slice of `x`, all outputs at once.

# %% tags=["stub"]
def im2col(x, kernel, stride, padding, dilation):
    """The windows of x as columns. Rows go through channels, then the kernel's rows, then its columns."""
    images, channels, height, width = x.shape
    rows = output_size(height, kernel[0], stride[0], padding[0], dilation[0])
    columns = output_size(width, kernel[1], stride[1], padding[1], dilation[1])
    x = np.pad(x, ((0, 0), (0, 0), (padding[0], padding[0]), (padding[1], padding[1])))  # now with its zeros
    windows = np.empty((images, channels, kernel[0], kernel[1], rows, columns), x.dtype)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            windows[:, :, i, j] = ...
    return windows.reshape(images, channels * kernel[0] * kernel[1], rows * columns)


# %% tags=["check"]
def check(im2col):
    plain = ((2, 2), (1, 1), (0, 0), (1, 1))
    found = im2col(small, *plain)
    expected = F.unfold(tinynet.from_numpy(small), kernel_size=2).numpy()
    error = relative_error(found, expected)
    assert error == 0, f"for the 3 by 4 image above you get\n{found[0]}\nshould be\n{expected[0]}"
    x = random.standard_normal((2, 3, 9, 8)).astype(np.float32)
    words = {
        "stride": ((3, 3), (2, 2), (0, 0), (1, 1)),
        "padding": ((3, 3), (1, 1), (1, 1), (1, 1)),
        "dilation": ((3, 3), (1, 1), (0, 0), (2, 2)),
        "a different number down and across": ((3, 2), (2, 1), (1, 2), (2, 3)),
    }
    for what, (kernel, stride, padding, dilation) in words.items():
        found = im2col(x, kernel, stride, padding, dilation)
        settings = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        error = relative_error(found, F.unfold(tinynet.from_numpy(x), **settings).numpy())
        assert error == 0, f"with {what} numbers are wrong: where does the slice start and end, with which step?"
        assert found.dtype == np.float32, f"float32 went in, {found.dtype} came out: im2col only copies"


im2col = lesson.check(check, im2col)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The weight $(i, j)$ of the first window meets the pixel `top, left = i * dilation[0], j * dilation[1]` of the padded
# `x`. From there on it meets every `stride[0]`-th row and every `stride[1]`-th column, `rows` and `columns` of them:
# `x[:, :, top : top + stride[0] * rows : stride[0], …]`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def im2col(x, kernel, stride, padding, dilation):
#     """The windows of x as columns. Rows go through channels, then the kernel's rows, then its columns."""
#     images, channels, height, width = x.shape
#     rows = output_size(height, kernel[0], stride[0], padding[0], dilation[0])
#     columns = output_size(width, kernel[1], stride[1], padding[1], dilation[1])
#     x = np.pad(x, ((0, 0), (0, 0), (padding[0], padding[0]), (padding[1], padding[1])))  # now with its zeros
#     windows = np.empty((images, channels, kernel[0], kernel[1], rows, columns), x.dtype)
#     for i in range(kernel[0]):
#         for j in range(kernel[1]):
#             top, left = i * dilation[0], j * dilation[1]
#             down = slice(top, top + stride[0] * rows, stride[0])
#             across = slice(left, left + stride[1] * columns, stride[1])
#             windows[:, :, i, j] = x[:, :, down, across]
#     return windows.reshape(images, channels * kernel[0] * kernel[1], rows * columns)
# ```
#
# </details>

# %% [markdown]
# Six loops have become two short ones and a matrix product. Compare both, on a small layer:

# %% tags=["varies"]
x, weight = random.standard_normal((8, 24, 24)), random.standard_normal((16, 8, 3, 3))


def convolve_product(x, weight):
    matrix = im2col(x[None], (3, 3), (1, 1), (0, 0), (1, 1))[0]
    return (weight.reshape(16, -1) @ matrix).reshape(16, 22, 22)


seconds = {convolve_loops: 99.0, convolve_product: 99.0}
for function in (convolve_loops, *[convolve_product] * 5):  # the first run of a product takes longer
    started = time.perf_counter()
    function(x, weight)
    seconds[function] = min(seconds[function], time.perf_counter() - started)

by_loops, by_product = (1e3 * time_taken for time_taken in seconds.values())
lesson.say(
    f"{16 * 22 * 22 * 8 * 9:,} multiplications. Six loops: **{by_loops:.0f} ms**. im2col and product: "
    f"**{by_product:.2f} ms**. Relative difference of the results: "
    f"{relative_error(convolve_product(x, weight), convolve_loops(x, weight)):.0e}."
)

# %% [markdown]
# The same products are added up, in another order. Nothing was saved but Python's loops; how fast the machine really is
# comes in lesson 4.
#
# ## 5. The way back: col2im
#
# For training we need two gradients: of the weights, and of the input (to hand it on to the layer before). The product is
# no problem: in lesson 1 you found the gradients of `x @ weight`. But between input and product stands im2col. What is
# the backward pass of *copying*?
#
# im2col is linear, so it is a big matrix itself, of zeros and ones: row by row it says which pixel is copied where. We
# can see that matrix, by sending images through that have a single 1. Here it is for the 3 by 4 image of section 4, lying
# on its side (transposed): a row for each of the 12 pixels, a column for each of the 24 numbers in the windows, and a
# light square where the number is a copy of the pixel.

# %%
def selection(height, width, *settings):
    """im2col as a matrix: (numbers in the columns, pixels)."""
    single = np.eye(height * width).reshape(-1, 1, height, width)
    return im2col(single, *settings).reshape(len(single), -1).T


plain = selection(3, 4, (2, 2), (1, 1), (0, 0), (1, 1))
lesson.show(
    plot.images([plain.T], ["12 pixels × 24 numbers"]),
    "A wide matrix of 12 pixels by 24 numbers. Every column has a single light square; the pixels in the middle of the "
    "image have up to four in their row.",
)

# %% [markdown]
# Each number of the columns is a copy of one pixel. The other way round, a pixel may be copied several times, once for
# each window that reads it. And what is used several times collects several gifts: **the backward pass of a copy is an
# addition.** Take every number's gradient and add it to the pixel from which the number was copied. That is **col2im**.
# As a matrix it is im2col's transpose, $S^T$ for $S$, as `weight.T` was in lesson 1.

# %% [markdown] tags=["predict"]
# **Predict.** A 5 by 5 image, a 3×3 kernel with stride 1 and padding 1. How many windows read the pixel in the corner?
# And the one in the middle?

# %% tags=["predict"]
corner_is_read = ...  # times
middle_is_read = ...  # times

# %%
reads = selection(5, 5, (3, 3), (1, 1), (1, 1), (1, 1)).sum(0).reshape(5, 5).astype(int)
lesson.reveal("the corner is read, times", corner_is_read, reads[0, 0])
lesson.reveal("the middle is read, times", middle_is_read, reads[2, 2])
print(reads)

# %% [markdown] tags=["exercise"]
# ### Exercise 4 · col2im · 3/5 · 10 minutes
#
# Write it: the columns' numbers, added up into an array of the shape `input_shape`. It is im2col read backwards: the same
# two loops, the same slices. Start from a `padded` array of zeros, and cut the padding off at the end.

# %% tags=["stub"]
def col2im(columns, input_shape, kernel, stride, padding, dilation):
    """Every number of the columns added to the pixel that im2col copied it from."""
    return ...


# %% tags=["check"]
def check(col2im):
    one = ((3, 3), (1, 1), (1, 1), (1, 1))
    found = col2im(np.ones((1, 9, 25)), (1, 1, 5, 5), *one)
    shape = np.shape(found)
    assert shape != (1, 1, 7, 7), "the result is 7 by 7, the padded image: cut the padding off at the end"
    error = relative_error(found, reads[None, None])
    overwritten = np.asarray(found).max() == 1
    assert not overwritten, "ones give a 1 at every pixel, should be 4 to 9: a second gift replaces the first, use +="
    assert error == 0, f"ones should give how often each pixel is read:\n{reads}\nyou get\n{np.asarray(found)[0, 0]}"
    columns = random.standard_normal((2, 12, 20)).astype(np.float32)
    found = col2im(columns, (2, 3, 5, 6), (2, 2), (1, 1), (0, 0), (1, 1))
    assert np.size(found), "with padding 0 nothing is left: x[0:-0] is empty, cut from padding to padding + height"
    cases = {
        "padding 0": ((2, 3, 5, 6), (2, 2), (1, 1), (0, 0), (1, 1)),
        "stride 2, which does not divide evenly": ((2, 3, 8, 8), (3, 3), (2, 2), (0, 0), (1, 1)),
        "dilation 2": ((2, 3, 9, 9), (3, 3), (1, 1), (0, 0), (2, 2)),
        "a different number down and across": ((2, 3, 9, 8), (3, 2), (2, 1), (1, 2), (2, 3)),
    }
    for what, (shape, kernel, stride, padding, dilation) in cases.items():
        columns = random.standard_normal(im2col(np.zeros(shape), kernel, stride, padding, dilation).shape)
        found = col2im(columns, shape, kernel, stride, padding, dilation)
        settings = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        error = relative_error(found, F.fold(tinynet.from_numpy(columns), shape[2:], **settings).numpy())
        assert error < 1e-9, f"with {what} the relative error is {error:.0e}, not 1e-16: im2col's shapes and slices?"


col2im = lesson.check(check, col2im)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `windows = columns.reshape(images, channels, *kernel, rows, columns_across)` undoes im2col's last line. In the loops,
# `padded[:, :, down, across] += windows[:, :, i, j]` with im2col's slices. The end is
# `padded[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width]`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def col2im(columns, input_shape, kernel, stride, padding, dilation):
#     """Every number of the columns added to the pixel that im2col copied it from."""
#     images, channels, height, width = input_shape
#     rows = output_size(height, kernel[0], stride[0], padding[0], dilation[0])
#     places = output_size(width, kernel[1], stride[1], padding[1], dilation[1])
#     windows = columns.reshape(images, channels, kernel[0], kernel[1], rows, places)
#     padded = np.zeros((images, channels, height + 2 * padding[0], width + 2 * padding[1]), columns.dtype)
#     for i in range(kernel[0]):
#         for j in range(kernel[1]):
#             top, left = i * dilation[0], j * dilation[1]
#             down = slice(top, top + stride[0] * rows, stride[0])
#             across = slice(left, left + stride[1] * places, stride[1])
#             padded[:, :, down, across] += windows[:, :, i, j]
#     return padded[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width]
# ```
#
# </details>

# %% [markdown]
# One line tests a transpose, for any linear function: $\langle S x, c \rangle = \langle x, S^T c \rangle$ for random $x$
# and $c$, where $\langle a, b \rangle$ is the dot product. No finite differences, no step size, all digits:

# %%
settings = ((3, 3), (2, 2), (1, 1), (1, 1))
x = random.standard_normal((2, 3, 9, 8))
columns = random.standard_normal(im2col(x, *settings).shape)
forwards = (im2col(x, *settings) * columns).sum()
backwards = (x * col2im(columns, x.shape, *settings)).sum()
print(f"{forwards:.10f}\n{backwards:.10f}")

# %% [markdown]
# ## 6. The two gradients
#
# Forward, for each image: $Y = W X$, where $X$ are the columns, $W$ is the weight as (outputs, channels · 3 · 3), and $Y$
# is the output as (outputs, places). Let $G$ be the gradient that arrives at $Y$. As in lesson 1, the shapes lead you.

# %% [markdown] tags=["exercise"]
# ### Exercise 5 · Backward through a convolution · 3/5 · 10 minutes
#
# Return the gradients of `x` and of `weight`. `grad` is (images, outputs, rows, columns). The settings are the pairs
# `(stride, padding, dilation)`; call `im2col(x, weight.shape[2:], *settings)` and `col2im` alike. All images use the
# same weights.

# %% tags=["stub"]
def convolution_backward(grad, x, weight, settings):
    """The gradients of x and of weight, in their shapes, as a tuple."""
    return ...


# %% tags=["check"]
def check(convolution_backward):
    x, weight = random.standard_normal((3, 2, 6, 5)), random.standard_normal((4, 2, 3, 3))
    cases = {"stride 1": ((1, 1), (0, 0), (1, 1)), "stride 2 and padding": ((2, 2), (1, 1), (1, 1))}
    for words, settings in cases.items():
        leaves = [tinynet.from_numpy(array.copy()).requires_grad_() for array in (x, weight)]
        y = F.conv2d(*leaves, None, *settings)
        grad = random.standard_normal(tuple(y.shape))
        y.backward(tinynet.from_numpy(grad))
        given = convolution_backward(grad, x, weight, settings)
        kind = type(given).__name__
        assert isinstance(given, tuple) and len(given) == 2, f"a tuple of two gradients is expected, not {kind}"
        shape = np.shape(given[1])
        assert shape[:2] != (3, 4), "the weight's gradient has one part for each image: add them up"
        assert shape == (4, 2, 3, 3), f"the weight's gradient has shape {shape}, not (4, 2, 3, 3): does x's come first?"
        error = relative_error(given[1], leaves[1].grad)
        assert relative_error(given[1], leaves[1].grad / 3) > 1e-9, "the weight's gradient is a mean over images: sum"
        assert error < 1e-9, f"{words}: the weight's gradient has the relative error {error:.0e}: is it G Xᵀ?"
        error = relative_error(given[0], leaves[0].grad)
        assert error < 1e-9, f"{words}: the gradient of x has the relative error {error:.0e}: is it col2im of Wᵀ G?"


convolution_backward = lesson.check(check, convolution_backward)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `g = grad.reshape(len(x), len(weight), -1)`. The weight's gradient is $G X^T$ for each image, added up over the images:
# `(g @ columns.transpose(0, 2, 1)).sum(0)`, in the shape of `weight`. The columns' gradient is $W^T G$, and col2im takes
# it back to the image.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def convolution_backward(grad, x, weight, settings):
#     """The gradients of x and of weight, in their shapes, as a tuple."""
#     kernel = weight.shape[2:]
#     columns = im2col(x, kernel, *settings)
#     g = grad.reshape(len(x), len(weight), -1)
#     grad_weight = (g @ columns.transpose(0, 2, 1)).sum(0).reshape(weight.shape)
#     grad_columns = weight.reshape(len(weight), -1).T @ g
#     return col2im(grad_columns, x.shape, kernel, *settings), grad_weight
# ```
#
# </details>

# %% [markdown]
# Put everything into one operation, as in lesson 2, and let the checker judge it. It knows nothing of matrices:

# %%
class Convolution(Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        ctx.settings = ((2, 2), (1, 1), (1, 1))
        columns = im2col(x.detach().numpy(), weight.shape[2:], *ctx.settings)
        y = weight.detach().numpy().reshape(len(weight), -1) @ columns
        rows, places = (output_size(size, 3, 2, 1, 1) for size in x.shape[2:])
        return tinynet.from_numpy(y.reshape(len(x), len(weight), rows, places))

    @staticmethod
    def backward(ctx, grad):
        x, weight = (tensor.detach().numpy() for tensor in ctx.saved_tensors)
        gradients = convolution_backward(grad.numpy(), x, weight, ctx.settings)
        return tuple(tinynet.from_numpy(np.ascontiguousarray(array)) for array in gradients)


x = tinynet.randn(2, 3, 6, 5, dtype=tinynet.float64, requires_grad=True)
weight = tinynet.randn(4, 3, 3, 3, dtype=tinynet.float64, requires_grad=True)
print("gradcheck:", gradcheck(Convolution.apply, (x, weight)))

# %% [markdown]
# ## 7. Your functions in a real net
#
# ResNet-18 has 20 convolutions (in lesson 9 you will build its larger sisters yourself). `override` puts functions of
# yours in the place of tinynet's own, inside of the `with` block, and counts how often they were called. It also makes
# sure that they are: within the block convolutions go through im2col and a product, not through tinynet's fast path.

# %% [markdown] tags=["predict"]
# **Predict.** One image goes through the net, then one backward pass fills in the gradients of all weights. How often is
# your im2col called, and how often your col2im? (Think about which gradients are needed, and what the weight's gradient
# is made from.)
#
# (The cell below may take half a minute when it is run for the first time on a machine: tinynet then compiles its own
# fast path.)

# %% tags=["predict"]
calls_of_im2col = ...  # a number
calls_of_col2im = ...  # a number


# %%
def run(net, images, upstream):
    """The net's output, and the gradient of the first layer's weight."""
    net.zero_grad()
    y = net(images)
    y.backward(upstream)
    return y.detach().numpy(), net.conv1.weight.grad.numpy().copy()


net = resnet18().eval()  # eval: as in use, not as in training (lesson 5)
images, upstream = tinynet.randn(1, 3, 64, 64), tinynet.randn(1, 1000)
by_tinynet = run(net, images, upstream)
with override(im2col=im2col, col2im=col2im) as own:
    by_you = run(net, images, upstream)

lesson.reveal("calls of im2col", calls_of_im2col, own.calls["im2col"])
lesson.reveal("calls of col2im", calls_of_col2im, own.calls["col2im"])
differences = [relative_error(mine, theirs) for mine, theirs in zip(by_you, by_tinynet)]
close = "below 1e-4, float32's rounding" if max(differences) < 1e-4 else f"{max(differences):.0e}: too large"
print(f"relative difference of the output, and of the first weight's gradient: {close}")

# %% [markdown]
# Forward each of the 20 convolutions makes its columns. Backward it needs them again, for $G X^T$, and makes them anew:
# to keep them would take nine times the memory of the maps, where the kernel is 3×3. And col2im is called once less than
# there are layers. The first layer's input is the photo, and nobody asks for *its* gradient.
#
# ## 8. What an output sees
#
# A 3×3 layer sees three pixels along each axis. Stack a second one on top: its three inputs have seen three pixels each,
# overlapping. What one output sees of the image is its **receptive field**.

# %% [markdown] tags=["predict"]
# **Predict.** How many pixels along one axis does an output see after three layers of 3×3 with stride 1? And if the
# first two of them have stride 2?

# %% tags=["predict"]
after_three = ...  # stride 1, 1, 1
with_strides = ...  # stride 2, 2, 1


# %%
def seen_by_middle(layers, size=63):
    """How often each pixel is used for the middle output, for layers of (stride, dilation) with weights of 1."""
    x = tinynet.from_numpy(np.zeros((1, 1, size, size))).requires_grad_()
    weight = tinynet.from_numpy(np.ones((1, 1, 3, 3)))
    y = x
    for stride, dilation in layers:
        y = F.conv2d(y, weight, stride=stride, padding=dilation, dilation=dilation)
    upstream = np.zeros(tuple(y.shape))
    upstream[0, 0, y.shape[2] // 2, y.shape[3] // 2] = 1  # only the output in the middle counts
    y.backward(tinynet.from_numpy(upstream))
    return x.grad.numpy()[0, 0]


three, strided = seen_by_middle([(1, 1)] * 3), seen_by_middle([(2, 1), (2, 1), (1, 1)])
lesson.reveal("three layers, stride 1", after_three, int(three.any(axis=0).sum()))
lesson.reveal("three layers, stride 2, 2, 1", with_strides, int(strided.any(axis=0).sum()))
lesson.show(
    plot.receptive_field([(3, 1, 1)] * 3, "Stride 1: two pixels more for every layer"),
    "Four rows of dots. From one output at the top, lines lead to 3, 5 and at last 7 pixels of the input.",
)
lesson.show(
    plot.receptive_field([(3, 2, 1), (3, 2, 1), (3, 1, 1)], "After a stride, every step above is twice as long"),
    "Four rows of dots, thinning out upwards by strides. From one output at the top, lines lead to 3, 7 and 15 pixels.",
)

# %% [markdown]
# A layer adds `dilation · (kernel - 1)` steps, and a step is as long as the product of all strides below it. That is why
# nets shrink their maps early: the field grows faster, and the work becomes less.
#
# How did we get those numbers? By a backward pass: the pixels that get a gradient are exactly those that the output sees.
# And the gradient says more than yes or no: as all weights are 1, it counts the paths through the layers that lead from a
# pixel to the output. Light is many, dark is few.

# %%
lesson.show(
    plot.images(
        [three[27:36, 27:36], strided[24:41, 24:41]], ["stride 1, 1, 1", "stride 2, 2, 1"], title="Paths to the output",
    ),
    "Two square maps, bright in the middle and dark towards their edges: most paths start from the middle pixels. The "
    "one with strides has a checked pattern.",
)
share = three[30:33, 30:33].sum() / three.sum()
lesson.say(
    f"Of all paths through three 3×3 layers, **{share:.0%}** start from the 9 pixels in the middle, which are only "
    f"{9 / 49:.0%} of the field. The border of a receptive field has little say. (And do you see the checks on the "
    "right? With a kernel of 3 and stride 2, every second pixel is read by two windows, the others by one.)"
)

# %% [markdown] tags=["make"]
# ## Make: far, and without holes
#
# Three 3×3 layers with stride 1 see 7 pixels. With **dilation** the same 27 weights see further. Choose three dilations
# so that an output sees as far as possible *without holes*: no pixel of its field may be skipped. How far can you get?
# Then try four layers. Can you name the rule?

# %%
dilations = [1, 2, 2]  # yours
field = seen_by_middle([(1, dilation) for dilation in dilations]).any(axis=0)
inside = field[field.argmax() : len(field) - field[::-1].argmax()]
print(f"sees {len(inside)} pixels, {(~inside).sum()} of them skipped")
lesson.show(
    plot.receptive_field([(3, 1, dilation) for dilation in dilations], "Your three layers"),
    "Lines from one output at the top down to the pixels that it sees through three layers with dilation.",
)

# %%
lesson.progress()

# %% [markdown] tags=["recap"]
# ## Recap
#
# Say the answers aloud before you unfold them.
#
# 1. Why does a 3×3 convolution with 64 input channels have 576 weights for each output channel?
# 2. What is a column of im2col's matrix, and what is a row?
# 3. Why does col2im add, and never overwrite?
# 4. Which two matrix products make the two gradients?
# 5. A layer has stride 2. What does that do to the receptive field of the layers above it?
#
# <details><summary>Answers</summary>
#
# 1. It has a 3×3 for every input channel, and adds all of them up: 64 times 9.
# 2. A column is one window. A row is what one weight of the kernel meets while it slides: the image, shifted and cut.
# 3. A pixel is copied once for each window that reads it; backward, each copy brings a gift, and gifts add up.
# 4. The weight's is G times the columns transposed. The columns' is the weight transposed times G, and col2im follows.
# 5. Each of their steps is twice as long in the image, so their fields grow twice as fast.
#
# </details>

# %% [markdown] tags=["paper"]
# ## The paper's sentence
#
# > "Unrolled convolution converts the processing in each convolutional layer (both forward-propagation and
# > back-propagation) into a matrix-matrix product."
#
# Kumar Chellapilla, Sidd Puri and Patrice Simard, *High performance convolutional neural networks for document
# processing*, 2006, from the abstract. Forward: your im2col. "Both": your exercise 5.

# %% [markdown] tags=["read"]
# ## Read on, in tinynet
#
# - `tinynet/kernels/im2col.py`, `_im2col_numpy`: your exercise 3; padding is skipped there, not copied
# - `tinynet/kernels/convolution.py`, `_convolution_loops`: the six loops, with everything
# - `tinynet/kernels/convolution.py`, `_weight_gradient_numpy`: your exercise 5, with groups of channels
# - `tinynet/ops/convolution.py`, `Convolution`: forward and backward side by side, as the tape sees them
# - `tinynet/inspect/geometry.py`, `geometry_of`: stride and receptive field of a whole net
#
# In lesson 4 the same layer becomes thousands of times faster, step by step.
