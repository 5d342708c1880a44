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
#     refused: [tinynet.models, tinynet.detection, tinynet.detecting, tinynet.inspect, tinynet.profile, tinynet.bench, tinynet.fusion, tinynet.fuse]
# ---

# %% [markdown]
# # Assignment 4: The bottleneck and its shortcuts
#
# **Goal.** ResNet-50 is one block, sixteen times. You work out what the block costs, build its shortcuts and the block
# itself, and stack blocks to stages. At the end a ResNet-50 is put together from your parts and compared with
# tinynet's.
#
# **You need:** lessons 7 and 8. **Time:** two to three hours. **Points:** 20.
#
# | task | points |
# |---|---|
# | 1 · The cost of a convolution | 2 |
# | 2 · The cost of a bottleneck | 2 |
# | 3 · The shortcut that pads with zeros | 2 |
# | 4 · The right shortcut | 4 |
# | 5 · The bottleneck | 5 |
# | 6 · A stage of blocks | 2 |
# | 7 · Finale: ResNet-50 from your parts | 3 |
#
# **How to work.** Replace the lines `# YOUR CODE HERE` and `raise NotImplementedError()` with your code. Below each
# task stand checks that say at once what is wrong. Your submission is graded by them and by further tests with other
# shapes and fresh random numbers. The tasks are graded one by one: if you are stuck, go on with the next one. Option
# A in task 4 needs your module of task 3, and the finale needs tasks 4 to 6.
#
# **Your own work.** Tasks 1 and 2 are about whole numbers: plain Python does. In tasks 3 to 6 use `tinynet`'s tensors
# and the layers and functions in `tinynet.nn`. Beside that only NumPy and `math` can be imported. tinynet has an answer
# to each task, and its use is refused: everything in `tinynet.models`, `tinynet.detection`, `tinynet.inspect`,
# `tinynet.bench` and `tinynet.fusion`, and the functions `tinynet.profile` and `tinynet.fuse`. Keep the names and
# parameters of functions and classes. Cells without `YOUR CODE HERE` are given: they are replaced by the original ones
# before grading.

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import math

import numpy as np

import tinynet
from tinynet import nn
from tinynet.nn import functional as F

tinynet.kernels.set_backend("numpy")  # everything here is small: nothing is compiled

# What solutions may import, and what they may not use of it.
ALLOWED = ("math", "numpy", "tinynet")
REFUSED = ("tinynet.models", "tinynet.detection", "tinynet.detecting", "tinynet.inspect", "tinynet.profile",
           "tinynet.bench", "tinynet.fusion", "tinynet.fuse")  # fmt: skip

# %% [markdown]
# ## Task 1 · The cost of a convolution · 2 points
#
# A convolution without bias from $C$ to $K$ channels with a kernel of $k_h \times k_w$ has
#
# $$\text{parameters} = C \cdot K \cdot k_h \cdot k_w$$
#
# With padding $p$ and stride $s$, a map of $h$ rows becomes one of
#
# $$\left\lfloor \frac{h + 2p - k_h}{s} \right\rfloor + 1$$
#
# rows, columns likewise. Every parameter is multiplied once at every position of the **output**, and one multiplication
# whose result is added to a sum is **one** multiply-accumulate (MAC).

# %% nbgrader={"grade": false, "grade_id": "convolution_cost", "locked": false, "schema_version": 3, "solution": true, "task": false}
def convolution_cost(in_channels, out_channels, kernel_size, input_size, stride, padding):
    """What a convolution without bias costs, for one image.

    Args:
        in_channels, out_channels: int.
        kernel_size: the pair (rows, columns) of the kernel.
        input_size: the pair (rows, columns) of the input map. The kernel fits into the padded map.
        stride, padding: int, the same for rows and columns.

    Returns:
        The triple (parameters, MACs, output_size) of an int, an int, and the pair (rows, columns) of the output map.
    """
    ### BEGIN SOLUTION
    parameters = in_channels * out_channels * kernel_size[0] * kernel_size[1]
    rows, columns = ((side + 2 * padding - reach) // stride + 1 for side, reach in zip(input_size, kernel_size))
    return parameters, parameters * rows * columns, (rows, columns)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "convolution_cost-parameters", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
cost = convolution_cost(2, 3, (3, 5), (6, 8), 1, 0)
assert len(cost) == 3, f"three results are expected, parameters, MACs and output size, not {cost!r}"
assert cost[0] != 6, "6 parameters: each pair of channels has 3 * 5 weights"
assert cost[0] not in (54, 150), f"{cost[0]} parameters: the kernel is not square, 3 rows and 5 columns"
assert cost[0] != 93, "93 parameters: there is no bias"
assert cost[0] == 90, f"2 to 3 channels with a kernel of 3×5 have 2 * 3 * 15 = 90 parameters, yours are {cost[0]}"

### BEGIN HIDDEN TESTS
from tinynet.grading import fresh_generator, require_own_work
from tinynet.nn import Conv2d

require_own_work(convolution_cost, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
for _ in range(5):
    channels, kernel = rng.integers(1, 30, 2).tolist(), tuple(rng.integers(1, 8, 2).tolist())
    expected = Conv2d(*channels, kernel, bias=False).weight.numel()
    got = convolution_cost(*channels, kernel, (9, 9), 1, 0)[0]
    case = f"{channels[0]} to {channels[1]} channels, kernel {kernel}"
    assert got == expected, f"{case}: got {got} parameters, expected {expected}"
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "convolution_cost-macs", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
_, macs, size = convolution_cost(1, 1, (3, 3), (7, 10), 2, 1)
size = tuple(size)
assert size != (7, 10), "the output is as large as the input with you: a stride of 2 keeps every second position"
assert size != (3, 5), "7 rows, kernel 3, stride 2: 3 with you; with padding on both sides (7 + 2 - 3) // 2 + 1 = 4"
assert size != (5, 6) and size != (4, 6), f"7×10 gives {size} with you: round down before you add 1"
assert size == (4, 5), f"7×10, kernel 3×3, stride 2, padding 1: the output is 4×5, yours is {size}"
assert macs != 9 * 70, "630 MACs: you count the positions of the input, each weight works at those of the output"
assert macs != 360, "360 MACs, twice too many: multiplying and adding together are one MAC"
assert macs != 9, "9 MACs: the kernel is applied at every position, not once"
assert macs == 180, f"9 weights at 4 * 5 positions are 180 MACs, yours are {macs}"

### BEGIN HIDDEN TESTS
from tinynet import zeros
from tinynet.grading import fresh_generator, require_own_work
from tinynet.nn import Conv2d

require_own_work(convolution_cost, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
for _ in range(8):
    kernel, given = tuple(rng.integers(1, 6, 2).tolist()), tuple(rng.integers(6, 20, 2).tolist())
    stride, padding = int(rng.integers(1, 4)), int(rng.integers(0, 3))
    expected = tuple(Conv2d(1, 1, kernel, stride, padding, bias=False)(zeros(1, 1, *given)).shape[2:])
    parameters, macs, size = convolution_cost(3, 4, kernel, given, stride, padding)
    case = f"input {given}, kernel {kernel}, stride {stride}, padding {padding}"
    assert tuple(size) == expected, f"{case}: output {tuple(size)}, expected {expected}"
    wanted = 12 * math.prod(kernel) * math.prod(expected)
    assert macs == wanted, f"{case}, 3 to 4 channels: got {macs} MACs, expected {wanted}"
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2 · The cost of a bottleneck · 2 points
#
# A bottleneck of width $w$ on $C$ channels is
#
# | | kernel | channels | stride, padding |
# |---|---|---|---|
# | conv1 | 1×1 | $C \to w$ | 1, 0 |
# | conv2 | 3×3 | $w \to w$ | $s$, 1 |
# | conv3 | 1×1 | $w \to 4w$ | 1, 0 |
# | projection, if there is one | 1×1 | $C \to 4w$ | $s$, 0 |
#
# without biases. After each of them stands a batch norm with **two** parameters per channel, a weight and a bias. (Its
# running mean and variance are not trained: no parameters.) The stride is in the 3×3, so conv1 works at the size of the
# input, all that follow at the size of the output, $\lceil h/s \rceil \times \lceil w/s \rceil$. Count the MACs of the
# convolutions; norms have none.

# %% nbgrader={"grade": false, "grade_id": "bottleneck_cost", "locked": false, "schema_version": 3, "solution": true, "task": false}
def bottleneck_cost(in_channels, width, input_size, stride, projection):
    """What a bottleneck costs, for one image.

    Args:
        in_channels, width: int; the block gives 4 * width channels.
        input_size: the pair (rows, columns) of the input map.
        stride: int.
        projection: bool, whether the shortcut is a 1×1 convolution with a batch norm. Otherwise it costs nothing.

    Returns:
        The pair (parameters, MACs) of ints: the parameters of convolutions and norms, the MACs of convolutions.
    """
    ### BEGIN SOLUTION
    rows, columns = input_size
    before, after = rows * columns, ((rows - 1) // stride + 1) * ((columns - 1) // stride + 1)
    layers = [(in_channels, width, 1, before), (width, width, 9, after), (width, 4 * width, 1, after)]
    if projection:
        layers.append((in_channels, 4 * width, 1, after))
    parameters = sum(count * out * area + 2 * out for count, out, area, _ in layers)
    return parameters, sum(count * out * area * positions for count, out, area, positions in layers)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "bottleneck_cost-identity", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
parameters, macs = bottleneck_cost(12, 3, (3, 5), 1, False)
assert parameters != 153, "153 parameters: the norms have some too, two for each channel"
assert parameters != 225, "225 parameters: a norm's running mean and variance are not parameters, two a channel remain"
assert parameters != 144, "144 parameters: the third convolution and its norm have 4 * width channels"
assert parameters == 189, f"36 + 81 + 36 in convolutions, 6 + 6 + 24 in norms: 189 parameters, yours are {parameters}"
assert macs == 153 * 15, f"153 weights at 3 * 5 positions: 2295 MACs, yours are {macs}"

### BEGIN HIDDEN TESTS
from tinynet import zeros
from tinynet.grading import fresh_generator, require_own_work
from tinynet.inspect import summary
from tinynet.models import Bottleneck as OwnBottleneck

require_own_work(bottleneck_cost, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
for _ in range(3):
    width, size = int(rng.integers(1, 6)), tuple(rng.integers(2, 9, 2).tolist())
    block = OwnBottleneck(4 * width, width)
    expected = (sum(each.numel() for each in block.parameters()), summary(block, (1, 4 * width, *size)).macs)
    got = tuple(bottleneck_cost(4 * width, width, size, 1, False))
    assert got == expected, f"{4 * width} channels, width {width}, map {size}: got {got}, expected {expected}"
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "bottleneck_cost-projection", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
parameters, macs = bottleneck_cost(4, 2, (3, 5), 2, True)
assert parameters != 84, "84 parameters: the projection is missing, 4 * 8 and its norm"
assert parameters != 116, "116 parameters: a norm follows the projection, too"
assert parameters == 132, f"8 + 36 + 16 + 32 in convolutions, 4 + 4 + 16 + 16 in norms: 132, yours are {parameters}"
assert macs != 92 * 6, "552 MACs: conv1 works on all 15 positions of the input, the stride is in the 3×3"
assert macs != 92 * 15, "1380 MACs: from the 3×3 on there are 2 * 3 positions only"
assert macs != 8 * 15 + 52 * 6 + 32 * 15, "912 MACs: the projection has the stride too, it works at 2 * 3 positions"
assert macs == 624, f"8 weights at 15 positions, 36 + 16 + 32 at 2 * 3: 624 MACs, yours are {macs}"

### BEGIN HIDDEN TESTS
from tinynet.grading import fresh_generator, require_own_work
from tinynet.inspect import summary
from tinynet.models import Bottleneck as OwnBottleneck
from tinynet.nn import BatchNorm2d, Conv2d, Sequential

require_own_work(bottleneck_cost, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
for stride in (1, 2, 3):
    channels, width, *size = rng.integers(2, 9, 4).tolist()
    shortcut = Sequential(Conv2d(channels, 4 * width, 1, stride, bias=False), BatchNorm2d(4 * width))
    block = OwnBottleneck(channels, width, stride, shortcut)
    expected = (sum(each.numel() for each in block.parameters()), summary(block, (1, channels, *size)).macs)
    got = tuple(bottleneck_cost(channels, width, tuple(size), stride, True))
    case = f"{channels} channels, width {width}, map {size}, stride {stride}, projection"
    assert got == expected, f"{case}: got {got}, expected {expected}"
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3 · The shortcut that pads with zeros · 2 points
#
# Where a block changes the size or the channels, its input cannot be added as it is. Option A of the paper has no
# parameters: keep every `stride`-th row and column, **the first one included**, and fill up with channels of zeros.
#
# Where do the zero channels go? The paper does not say. In this assignment **all of them come behind** the old
# channels. (tinynet's own puts half of them in front. To a net that is the same, to a comparison it is not.)
#
# Tensors are sliced as arrays are, and `F.pad(x, (left, right, top, bottom, front, behind))` adds zeros on six sides:
# columns, rows and channels.

# %% nbgrader={"grade": false, "grade_id": "zero_padding", "locked": false, "schema_version": 3, "solution": true, "task": false}
class ZeroPadding(nn.Module):
    """The shortcut without parameters: every stride-th position, and new channels of zeros behind the old ones.

    Args:
        in_channels, out_channels: int, out_channels is at least in_channels.
        stride: int.
    """

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        ### BEGIN SOLUTION
        self.new_channels = out_channels - in_channels
        self.stride = stride
        ### END SOLUTION

    def forward(self, x):
        """Tensor (N, in_channels, h, w) to tensor (N, out_channels, ceil(h / stride), ceil(w / stride))."""
        ### BEGIN SOLUTION
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        ### END SOLUTION


# %% [markdown]
# The next cell runs your module for the checks: arrays in, arrays out, in float64.

# %% nbgrader={"grade": false, "grade_id": "zero_padding-driver", "locked": true, "schema_version": 3, "solution": false, "task": false}
def run_zero_padding(x, out_channels, stride, cotangent=None):
    """The result of your shortcut for x (N, C, h, w), and the gradient of x if a cotangent arrives at the result."""
    leaf = tinynet.tensor(x, requires_grad=True)
    result = ZeroPadding(x.shape[1], out_channels, stride)(leaf)
    if cotangent is not None:
        result.backward(tinynet.tensor(cotangent))
    return {"result": result.detach().numpy(), "gradient": None if leaf.grad is None else leaf.grad.numpy()}


# %% nbgrader={"grade": true, "grade_id": "zero_padding-values", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
x = np.arange(1.0, 31.0).reshape(1, 2, 3, 5)
result = run_zero_padding(x, 6, 2)["result"]
assert result.shape[1] == 6, f"2 channels become 6, yours are {result.shape[1]}: zeros are added as channels"
assert result.shape == (1, 6, 2, 3), f"3×5 with stride 2 gives 2×3, rounded up; yours is {result.shape[2:]}"
assert not (result[0, :4] == 0).all(), "all zero channels come in front with you, they belong behind"
assert not (result[0, :2] == 0).all(), "half of the zero channels come in front with you, all of them belong behind"
assert (result[0, 2:] == 0).all(), "the new channels, 2 to 5, hold other values than 0"
kept = result[0, 0].tolist()
assert kept != [[4, 6, 7.5], [11.5, 13.5, 15]], "you take means over 2×2, keep single values"
assert kept == [[1, 3, 5], [11, 13, 15]], f"of 3×5 stay the rows 0, 2 and the columns 0, 2, 4; yours are {kept}"
assert (run_zero_padding(x, 2, 1)["result"] == x).all(), "stride 1 and as many channels as before: x comes out as it is"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(run_zero_padding, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
for stride, new, size in ((2, 3, (5, 6)), (1, 4, (3, 4)), (3, 5, (8, 7))):
    x = rng.standard_normal((2, 4, *size))
    kept = x[:, :, ::stride, ::stride]
    padded = {front: np.pad(kept, ((0, 0), (front, new - front), (0, 0), (0, 0))) for front in (0, new // 2, new)}
    wrong = {
        "half of the zero channels come in front, all belong behind": padded[new // 2],
        "all zero channels come in front, they belong behind": padded[new],
    }
    got = run_zero_padding(x, 4 + new, stride)["result"]
    compare(got, padded[0], f"4 to {4 + new} channels, {size}, stride {stride}", rtol=1e-12, wrong=wrong)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "zero_padding-gradient", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
x = np.ones((1, 1, 2, 3))
gradient = run_zero_padding(x, 2, 2, np.array([[[[5.0, 6.0]], [[7.0, 8.0]]]]))["gradient"]
assert gradient is not None, "no gradient reaches x: does the result stay on the tape? Use tensors from x to the result"
expected = [[5, 0, 6], [0, 0, 0]]
assert gradient[0, 0].tolist() == expected, f"kept values get their gradient, {expected}; yours {gradient[0, 0]}"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(run_zero_padding, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
x, cotangent = rng.standard_normal((2, 3, 7, 6)), rng.standard_normal((2, 8, 3, 2))
expected = np.zeros_like(x)
expected[:, :, ::3, ::3] = cotangent[:, :3]
compare(run_zero_padding(x, 8, 3, cotangent)["gradient"], expected, "gradient of x, stride 3", rtol=1e-12)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4 · The right shortcut · 4 points
#
# Write the function that says which module stands on a block's shortcut:
#
# - Where the input fits, that is, where the stride is 1 **and** the channels stay as many, the input itself is added:
#   `nn.Identity()`.
# - Otherwise **option "A"** gives your `ZeroPadding`, and **option "B"** a projection: an `nn.Sequential` of a 1×1
#   convolution with the stride and without bias, and a batch norm.

# %% nbgrader={"grade": false, "grade_id": "make_shortcut", "locked": false, "schema_version": 3, "solution": true, "task": false}
def make_shortcut(in_channels, out_channels, stride, option):
    """The module on the shortcut of a block.

    Args:
        in_channels, out_channels: int, the channels of the block's input and of its result.
        stride: int.
        option: "A" (zero padding) or "B" (projection), for shapes that differ.

    Returns:
        nn.Module: tensors (N, in_channels, h, w) to (N, out_channels, ceil(h / stride), ceil(w / stride)).
    """
    ### BEGIN SOLUTION
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if option == "A":
        return ZeroPadding(in_channels, out_channels, stride)
    projection = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(out_channels))
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "make_shortcut-driver", "locked": true, "schema_version": 3, "solution": false, "task": false}
def describe_shortcut(in_channels, out_channels, stride, option):
    """The kind of your module, and the shapes of its parameters by name."""
    module = make_shortcut(in_channels, out_channels, stride, option)
    named = module.named_parameters() if isinstance(module, nn.Module) else ()
    return {"kind": type(module).__name__, "parameters": {name: tuple(each.shape) for name, each in named}}


def run_shortcut(in_channels, out_channels, stride, option, x, state):
    """The result of your module for x in evaluation mode, with the given parameters and statistics by name."""
    module = make_shortcut(in_channels, out_channels, stride, option).double().eval()
    if state:
        module.load_state_dict({name: tinynet.tensor(array) for name, array in state.items()}, strict=False)
    return module(tinynet.tensor(x)).detach().numpy()


# %% nbgrader={"grade": true, "grade_id": "make_shortcut-identity", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
for option in "AB":
    kind = describe_shortcut(8, 8, 1, option)["kind"]
    assert kind != "NoneType", f"option {option}, 8 to 8 channels, stride 1: None comes back, nn.Identity() is expected"
    assert kind == "Identity", f"option {option}, 8 to 8 channels, stride 1: the input fits, nn.Identity(), not {kind}"
    kind = describe_shortcut(8, 8, 2, option)["kind"]
    assert kind != "Identity", f"option {option}, 8 to 8 channels, stride 2: the size changes, the input does not fit"
    kind = describe_shortcut(8, 16, 1, option)["kind"]
    assert kind != "Identity", f"option {option}, 8 to 16 channels, stride 1: channels change, the input does not fit"

### BEGIN HIDDEN TESTS
from tinynet.grading import fresh_generator, require_own_work

require_own_work(describe_shortcut, allowed=ALLOWED, refused=REFUSED)
for channels in fresh_generator().integers(2, 200, 3).tolist():
    for option in "AB":
        for out_channels, stride in ((channels, 1), (channels, 2), (channels, 3), (channels + 1, 1), (4 * channels, 2)):
            kind = describe_shortcut(channels, out_channels, stride, option)["kind"]
            fits = stride == 1 and channels == out_channels
            case = f"option {option}, {channels} to {out_channels} channels, stride {stride}"
            assert (kind == "Identity") == fits, f"{case}: got {kind}, the input {'fits' if fits else 'does not fit'}"
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "make_shortcut-zeros", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
given = describe_shortcut(4, 16, 2, "A")
assert not given["parameters"], f"option A has no parameters, yours has {given['parameters']}"
assert given["kind"] == "ZeroPadding", f"option A, 4 to 16 channels: your ZeroPadding is expected, not {given['kind']}"
x = np.arange(1.0, 121.0).reshape(1, 4, 5, 6)
alone, chosen = run_zero_padding(x, 16, 2)["result"], run_shortcut(4, 16, 2, "A", x, {})
assert chosen.shape == alone.shape, f"your ZeroPadding gives {alone.shape}, make_shortcut's {chosen.shape}: the stride?"
assert (chosen == alone).all(), "the ZeroPadding of make_shortcut gives something else than yours made for 4, 16, 2"

### BEGIN HIDDEN TESTS
from tinynet.grading import compare, fresh_generator, require_own_work

require_own_work(run_shortcut, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
for out_channels, stride in ((4, 2), (12, 1), (9, 3)):
    x = rng.standard_normal((2, 4, 6, 7))
    expected = run_zero_padding(x, out_channels, stride)["result"]  # your own, whatever task 3 says of it
    case = f"option A, 4 to {out_channels} channels, stride {stride}, beside your ZeroPadding"
    compare(run_shortcut(4, out_channels, stride, "A", x, {}), expected, case, rtol=1e-12)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "make_shortcut-projection", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
given = describe_shortcut(4, 16, 2, "B")["parameters"]
shapes = {name: tuple(shape) for name, shape in given.items()}
assert shapes, "option B, 4 to 16 channels: your module has no parameters, a 1×1 convolution and a norm are expected"
assert "0.bias" not in shapes, "option B: the norm has a bias, so the 1×1 has none (bias=False)"
norm = {"1.weight", "1.bias"} <= set(shapes)
assert norm, f"option B: a batch norm follows the 1×1, as the second of an nn.Sequential; you have {sorted(shapes)}"
own = shapes.get("0.weight")
assert own == (16, 4, 1, 1), f"option B: the weight of the 1×1 has the shape (16, 4, 1, 1), yours {own}"
shape = run_shortcut(4, 16, 2, "B", np.ones((1, 4, 5, 6)), {}).shape
assert shape != (1, 16, 5, 6), "option B: 5×6 stays 5×6 with stride 2, the projection has the stride"
assert shape == (1, 16, 3, 3), f"option B, 4 to 16 channels, 5×6, stride 2: (1, 16, 3, 3); yours is {shape}"

### BEGIN HIDDEN TESTS
from tinynet import tensor
from tinynet.grading import compare, fresh_generator, require_own_work
from tinynet.nn.functional import batch_norm, conv2d

require_own_work(run_shortcut, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
for out_channels, stride in ((4, 2), (12, 1), (9, 3)):
    x, weight = rng.standard_normal((2, 4, 6, 7)), rng.standard_normal((out_channels, 4, 1, 1))
    state = {"0.weight": weight, "1.running_mean": rng.standard_normal(out_channels)}
    state |= {f"1.{name}": rng.uniform(0.5, 1.5, out_channels) for name in ("weight", "bias", "running_var")}
    projected = conv2d(tensor(x), tensor(weight), stride=stride)
    norm = [tensor(state[f"1.{name}"]) for name in ("running_mean", "running_var", "weight", "bias")]
    right = batch_norm(projected, *norm)
    wrong = {"the batch norm is missing": projected.numpy(), "a ReLU, there is none here": right.relu().numpy()}
    got = run_shortcut(4, out_channels, stride, "B", x, state)
    compare(got, right.numpy(), f"option B, 4 to {out_channels} channels, stride {stride}", rtol=1e-9, wrong=wrong)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5 · The bottleneck · 5 points
#
# $$y = \mathrm{ReLU}\big(F(x) + \mathrm{shortcut}(x)\big)$$
#
# The branch $F$ has three convolutions without bias, each followed by its batch norm: conv1, a 1×1 down to `width`
# channels, conv2, a 3×3 with padding 1 **that has the stride**, and conv3, a 1×1 up to 4 · `width`. ReLU stands after
# the first and the second norm, and once more at the very end, **after the addition**. After the third norm there is
# none, because the branch must be able to subtract.
#
# The stride in the 3×3 is what torchvision does ("v1.5"). The paper had it in the first 1×1, which then ignores three
# of four positions. The names of all parts are torchvision's too, so that its weights would fit. (There the shortcut's
# module is called `downsample`.)

# %% nbgrader={"grade": false, "grade_id": "bottleneck", "locked": false, "schema_version": 3, "solution": true, "task": false}
class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1, and the shortcut.

    Args:
        in_channels: int, channels of the input.
        width: int, channels of the 3×3; the result has 4 * width.
        stride: int, of the 3×3.
        shortcut: nn.Module, gives for the input a tensor of the shape of the result.

    Attributes that must have these names:
        conv1, conv2, conv3: nn.Conv2d without bias.
        bn1, bn2, bn3: nn.BatchNorm2d, of the convolution of the same number.
        downsample: the shortcut's module, as it came.
    """

    def __init__(self, in_channels, width, stride, shortcut):
        super().__init__()
        ### BEGIN SOLUTION
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = shortcut
        ### END SOLUTION

    def forward(self, x):
        """Tensor (N, in_channels, h, w) to tensor (N, 4 * width, ceil(h / stride), ceil(w / stride))."""
        ### BEGIN SOLUTION
        branch = F.relu(self.bn1(self.conv1(x)))
        branch = F.relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        return F.relu(branch + self.downsample(x))
        ### END SOLUTION


# %% [markdown]
# The checks of this task do not depend on task 4. The input has 4 · `width` channels already, and where the stride is
# not 1 a module of means stands on the shortcut.

# %% nbgrader={"grade": false, "grade_id": "bottleneck-driver", "locked": true, "schema_version": 3, "solution": false, "task": false}
def describe_bottleneck(in_channels, width):
    """The shapes of all parameters of your block by name."""
    block = Bottleneck(in_channels, width, 1, nn.Identity())
    return {name: tuple(parameter.shape) for name, parameter in block.named_parameters()}


def run_bottleneck(width, stride, state, x, training=False, cotangent=None):
    """Your block on x (N, 4 * width, h, w) in float64, with the given parameters and statistics by name.

    Gives its result and, where a cotangent arrives at it, the gradients of x and of all parameters.
    """
    shortcut = nn.Identity() if stride == 1 else nn.AvgPool2d(stride, ceil_mode=True)
    block = Bottleneck(4 * width, width, stride, shortcut).double().train(training)
    block.load_state_dict({name: tinynet.tensor(array) for name, array in state.items()}, strict=False)
    leaf = tinynet.tensor(x, requires_grad=True)
    result = block(leaf)
    gradients = {}
    if cotangent is not None:
        result.backward(tinynet.tensor(cotangent))
        gradients = {name: each.grad.numpy() for name, each in block.named_parameters() if each.grad is not None}
        gradients["x"] = leaf.grad.numpy()
    return {"result": result.detach().numpy(), "gradients": gradients}


# %% nbgrader={"grade": true, "grade_id": "bottleneck-parameters", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
shapes = {name: tuple(shape) for name, shape in describe_bottleneck(24, 8).items()}
expected = {"conv1": (8, 24, 1, 1), "conv2": (8, 8, 3, 3), "conv3": (32, 8, 1, 1)}
expected |= {"bn1": (8,), "bn2": (8,), "bn3": (32,)}
for name, shape in expected.items():
    own = shapes.get(f"{name}.weight")
    assert own is not None, f"there is no {name}.weight, only {sorted(shapes)}"
    assert own == shape, f"24 channels, width 8: {name}.weight has the shape {shape}, yours {own}"
    if name.startswith("conv"):
        assert f"{name}.bias" not in shapes, f"{name} has a bias: the norm after it has one, so say bias=False"
more = set(shapes) - {f"{name}.{kind}" for name in expected for kind in ("weight", "bias")}
assert not more, f"your block has parameters that it should not have: {sorted(more)}"

### BEGIN HIDDEN TESTS
from tinynet.grading import fresh_generator, require_own_work
from tinynet.models import Bottleneck as OwnBottleneck

require_own_work(describe_bottleneck, allowed=ALLOWED, refused=REFUSED)
for channels, width in fresh_generator().integers(2, 30, (3, 2)).tolist():
    expected = {name: tuple(each.shape) for name, each in OwnBottleneck(channels, width).named_parameters()}
    got = {name: tuple(shape) for name, shape in describe_bottleneck(channels, width).items()}
    assert got == expected, f"{channels} channels, width {width}: got {got}, expected {expected}"
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "bottleneck-identity", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# A block whose numbers can be followed: conv1 gives the sum of all channels, conv2 passes on, conv3 multiplies by the
# weights below, and the norms are nearly the identity (their eps is 1e-5).
state = {
    "conv1.weight": np.ones((1, 4, 1, 1)), "conv2.weight": np.pad([[[[1.0]]]], ((0, 0), (0, 0), (1, 1), (1, 1))),
    "conv3.weight": np.array([1.0, -1.0, -3.0, 0.0]).reshape(4, 1, 1, 1),
}  # fmt: skip
for number, count in ((1, 1), (2, 1), (3, 4)):
    state |= {f"bn{number}.weight": np.ones(count), f"bn{number}.bias": np.zeros(count)}
    state |= {f"bn{number}.running_mean": np.zeros(count), f"bn{number}.running_var": np.ones(count)}
x = np.array([1.0, 2.0, 3.0, -4.0]).reshape(1, 4, 1, 1)  # the branch makes 2, -2, -6, 0 of it
result = run_bottleneck(1, 1, state, x)["result"]
assert result.shape == (1, 4, 1, 1), f"1×1 comes in and {result.shape[2:]} comes out: the 3×3 has padding=1"
values = result.ravel().round(3).tolist()
assert values != [3, 0, -3, -4], "3 0 -3 -4: there are negative values, the last step is ReLU, after the addition"
assert values != [2, 0, 0, 0], "2 0 0 0 is the branch alone: the shortcut is not added"
assert values != [3, 2, 3, 0], "3 2 3 0: you apply ReLU before the addition, so the branch cannot subtract; add first"
assert values != [3, 2, 3, -4], "3 2 3 -4: ReLU comes after the addition, you have it before, at the end of the branch"
assert values == [3, 0, 0, 0], f"branch 2 -2 -6 0 and input 1 2 3 -4, added, then ReLU: 3 0 0 0; yours is {values}"

### BEGIN HIDDEN TESTS
from tinynet import tensor
from tinynet.grading import compare, fresh_generator, require_own_work
from tinynet.models import Bottleneck as OwnBottleneck

require_own_work(run_bottleneck, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
own = OwnBottleneck(20, 5).double().eval()
state = {}
for name, value in own.state_dict().items():
    shape = tuple(value.shape)
    spread = (2 / max(1, math.prod(shape[1:]))) ** 0.5 if len(shape) > 1 else 0.3
    state[name] = spread * rng.standard_normal(shape) if shape else np.array(0)
    if name.endswith("running_var") or (name.startswith("bn") and name.endswith("weight")):
        state[name] = rng.uniform(0.5, 1.5, shape)
own.load_state_dict({name: tensor(array) for name, array in state.items()})
x = tensor(rng.standard_normal((2, 20, 5, 4)))
first = own.bn1(own.conv1(x))
second = own.bn2(own.conv2(first.relu()))
third = own.bn3(own.conv3(second.relu()))
wrong = {
    "ReLU stands before the addition": (third.relu() + x).relu(),
    "ReLU stands before the addition and not after it": third.relu() + x,
    "the ReLU after the addition is missing": third + x,
    "the shortcut is not added": third.relu(),
    "the ReLU after the second norm is missing": (own.bn3(own.conv3(second)) + x).relu(),
    "the ReLU after the first norm is missing": (own.bn3(own.conv3(own.bn2(own.conv2(first)).relu())) + x).relu(),
    "the third batch norm is missing": (own.conv3(second.relu()) + x).relu(),
    "ReLU stands before the norms, it comes after them": (
        own.bn3(own.conv3(own.bn2(own.conv2(own.bn1(own.conv1(x).relu())).relu()))) + x
    ).relu(),
}
wrong = {words: result.detach().numpy() for words, result in wrong.items()}
got = run_bottleneck(5, 1, state, x.numpy())["result"]
expected = (third + x).relu().detach().numpy()
compare(got, expected, "the block with the input itself on the shortcut", rtol=1e-9, wrong=wrong)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "bottleneck-strided", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# conv1 takes the first channel, conv2 is the mean over 3×3, conv3 gives it to all channels; the shortcut adds means.
state = {
    "conv1.weight": np.array([1.0, 0.0, 0.0, 0.0]).reshape(1, 4, 1, 1), "conv2.weight": np.full((1, 1, 3, 3), 1 / 9),
    "conv3.weight": np.ones((4, 1, 1, 1)),
}  # fmt: skip
for number, count in ((1, 1), (2, 1), (3, 4)):
    state |= {f"bn{number}.weight": np.ones(count), f"bn{number}.bias": np.zeros(count)}
    state |= {f"bn{number}.running_mean": np.zeros(count), f"bn{number}.running_var": np.ones(count)}
x = np.zeros((1, 4, 4, 4))
x[0, 0] = 9 * np.arange(1.0, 17.0).reshape(4, 4)
result = run_bottleneck(1, 2, state, x)["result"]
assert result.shape != (1, 4, 4, 4), "4×4 stays 4×4 with stride 2: which convolution has the stride?"
assert result.shape == (1, 4, 2, 2), f"4×4 with stride 2 gives 2×2, yours is {result.shape[2:]}"
values = result[0, 1].round(2).ravel().tolist()  # the second channel: there the shortcut adds nothing
assert values[3] != 1 + 3 + 9 + 11, "the 3×3 sees every second position: the stride is in conv1, it belongs in conv2"
assert np.allclose(values, [14, 30, 57, 99], atol=0.01), f"means over 3×3 in steps of 2: 14 30 57 99, yours {values}"

### BEGIN HIDDEN TESTS
from tinynet import tensor
from tinynet.grading import compare, fresh_generator, require_own_work
from tinynet.models import Bottleneck as OwnBottleneck
from tinynet.nn import AvgPool2d

require_own_work(run_bottleneck, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
for stride, size, training in ((2, (6, 8), False), (2, (7, 9), True), (3, (7, 6), False)):
    own, paper, late = (
        OwnBottleneck(12, 3, stride, AvgPool2d(stride, ceil_mode=True), stride_in_1x1=early).double().train(training)
        for early in (False, True, False)
    )
    late.conv2.stride, late.conv3.stride = (1, 1), (stride, stride)  # shows in training only, by the norm's statistics
    state = {}
    for name, value in own.state_dict().items():
        shape = tuple(value.shape)
        spread = (2 / max(1, math.prod(shape[1:]))) ** 0.5 if len(shape) > 1 else 0.3
        state[name] = spread * rng.standard_normal(shape) if shape else np.array(0)
        if name.endswith("running_var") or (name.startswith("bn") and name.endswith("weight")):
            state[name] = rng.uniform(0.5, 1.5, shape)
    for model in (own, paper, late):
        model.load_state_dict({name: tensor(array) for name, array in state.items()})
    x = rng.standard_normal((2, 12, *size))
    expected, early, late = (model(tensor(x)).detach().numpy() for model in (own, paper, late))
    wrong = {"the stride is in conv1, it belongs in the 3×3, conv2": early} | (
        {"the stride is in conv3, it belongs in the 3×3, conv2": late} if training else {}
    )
    got = run_bottleneck(3, stride, state, x, training)["result"]
    case = f"the block with stride {stride} on {size}, {'training' if training else 'evaluation'} mode"
    compare(got, expected, case, rtol=1e-9, wrong=wrong)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "bottleneck-gradient", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
state = {"bn3.weight": np.zeros(4), "bn3.bias": np.zeros(4)}  # a branch that gives 0: the block is its shortcut
x = np.array([1.0, -2.0, 3.0, 4.0]).reshape(1, 4, 1, 1).repeat(2, 2)
gradients = run_bottleneck(1, 1, state, x, True, np.ones((1, 4, 2, 1)))["gradients"]
assert {"x", "conv1.weight", "conv2.weight", "conv3.weight"} <= set(gradients), (
    f"only {sorted(gradients)} get a gradient: do all steps work on tensors?"
)
values = gradients["x"][0, :, 0, 0].tolist()
assert values != [0, 0, 0, 0], "the branch gives 0, and x gets no gradient: the shortcut does not hand it on"
assert values == [1, 0, 1, 1], f"the branch gives 0, so x gets the gradient of ReLU(x), 1 0 1 1; yours is {values}"

### BEGIN HIDDEN TESTS
from tinynet import tensor
from tinynet.grading import compare, fresh_generator, require_own_work
from tinynet.models import Bottleneck as OwnBottleneck

require_own_work(run_bottleneck, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
own = OwnBottleneck(12, 3).double().train()
state = {}
for name, value in own.state_dict().items():
    shape = tuple(value.shape)
    spread = (2 / max(1, math.prod(shape[1:]))) ** 0.5 if len(shape) > 1 else 0.3
    state[name] = spread * rng.standard_normal(shape) if shape else np.array(0)
    if name.endswith("running_var") or (name.startswith("bn") and name.endswith("weight")):
        state[name] = rng.uniform(0.5, 1.5, shape)
own.load_state_dict({name: tensor(array) for name, array in state.items()})
x, cotangent = rng.standard_normal((3, 12, 4, 5)), rng.standard_normal((3, 12, 4, 5))
leaf = tensor(x, requires_grad=True)
result = own(leaf)
result.backward(tensor(cotangent))
got = run_bottleneck(3, 1, state, x, True, cotangent)
compare(got["result"], result.detach().numpy(), "the block in training mode", rtol=1e-9)
compare(got["gradients"]["x"], leaf.grad.numpy(), "gradient of the block's input", rtol=1e-8)
for name, parameter in own.named_parameters():
    assert name in got["gradients"], f"no gradient reaches {name}"
    compare(got["gradients"][name], parameter.grad.numpy(), f"gradient of {name}", rtol=1e-8)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6 · A stage of blocks · 2 points
#
# A ResNet has four stages. The first block of a stage may have a stride and sees the channels that come in; all others
# have stride 1 and see the 4 · `width` channels of the block before. Each block gets a shortcut **of its own**.
#
# So that the stage does not depend on the tasks before, it is told how to make blocks and shortcuts. In the finale
# these are your `Bottleneck` and your `make_shortcut`; the checks hand in others, which take notes.

# %% nbgrader={"grade": false, "grade_id": "make_stage", "locked": false, "schema_version": 3, "solution": true, "task": false}
def make_stage(block, shortcut, in_channels, width, blocks, stride):
    """A stage of a ResNet.

    Args:
        block: makes a block, block(in_channels, width, stride, shortcut_module) gives an nn.Module.
        shortcut: makes the module on a shortcut, shortcut(in_channels, out_channels, stride) gives an nn.Module. It
            is called once for each block, also where the input fits.
        in_channels: int, channels that come in.
        width: int, of every block; each gives 4 * width channels.
        blocks: int, at least 1: how many blocks.
        stride: int, of the first block; the others have 1.

    Returns:
        nn.Sequential of the blocks, in the order in which they run.
    """
    ### BEGIN SOLUTION
    stage = []
    for number in range(blocks):
        channels, step = (in_channels, stride) if number == 0 else (4 * width, 1)
        stage.append(block(channels, width, step, shortcut(channels, 4 * width, step)))
    return nn.Sequential(*stage)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "make_stage-driver", "locked": true, "schema_version": 3, "solution": false, "task": false}
def run_stage(in_channels, width, blocks, stride):
    """What your stage asks for: lists of what blocks and shortcuts were made with, and who ran, in order.

    A block is noted as [in_channels, width, stride, number of its shortcut], a shortcut as [in_channels,
    out_channels, stride]; "ran" holds the numbers of the blocks.
    """
    notes = {"blocks": [], "shortcuts": [], "ran": []}

    class NotedShortcut(nn.Identity):
        def __init__(self, *arguments):
            super().__init__()
            self.number = len(notes["shortcuts"])
            notes["shortcuts"].append(list(arguments))

    class NotedBlock(nn.Identity):
        def __init__(self, in_channels, width, stride, shortcut):
            super().__init__()
            self.number = len(notes["blocks"])
            notes["blocks"].append([in_channels, width, stride, getattr(shortcut, "number", None)])

        def forward(self, x):
            notes["ran"].append(self.number)
            return x

    stage = make_stage(NotedBlock, NotedShortcut, in_channels, width, blocks, stride)
    stage(tinynet.zeros(1, in_channels, 1, 1))
    return {"kind": type(stage).__name__, **notes}


# %% nbgrader={"grade": true, "grade_id": "make_stage-blocks", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
notes = run_stage(8, 4, 3, 2)
assert notes["kind"] == "Sequential", f"an nn.Sequential is expected, yours is a {notes['kind']}"
made = [block[:3] for block in notes["blocks"]]
advice = "is one block used several times? Then it has one set of weights"
assert len(made) == 3, f"3 blocks are asked for, you make {len(made)}: {advice}"
strides = [step for _, _, step in made]
assert strides != [2, 2, 2], "all blocks have stride 2 with you: only the first one has it"
assert strides == [2, 1, 1], f"the strides of a stage of 3 blocks are 2, 1, 1; yours are {strides}"
channels = [count for count, _, _ in made]
assert channels != [8, 8, 8], "all blocks see 8 channels with you: the first one gives 4 * 4 = 16"
assert channels != [8, 4, 4], "the second block sees 4 channels with you: a block gives 4 * width, not width"
assert channels == [8, 16, 16], f"the blocks see 8, 16, 16 channels; yours {channels}"
assert [width for _, width, _ in made] == [4, 4, 4], f"all blocks have width 4, yours {[width for _, width, _ in made]}"
assert notes["ran"] == [0, 1, 2], f"the blocks run in the order in which they are made, 0 1 2; yours run {notes['ran']}"

### BEGIN HIDDEN TESTS
from tinynet.grading import fresh_generator, require_own_work

require_own_work(run_stage, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
for blocks in (1, 2, 6):
    channels, width, stride = rng.integers(2, 60, 3).tolist()
    notes = run_stage(channels, width, blocks, stride)
    expected = [[channels, width, stride]] + [[4 * width, width, 1]] * (blocks - 1)
    made = [block[:3] for block in notes["blocks"]]
    case = f"{channels} channels, width {width}, {blocks} blocks, stride {stride}"
    assert made == expected, f"{case}: blocks of [channels, width, stride] {made}, expected {expected}"
    assert notes["ran"] == list(range(blocks)), f"{case}: the blocks run in the order {notes['ran']}"
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "make_stage-shortcuts", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
notes = run_stage(8, 4, 3, 2)
made = notes["shortcuts"]
assert len(made) != 1, "one shortcut is made for all blocks: each gets one of its own"
assert len(made) == 3, f"a shortcut is asked for once for each of 3 blocks, you ask {len(made)} times"
assert made[0] != [8, 4, 2], "the first shortcut leads to 4 channels with you: a block gives 4 * width"
assert made[0] != [8, 16, 1], "the first shortcut has stride 1 with you, its block has 2: both ends must fit"
assert made == [[8, 16, 2], [16, 16, 1], [16, 16, 1]], f"shortcuts of [in, out, stride]: yours are {made}"
owners = [block[3] for block in notes["blocks"]]
assert owners == [0, 1, 2], f"each block gets the shortcut made for it, 0 1 2; with you the blocks have {owners}"

### BEGIN HIDDEN TESTS
from tinynet.grading import fresh_generator, require_own_work

require_own_work(run_stage, allowed=ALLOWED, refused=REFUSED)
rng = fresh_generator()
for blocks in (1, 2, 6):
    channels, width, stride = rng.integers(2, 60, 3).tolist()
    notes = run_stage(channels, width, blocks, stride)
    expected = [[channels, 4 * width, stride]] + [[4 * width, 4 * width, 1]] * (blocks - 1)
    case = f"{channels} channels, width {width}, {blocks} blocks, stride {stride}"
    got = notes["shortcuts"]
    assert got == expected, f"{case}: shortcuts of [in, out, stride] {got}, expected {expected}"
    assert [block[3] for block in notes["blocks"]] == list(range(blocks)), f"{case}: a block has another's shortcut"
### END HIDDEN TESTS

# %% [markdown]
# ## Task 7 · Finale: ResNet-50 from your parts · 3 points
#
# Nothing is left to write. The next cell puts a ResNet-50 together: the stem, four stages of 3, 4, 6 and 3 of your
# blocks by your `make_stage` with your shortcuts of option B, and the last layer. It gives its 25 million parameters
# values that depend on their names, and counts how often your `Bottleneck` is called.

# %% nbgrader={"grade": false, "grade_id": "assembly", "locked": true, "schema_version": 3, "solution": false, "task": false}
class ResNet50(nn.Module):
    """ResNet-50 from your parts."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = 64
        for stage, blocks in enumerate((3, 4, 6, 3)):
            width, stride = 64 * 2**stage, 1 if stage == 0 else 2
            module = make_stage(Bottleneck, lambda *sizes: make_shortcut(*sizes, "B"), channels, width, blocks, stride)
            setattr(self, f"layer{stage + 1}", module)
            channels = 4 * width
        self.fc = nn.Linear(channels, 1000)

    def forward(self, x):
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        maps = {}
        for stage in (1, 2, 3, 4):
            maps[f"C{stage + 1}"] = x = getattr(self, f"layer{stage}")(x)
        maps["logits"] = self.fc(x.mean((2, 3)))
        return maps


def run_resnet50(image, seed):
    """The stages' maps and the logits for an image (N, 3, h, w), and how often your blocks were called."""
    network = ResNet50().eval()
    calls = {"Bottleneck": 0}

    def count(module, inputs, output):
        calls["Bottleneck"] += 1

    for module in network.modules():
        if isinstance(module, Bottleneck):
            module.register_forward_hook(count)
    with tinynet.no_grad():
        for name, value in network.state_dict().items():
            draw, shape = np.random.default_rng([seed, *name.encode()]), tuple(value.shape)
            values = np.resize(draw.standard_normal(9973, np.float32), shape)  # repeated where that is not enough
            if len(shape) > 1:
                value.copy_(tinynet.tensor(values * np.float32((2 / math.prod(shape[1:])) ** 0.5)))
            elif shape:
                positive = name.endswith(("running_var", "weight"))
                value.copy_(tinynet.tensor(0.2 * values if not positive else 0.5 + values.clip(-1, 1) ** 2))
        maps = network(tinynet.tensor(image))
    return {"calls": calls, **{name: value.numpy() for name, value in maps.items()}}


# %% nbgrader={"grade": true, "grade_id": "finale", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
from tinynet import kernels
from tinynet.models import resnet50


def own_resnet50(image, seed):
    """The same of tinynet's network, with the same parameters."""
    network = resnet50().eval()
    maps = {}
    for stage in (1, 2, 3, 4):
        module = getattr(network, f"layer{stage}")
        module.register_forward_hook(lambda m, i, o, name=f"C{stage + 1}": maps.update({name: o.numpy().copy()}))
    with tinynet.no_grad():
        for name, value in network.state_dict().items():
            draw, shape = np.random.default_rng([seed, *name.encode()]), tuple(value.shape)
            values = np.resize(draw.standard_normal(9973, np.float32), shape)  # repeated where that is not enough
            if len(shape) > 1:
                value.copy_(tinynet.tensor(values * np.float32((2 / math.prod(shape[1:])) ** 0.5)))
            elif shape:
                positive = name.endswith(("running_var", "weight"))
                value.copy_(tinynet.tensor(0.2 * values if not positive else 0.5 + values.clip(-1, 1) ** 2))
        with kernels.backend("numpy"):
            maps["logits"] = network(tinynet.tensor(image)).numpy()
    return maps


seed = 50
### BEGIN HIDDEN TESTS
from tinynet.grading import fresh_generator, require_own_work

require_own_work(run_resnet50, allowed=ALLOWED, refused=REFUSED)
seed = int(fresh_generator().integers(2**31))
### END HIDDEN TESTS
image = np.random.default_rng(seed).standard_normal((1, 3, 75, 91)).astype(np.float32)
expected = own_resnet50(image, seed)
own = run_resnet50(image, seed)
assert own["calls"] == {"Bottleneck": 16}, f"ResNet-50 calls 16 blocks; calls of yours: {own['calls']}"
for name, right in expected.items():
    assert own[name].shape == right.shape, f"{name} has the shape {own[name].shape}, expected {right.shape}"
    error = np.abs(own[name] - right).max() / np.abs(right).max()
    print(f"{name}: relative error {error:.1e}")
    assert error < 1e-4, f"{name} has the relative error {error:.0e}, should be about 1e-6; it is the first wrong"
