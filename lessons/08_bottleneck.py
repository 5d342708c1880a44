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
# # Lesson 8: Bottlenecks and channel adjustment
#
# **Goal.** Shortcuts let a net grow deep. Now you make depth affordable. You learn to read the bill of a convolution
# before you run it, build the block that ResNet-50 consists of, and settle what the shortcut does where the shapes on
# its two ends differ: two ways, both built, both measured.
#
# **Time:** 45-60 minutes, of which the computer needs less than one.
#
# **You need:** convolutions (lesson 3), batch norm (lesson 5), training (lesson 6), residual learning (lesson 7).
#
# **New in tinynet:** `tinynet.inspect.summary`, `tinynet.profile`, `tinynet.models.Bottleneck`,
# `tinynet.models.ZeroPadShortcut`, `tinynet.nn.AvgPool2d`, `tinynet.nn.functional.pad`, `tinynet.nn.init.uniform_`

# %%
import time

import numpy as np

import tinynet
from tinynet import nn, optim, plot
from tinynet.data import Digits
from tinynet.inspect import summary
from tinynet.lesson import Lesson, relative_error
from tinynet.models import Bottleneck as TinynetBottleneck
from tinynet.models import ZeroPadShortcut
from tinynet.nn import functional as F

tinynet.manual_seed(0)
lesson = Lesson(8)

# %% [markdown]
# ## 1. The bill of a convolution
#
# A net costs two things. **Parameters** are what it has to remember: the numbers that training changes. **MACs** are
# what it has to do for each image: one *multiply-accumulate* is one multiplication whose result is added to a running
# sum. A convolution is nothing but MACs (lesson 3), so its bill can be written down before it runs.
#
# A small one: 2 channels in, 3 out, a 3×3 kernel with padding 1 and no bias, on a map of 4×4.
#
# - Each output channel has a filter of $2 \cdot 3 \cdot 3 = 18$ weights, and there are 3 output channels:
#   **54 parameters**.
# - Each number of the output is a sum of 18 products, so it takes $18$ MACs. There are $3 \cdot 4 \cdot 4 = 48$ of
#   them: **$864$ MACs**.
#
# In other words: every parameter is used once at every position of the *output* map. Batch norm follows each of our
# convolutions, so they have no bias; batch norm's own two numbers a channel are too few to matter here.

# %% [markdown] tags=["predict"]
# **Predict.** The wide stages of a ResNet work on 256 channels and more. How many parameters does one 3×3 convolution
# from 256 to 256 channels have?

# %% tags=["predict"]
one_wide_3x3 = ...  # your guess: a number of parameters

# %%
wide = nn.Conv2d(256, 256, 3, padding=1, bias=False)
lesson.reveal("parameters of 3×3, 256 to 256", one_wide_3x3, wide.weight.numel())

# %% [markdown]
# More than twice as many as the whole residual-56 of lesson 7 has, in one layer. The two factors of 256 multiply,
# and then comes the 9. Keep that in mind: **the price goes with the product of both channel numbers, times the area of
# the kernel**.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 · The bill · 1/5 · 5 minutes
#
# Write the bill of a convolution without bias, with a square kernel of odd size and the padding that belongs to it
# (`kernel // 2`). `height` and `width` are those of the *input*. With this padding a stride of $s$ turns $h$ rows into
# $h / s$ rows, rounded up: in Python `(h - 1) // s + 1`.

# %% tags=["stub"]
def bill(in_channels, out_channels, kernel, height, width, stride=1):
    """The pair (parameters, MACs) of a convolution on a map of height × width."""
    return ...


# %% tags=["check"]
def check(bill):
    given = bill(2, 3, 3, 4, 4)
    pair = isinstance(given, tuple) and len(given) == 2
    assert pair, f"a pair (parameters, MACs) is expected, as a tuple; you return {given!r}"
    parameters, macs = given
    assert parameters != 6, "you count 6 parameters for 2 to 3 channels and 3×3: each pair of channels has 9 weights"
    assert parameters != 18, "you count 18 parameters for 2 to 3 channels and 3×3: 2 · 3 pairs have 9 weights each"
    assert parameters == 54, f"2 to 3 channels and 3×3 without bias make 54 parameters, you count {parameters}"
    assert macs != 54, "you count 54 MACs on a 4×4 map: the filters are applied at every position, not only once"
    assert macs != 1728, "you count 1,728 MACs, twice too many: multiplying and adding together are one MAC"
    assert macs == 864, f"at 4×4 positions 54 parameters make 864 MACs, you count {macs}"
    parameters, macs = bill(64, 128, 3, 56, 56, stride=2)
    assert parameters == 73728, f"a stride does not change the parameters: 73,728, you count {parameters:,}"
    assert macs != 73728 * 56 * 56, "with stride 2 your MACs are 4 times too many: count positions of the output"
    assert macs == 57802752, f"with stride 2 on 56×56 there are 28×28 positions: 57,802,752 MACs, you count {macs:,}"
    uneven = bill(1, 1, 1, 7, 5, stride=2)
    assert uneven == (1, 12), f"stride 2 turns 7×5 into 4×3 positions (rounded up): (1, 12), yours is {uneven}"


bill = lesson.check(check, bill)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Parameters first: input channels, output channels, and the area of the kernel. Then the height and the width of the
# output from the formula above. Their product is how often each parameter is used.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def bill(in_channels, out_channels, kernel, height, width, stride=1):
#     """The pair (parameters, MACs) of a convolution on a map of height × width."""
#     parameters = in_channels * out_channels * kernel * kernel
#     positions = ((height - 1) // stride + 1) * ((width - 1) // stride + 1)
#     return parameters, parameters * positions
# ```
#
# </details>

# %% [markdown]
# Does the bill agree with what really runs? `tinynet.inspect.summary` sends an image through a model and counts what
# happens. Here is the first convolution of ResNet-50, 7×7 with stride 2 on a photo of 224×224.

# %%
stem = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
counted = summary(stem, (1, 3, 224, 224))
print("your bill  ", *(f"{number:,}" for number in bill(3, 64, 7, 224, 224, stride=2)))
print("the summary", f"{counted.parameters:,} {counted.macs:,}")

# %% [markdown]
# ## 2. A convolution that sees one pixel
#
# What is a **1×1 convolution** good for? It cannot see a neighbour. What it can do: at every position it takes the
# column of all channels, and multiplies it by a matrix. Two pixels with 3 channels each, brought to 2 channels:

# %%
pixels = tinynet.tensor([[[[1.0, 4.0]], [[2.0, 5.0]], [[3.0, 6.0]]]])  # (1, 3, 1, 2): columns 1 2 3 and 4 5 6
matrix = tinynet.tensor([[1.0, 0.0, -1.0], [1.0, 1.0, 1.0]])  # 2 × 3: a difference and a sum
result = F.conv2d(pixels, matrix.reshape(2, 3, 1, 1))
for position in range(2):
    column = pixels[0, :, 0, position]
    print(f"{column.tolist()} becomes {result[0, :, 0, position].tolist()}, by the matrix {(matrix @ column).tolist()}")

# %% [markdown]
# So a 1×1 convolution **changes the number of channels**, down or up, by mixing them, and it costs a ninth of a 3×3.
# It is a linear layer (lesson 6) that is applied at every pixel alike.
#
# ## 3. Unload, inspect, load
#
# Imagine a customs officer who has to look into a truck. Searching it as it stands, crate behind crate, takes all day.
# So: **unload** what matters, **inspect** that, **load** it again. The block that does this is the **bottleneck**:
#
# 1. a 1×1 convolution takes 256 channels down to 64,
# 2. a 3×3 convolution, the only one that looks at neighbours, works on those 64,
# 3. a 1×1 convolution takes them back up to 256, so that the sum with the shortcut is possible.
#
# Lesson 7's block, which we call **basic**, has two 3×3 convolutions, both on all channels.

# %% [markdown] tags=["predict"]
# **Predict.** Two 3×3 convolutions on 256 channels, against 1×1, 3×3, 1×1 with 64 channels in the middle: how many
# times fewer parameters does the bottleneck have? And which of its three convolutions has the most?

# %% tags=["predict"]
times_fewer = ...  # your guess: a factor
largest_part = ...  # "first", "second" or "third"

# %%
side = 56  # rows and columns of the maps in ResNet-50's first stage of blocks
blocks = {
    "basic, 256": [(256, 256, 3), (256, 256, 3)],
    "bottleneck, 256": [(256, 64, 1), (64, 64, 3), (64, 256, 1)],
    "basic, 64": [(64, 64, 3), (64, 64, 3)],
}
bills = {name: [bill(*layer, side, side) for layer in layers] for name, layers in blocks.items()}
parameters = {name: sum(layer[0] for layer in layers) for name, layers in bills.items()}
macs = {name: sum(layer[1] for layer in layers) for name, layers in bills.items()}
inside = [layer[0] for layer in bills["bottleneck, 256"]]

lesson.reveal("times fewer", times_fewer, parameters["basic, 256"] / parameters["bottleneck, 256"])
lesson.reveal("largest part", largest_part, ["first", "second", "third"][inside.index(max(inside))])

boxes, arrows = {}, []
for name, layers in blocks.items():
    boxes[name] = (name, f"{layers[0][0]} channels, {side}×{side}")
    boxes[name, "sum"] = ("+",)
    last = name
    for number, ((before, after, kernel), (weights, work)) in enumerate(zip(layers, bills[name])):
        boxes[name, number] = (f"{kernel}×{kernel} convolution", f"{before} → {after}", f"{weights:,} parameters")
        arrows.append((last, (name, number)))
        last = (name, number)
    arrows += [(last, (name, "sum")), (name, (name, "sum"))]
lesson.show(
    plot.diagram(boxes, arrows, f"Three blocks on maps of {side}×{side} (norm and ReLU left out)"),
    "Three blocks with a shortcut each. Basic on 256 channels: two large 3×3. Bottleneck: small 1×1, 3×3, 1×1. Basic "
    "on 64 channels: two 3×3 as small as the bottleneck's parts.",
)

# %%
lesson.say(
    "| block | parameters | MACs at 56×56 |\n|---|---|---|\n"
    + "\n".join(f"| {name} | {parameters[name]:,} | {macs[name] / 1e6:.0f} million |" for name in blocks)
    + f"\n\nThe two 1×1 convolutions have {(inside[0] + inside[2]) / sum(inside):.0%} of the bottleneck's parameters. "
    f"For the price of **one** bottleneck on 256 channels you get a basic block on 64: "
    f"{parameters['bottleneck, 256']:,} against {parameters['basic, 64']:,} parameters."
)

# %% [markdown]
# Where does the factor come from? In units of $256^2$ the basic block has $2 \cdot 9 = 18$, the bottleneck
# $\frac14 + \frac9{16} + \frac14 = \frac{17}{16}$: the 3×3 saves on *both* of its channel numbers, a 1×1 on one.
#
# The last line above is the point of the whole design, and of Figure 5 in the paper: **four times as many channels for
# the same price**. The channels between the blocks, on which the shortcut runs, are many and rich; only inside of a block
# the path is narrow.

# %% [markdown] tags=["exercise"]
# ### Exercise 2 · The bottleneck · 3/5 · 15 minutes
#
# Build it. After each of the three convolutions comes its batch norm; ReLU after the first and the second norm, but
# **not** after the third: there the shortcut is added first, and ReLU comes last (lesson 7). The stride belongs into
# the 3×3. No convolution has a bias. `downsample` is a module for the shortcut, or None if the input itself is added.
# (That is torchvision's name for it. We keep all of its names, so that its weights will fit in lesson 9.)

# %% tags=["stub"]
class Bottleneck(nn.Module):
    """1×1 to `width` channels, 3×3 with the stride, 1×1 to 4 · `width` channels, and the shortcut."""

    def __init__(self, in_channels, width, stride=1, downsample=None):
        super().__init__()
        self.conv1 = ...
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = ...
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = ...
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x):
        return ...


# %% tags=["check"]
def check(Bottleneck):
    mine, reference = Bottleneck(64, 16), TinynetBottleneck(64, 16)
    shapes = {"conv1": (16, 64, 1, 1), "conv2": (16, 16, 3, 3), "conv3": (64, 16, 1, 1)}
    for name, wanted in shapes.items():
        layer = getattr(mine, name)
        assert isinstance(layer, nn.Conv2d), f"{name} should be an nn.Conv2d, it is a {type(layer).__name__}"
        shape = tuple(layer.weight.shape)
        order = "(out, in, rows, columns)"
        assert shape == wanted, f"in Bottleneck(64, 16) the weights of {name} are {shape}, not {wanted}: {order}"
        assert layer.bias is None, f"{name} has a bias: batch norm subtracts it again, so say bias=False"
    for norm in (reference.bn1, reference.bn2, reference.bn3):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
    mine.load_state_dict(reference.state_dict())
    shape = tuple(mine.conv2(tinynet.randn(1, 16, 6, 6)).shape[2:])
    assert shape == (6, 6), f"conv2 makes {shape} of 6×6, so the sum cannot work: does the 3×3 have padding=1?"
    x = tinynet.randn(2, 64, 6, 6)
    branch = reference.bn1(reference.conv1(x)).relu()
    branch = reference.bn3(reference.conv3(reference.bn2(reference.conv2(branch)).relu()))
    given = mine(x)
    assert given is not None, "the result is None: is there a return?"
    shape = tuple(given.shape)
    assert shape == (2, 64, 6, 6), f"64 channels of 6×6 go in and {shape} comes out, it should be (2, 64, 6, 6)"
    negative = (given < 0).sum().item()
    assert negative == 0, f"{negative} of your results are negative: the last step is ReLU, after the sum"
    assert relative_error(given, branch.relu()) > 1e-4, "your result is the branch alone: where is x added?"
    early = relative_error(given, (branch.relu() + x).relu())
    assert early > 1e-4, "you apply ReLU before the sum: the branch must be able to subtract, so add first"
    error = relative_error(given, reference(x))
    advice = "its own norm after each convolution, ReLU after two of them?"
    assert error < 1e-4, f"relative error {error:.0e}, should be about 1e-7: {advice}"
    strided = Bottleneck(64, 16, 2, nn.Conv2d(64, 64, 1, stride=2))
    strides = [getattr(strided, name).stride[0] for name in shapes]
    assert strides == [1, 2, 1], f"with stride=2 your convolutions have the strides {strides}: only the 3×3 gets it"
    shape = tuple(strided(x).shape)
    assert shape == (2, 64, 3, 3), f"with stride=2 and a downsample the result is {shape}, not (2, 64, 3, 3)"


Bottleneck = lesson.check(check, Bottleneck)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `nn.Conv2d(in_channels, width, 1, bias=False)` is the first one. The second one has the kernel size 3, `stride=stride`
# and `padding=1`. In `forward`, follow the branch through conv, bn, relu twice, then conv and bn. Then add
# `x if self.downsample is None else self.downsample(x)`, and apply relu to the sum.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# class Bottleneck(nn.Module):
#     """1×1 to `width` channels, 3×3 with the stride, 1×1 to 4 · `width` channels, and the shortcut."""
#
#     def __init__(self, in_channels, width, stride=1, downsample=None):
#         super().__init__()
#         self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
#         self.bn1 = nn.BatchNorm2d(width)
#         self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
#         self.bn2 = nn.BatchNorm2d(width)
#         self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
#         self.bn3 = nn.BatchNorm2d(4 * width)
#         self.relu = nn.ReLU()
#         self.downsample = downsample
#
#     def forward(self, x):
#         branch = self.relu(self.bn1(self.conv1(x)))
#         branch = self.relu(self.bn2(self.conv2(branch)))
#         branch = self.bn3(self.conv3(branch))
#         shortcut = x if self.downsample is None else self.downsample(x)
#         return self.relu(branch + shortcut)
# ```
#
# </details>

# %% [markdown]
# ## 4. Does it keep its promise?
#
# MACs are a promise. Time is what you get. We let both blocks on 256 channels run, forward only, in evaluation mode.

# %% [markdown] tags=["predict"]
# **Predict.** The bottleneck has about a seventeenth of the basic block's MACs. How many times faster is it on your
# machine?

# %% tags=["predict"]
times_faster = ...  # your guess: a factor

# %% tags=["varies"]
class Basic(nn.Module):
    """Lesson 7's block: two 3×3 convolutions and the input added."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + x)


def milliseconds(block, x, runs=7):
    """The median time of a forward pass."""
    block.eval()
    times = []
    with tinynet.no_grad():
        for _ in range(runs + 1):
            started = time.perf_counter()
            block(x)
            times.append(1e3 * (time.perf_counter() - started))
    return float(np.median(times[1:]))


def handed_on(block, x):
    """Megabytes of all results that the block's layers hand on in one forward pass."""
    with tinynet.no_grad(), tinynet.profile() as report:
        block(x)
    return report.models[block].output / 2**20


x = tinynet.randn(2, 256, side, side)
measured = {"basic, 256": Basic(256), "bottleneck, 256": Bottleneck(256, 64), "basic, 64": Basic(64)}
times = {name: milliseconds(block, x[:, : int(name[-3:])]) for name, block in measured.items()}
memory = {name: handed_on(block, x[:, : int(name[-3:])]) for name, block in measured.items()}
faster = times["basic, 256"] / times["bottleneck, 256"]
lesson.reveal("times faster", times_faster, faster)
lesson.say(
    "| block | ms, two images | MACs a nanosecond | results handed on, MB |\n|---|---|---|---|\n"
    + "\n".join(
        f"| {name} | {times[name]:.1f} | {2 * macs[name] / times[name] / 1e6:.0f} | {memory[name]:.1f} |"
        for name in blocks
    )
)

# %% [markdown]
# Less than the MACs promise. The bottleneck still carries maps of 256 channels in and out, its norms and its sum touch
# each of those numbers, and a 1×1 convolution does little work for each number that it fetches from memory (the
# roofline of lesson 4). Read the two last columns together: **fewer MACs do not mean less memory.** Counting is the
# beginning, measuring is the end.
#
# ## 5. When the two ends do not fit
#
# $F(x) + x$ is only defined if both have the same shape. Inside of a stage they do. At its first block they do not: the
# maps get half as high and wide, and the channels become more.

# %%
x = tinynet.randn(1, 2, 4, 4)
branch = nn.Conv2d(2, 4, 3, stride=2, padding=1)(x)
try:
    branch + x
except ValueError as error:
    print(error)

# %% [markdown]
# The paper gives two ways to adjust the shortcut:
#
# | | what happens to the rows and columns | what happens to the channels | parameters |
# |---|---|---|---|
# | **A, zero padding** | every second one is kept | the new channels are filled with zeros | none |
# | **B, projection** | every second one is kept | a 1×1 convolution makes the new channels, a norm follows | a matrix |
#
# (Option C uses a projection on *every* shortcut, even where the input would fit as it is.)

# %% [markdown] tags=["exercise"]
# ### Exercise 3 · The shortcut without parameters · 2/5 · 10 minutes
#
# Write option A. Keep every `stride`-th row and column, the first one included. Put half of the new channels in front
# of the old ones and half behind them, all zero. (Any place would do. This is where tinynet puts them, so you can
# compare.) `F.pad(x, (left, right, top, bottom, front, back))` adds zeros: columns, rows, channels. Both channel
# numbers are even here.

# %% tags=["stub"]
def zero_padding(x, out_channels, stride):
    """(N, C, H, W) → (N, out_channels, H / stride, W / stride), sizes rounded up."""
    return ...


# %% tags=["check"]
def check(zero_padding):
    x = tinynet.randn(2, 4, 5, 6)
    given = zero_padding(x, 8, 2)
    assert given is not None, "the result is None: is there a return?"
    shape = tuple(given.shape)
    assert shape[1] != 4, "the result has 4 channels, not 8: the zeros are to be added as channels, not as pixels"
    assert shape[1] == 8, f"the result has {shape[1]} channels, not 8: of 4 new ones, 2 belong in front and 2 behind"
    assert shape == (2, 8, 3, 3), f"5×6 with stride 2 gives 3×3 positions, yours is {shape[2]}×{shape[3]}"
    wanted = ZeroPadShortcut(4, 8, 2)(x)
    behind = relative_error(given[:, :4], x[:, :, ::2, ::2])
    assert behind > 1e-6, "all your zeros are behind: half of the new channels belong in front"
    in_front = relative_error(given[:, 4:], x[:, :, ::2, ::2])
    assert in_front > 1e-6, "all your zeros are in front: half of the new channels belong behind"
    kept = relative_error(given[:, 2:6], wanted[:, 2:6])
    assert kept < 1e-6, f"the old channels have changed (relative error {kept:.0e}, should be 0): keep pixels, no means"
    error = relative_error(given, wanted)
    assert error == 0, f"relative error {error:.0e}, should be exactly 0: are the new channels zero?"
    same = zero_padding(x, 4, 1)
    assert relative_error(same, x) == 0, "with stride 1 and as many channels as before, x should come out as it is"


zero_padding = lesson.check(check, zero_padding)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `x[:, :, ::stride, ::stride]` keeps every `stride`-th row and column. With `new = out_channels - x.shape[1]` half of
# the new channels are `new // 2`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def zero_padding(x, out_channels, stride):
#     """(N, C, H, W) → (N, out_channels, H / stride, W / stride), sizes rounded up."""
#     half = (out_channels - x.shape[1]) // 2
#     return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, half, half))
# ```
#
# </details>

# %% [markdown]
# ### What a strided shortcut sees
#
# Both ways step over pixels. In option A that is obvious. Look at option B with the question of lesson 3: which pixels
# of the input can change the output at all?

# %% [markdown] tags=["predict"]
# **Predict.** A projection is a 1×1 convolution with stride 2. Which part of the input's pixels does it read, in
# percent? And a 3×3 convolution with stride 2 and padding 1?

# %% tags=["predict"]
read_by_1x1 = ...  # percent
read_by_3x3 = ...  # percent


# %%
def pixels_read(layer, side=8):
    """1 where a pixel of a side × side input can change the output, else 0."""
    x = tinynet.randn(1, 1, side, side, requires_grad=True)
    result = layer(x)
    result.backward(tinynet.randn(*result.shape))
    return (x.grad[0, 0] != 0).numpy().astype(float)


read = {
    "1×1, stride 2": pixels_read(nn.Conv2d(1, 4, 1, stride=2)),
    "3×3, stride 2": pixels_read(nn.Conv2d(1, 4, 3, stride=2, padding=1)),
    "2×2 means, then 1×1": pixels_read(nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 4, 1))),
}
lesson.reveal("read by the 1×1, percent", read_by_1x1, 100 * read["1×1, stride 2"].mean())
lesson.reveal("read by the 3×3, percent", read_by_3x3, 100 * read["3×3, stride 2"].mean())
lesson.show(
    plot.images(list(read.values()), list(read), same_scale=True, title="Which pixels can change the output (light)"),
    "Three maps of 8 by 8 pixels. The 1×1 with stride 2 reads every fourth pixel, on a grid; the 3×3 with stride 2 and "
    "the means read all of them.",
)

# %% [markdown]
# Three of four pixels never reach the shortcut. ResNet gets away with it, because the branch reads all of them. Later
# nets put a mean over 2×2 pixels before the projection ("ResNet-D"); that is the third map.
#
# ## 6. Which shortcut where

# %% [markdown] tags=["exercise"]
# ### Exercise 4 · The right shortcut · 2/5 · 10 minutes
#
# Write the function that a net asks at each block. `option` is "A", "B" or "C". Return **None** where the input itself
# can be added (in option C never). Else option A returns `ZeroPadShortcut(in_channels, out_channels, stride)`, which is
# your function as a module; B and C return a projection: `nn.Sequential` of a 1×1 convolution with the stride and
# without bias, and a batch norm.

# %% tags=["stub"]
def make_shortcut(option, in_channels, out_channels, stride):
    """The module on the shortcut, or None for the input itself."""
    return ...


# %% tags=["check"]
def check(make_shortcut):
    for option in "AB":
        given = make_shortcut(option, 64, 64, 1)
        assert given is None, f"option {option}: at 64 to 64 channels and stride 1 the input fits, so return None"
        given = make_shortcut(option, 64, 64, 2)
        assert given is not None, f"option {option}: with stride 2 the sizes differ, even at 64 to 64 channels"
        given = make_shortcut(option, 64, 256, 1)
        assert given is not None, f"option {option}: 64 to 256 channels do not fit, even at stride 1"
    given = make_shortcut("C", 64, 64, 1)
    assert given is not None, "option C has a projection everywhere, also where the input would fit"
    given = make_shortcut("A", 64, 256, 2)
    module = isinstance(given, nn.Module)
    assert module, f"option A: a module is expected, ZeroPadShortcut(...), yours is a {type(given).__name__}"
    weights = sum(parameter.numel() for parameter in given.parameters())
    assert weights == 0, f"option A has no parameters, yours has {weights:,}"
    x = tinynet.randn(2, 64, 6, 6)
    for option in "ABC":
        shape = tuple(make_shortcut(option, 64, 256, 2)(x).shape)
        assert shape == (2, 256, 3, 3), f"option {option} turns 64×6×6 into {shape[1:]}, not (256, 3, 3): the stride?"
    for option in "BC":
        given = make_shortcut(option, 64, 256, 2)
        names = {name: tuple(value.shape) for name, value in given.named_parameters()}
        assert "0.bias" not in names, f"option {option}: the norm follows, so the 1×1 needs bias=False"
        norm = {"1.weight", "1.bias"} <= set(names)
        assert norm, f"option {option}: a batch norm follows the 1×1; yours has only {sorted(names)}"
        shape = names.get("0.weight")
        assert shape == (256, 64, 1, 1), f"option {option}: the 1×1 has weights {shape}, not (256, 64, 1, 1)"


make_shortcut = lesson.check(check, make_shortcut)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The input fits if `stride == 1 and in_channels == out_channels`. Both must hold. Ask that first, and let option C pass
# by.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def make_shortcut(option, in_channels, out_channels, stride):
#     """The module on the shortcut, or None for the input itself."""
#     fits = stride == 1 and in_channels == out_channels
#     if fits and option != "C":
#         return None
#     if option == "A":
#         return ZeroPadShortcut(in_channels, out_channels, stride)
#     return nn.Sequential(
#         nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
#     )
# ```
#
# </details>

# %% [markdown]
# What do the options cost? With your `bill` we need no net for that. ResNet-50 has 3, 4, 6 and 3 bottlenecks in its
# four stages, of width 64, 128, 256 and 512, on maps of 56, 28, 14 and 7 rows (lesson 9 builds it).

# %% [markdown] tags=["predict"]
# **Predict.** A bottleneck on 256 channels whose input fits: how many times as many parameters does it have if its
# shortcut is a projection all the same?

# %% tags=["predict"]
with_projection = ...  # a factor

# %%
projection = bill(256, 256, 1, side, side)[0]
identity = parameters["bottleneck, 256"]
lesson.reveal("times as many", with_projection, (identity + projection) / identity)


def resnet50_bill(option):
    """Parameters and MACs of all convolutions of ResNet-50 on a photo of 224×224, with this kind of shortcut."""
    layers = [bill(3, 64, 7, 224, 224, stride=2)]
    channels, rows = 64, 56
    for number, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            stride = 2 if number > 0 and block == 0 else 1
            layers.append(bill(channels, width, 1, rows, rows))
            layers.append(bill(width, width, 3, rows, rows, stride))
            fits = stride == 1 and channels == 4 * width
            if option == "C" or (option == "B" and not fits):
                layers.append(bill(channels, 4 * width, 1, rows, rows, stride))
            channels, rows = 4 * width, rows // stride
            layers.append(bill(width, channels, 1, rows, rows))
    return tuple(sum(column) for column in zip(*layers))


costs = {option: resnet50_bill(option) for option in "ABC"}
lesson.say(
    "| ResNet-50, convolutions | parameters | MACs at 224×224 |\n|---|---|---|\n"
    + "\n".join(
        f"| {name} | {costs[option][0] / 1e6:.1f} million | {costs[option][1] / 1e9:.2f} billion |"
        for option, name in (("A", "A, zero padding"), ("B", "B, projection where needed"), ("C", "C, projections"))
    )
)

# %% [markdown]
# This is why option C is out for bottlenecks. The shortcut runs where the channels are many, and a matrix there is as
# large as the rest of the block. The identity is free.
#
# ## 7. Compared
#
# A or B, then? We let your blocks learn. A net of 20 layers made of your bottlenecks reads the handwriting of lesson 6,
# with each kind of shortcut, from two seeds each.

# %%
def small_net(option):
    """A bottleneck net of 20 layers for 16×16 pixels: three stages of two blocks, then means and a linear layer."""
    layers, channels = [nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()], 8
    for width, stride in ((8, 1), (16, 2), (32, 2)):
        for step in (stride, 1):
            layers.append(Bottleneck(channels, width, step, make_shortcut(option, channels, 4 * width, step)))
            channels = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def as_tensors(digits):
    """All images, standardised, and their labels."""
    images = (digits.images - digits.mean) / digits.std
    return tinynet.from_numpy(images.astype(np.float32)), tinynet.from_numpy(digits.labels)


def train(option, seed, epochs=6, batch=64):
    """Trains a net. Returns its loss at each step, and the part of the test digits that it gets right."""
    tinynet.manual_seed(seed)
    order = np.random.default_rng(seed)
    net = small_net(option)
    images, labels = as_tensors(Digits(train=True))
    steps = epochs * (len(labels) // batch)
    optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    losses = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * min((step + 1) / 40, 0.5 + 0.5 * np.cos(np.pi * step / steps))
        if step % (len(labels) // batch) == 0:
            shuffled = order.permutation(len(labels))
        chosen = shuffled[batch * (step % (len(labels) // batch)) :][:batch]
        loss = F.cross_entropy(net(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    images, labels = as_tensors(Digits(train=False))
    net.eval()
    with tinynet.no_grad():
        correct = (net(images).argmax(1) == labels).numpy().mean()
    return losses, correct


# %% tags=["slow"]
runs = {option: [train(option, seed) for seed in (0, 1)] for option in "ABC"}
smooth = {}
for option, pair in runs.items():
    losses = np.array([losses for losses, _ in pair])
    smooth[f"option {option}"] = losses.reshape(2, -1, 11).mean(2)
steps = 11 * np.arange(1, smooth["option A"].shape[1] + 1)
lesson.show(
    plot.lines({name: (steps, values) for name, values in smooth.items()}, x="step", y="training loss", log="y",
               title="Three kinds of shortcut, two seeds each (mean and range)"),
    "Training loss on a logarithmic axis: the curves of options A, B and C fall side by side and their ranges overlap.",
)
lesson.say(
    "| option | parameters | last loss, two seeds | test digits read right, two seeds |\n|---|---|---|---|\n"
    + "\n".join(
        f"| {option} | {sum(p.numel() for p in small_net(option).parameters()):,} | "
        + " and ".join(f"{row[-1]:.3f}" for row in smooth[f'option {option}'])
        + " | "
        + " and ".join(f"{correct:.1%}" for _, correct in pair)
        + " |"
        for option, pair in runs.items()
    )
)

# %% [markdown]
# Look at the two numbers of one option, then at the options. If two seeds of one option differ as much as two options
# do, we have **not** shown that one of them is better. The paper had a thousand classes and a million photos, and its
# differences were small, too: for a net of 34 layers B was better than A by half a percent of error, C better than B by a
# third of a percent. Its deeper nets use B.
#
# So why B, if A is free? The zero-padded channels get nothing from the shortcut: there the block has to make everything
# itself, as in a plain net. And a projection, unlike zeros, can be trained. In ResNet-50 there are only four of them.

# %% [markdown] tags=["make"]
# ## Make: a shortcut that reads all pixels
#
# Give `make_shortcut` an option "D": where the stride is 2, a mean over 2×2 pixels (`nn.AvgPool2d(2)`), then a 1×1
# convolution of stride 1, then the norm. What does it cost in parameters and in MACs? Show with `pixels_read` that it
# reads everything, and train it. Does it help here? (Say how you would find out whether a difference is more than
# luck.)

# %%
option_d = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 4, 1, bias=False), nn.BatchNorm2d(4))
print(f"reads {pixels_read(option_d).mean():.0%} of the pixels")

# %%
lesson.progress()

# %% [markdown] tags=["recap"]
# ## Recap
#
# Say the answers aloud before you unfold them.
#
# 1. What is the difference between the parameters and the MACs of a convolution, and which of them depends on the
#    image?
# 2. What can a 1×1 convolution do, and what can it not do?
# 3. Why does a bottleneck have fewer parameters than a basic block on as many channels?
# 4. Where do input and branch of a block not fit, and what are the two ways to adjust the shortcut?
# 5. A block has a seventeenth of the MACs. Why is it not seventeen times faster?
#
# <details><summary>Answers</summary>
#
# 1. Parameters are the weights; MACs are parameters times the positions of the output, so they grow with the image.
# 2. Mix and change the number of channels at each pixel. It cannot see neighbours.
# 3. The 3×3, dear because of its 9, works on a quarter of the channels; the 1×1 convolutions that lead there are cheap.
# 4. At the first block of a stage: stride and channels change. Zero padding (A), or a projection by 1×1 (B).
# 5. It still moves large maps through memory; 1×1 convolutions, norms and the sum do little work for each number moved.
#
# </details>

# %% [markdown] tags=["paper"]
# ## The paper's sentence
#
# > "The three layers are 1×1, 3×3, and 1×1 convolutions, where the 1×1 layers are responsible for reducing and then
# > increasing (restoring) dimensions, leaving the 3×3 layer a bottleneck with smaller input/output dimensions."
#
# Kaiming He, Xiangyu Zhang, Shaoqing Ren and Jian Sun, *Deep Residual Learning for Image Recognition*, 2015,
# Section 4.1. You have built the three layers, counted what the reducing saves, and measured what it does not save.

# %% [markdown] tags=["read"]
# ## Read on, in tinynet
#
# - `tinynet/models/resnet.py`, `Bottleneck`: your block; see where `stride_in_1x1` puts the stride instead
# - `tinynet/models/resnet.py`, `ZeroPadShortcut`: option A as a pooling with windows of one pixel
# - `tinynet/models/resnet.py`, `_shortcut`: exercise 4
# - `tinynet/inspect/geometry.py`, `cost_of`: the bill of every operation, read from the tape
#
# Lesson 9 stacks your blocks to ResNet-50 and ResNet-101, and gives them weights that were trained on a million photos.
