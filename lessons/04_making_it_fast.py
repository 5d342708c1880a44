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
# # Lesson 4: Making it fast
#
# **Goal.** You take one convolution from a minute to a millisecond, with six loops and a compiler, and learn to say how
# far from the machine's limit you are, and which limit it is.
#
# **Time:** 50-60 minutes, of which the computer needs about one; most of it goes into compiling.
#
# **You need:** lesson 3: the six loops and im2col.
#
# **New in tinynet:** `tinynet.get_num_threads`, `tinynet.kernels.PackedConvolution`,
# `tinynet.kernels.indirect.convolve`, `tinynet.kernels.packing.pack_forward`, `tinynet.bench.machine.product_speed`

# %%
import importlib.util
import os
import re
import subprocess
import sys
import time
import tracemalloc

import numba
import numpy as np
from numba import prange

import tinynet
from tinynet import plot
from tinynet.bench.machine import product_speed
from tinynet.kernels import PackedConvolution, indirect, packing
from tinynet.lesson import Lesson, relative_error
from tinynet.nn import functional as F

tinynet.manual_seed(0)
random = np.random.default_rng(0)
lesson = Lesson(4)

# %% [markdown]
# ## 1. The job
#
# One layer from the middle of a ResNet: 64 channels in, 64 out, maps of 56 by 56, a 3×3 kernel with padding 1. Behind it
# come three small steps that belong to it: a bias for every channel, the addition of another map (the *residual*, which
# lesson 7 is about), and ReLU. We keep the input with its zeros around it, so that no loop has to ask where the border
# is. All numbers are float32, 4 bytes each. (Close your other programs: whatever runs beside this notebook disturbs its
# times.)

# %%
x = np.zeros((64, 58, 58), np.float32)
x[:, 1:-1, 1:-1] = random.standard_normal((64, 56, 56))
weight = (0.05 * random.standard_normal((64, 64, 3, 3))).astype(np.float32)
bias = random.standard_normal(64).astype(np.float32)
residual = random.standard_normal((64, 56, 56)).astype(np.float32)

tensors = [tinynet.from_numpy(array) for array in (x[None], weight, bias)]
convolved = F.conv2d(tensors[0], tensors[1])[0].numpy()  # what must come out, without and with the three small steps
expected = np.maximum(F.conv2d(*tensors)[0].numpy() + residual, 0)

# %% [markdown] tags=["predict"]
# **Predict.** How many multiplications does the layer take? And how many seconds do six loops in plain Python need for
# it? (For the time, say 1, 10, 100 or 1000.)

# %% tags=["predict"]
multiplications = ...  # a number
python_seconds = ...  # 1, 10, 100 or 1000


# %% tags=["varies"]
def one_row(x, weight, o, row):
    """A single row of a single output channel, in plain Python. There are 64 · 56 such rows."""
    y = np.zeros(56, np.float32)
    for column in range(56):
        for c in range(64):
            for i in range(3):
                for j in range(3):
                    y[column] += weight[o, c, i, j] * x[c, row + i, column + j]
    return y


def fastest(action, seconds=0.4):
    """The time of the fastest of many runs, in seconds: a slower one was disturbed by something else."""
    action()
    times = []
    until = time.perf_counter() + seconds
    while not times or time.perf_counter() < until:
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)


macs = 64 * 56 * 56 * 64 * 3 * 3
taken = {"Python": 64 * 56 * fastest(lambda: one_row(x, weight, 0, 0), 0.1)}  # one row, times the number of rows
lesson.reveal("multiplications", multiplications, macs)
lesson.reveal("seconds in Python, to a power of ten", python_seconds, 10 ** round(np.log10(taken["Python"])))
lesson.say(f"One row, measured, times {64 * 56:,} rows: **{taken['Python']:.0f} seconds** for one layer of one image.")

# %% [markdown]
# A **multiply-accumulate** (MAC) is a multiplication and an addition, so it counts as two floating-point operations
# (FLOP). Speeds are given in GFLOP/s, thousands of millions per second. Keep an eye on them:

# %% tags=["varies"]
def speed(seconds):
    """GFLOP/s of the layer."""
    return 2 * macs / seconds / 1e9


lesson.say(f"The layer has {2 * macs / 1e9:.2f} GFLOP. Python's loops reach **{speed(taken['Python']):.4f} GFLOP/s**.")

# %% [markdown]
# Python looks at every `+` and `*` anew: what types are these, which function does that? The arithmetic itself is a tiny
# part of it.
#
# ## 2. NumPy: let others loop
#
# Lesson 3's way: write the windows as columns, multiply matrices. NumPy hands the product to a library (BLAS) in which
# people have put years of work.

# %% tags=["varies"]
columns = np.empty((64, 3, 3, 56, 56), np.float32)


def im2col():
    for i in range(3):
        for j in range(3):
            columns[:, i, j] = x[:, i : i + 56, j : j + 56]


def product():
    return (weight.reshape(64, 576) @ columns.reshape(576, 3136)).reshape(64, 56, 56)


def three_small_steps(y):
    y += bias[:, None, None]
    y += residual
    np.maximum(y, 0, out=y)
    return y


def by_numpy():
    im2col()
    return three_small_steps(product())


assert relative_error(by_numpy(), expected) < 1e-5
parts = {"im2col": fastest(im2col), "product": fastest(product)}
y = product()
parts["three small steps"] = fastest(lambda: three_small_steps(y))
taken["NumPy: im2col, product"] = fastest(by_numpy)
lesson.say(
    f"NumPy: **{1e3 * taken['NumPy: im2col, product']:.2f} ms**, {speed(taken['NumPy: im2col, product']):.0f} GFLOP/s, "
    f"{taken['Python'] / taken['NumPy: im2col, product']:,.0f} times as fast as Python's loops.\n\n"
    "| part | ms |\n|---|---|\n"
    + "\n".join(f"| {name} | {1e3 * seconds:.2f} |" for name, seconds in parts.items())
    + f"\n\nThe product alone, which is the work of BLAS, reaches **{speed(parts['product']):.0f} GFLOP/s**."
)

# %% [markdown]
# Two things cost time and compute nothing: im2col copies, and each small step runs through the whole map again. We shall
# get rid of both. But first: what does BLAS do that is so fast? Let us find out by writing our own loops, compiled.
#
# ## 3. Numba: the same loops, compiled
#
# **Numba** translates a Python function into machine code when it is called first. That takes seconds; afterwards no
# Python is left in it. The plainest way is this: for every output, go through its window and add up.

# %%
FAST = {"contract"}  # a multiplication and an addition may become one instruction, rounded once


def window_by_window(image, kernel, y):
    """Adds one input channel's share to one output channel: image (58, 58), kernel (3, 3), y (56, 56)."""
    for row in range(y.shape[0]):
        for column in range(y.shape[1]):
            total = np.float32(0)
            for i in range(kernel.shape[0]):
                for j in range(kernel.shape[1]):
                    total += kernel[i, j] * image[row + i, column + j]
            y[row, column] += total


def one_thread(add):
    """Compiles the whole layer: every input channel is added to every output channel by the function `add`."""
    add = numba.njit(add, fastmath=FAST)

    @numba.njit
    def layer(x, weight, y):
        y[:] = 0
        for o in range(len(weight)):
            for c in range(len(x)):
                add(x[c], weight[o, c], y[o])

    return layer


# %% tags=["varies"]
def layer_and_steps():
    layer(x, weight, y)
    return three_small_steps(y)


y = np.zeros((64, 56, 56), np.float32)
layer = one_thread(window_by_window)
layer(x, weight, y)
assert relative_error(y, convolved) < 1e-5
taken["Numba, window by window"] = fastest(layer_and_steps)
seconds = taken["Numba, window by window"]
lesson.say(f"Numba: {1e3 * seconds:.1f} ms, **{speed(seconds):.1f} GFLOP/s**.")

# %% [markdown]
# A huge step from Python, and still far behind BLAS. The reason is the *order*. Look at the innermost loops: nine
# products go into one number, `total`. Each addition has to wait until the one before is finished. But a processor could
# do much more: one **vector instruction** multiplies and adds 8 or 16 numbers at once, if they lie side by side in
# memory, and if they go into 8 or 16 *different* sums.
#
# So turn the loops inside out. Take one weight of the kernel, and add `weight · pixel` to a **whole row of outputs**:
# neighbours are read, neighbours are written, and no sum waits for another.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 · Along the rows · 2/5 · 10 minutes
#
# Write the same function with the loops in another order: the innermost one goes along a row, over `column`, and adds one
# product to `y[row, column]`. Write single numbers, as above; Numba makes the vectors.

# %% tags=["stub"]
def along_rows(image, kernel, y):
    """Adds one input channel's share to one output channel. The innermost loop is the one over column."""
    ...


# %% tags=["check"]
def check(along_rows):
    written = []

    class Watched(np.ndarray):
        def __setitem__(self, key, value):
            written.append(key)
            super().__setitem__(key, value)

    image, kernel = (random.standard_normal(shape).astype(np.float32) for shape in ((7, 9), (3, 3)))
    start = random.standard_normal((5, 7)).astype(np.float32)
    right, y = start.copy(), start.copy().view(Watched)
    window_by_window(image, kernel, right)
    along_rows(image, kernel, y)
    unchanged = np.array_equal(np.asarray(y), start)
    assert not unchanged, "y is as before: add to y itself, nothing needs to be returned"
    assert relative_error(np.asarray(y), right - start) > 1e-5, "what was in y is lost: add with +="
    error = relative_error(np.asarray(y), right)
    words = f"the relative error is {error:.0e}, should be about 1e-7"
    assert error < 1e-5, f"{words}: do you add, with +=, and is it image[row + i, column + j]?"
    plain = written and all(isinstance(key, tuple) and all(isinstance(index, int) for index in key) for key in written)
    assert plain, "write y[row, column] with single numbers; Numba makes the vectors from the loop"
    often = len(written) / y.size
    assert often == 9, f"each output is written {often:.0f} times, should be 9: is a sum over the kernel innermost?"
    steps = [tuple(step) for step in np.diff(written, axis=0).tolist()]
    most = max(set(steps), key=steps.count)
    assert most != (0, 0), "the same output is written nine times in a row: move the loop over column inside"
    assert most == (0, 1), f"from one output to the next you go {most}, should be (0, 1): is column innermost?"


along_rows = lesson.check(check, along_rows)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The outer two loops go over the kernel, `i` and `j`; inside of them `row`; innermost `column`. The one line in the
# middle is `y[row, column] += …`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def along_rows(image, kernel, y):
#     """Adds one input channel's share to one output channel. The innermost loop is the one over column."""
#     for i in range(kernel.shape[0]):
#         for j in range(kernel.shape[1]):
#             for row in range(y.shape[0]):
#                 for column in range(y.shape[1]):
#                     y[row, column] += kernel[i, j] * image[row + i, column + j]
# ```
#
# </details>

# %% [markdown] tags=["predict"]
# **Predict.** Two comparisons. How many times as fast as `window_by_window` is `along_rows`? And `down_columns` below has
# its last two loops exchanged, so that it goes *down* a column of the image. How many times as long does that take as
# `along_rows`? They all do the same multiplications.

# %% tags=["predict"]
gain_of_rows = ...  # a number
loss_of_columns = ...  # a number


# %% tags=["varies"]
def down_columns(image, kernel, y):
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            for column in range(y.shape[1]):
                for row in range(y.shape[0]):
                    y[row, column] += kernel[i, j] * image[row + i, column + j]


orders = {}
for function in (window_by_window, along_rows, down_columns):
    layer = one_thread(function)
    orders[function.__name__] = fastest(lambda layer=layer: layer(x, weight, y))
layer = one_thread(along_rows)
taken["Numba, along the rows"] = fastest(layer_and_steps)
lesson.reveal("gain along the rows", gain_of_rows, orders["window_by_window"] / orders["along_rows"])
lesson.reveal("loss down the columns", loss_of_columns, orders["down_columns"] / orders["along_rows"])
lesson.say(
    "| order | ms | GFLOP/s |\n|---|---|---|\n"
    + "\n".join(f"| `{name}` | {1e3 * seconds:.1f} | {speed(seconds):.1f} |" for name, seconds in orders.items())
)

# %% [markdown]
# Memory is one long line of numbers, and an image lies in it row by row. Neighbours in a *row* are neighbours in memory,
# and a vector instruction takes many of them at once. Neighbours in a *column* lie a whole row apart, and have to be
# picked up one by one. (With large images it gets worse: memory is fetched in lines of 64 bytes or more, and each step
# down a column fetches a line for a single number. Ours is so small that all of it stays at hand.) **The innermost loop
# goes where the numbers are neighbours.**
#
# ## 4. Threads
#
# A processor has several cores, and each can run a **thread** of its own. Numba's `prange` is a `range` whose numbers are
# divided among the threads. One rule comes with it: *no two threads may write to the same number.* `y += …` means: read,
# add, write. If another thread writes in between, its part is lost. That is a **race**.

# %% [markdown] tags=["predict"]
# **Predict.** The whole layer has six loops: over output channels `o`, input channels `c`, the kernel's `i` and `j`, and
# `row` and `column`. How many of the six may be divided among threads, so that no two threads write to the same number?

# %% tags=["predict"]
loops_to_divide = ...  # 0 to 6

# %%
lesson.reveal("loops that may be divided", loops_to_divide, len(["o", "row", "column"]))

# %% [markdown]
# Those over *outputs*: `o`, `row` and `column`. The other three, `c`, `i` and `j`, add into the same outputs.

# %% [markdown] tags=["exercise"]
# ### Exercise 2 · Divide the work · 2/5 · 5 minutes
#
# Write the layer with threads: two loops, over output and input channels, one of them a `prange`, and inside only the
# call `add_map(x[c], weight[o, c], y[o])`. `add_map` is your `along_rows`, compiled: it adds to `y[o]` and returns
# nothing. `y` comes in full of zeros.

# %% tags=["stub"]
add_map = numba.njit(along_rows, fastmath=FAST)


def all_threads(x, weight, y):
    """Adds every input channel to every output channel."""
    ...


# %% tags=["check"]
def check(all_threads):
    image = random.standard_normal((5, 6, 7)).astype(np.float32)
    kernels = random.standard_normal((4, 5, 3, 3)).astype(np.float32)
    right = np.zeros((4, 4, 5), np.float32)
    for o, c in np.ndindex(4, 5):
        window_by_window(image[c], kernels[o, c], right[o])

    def run(share):
        """What is written if prange gives out these numbers only."""
        y, names = np.zeros_like(right), all_threads.__globals__
        names["prange"] = lambda count: range(count)[share]
        try:
            all_threads(image, kernels, y)
        finally:
            names["prange"] = numba.prange
        return y

    error = relative_error(run(slice(None)), right)
    assert error < 1e-5, f"the relative error is {error:.0e}, should be about 1e-7: is each pair of o and c there once?"
    first, second = run(slice(0, None, 2)), run(slice(1, None, 2))  # two threads, one after the other
    assert not np.array_equal(first, second), "both threads do all of the work: which loop goes over prange(...)?"
    both = ((first != 0) & (second != 0)).mean()
    assert not both, f"two threads write to the same {both:.0%} of y: divide the loop over o, not the one over c"
    error = relative_error(first + second, right)
    assert error < 1e-5, "some pairs are computed by no thread: is there a prange in both loops? Only the outer one"


all_threads = lesson.check(check, all_threads)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `for o in prange(len(weight)):`, and inside of it `for c in range(len(x)):`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def all_threads(x, weight, y):
#     """Adds every input channel to every output channel."""
#     for o in prange(len(weight)):
#         for c in range(len(x)):
#             add_map(x[c], weight[o, c], y[o])
# ```
#
# </details>

# %% tags=["varies"]
threads = tinynet.get_num_threads()
layer = numba.njit(all_threads, parallel=True)


def threaded():
    y.fill(0)
    layer(x, weight, y)
    return three_small_steps(y)


assert relative_error(threaded(), expected) < 1e-5
taken[f"… on {threads} threads"] = fastest(threaded)
seconds = taken[f"… on {threads} threads"]
gain = taken["Numba, along the rows"] / seconds
lesson.say(f"On {threads} threads: **{speed(seconds):.0f} GFLOP/s**, {gain:.2f} times as fast as on one."
           + (" That is little: other programs may need the cores, or the threads share one." if gain < 1.3 else ""))


# %% [markdown]
# And this is the race, for real: the *other* loop divided. Every input channel is added by somebody, but the threads read
# and write the same outputs.

# %% tags=["varies"]
@numba.njit(parallel=True)
def racing(x, weight, y):
    for c in prange(len(x)):
        for o in range(len(weight)):
            add_map(x[c], weight[o, c], y[o])


wrong = []
for _ in range(20):
    y = np.zeros((64, 56, 56), np.float32)
    racing(x, weight, y)
    wrong.append(int((np.abs(y - convolved) > 1e-3).sum()))
lesson.say(
    f"Of 20 runs **{np.count_nonzero(wrong)}** had wrong outputs: between {min(wrong):,} and **{max(wrong):,}** of "
    f"{y.size:,} numbers. No error, no warning."
)

# %% [markdown]
# It differs from run to run, and if only one core is free you may see nothing wrong at all. That is what makes races so
# hard to find.
#
# ## 5. Tiles: use what you have loaded
#
# Still far from BLAS. Count what the innermost line of `along_rows` does for *one* multiply-accumulate: load a pixel,
# load an output, and store the output again. (The kernel's weight stays in a register.) The arithmetic units wait for the
# loads and stores.
#
# So use every number that is loaded several times. Take **four output channels at once**: a pixel is loaded once and used
# in four sums. And take the **three weights of a kernel's row at once**: three products go into a sum before it is
# stored. The sums of one row of four channels are a **tile**: 4 by 56 numbers, so small that they stay in the fastest
# cache until they are finished.

# %% [markdown] tags=["predict"]
# **Predict.** How many loads and stores does it take for one multiply-accumulate: in `along_rows`? And with four channels
# and three weights, where 3 pixels are loaded, and 4 sums are loaded and stored, for 4 · 3 of them?

# %% tags=["predict"]
before = ...  # loads and stores for one multiply-accumulate
with_tiles = ...  # a fraction

# %%
lesson.reveal("loads and stores along the rows", before, 1 + 1 + 1)
lesson.reveal("loads and stores with tiles", with_tiles, (3 + 4 + 4) / (4 * 3))

# %% [markdown] tags=["exercise"]
# ### Exercise 3 · A tile · 3/5 · 15 minutes
#
# `sum_row` computes one row of four output channels, `first` to `first + 3`, over all input channels: into `sums`, an
# array (4, 56). The loops are there. Fill in what happens at one place: load the three pixels of the input's row,
# **once**, then loop over the four channels with `for k in range(4):` and add three products at a time to
# `sums[k, column]`.

# %% tags=["stub"]
def sum_row(x, weight, first, row, sums):
    """One row of four output channels, into sums (4, width)."""
    sums[:] = 0
    for c in range(x.shape[0]):
        for i in range(3):
            for column in range(sums.shape[1]):
                ...  # load three pixels once; then, for every k, add three products to sums[k, column]


# %% tags=["check"]
def check(sum_row):
    reads = [0]

    class Counted(np.ndarray):
        def __getitem__(self, key):
            reads[0] += 1
            return super().__getitem__(key)

    image = random.standard_normal((2, 6, 7)).astype(np.float32)
    kernels = random.standard_normal((8, 2, 3, 3)).astype(np.float32)
    right = np.zeros((8, 4, 5), np.float32)
    for o, c in np.ndindex(8, 2):
        window_by_window(image[c], kernels[o, c], right[o])
    sums = np.full((4, 5), 9, np.float32)
    sum_row(image, kernels, 0, 0, sums)
    error = relative_error(sums, right[:4, 0])
    zero = relative_error(sums[0], right[0, 0])
    words = f"row 0 of channel 0 has the relative error {zero:.0e}, should be about 1e-7"
    assert zero < 1e-5, f"{words}: is it +=, row + i for the pixels, and c, i for the weights?"
    assert error < 1e-5, f"channel 0 is right, the other three are not: relative error {error:.0e}. Is k used twice?"
    sum_row(image, kernels, 0, 2, sums)
    error = relative_error(sums, right[:4, 2])
    assert error < 1e-5, f"row 0 is right, row 2 is not ({error:.0e}): the pixels are in row + i of the image"
    sum_row(image, kernels, 4, 1, sums)
    error = relative_error(sums, right[4:, 1])
    assert error < 1e-5, f"channels 0 to 3 are right, 4 to 7 are not ({error:.0e}): is it weight[first + k, ...]?"
    reads[0] = 0
    sum_row(image.view(Counted), kernels, 0, 0, sums)
    fewest = 2 * 3 * 5 * 3  # channels, kernel rows, columns, pixels
    assert reads[0] < 2 * fewest, f"you read {reads[0]} pixels, should be {fewest}: load them before the loop over k"


sum_row = lesson.check(check, sum_row)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The pixels are `x[c, row + i, column]`, `x[c, row + i, column + 1]` and `x[c, row + i, column + 2]`. Inside of the loop
# over `k` they meet `weight[first + k, c, i, 0]`, `…, 1]` and `…, 2]`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def sum_row(x, weight, first, row, sums):
#     """One row of four output channels, into sums (4, width)."""
#     sums[:] = 0
#     for c in range(x.shape[0]):
#         for i in range(3):
#             for column in range(sums.shape[1]):
#                 left, middle, right = x[c, row + i, column], x[c, row + i, column + 1], x[c, row + i, column + 2]
#                 for k in range(4):
#                     w = weight[first + k, c, i]
#                     sums[k, column] += w[0] * left + w[1] * middle + w[2] * right
# ```
#
# </details>

# %% tags=["varies"]
def tiled(sum_row, finish_row):
    """Compiles the whole layer: the blocks of four output channels are divided among the threads."""
    sum_row, finish_row = numba.njit(sum_row, fastmath=FAST), numba.njit(finish_row, fastmath=FAST)

    @numba.njit(parallel=True)
    def layer(x, weight, bias, residual, y):
        for block in prange(len(weight) // 4):
            sums = np.empty((4, y.shape[2]), np.float32)
            for row in range(y.shape[1]):
                sum_row(x, weight, 4 * block, row, sums)
                finish_row(sums, bias, residual, y, 4 * block, row)

    return layer


def store_row(sums, bias, residual, y, first, row):
    """Writes the finished sums into y, and nothing else."""
    for k in range(4):
        for column in range(sums.shape[1]):
            y[first + k, row, column] = sums[k, column]


tiles = tiled(sum_row, store_row)


def tiles_and_steps():
    tiles(x, weight, bias, residual, y)
    return three_small_steps(y)


assert relative_error(tiles_and_steps(), expected) < 1e-5
taken["Numba, tiles"] = fastest(tiles_and_steps)
gain = taken[f"… on {threads} threads"] / taken["Numba, tiles"]
lesson.say(f"Tiles: **{speed(taken['Numba, tiles']):.0f} GFLOP/s**, {gain:.1f} times as fast as without.")

# %% [markdown]
# The same multiplications in the same loops: only what is loaded when has changed. This is the secret of BLAS, too.
#
# ## 6. The epilogue
#
# Now the three small steps. Each of them runs through the whole map once more: fetches it, changes a little, puts it
# back.

# %% [markdown] tags=["predict"]
# **Predict.** Count the trips of a whole map between processor and memory, from the moment when the sums are finished.
# The tile is stored. `y += bias` loads and stores `y`. `y += residual` loads two maps and stores one. ReLU loads and
# stores. How many trips are that? And how many would it be if everything was done to a tile before it is stored?

# %% tags=["predict"]
trips_apart = ...  # a number
trips_at_once = ...  # a number

# %%
lesson.reveal("trips, one step after the other", trips_apart, 1 + 2 + 3 + 2)
lesson.reveal("trips, all in the tile", trips_at_once, len(["load residual", "store y"]))

# %% [markdown] tags=["exercise"]
# ### Exercise 4 · Finish a row · 2/5 · 5 minutes
#
# Write `finish_row`, to stand in the place of `store_row`: while the sums are still at hand, add the channel's bias and
# the residual, take the maximum with 0, and only then store. (Use `max(…, np.float32(0))`.)

# %% tags=["stub"]
def finish_row(sums, bias, residual, y, first, row):
    """Writes max(sums + bias + residual, 0) into one row of four channels of y."""
    ...


# %% tags=["check"]
def check(finish_row):
    sums, shift = random.standard_normal((4, 5)).astype(np.float32), random.standard_normal(8).astype(np.float32)
    rest, y = random.standard_normal((8, 3, 5)).astype(np.float32), np.full((8, 3, 5), 7, np.float32)
    finish_row(sums, shift, rest, y, 4, 1)
    others = np.delete(y[4:], 1, axis=1)
    assert (others == 7).all() and (y[:4] == 7).all(), "other rows or channels were written: y[first + k, row, column]"
    found, b, r = y[4:, 1], shift[4:, None], rest[4:, 1]
    assert not (found == 7).all(), "nothing was written to y[first + k, row, column]"
    assert relative_error(found, sums + b + r) > 1e-5, "ReLU is missing: max(…, np.float32(0))"
    early = np.maximum(sums + b, 0) + r
    assert relative_error(found, early) > 1e-5, "ReLU comes last, after the residual was added"
    assert relative_error(found, np.maximum(sums + r, 0)) > 1e-5, "the bias is missing"
    assert relative_error(found, np.maximum(sums + shift[:4, None] + r, 0)) > 1e-5, "it is bias[first + k], not bias[k]"
    error = relative_error(found, np.maximum(sums + b + r, 0))
    assert error < 1e-5, f"the relative error is {error:.0e}, not about 1e-7: is it + residual[first + k, row, column]?"


finish_row = lesson.check(check, finish_row)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# It is `store_row` with a longer right side. The bias is `bias[first + k]`, the residual
# `residual[first + k, row, column]`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def finish_row(sums, bias, residual, y, first, row):
#     """Writes max(sums + bias + residual, 0) into one row of four channels of y."""
#     for k in range(4):
#         for column in range(sums.shape[1]):
#             value = sums[k, column] + bias[first + k] + residual[first + k, row, column]
#             y[first + k, row, column] = max(value, np.float32(0))
# ```
#
# </details>

# %% tags=["varies"]
complete = tiled(sum_row, finish_row)
complete(x, weight, bias, residual, y)
assert relative_error(y, expected) < 1e-5
taken["… with the epilogue inside"] = fastest(lambda: complete(x, weight, bias, residual, y))
saved = taken["Numba, tiles"] - taken["… with the epilogue inside"]
lesson.say(
    f"Everything at once: **{1e3 * taken['… with the epilogue inside']:.2f} ms**. The three steps in the tile save "
    f"{1e6 * saved:.0f} µs, {saved / taken['Numba, tiles']:.0%}."
)

# %% [markdown]
# Nearly nothing or up to a fifth, depending on your machine: this map just fits into a cache. On a larger one, or in a
# net that has nothing but such layers, it is more. What an operation does to its result while it is still at hand is
# called its **epilogue**.
#
# ## 7. How good is that?
#
# Three yardsticks. What *tinynet* itself does with this layer; what *torch* does, if it is installed here; and the
# fastest large matrix product that NumPy manages on this machine. Torch runs in a process of its own: two pools of
# threads in one process get in each other's way.

# %% tags=["varies"]
TORCH = """
import time, torch
from torch.nn.functional import conv2d
torch.set_num_threads(THREADS)
last = torch.channels_last
x, residual = (torch.randn(1, 64, 56, 56).to(memory_format=last) for _ in range(2))
weight, bias = torch.randn(64, 64, 3, 3).to(memory_format=last), torch.randn(64)
times, until = [], time.perf_counter() + 1
with torch.inference_mode():
    while time.perf_counter() < until:
        started = time.perf_counter()
        (conv2d(x, weight, bias, padding=1) + residual).relu_()
        times.append(time.perf_counter() - started)
print(min(times))
"""


def torch_seconds():
    """Seconds that torch takes for the layer, or None where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    waiting = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # tinynet has set these for itself
    environment = {name: value for name, value in os.environ.items() if name not in waiting}
    script = TORCH.replace("THREADS", str(threads))
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    return float(done.stdout) if done.returncode == 0 else None


def channels_last(array):
    """The same (channels, height, width) as one image with its channels side by side in memory, as tinynet keeps it."""
    return np.ascontiguousarray(array.transpose(1, 2, 0))[None].transpose(0, 3, 1, 2)


window = (1, 1), (1, 1), (1, 1), 1  # stride, padding, dilation, groups
packed, panels = PackedConvolution(weight, bias, *window), packing.pack_forward(weight, 1)
inputs, rest = channels_last(x[:, 1:-1, 1:-1]), channels_last(residual)
out = np.empty_like(rest)
taken["tinynet, register tiles"] = fastest(
    lambda: indirect.convolve(inputs, weight, panels, bias, *window, out, rest, relu=True)
)
assert relative_error(out[0], expected) < 1e-5
taken["tinynet, fewer products"] = fastest(lambda: packed(inputs, rest, relu=True, out=out))
assert relative_error(out[0], expected) < 1e-5
if (by_torch := torch_seconds()) is not None:
    taken["torch"] = by_torch
machine = product_speed(threads)
speeds = {name: speed(seconds) for name, seconds in taken.items()}
lesson.show(
    plot.bars(
        {**speeds, "large matrix product": machine.gflops}, unit="GFLOP/s (logarithmic)", log=True,
        title="One layer, from Python to the machine's limit",
    ),
    "Horizontal bars on a logarithmic scale, from Python's loops over NumPy, Numba's versions with one and all threads "
    "and tiles, to tinynet with the same and with fewer products, torch if installed, and the machine's fastest matrix "
    "product.",
)
yours = taken["… with the epilogue inside"]
lesson.say(
    f"From Python to your tiles: **{taken['Python'] / yours:,.0f} times as fast**. tinynet's register tiles are "
    f"{yours / taken['tinynet, register tiles']:.1f} times as fast as yours, and with fewer products it takes "
    f"{taken['tinynet, fewer products'] / taken['tinynet, register tiles']:.2f} of that time. "
    + ("" if "torch" in taken else "Torch is not installed here, so its bar is missing. ")
    + f"The product: {machine}."
    + (" tinynet is above it: NumPy's library does not use all of this processor, or was disturbed."
       if speeds["tinynet, register tiles"] > 1.1 * machine.gflops else "")
)

# %% [markdown]
# Your tile keeps its sums in the fastest cache; each is still loaded and stored once for three products. tinynet's tile
# keeps them in the **registers** of the processor, where nothing has to be loaded or stored at all. On a processor with
# AVX-512 that is 14 pixels by 32 channels, 28 registers of 16 numbers. Otherwise it is the same idea, and you can read it
# in `tinynet/kernels/tile.py`.
#
# And *fewer products*? Neighbouring windows overlap, so neighbouring outputs have a lot in common. Winograd's algorithm
# computes 2 by 2 outputs of a 3×3 convolution at once, from 4 by 4 inputs: it adds and subtracts inputs and weights
# first, multiplies only 16 numbers for each pair of channels where the definition multiplies 4 · 9 = 36, and adds and
# subtracts again. It is the same sum, put together in another way. Our GFLOP/s count the operations of the
# *definition*, so its bar may well be longer than any machine is fast: no faster arithmetic, but less of it. It is
# what tinynet takes for this layer, in training too.
#
# ## 8. Which limit? The roofline
#
# A processor has two limits. It can compute so many GFLOP/s, and its memory can deliver so many bytes per second (the
# **bandwidth**). Which one counts depends on the work: how many operations does it do for each byte that it has to
# fetch or put back? That number is its **arithmetic intensity**. ReLU loads 4 bytes, stores 4 bytes, and does one
# operation in between. A convolution uses each number many times.

# %% [markdown] tags=["exercise"]
# ### Exercise 5 · Operations per byte · 2/5 · 10 minutes
#
# Work out the arithmetic intensity of a convolution with stride 1 whose output is as large as its input: `images` images,
# `channels` in, `outputs` out, a kernel of `kernel` by `kernel`, maps of `size` by `size`, in float32. Count every number
# of input, weight and output as moved once. (A multiply-accumulate is two operations; leave the bias out.)

# %% tags=["stub"]
def intensity(images, channels, outputs, kernel, size):
    """FLOP for each byte of input, weight and output."""
    return ...


# %% tags=["check"]
def check(intensity):
    found = intensity(1, 64, 64, 3, 56)
    moved = 64 * 56 * 56 + 64 * 64 * 9 + 64 * 56 * 56
    right = 2 * macs / (4 * moved)
    error = relative_error(found, right)
    assert relative_error(found, right / 2) > 1e-9, "half: a multiply-accumulate is two operations"
    assert relative_error(found, right * 4) > 1e-9, "four times too much: a float32 has 4 bytes"
    assert relative_error(found, right * moved / (moved - 64 * 64 * 9)) > 1e-9, "the weight has to be loaded, too"
    assert relative_error(found, right * moved / (moved - 64 * 56 * 56)) > 1e-9, "input and output are moved, both"
    assert error < 1e-9, f"for our layer you get {found:.4g} FLOP per byte, should be {right:.4g}"
    found = intensity(32, 512, 512, 3, 7)
    right = 2 * 32 * 512 * 512 * 9 * 49 / (4 * (2 * 32 * 512 * 49 + 512 * 512 * 9))
    error = relative_error(found, right)
    assert error < 1e-9, f"for 32 images you get {found:.4g}, should be {right:.4g}: all images share one weight"


intensity = lesson.check(check, intensity)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Operations: two for each output number and each weight in its window, `channels * kernel**2` of them. Bytes: four for
# each number of the three arrays, whose sizes you know.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def intensity(images, channels, outputs, kernel, size):
#     """FLOP for each byte of input, weight and output."""
#     operations = 2 * images * outputs * size**2 * channels * kernel**2
#     numbers = images * channels * size**2 + outputs * channels * kernel**2 + images * outputs * size**2
#     return operations / (4 * numbers)
# ```
#
# </details>

# %% [markdown] tags=["predict"]
# **Predict.** What sets the limit, `"memory"` or `"computing"`: for ReLU on a very large array? For our layer? And for a
# linear layer, `weight @ x`, with a single image? (Its intensity: each weight is loaded for one multiply-accumulate. Most
# processors can do five to fifty operations in the time in which one byte arrives.)

# %% tags=["predict"]
limit_of_relu = ...  # "memory" or "computing"
limit_of_layer = ...  # "memory" or "computing"
limit_of_linear = ...  # "memory" or "computing"


# %% tags=["varies"]
@numba.njit(parallel=True)
def copy(source, target):
    for index in prange(len(source)):
        target[index] = source[index]


@numba.njit(parallel=True)
def large_relu(source, target):
    for index in prange(len(source)):
        target[index] = max(source[index], np.float32(0))


large, target = np.ones((2, 20_000_000), np.float32)  # more than any cache holds
bandwidth = 2 * large.nbytes / fastest(lambda: copy(large, target)) / 1e9
relu_speed = len(large) / fastest(lambda: large_relu(large, target)) / 1e9
matrix = large[: 4096 * 4096].reshape(4096, 4096)
linear_speeds = {}
for images in (1, 64):
    batch = np.ones((4096, images), np.float32)
    linear_speeds[images] = 2 * matrix.size * images / fastest(lambda batch=batch: matrix @ batch) / 1e9

# What Winograd's algorithm saves is no speed of the machine.
honest = [value for name, value in speeds.items() if name != "tinynet, fewer products"]
peak = max(machine.gflops, *honest, *linear_speeds.values())
corner = peak / bandwidth
of_relu, of_layer, of_linear = 1 / 8, intensity(1, 64, 64, 3, 56), intensity(1, 4096, 4096, 1, 1)
lesson.reveal("ReLU", limit_of_relu, "memory" if of_relu < corner else "computing")
lesson.reveal("our layer", limit_of_layer, "memory" if of_layer < corner else "computing")
lesson.reveal("a linear layer, one image", limit_of_linear, "memory" if of_linear < corner else "computing")
lesson.show(
    plot.roofline(
        {
            "ReLU": (of_relu, relu_speed),
            "linear, 1 image": (of_linear, linear_speeds[1]),
            "linear, 64 images": (intensity(64, 4096, 4096, 1, 1), linear_speeds[64]),
            "our layer, along the rows": (of_layer, speeds[f"… on {threads} threads"]),
            "our layer, tiles": (of_layer, speeds["… with the epilogue inside"]),
            "our layer, register tiles": (of_layer, speeds["tinynet, register tiles"]),
        },
        peak, bandwidth, "The roofline of this machine",
    ),
    "Speed against arithmetic intensity, both logarithmic. A roof rises with memory bandwidth and turns level at the "
    "computing speed. ReLU and the linear layer for one image lie at the slope, the convolutions below the level part.",
)
lesson.say(f"The roof turns level at **{corner:.0f} FLOP for each byte**. What does less lies below the slope.")

# %% [markdown]
# Read it like this. The roof is drawn from what we measured: the level part is the highest speed in this lesson, the
# slope is the bandwidth of a copy. Below the **slope** nothing helps but moving fewer bytes: ReLU inside the epilogue
# costs nothing, because nothing is moved for it; ReLU on its own costs a whole trip. That is why section 6 paid. Below
# the **level part** it is the loops that count: our layer has the same intensity in all three versions, and only the
# tiles lift it. And a linear layer becomes a different matter with 64 images, since each weight that was loaded is used
# 64 times.
#
# (Points may lie a little above the slope: what fits into a cache need not come from memory.)

# %%
layers = {
    "7×7, 3 → 64, 112 by 112": (3, 64, 7, 112),
    "1×1, 64 → 256, 56 by 56": (64, 256, 1, 56),
    "3×3, 64 → 64, 56 by 56": (64, 64, 3, 56),
    "3×3, 512 → 512, 7 by 7": (512, 512, 3, 7),
    "the last layer, 2048 → 1000": (2048, 1000, 1, 1),
}
table = [(name, intensity(1, *sizes), intensity(32, *sizes)) for name, sizes in layers.items()]
lesson.say(
    "FLOP for each byte in layers of a ResNet-50 (the first as if it had stride 1):\n\n"
    "| layer | 1 image | 32 images |\n|---|---|---|\n"
    + "\n".join(f"| {name} | {one:.1f} | {many:.1f} |" for name, one, many in table)
)

# %% [markdown]
# Early layers move maps, late layers move weights. With 32 images the weights are shared, and so training and servers
# work on batches.
#
# ## 9. What im2col costs in memory
#
# Back to NumPy's way, which was not slow at all. It has another price.

# %% [markdown] tags=["predict"]
# **Predict.** Our layer with a batch of 32 images, in float32. How many MB are the input? And how many are im2col's
# columns? (A MB is a million bytes here.)

# %% tags=["predict"]
megabytes_of_input = ...  # a number
megabytes_of_columns = ...  # a number

# %% tags=["varies"]
input_size, columns_size = (4e-6 * 32 * 56 * 56 * numbers for numbers in (64, 64 * 9))
lesson.reveal("MB of input", megabytes_of_input, input_size)
lesson.reveal("MB of columns", megabytes_of_columns, columns_size)

tracemalloc.start()  # counts what NumPy allocates
np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(x, (56, 56), axis=(1, 2))).reshape(576, -1)
_, peak_bytes = tracemalloc.get_traced_memory()
tracemalloc.stop()
lesson.say(
    f"Measured for one image: im2col allocates {peak_bytes / 1e6:.1f} MB. A tile's sums are {4 * 56 * 4} bytes for "
    f"each thread. With {threads} threads that is a factor of {peak_bytes / (threads * 4 * 56 * 4):,.0f}."
)

# %% [markdown]
# Nine times the input, for every 3×3 layer. It is written to memory and read back once. For small images it hides in the
# caches; for a detector's maps, four times as wide and high, it is sixteen times as much. The tile writes no columns at
# all: it reads the pixels where they are. tinynet's fast path does the same, and keeps im2col for those who want to read.

# %% [markdown] tags=["make"]
# ## Make: a better tile
#
# Why four channels? Try 1, 2, 8 and 16. The cell below builds the tile for any number; the compiler unrolls the loop
# over `k` because that number is fixed. Before you run it: what speaks for many channels, what against? Then plot speed
# against channels, or try maps 64 wide in place of 56.
#
# You may meet a surprise: at some number the speed collapses. That is no law of nature, but a compiler that has given up
# making vectors. The cell counts them. (On x86 `vfmadd…ps` is a multiply-add of a whole vector, `vfmadd…ss` of a single
# number. On other processors the names differ.) A compiler promises the right result, never the fast one: so measure.

# %% tags=["varies"]
def layer_with(channels):
    """The layer without epilogue, with tiles of so many output channels."""

    @numba.njit(parallel=True, fastmath=FAST)
    def layer(x, weight, y):
        for block in prange(len(weight) // channels):
            sums = np.empty((channels, y.shape[2]), np.float32)
            for row in range(y.shape[1]):
                sums[:] = 0
                for c in range(x.shape[0]):
                    for i in range(3):
                        for column in range(sums.shape[1]):
                            a, b, d = x[c, row + i, column], x[c, row + i, column + 1], x[c, row + i, column + 2]
                            for k in range(channels):
                                w = weight[channels * block + k, c, i]
                                sums[k, column] += w[0] * a + w[1] * b + w[2] * d
                for k in range(channels):
                    y[channels * block + k, row] = sums[k]

    return layer


for channels in (2,):  # yours
    layer = layer_with(channels)
    layer(x, weight, y)
    assert relative_error(y, convolved) < 1e-5
    code = "".join(layer.inspect_asm().values())
    kinds = {kind: len(re.findall(rf"vfmadd\d+{kind}", code)) for kind in ("ps", "ss")}
    print(f"{channels} channels: {speed(fastest(lambda layer=layer: layer(x, weight, y))):.0f} GFLOP/s, {kinds}")

# %%
lesson.progress()

# %% [markdown] tags=["recap"]
# ## Recap
#
# Say the answers aloud before you unfold them.
#
# 1. Two loops do the same multiplications in another order. Why may one be ten times as slow?
# 2. Which loops may be divided among threads, and what happens with the others?
# 3. What does a tile save?
# 4. A layer has a low arithmetic intensity. What helps, and what does not?
# 5. What are the two prices of im2col?
#
# <details><summary>Answers</summary>
#
# 1. Neighbours in memory come together and are computed together by one vector instruction; steps across rows cannot.
# 2. Loops over outputs. Divided over what is summed, two threads add to the same number, and one of them is lost.
# 3. Loads and stores: what was loaded is used several times before it is given up.
# 4. Moving fewer bytes: an epilogue, a batch that shares the weights. Faster arithmetic or better loops do not.
# 5. Memory, nine times the input for a 3×3; and the time to write it and read it back.
#
# </details>

# %% [markdown] tags=["paper"]
# ## The paper's sentence
#
# > "Attainable GFlops/sec = Min(Peak Floating Point Performance, Peak Memory Bandwidth x Operational Intensity)"
#
# Samuel Williams, Andrew Waterman and David Patterson, *Roofline: an insightful visual performance model for multicore
# architectures*, 2009. It is the roof of your picture, in one line; operational intensity is what we called arithmetic
# intensity.

# %% [markdown] tags=["read"]
# ## Read on, in tinynet
#
# - `tinynet/kernels/tile.py`, `tile_rows`: which numbers are in registers, in L1 and in L2, and why 14 pixels
# - `tinynet/kernels/indirect.py`, `convolve`: im2col that is never written; a table of addresses stands in its place
# - `tinynet/kernels/winograd.py`, `convolve`: 16 products instead of 36, and how the image gets there and back
# - `tinynet/kernels/convolution.py`, `PackedConvolution`: the epilogue with bias, residual and ReLU
# - `tinynet/kernels/launch.py`, `threads_for`: when a second thread is worth waking up
# - `tinynet/bench/machine.py`, `product_speed`: the yardstick, and a trap in it
#
# `tinynet bench --layers` shows where the time goes in a whole net. In lesson 5 the next layer comes: batch norm.
