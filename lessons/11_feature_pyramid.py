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
# # Lesson 11: The feature pyramid
#
# **Goal.** You build the Feature Pyramid Network: fifteen lines that give every map of a backbone both halves of the
# answer, *what* and *where*. You compare it with torch number by number, work out how it learns, and then take it apart
# to see what each part was good for.
#
# **Time:** 45-60 minutes, of which the computer needs about one.
#
# **You need:** the maps C2 to C5 of lesson 10, convolutions (lesson 3), the backward pass (lessons 1 and 2).
#
# **New in tinynet:** `tinynet.models.FeaturePyramidNetwork`, `tinynet.nn.ModuleList`, `tinynet.Tensor`,
# `tinynet.optim.lr_scheduler.OneCycleLR`

# %%
import numpy as np

import tinynet
from tinynet import nn, optim, plot
from tinynet.data import HandwritingScenes
from tinynet.detection.pyramid_detector import SmallResNet
from tinynet.lesson import Lesson, relative_error
from tinynet.models import FPN, FeatureMaps, FeaturePyramidNetwork
from tinynet.nn import functional as F

tinynet.manual_seed(0)
lesson = Lesson(11)

# %% [markdown]
# ## 1. Two halves of an answer
#
# Whoever looks for objects has to say *what* is there and *where* it is. In lesson 10 you saw that a backbone has both,
# but never in the same map. Deep maps have seen a lot of the picture and know what is there, in few and coarse cells.
# Shallow maps have fine cells, and each of them has hardly seen anything.
#
# Let us put numbers to that, with the small ResNet of lesson 10 on scenes of 128×128 pixels. The smallest digits there
# are 8 pixels high.

# %% [markdown] tags=["predict"]
# **Predict.** How much of one cell of C5, which has the stride 32, does a digit of 8×8 pixels fill?

# %% tags=["predict"]
part_of_a_cell = ...  # a fraction

# %%
lesson.reveal("part of a cell", part_of_a_cell, (8 / 32) ** 2)
scenes = HandwritingScenes(train=True, count=400)
image = tinynet.from_numpy(scenes.images[:1].astype(np.float32) / 255)
backbone = FeatureMaps(SmallResNet(in_channels=1)).eval()


def seen(net, number, image):
    """How many pixels across are seen by the cell in the middle of a net's map: as wide as its gradient."""
    image = image.clone().requires_grad_()
    values = list(net(image).values())[number]
    weights = tinynet.zeros(*values.shape)
    weights[:, :, values.shape[2] // 2, values.shape[3] // 2] = 1.0
    values.backward(weights)
    columns = np.flatnonzero(image.grad.numpy().any(axis=(0, 1, 2)))
    return int(columns[-1] - columns[0] + 1)


maps = backbone(image)
print(f"{'map':5}{'channels':>10}{'cells':>9}{'stride':>8}{'sees':>6}   cells that a digit of 8×8 pixels fills")
for number, (name, values) in enumerate(maps.items()):
    stride = backbone.strides[name]
    cells, sees = f"{values.shape[2]}×{values.shape[3]}", seen(backbone, number, image)
    print(f"{name:5}{values.shape[1]:10}{cells:>9}{stride:8}{sees:6}   {(8 / stride) ** 2:.3g}")

# %% [markdown]
# Read the table from both ends:
#
# - **C2** has a cell every 4 pixels. It can say where an edge is, but the patch that it sees is smaller than most
#   digits of our scenes: it cannot know what it belongs to.
# - **C5** sees more than half of the scene's width. But a small digit fills a sixteenth of one of its cells, and where
#   in the cell it was is gone.
#
# ## 2. The plan
#
# Lin and others proposed in 2017 to carry the knowledge of the deep maps back down to the fine ones:

# %%
sizes = {name[1:]: tuple(values.shape[2:]) for name, values in maps.items()}
lesson.show(
    plot.pathways(sizes, {"Feature pyramid network": {}}),
    "Three columns. Left: the backbone from C2 up to C5. Middle: merged maps, each the sum of a 1×1 of the map at its "
    "left and the enlarged map above. Right: after a 3×3 the levels P2 to P5.",
)

# %% [markdown]
# 1. **Bottom-up:** the backbone as it is, C2 to C5.
# 2. A **1×1 convolution** brings every map to the same number of channels (256 in the paper, from 256, 512, 1024 and
#    2048 in ResNet-50). From C5 this gives the first merged map. Sideways, it is called the **lateral connection**.
# 3. **Top-down:** the coarse map is enlarged to the size of the next finer one, every value simply repeated
#    (nearest-neighbour interpolation), and **added** to the lateral.
# 4. A **3×3 convolution** on each merged map gives the level P. It blurs away the blocks that repeating has left.
#
# All levels have the same channels and, we hope, the same kind of knowledge. So one small head can later look for
# objects on all of them (lesson 12).
#
# ## 3. Enlarging, to any size
#
# "Twice as large" sounds harmless. Then somebody brings a picture whose height is not a multiple of 32. A convolution
# or pooling of stride 2 turns $h$ rows into $h/2$, **rounded up**.

# %% [markdown] tags=["predict"]
# **Predict.** A picture is 100 pixels high. How many rows do C2, C3, C4 and C5 have (strides 4, 8, 16, 32)? And if you
# double C5, how many rows are missing or too many for C4?

# %% tags=["predict"]
rows_of_maps = ...  # a list of four numbers: C2, C3, C4, C5
rows_too_many = ...  # after doubling C5, compared with C4

# %%
odd_maps = list(backbone(tinynet.randn(1, 1, 100, 150)).values())
rows = [values.shape[2] for values in odd_maps]
lesson.reveal("rows of C2 to C5", rows_of_maps, rows)
lesson.reveal("too many", rows_too_many, 2 * rows[3] - rows[2])
try:
    tinynet.zeros(1, 1, rows[2], 10) + F.interpolate(tinynet.zeros(1, 1, rows[3], 5), scale_factor=2)
except ValueError as error:
    print(error)

# %% [markdown]
# This is no invention of mine. [Detectron](https://github.com/facebookresearch/Detectron/issues/121) (15 rows, 16 after
# doubling), [mmdetection](https://github.com/open-mmlab/mmdetection/pull/2157) (85 columns, 86 after doubling) and many
# others had this error. The cure is one word: enlarge **to the size of the lateral**, not by two.
#
# With the rule "row $i$ of $H$ rows repeats row $\lfloor i \cdot h / H \rfloor$ of $h$ rows", 4 rows become 7 like
# this:
#
# | row of the result | 0 | 1 | 2 | 3 | 4 | 5 | 6 |
# |---|---|---|---|---|---|---|---|
# | $i \cdot 4 / 7$ | $0$ | $0.57$ | $1.14$ | $1.71$ | $2.29$ | $2.86$ | $3.43$ |
# | repeats row | 0 | 0 | 1 | 1 | 2 | 2 | 3 |

# %% [markdown] tags=["exercise"]
# ### Exercise 1 · Nearest, to any size · 2/5 · 10 minutes
#
# Write `enlarge(x, size)`. `x` is a tensor (N, C, h, w), `size` the pair (height, width) of the result. Tensors take
# arrays of row numbers as an index, `x[:, :, [0, 0, 1]]`, and gradients find their way back through that.

# %% tags=["stub"]
def enlarge(x, size):
    """The maps x (N, C, h, w) at another size: row i repeats row i·h // height, columns likewise."""
    return ...


# %% tags=["check"]
def check(enlarge):
    x = tinynet.randn(2, 3, 4, 5, requires_grad=True)
    result = enlarge(x, (7, 10))
    kind = type(result).__name__
    assert isinstance(result, tinynet.Tensor), f"a tensor is expected, not a {kind}: index x itself"
    shape = tuple(result.shape)
    assert shape != (2, 3, 8, 10), "8 rows where 7 are wanted: you double, but the size is given"
    assert shape != (2, 3, 10, 7), "the result is 10×7 and should be 7×10: size is (height, width)"
    assert shape == (2, 3, 7, 10), f"the result has the shape {shape}, (2, 3, 7, 10) is wanted"
    assert result.requires_grad, "the result has left the tape: index the tensor x, not x.numpy()"
    rounded = np.minimum(np.round(np.arange(7) * 4 / 7).astype(int), 3)
    nearly = relative_error(result[:, :, :, 0], x[:, :, rounded][:, :, :, 0]) == 0
    assert not nearly, "row 1 of 7 repeats your row 1, should be row 0 (4/7 rounded down): do not round to the nearest"
    for size in ((7, 10), (8, 9), (13, 19), (5, 5), (4, 5)):
        shape = tuple(enlarge(x, size).shape[2:])
        assert shape == size, f"4×5 to {size} gives {shape}: two of each and cut off? Any size may be wanted"
        error = relative_error(enlarge(x, size), F.interpolate(x, size=size, mode="nearest"))
        assert error == 0, f"4×5 to {size[0]}×{size[1]} has the relative error {error:.1g}, it should be exactly 0"


enlarge = lesson.check(check, enlarge)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `np.arange(height) * h // height` is the whole lower line of the table. Index twice, first the rows, then the
# columns.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def enlarge(x, size):
#     """The maps x (N, C, h, w) at another size: row i repeats row i·h // height, columns likewise."""
#     height, width = size
#     rows = np.arange(height) * x.shape[2] // height
#     columns = np.arange(width) * x.shape[3] // width
#     return x[:, :, rows][:, :, :, columns]
# ```
#
# </details>

# %% [markdown]
# ## 4. Merging, with a pencil
#
# The smallest pyramid has one channel, a C5 of one cell and a C4 of four:
#
# $$C_5 = \begin{pmatrix} 5 \end{pmatrix} \qquad C_4 = \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}$$
#
# The 1×1 of C5 multiplies by 10, the one of C4 by 1, and there are no biases.

# %% [markdown] tags=["predict"]
# **Predict.** Which four numbers does the merged map M4 have?

# %% tags=["predict"]
merged_4 = ...  # [[upper left, upper right], [lower left, lower right]]

# %%
small_c5 = tinynet.tensor([[[[5.0]]]])
small_c4 = tinynet.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
lesson.reveal("M4", merged_4, (1 * small_c4 + enlarge(10 * small_c5, (2, 2)))[0, 0])

# %% [markdown]
# The tens say what the deep map believes about the whole region. The ones say what is where in it. The sum holds both,
# and with 256 channels in place of one, the net has room enough to keep them apart.
#
# Note that the lateral needs no ReLU after it, and has none: it only translates a map into the common language of the
# pyramid.

# %% [markdown]
# In the next exercise you write the whole network. Its check gives it certain weights and compares the levels with what
# **torch** computed from them. The numbers came with this lesson, so you need no torch.

# %%
CHANNELS, WIDTH, SIZES = [6, 8, 12, 16], 4, [(13, 19), (7, 10), (4, 5), (2, 3)]


def drawn(seed=11):
    """Maps for every level, and weights and biases of all laterals and all 3×3s, as arrays, from a fixed seed."""
    draw = np.random.RandomState(seed).standard_normal
    maps = [draw((1, count, *size)).astype(np.float32) for count, size in zip(CHANNELS, SIZES)]
    lateral = [(draw((WIDTH, count, 1, 1)) / count**0.5, draw(WIDTH)) for count in CHANNELS]
    smooth = [(draw((WIDTH, WIDTH, 3, 3)) / (9 * WIDTH) ** 0.5, draw(WIDTH)) for _ in CHANNELS]
    return maps, lateral, smooth


if not lesson.full:
    stored = lesson.stored()["results"]
    torch_version = stored["torch"]
    reference = [np.array(level, np.float32).reshape(1, WIDTH, *size) for level, size in zip(stored["levels"], SIZES)]
    print(f"from torch {torch_version}: levels of the sizes", *(level.shape[2:] for level in reference))


# %% [markdown] tags=["exercise"]
# ### Exercise 2 · The feature pyramid network · 4/5 · 20 minutes
#
# Write it for any number of levels. `channels` are those of the backbone's maps, **finest first**; `width` is the
# common number of channels. `forward` takes the maps as a list, finest first, and returns as many levels in the same
# order and of the same sizes, each with `width` channels.
#
# Go from the coarsest map to the finest. Look at the plan: which map is it that goes down, the merged one, or the
# one after the 3×3?

# %% tags=["stub"]
class Pyramid(nn.Module):
    """The feature pyramid network."""

    def __init__(self, channels, width):
        super().__init__()
        self.lateral = ...  # an nn.ModuleList of 1×1 convolutions, one for each map
        self.smooth = ...  # an nn.ModuleList of 3×3 convolutions that keep the size

    def forward(self, maps):
        return ...


# %% tags=["check"]
def check(Pyramid):
    maps, lateral, smooth = drawn()
    mine = Pyramid(CHANNELS, WIDTH)
    for name, given, wanted in (("lateral", mine.lateral, lateral), ("smooth", mine.smooth, smooth)):
        assert len(given) == 4, f"{name} has {len(given)} convolutions, there are 4 maps: one for each"
        for layer, (weight, bias) in zip(given, wanted):
            shape = tuple(layer.weight.shape)
            assert shape == weight.shape, f"a weight of {name} has the shape {shape}, expected is {weight.shape}"
            assert layer.bias is not None, f"the convolutions of {name} have a bias"
            layer.load_state_dict({"weight": tinynet.tensor(weight).float(), "bias": tinynet.tensor(bias).float()})
    count = len(list(mine.parameters()))
    assert count == 16, f"the net finds {count} parameters, not 16: in a plain list they are hidden, use nn.ModuleList"
    smoothed = tuple(mine.smooth[0](tinynet.zeros(1, WIDTH, 5, 5)).shape[2:])
    assert smoothed == (5, 5), f"your 3×3 makes {smoothed} of (5, 5): does the 3×3 have padding=1?"
    levels = list(mine([tinynet.from_numpy(values) for values in maps]))
    assert len(levels) == 4, f"4 maps go in and {len(levels)} levels come out: is one lost, or the list not filled?"
    shapes = [tuple(level.shape[2:]) for level in levels]
    assert shapes != SIZES[::-1], "your levels come out coarsest first: insert each new one at the front of the list"
    assert shapes == SIZES, f"the levels have the sizes {shapes}, the maps {SIZES}: is each of its lateral's size?"
    errors = [relative_error(level, right) for level, right in zip(levels, reference)]
    assert errors[3] < 1e-5, f"P5 has the relative error {errors[3]:.0e}: it is the 3×3 of the 1×1 of C5, no more"
    coarse = mine.lateral[3](tinynet.from_numpy(maps[3]))
    side = mine.lateral[2](tinynet.from_numpy(maps[2]))
    mistakes = {
        "P4 lacks the top-down part: add the merged map above, enlarged": side,
        "P4 lacks the lateral part: add the 1×1 of C4": enlarge(coarse, SIZES[2]),
        "P4 gets P5 from above: hand down the merged map, not the one after the 3×3": side
        + enlarge(mine.smooth[3](coarse), SIZES[2]),
    }
    for words, wrong in mistakes.items():
        assert relative_error(levels[2], mine.smooth[2](wrong)) > 1e-5, words
    advice = "is it a sum of two?"
    assert errors[2] < 1e-5, f"P5 is right, P4 has the relative error {errors[2]:.0e}, not about 1e-7: {advice}"
    advice = "does every level get the merged map of the level above, with all that came from higher up?"
    assert max(errors) < 1e-5, f"P5 and P4 are right, the relative errors of P2 and P3 are {errors[:2]}: {advice}"


Pyramid = lesson.check(check, Pyramid)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `nn.Conv2d(count, width, 1)` and `nn.Conv2d(width, width, 3, padding=1)`. In `forward`, keep one variable `merged`.
# Before the loop it is `self.lateral[-1](maps[-1])`. In the loop over `reversed(range(len(maps) - 1))` it becomes the
# lateral plus `enlarge(merged, ...)`, and its 3×3 goes to the front of the result.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# class Pyramid(nn.Module):
#     """The feature pyramid network."""
#
#     def __init__(self, channels, width):
#         super().__init__()
#         self.lateral = nn.ModuleList([nn.Conv2d(count, width, 1) for count in channels])
#         self.smooth = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in channels])
#
#     def forward(self, maps):
#         merged = self.lateral[-1](maps[-1])
#         levels = [self.smooth[-1](merged)]
#         for number in reversed(range(len(maps) - 1)):
#             lateral = self.lateral[number](maps[number])
#             merged = lateral + enlarge(merged, lateral.shape[2:])
#             levels.insert(0, self.smooth[number](merged))
#         return levels
# ```
#
# </details>

# %% [markdown]
# And this is how torch's numbers were made, with its own convolution and interpolation. Compare it with yours:

# %%
def torch_pyramid():
    """The levels that torch computes; runs where torch is installed, under `tinynet lessons --reproduce 11`."""
    import torch
    from torch.nn.functional import conv2d, interpolate

    maps, lateral, smooth = drawn()
    maps = [torch.from_numpy(values) for values in maps]
    lateral, smooth = ([[torch.tensor(each).float() for each in pair] for pair in pairs] for pairs in (lateral, smooth))
    merged = conv2d(maps[-1], *lateral[-1])
    levels = [conv2d(merged, *smooth[-1], padding=1)]
    for features, side, blur in list(zip(maps, lateral, smooth))[-2::-1]:
        merged = conv2d(features, *side) + interpolate(merged, size=features.shape[-2:], mode="nearest")
        levels.insert(0, conv2d(merged, *blur, padding=1))
    return torch.__version__, [level.numpy() for level in levels]


if lesson.full:
    torch_version, reference = torch_pyramid()

# %% [markdown]
# tinynet has the same network as `FeaturePyramidNetwork`, under torchvision's names: your `lateral` is its
# `inner_blocks`, your `smooth` its `layer_blocks`. It takes and returns dicts of maps. With the same weights:

# %%
mine, theirs = Pyramid(CHANNELS, WIDTH), FeaturePyramidNetwork(CHANNELS, WIDTH)
for ours, other in ((mine.lateral, theirs.inner_blocks), (mine.smooth, theirs.layer_blocks)):
    for layer, sequential in zip(ours, other):
        layer.load_state_dict(sequential[0].state_dict())
maps = [tinynet.from_numpy(values) for values in drawn()[0]]
named = theirs({f"P{2 + number}": values for number, values in enumerate(maps)})
same = all(relative_error(level, named[f"P{2 + number}"]) < 1e-6 for number, level in enumerate(mine(maps)))
print("the same levels as tinynet's own:", same)

# %% [markdown]
# ## 5. What it costs
#
# On a ResNet-50, with 256 channels and a picture of 640×640, the pyramid reads maps of 160, 80, 40 and 20 cells in
# height and width. What does that cost? As in lesson 8, a convolution costs one multiply-add for each weight at each
# place of its output.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 · The bill · 2/5 · 10 minutes
#
# Write `pyramid_cost(channels, sizes, width)`. For every level, finest first, it returns a pair: how many parameters
# the level's two convolutions have, biases included, and how many multiply-adds (MACs) they cost. Biases cost no MACs.
# `sizes` holds the pairs (height, width).

# %% tags=["stub"]
def pyramid_cost(channels, sizes, width):
    """For each level the pair (parameters, MACs) of its 1×1 and its 3×3."""
    return ...


# %% tags=["check"]
def check(pyramid_cost):
    pairs = list(pyramid_cost([3, 5], [(4, 6), (2, 3)], 2))
    two = [np.size(pair) for pair in pairs] == [2, 2]
    assert two, f"a pair for each of the two levels is expected, (parameters, MACs); you have {pairs}"
    parameters = [pair[0] for pair in pairs]
    advice = "the 1×1 has 3·2 + 2, the 3×3 has 9·2·2 + 2"
    assert parameters[0] != 42, "42 parameters on the first level: you forgot the biases, it should be 46"
    assert parameters[0] != 14, f"14 parameters on the first level: a 3×3 has nine weights for every pair; {advice}"
    assert parameters == [46, 50], f"your parameters are {parameters}, they should be [46, 50]: {advice}"
    macs = [pair[1] for pair in pairs]
    assert macs[0] != 46 * 24, "the first level costs 1104 MACs with you: biases are added, not multiplied; 1008 it is"
    assert macs[0] != 42, "the first level costs 42 MACs with you: every weight works at each of the 4·6 places"
    assert macs == [1008, 276], f"your MACs are {macs}, they should be [1008, 276]"
    four = [256, 512, 1024, 2048]
    total = sum(pair[0] for pair in pyramid_cost(four, [(8, 8), (4, 4), (2, 2), (1, 1)], 256))
    right = sum(parameter.numel() for parameter in FeaturePyramidNetwork(four, 256).parameters())
    assert total == right, f"on a ResNet-50 your pyramid has {total:,} parameters, torchvision's has {right:,}"


pyramid_cost = lesson.check(check, pyramid_cost)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Weights of a level: `width * count` of the 1×1 and `9 * width * width` of the 3×3. Each convolution has `width`
# biases.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def pyramid_cost(channels, sizes, width):
#     """For each level the pair (parameters, MACs) of its 1×1 and its 3×3."""
#     pairs = []
#     for count, (rows, columns) in zip(channels, sizes):
#         weights = count * width + 9 * width * width
#         pairs.append((weights + 2 * width, weights * rows * columns))
#     return pairs
# ```
#
# </details>

# %% [markdown] tags=["predict"]
# **Predict.** Which share of the pyramid's multiply-adds falls on the finest level, P2, alone (its 1×1 and its 3×3)?

# %% tags=["predict"]
share_of_p2 = ...  # between 0 and 1

# %%
costs = pyramid_cost([256, 512, 1024, 2048], [(160, 160), (80, 80), (40, 40), (20, 20)], 256)
giga = {f"P{2 + number}": macs / 1e9 for number, (_, macs) in enumerate(costs)}
lesson.reveal("share of P2", share_of_p2, giga["P2"] / sum(giga.values()))
lesson.say(
    f"In all the pyramid has **{sum(pair[0] for pair in costs):,} parameters** and costs "
    f"**{sum(giga.values()):.1f} GMAC**. The backbone itself, ResNet-50 at this size, costs "
    f"{4.089 * (640 / 224) ** 2:.0f} (lesson 9, times the area). The finest level is the dear one, although it has "
    f"the fewest parameters: {costs[0][0]:,} against {costs[3][0]:,} of P5."
)
lesson.show(
    plot.bars(giga, unit="billions of multiply-adds", title="The pyramid on a ResNet-50, 640×640"),
    "Bars of the four levels' cost: P2 costs several times as much as P3, and P5 almost nothing.",
)

# %% [markdown]
# ## 6. How it learns
#
# A pyramid has no loss of its own. It learns from whatever is built on its levels, and the errors flow back through the
# additions and the enlarging. Both have simple backward passes. For a sum, see lesson 1: each of the two gets the
# gradient as it is. For the enlarging, ask how often a value was used.

# %% [markdown] tags=["predict"]
# **Predict.** M5 has 4×5 cells and is enlarged to the 7×10 of M4. All of M4 gets the gradient 1. Which gradient does
# the upper left cell of M5 get, and which one the lower left? (The table in section 3 helps.)

# %% tags=["predict"]
upper_left = ...  # gradient of the upper left cell
lower_left = ...  # gradient of the lower left cell

# %%
coarse = tinynet.zeros(1, 1, 4, 5, requires_grad=True)
enlarge(coarse, (7, 10)).backward(tinynet.ones(1, 1, 7, 10))
lesson.reveal("upper left", upper_left, coarse.grad[0, 0, 0, 0])
lesson.reveal("lower left", lower_left, coarse.grad[0, 0, 3, 0])

# %% [markdown]
# In the table row 0 of M5 stands twice in M4, row 3 once; every column stands twice. A value that is used several times
# gets the **sum** of the gradients from all its uses (lesson 1).

# %% [markdown] tags=["exercise"]
# ### Exercise 4 · Backward through the merge · 3/5 · 15 minutes
#
# The merge is `merged = lateral + enlarge(coarse, ...)`. Write its backward pass with NumPy. `grad` is the gradient
# that arrives at the merged map, an array (N, C, H, W); `coarse_size` is (h, w), the size of the coarse map. Return two
# arrays, the gradient of the lateral and the gradient of the coarse map.

# %% tags=["stub"]
def merge_backward(grad, coarse_size):
    """The gradients of lateral (N, C, H, W) and coarse (N, C, h, w), from the one of their merged map."""
    return ...


# %% tags=["check"]
def check(merge_backward):
    for fine, coarse in (((4, 6), (2, 3)), ((7, 10), (4, 5))):
        draw = np.random.RandomState(0).standard_normal
        grad = draw((2, 3, *fine))
        arrived = grad.copy()
        given = merge_backward(grad, coarse)
        kind = type(given).__name__
        assert isinstance(given, tuple) and len(given) == 2, f"a tuple of two gradients is expected, not {kind}"
        assert np.array_equal(grad, arrived), "you changed the gradient that arrived: others may still need it"
        first = np.shape(given[0])
        assert first == grad.shape, f"the first array has the shape {first}: the lateral's gradient comes first"
        assert relative_error(given[0], grad / 2) > 1e-9, "half for each? A sum hands on the whole gradient to both"
        error = relative_error(given[0], grad)
        assert error < 1e-12, f"the lateral's gradient has the relative error {error:.0e}: a sum hands it on as it is"
        x = tinynet.tensor(draw((2, 3, *coarse)), requires_grad=True)
        F.interpolate(x, size=fine, mode="nearest").backward(tinynet.tensor(grad))
        right = x.grad.numpy()
        rows, columns = (np.arange(f) * c // f for f, c in zip(fine, coarse))
        times = np.outer(np.bincount(rows), np.bincount(columns))
        assert relative_error(given[1], right / times) > 1e-9, "you take the mean of the cells: gifts add up (lesson 1)"
        last = np.zeros_like(right)
        last[:, :, rows[:, None], columns] = grad
        assert relative_error(given[1], last) > 1e-9, "one cell's gift replaces the others': does `=` stand for `+=`?"
        error = relative_error(given[1], right)
        advice = f"from {coarse} to {fine}, which cells does each one go to?"
        assert error < 1e-12, f"the coarse map's gradient has the relative error {error:.0e}, not about 1e-16: {advice}"


merge_backward = lesson.check(check, merge_backward)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Forward, cell (i, j) came from cell (i·h // H, j·w // W). Backward, it gives its gradient to that same cell. Start
# with zeros, two loops, and a `+=`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def merge_backward(grad, coarse_size):
#     """The gradients of lateral (N, C, H, W) and coarse (N, C, h, w), from the one of their merged map."""
#     samples, channels, height, width = grad.shape
#     coarse = np.zeros((samples, channels, *coarse_size))
#     for i in range(height):
#         for j in range(width):
#             coarse[:, :, i * coarse_size[0] // height, j * coarse_size[1] // width] += grad[:, :, i, j]
#     return grad, coarse
# ```
#
# </details>

# %% [markdown]
# So a mistake on the finest level teaches the deepest layers of the backbone at once: from P2 to C5 there are one 3×3,
# a few additions and one 1×1. It is the thought of lesson 7, a short way for the gradient, now across scales.
#
# ## 7. Who hears whom
#
# What would be lost without the laterals, or without the top-down pathway? First, who *can* know what. `FPN` puts
# backbone and pyramid into one net, and leaves parts out on request.

# %% [markdown] tags=["predict"]
# **Predict.** The backbone has run. Then we disturb its map C3 alone; C4 and C5 stay as they are. Which of the levels
# P2, P3, P4, P5 change in the whole FPN, which without laterals, and which without the top-down pathway?

# %% tags=["predict"]
whole = ...  # a list, the finest first, such as ["P2", "P5"]
without_laterals = ...  # a list
without_top_down = ...  # a list


# %%
def levels_that_hear(disturbed, **options):
    """The levels that change when one map of the backbone is disturbed, in an FPN with these options."""
    tinynet.manual_seed(0)
    body = FeatureMaps(SmallResNet(in_channels=1))
    pyramid = FPN(body, 8, **options).fpn
    maps = {f"P{number}": tinynet.randn(1, body.channels[f"C{number}"], *sizes[str(number)]) for number in range(2, 6)}
    before = pyramid(maps)
    place = f"P{disturbed[1:]}"
    after = pyramid({**maps, place: maps[place] + 1})
    return [name for name in maps if relative_error(after[name], before[name]) > 0]


variants = {"whole FPN": {}, "no laterals": {"lateral": False}, "no top-down": {"top_down": False}}
heard = {name: levels_that_hear("C3", **options) for name, options in variants.items()}
lesson.reveal("whole FPN", whole, heard["whole FPN"])
lesson.reveal("no laterals", without_laterals, heard["no laterals"])
lesson.reveal("no top-down", without_top_down, heard["no top-down"])
marked = {name: {**options, "marked": ["C3", *heard[name]]} for name, options in variants.items()}
lesson.show(
    plot.pathways(sizes, marked, "Who hears C3"),
    "Three pyramids with C3 marked. In the whole FPN, P3 and P2 hear it; without laterals none does; without the "
    "top-down pathway P3 alone.",
)

# %% [markdown]
# - In the whole FPN each level hears its own map and all coarser ones. P2 hears everybody.
# - Without laterals all levels are C5, enlarged: four maps of one and the same knowledge, no position finer than 32
#   pixels.
# - Without the top-down pathway each level hears its own map alone. P2 is fine and knows as little as C2.
#
# The 3×3 at the end helps P2 to see a little more than C2. The top-down pathway helps a lot more:

# %%
wide = tinynet.randn(1, 1, 256, 256)
for name, options in variants.items():
    tinynet.manual_seed(0)
    net = FPN(FeatureMaps(SmallResNet(in_channels=1)), 8, **options).eval()
    print(f"{name:12} a cell of P2 sees {seen(nn.Sequential(net.body, net.fpn), 0, wide)} pixels across")

# %% [markdown]
# ## 8. Taking it apart
#
# Who can hear is one thing, who listens another. So let the three learn something that needs both halves of the answer.
# In our scenes there are handwritten digits from 8 to 64 pixels high. **Every cell of P2 that lies in a digit shall say
# where that digit's centre is**: so many pixels to the right, so many down. In a small digit this needs fine positions.
# In a large one a cell at the rim sees nothing but a stroke: it has to be told what the whole looks like.

# %%
CELLS = 4.0 * np.arange(32) + 2.0  # where the cells of P2 are, in pixels
test_scenes = HandwritingScenes(train=False, count=100)


def truth_of(scenes):
    """For each cell of P2: the way to its digit's centre, (n, 2, 32, 32), and the digit's size, 0 where none is."""
    way = np.zeros((len(scenes), 2, 32, 32), np.float32)
    size = np.zeros((len(scenes), 1, 32, 32), np.float32)
    for index in range(len(scenes)):
        for x0, y0, x1, y1 in scenes.annotation(index)["boxes"]:
            rows, columns = ((low <= CELLS) & (high > CELLS) for low, high in ((y0, y1), (x0, x1)))
            inside = np.ix_(rows, columns)
            way[index, 0][inside] = (x0 + x1) / 2 - CELLS[columns]
            way[index, 1][inside] = ((y0 + y1) / 2 - CELLS[rows])[:, None]
            size[index, 0][inside] = np.sqrt((x1 - x0) * (y1 - y0))
    return way, size


def pixels_of(scenes):
    return (scenes.images.astype(np.float32) / 255 - 0.4) / 0.25


class Voter(nn.Module):
    """An FPN, and a 1×1 on its finest level that says for each cell how far the centre is, in pixels."""

    def __init__(self, **options):
        super().__init__()
        self.pyramid = FPN(FeatureMaps(SmallResNet(in_channels=1)), 32, norm_layer=nn.BatchNorm2d, **options)
        self.vote = nn.Conv2d(32, 2, 1)

    def forward(self, x):
        return 8 * self.vote(self.pyramid(x)[0].features)


def train_voter(scenes, epochs, seed=0, **options):
    """Trains a Voter: the error of a vote is measured in sizes of its digit, so that small ones count as much."""
    tinynet.manual_seed(seed)
    order = np.random.RandomState(seed)
    voter, batch = Voter(**options), 16
    optimizer = optim.AdamW(voter.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * (len(scenes) // batch))
    pixels, (way, size) = pixels_of(scenes), truth_of(scenes)
    weight = np.where(size > 0, 1 / np.maximum(size, 1), 0).astype(np.float32)
    for _ in range(epochs):
        for chosen in order.permutation(len(scenes))[: len(scenes) // batch * batch].reshape(-1, batch):
            optimizer.zero_grad()
            error = (voter(tinynet.from_numpy(pixels[chosen])) - tinynet.from_numpy(way[chosen])).abs()
            loss = (error * tinynet.from_numpy(weight[chosen])).sum() / float((size[chosen] > 0).sum())
            loss.backward()
            optimizer.step()
            schedule.step()
    return voter.eval()


def share_right(voter, scenes):
    """The share of cells whose vote is off by less than a quarter of the digit's size: small, medium, large digits."""
    way, size = truth_of(scenes)
    with tinynet.no_grad():
        votes = voter(tinynet.from_numpy(pixels_of(scenes))).numpy()
    size = size[:, 0]
    right = np.hypot(*(votes - way).transpose(1, 0, 2, 3)) < size / 4
    bounds = {"small": (0, 12), "medium": (12, 24), "large": (24, 129)}
    return {name: right[(size > low) & (size <= high)].mean() for name, (low, high) in bounds.items()}


# %% [markdown] tags=["predict"]
# **Predict.** Which of the three, "whole FPN", "no laterals" or "no top-down", will be the best with small digits
# (below 12 pixels), and which one with large digits (above 24)?

# %% tags=["predict"]
best_with_small = ...  # a name
best_with_large = ...  # a name

# %% tags=["slow"]
voters = {name: train_voter(scenes, 6, **options) for name, options in variants.items()}
results = {name: share_right(voter, test_scenes) for name, voter in voters.items()}
best = {size: max(results, key=lambda name, size=size: results[name][size]) for size in ("small", "large")}
lesson.reveal("best with small digits", best_with_small, best["small"])
lesson.reveal("best with large digits", best_with_large, best["large"])
lesson.show(
    plot.bars(results, unit="share of cells whose vote is right", title="Where is the centre of my digit?"),
    "Grouped bars: without laterals most votes in small digits are wrong, and all others are worse, too. Without the "
    "top-down pathway large digits lose a quarter of their right votes, and small ones win some.",
)

# %% [markdown]
# Look at the votes themselves, in one scene. Every cell inside of a digit has put a mark where it believes the centre
# to be.

# %% tags=["slow"]
CHOSEN = 4
way, size = truth_of(test_scenes)
inside = size[CHOSEN, 0] > 0
places = np.stack(np.meshgrid(CELLS, CELLS))
panels = {}
for name, voter in voters.items():
    with tinynet.no_grad():
        votes = voter(tinynet.from_numpy(pixels_of(test_scenes)[CHOSEN : CHOSEN + 1])).numpy()[0]
    right = np.hypot(*(votes - way[CHOSEN])) < size[CHOSEN, 0] / 4
    panels[name] = (places + votes)[:, inside].T, right[inside]
boxes = test_scenes.annotation(CHOSEN)["boxes"]
lesson.show(
    plot.votes(test_scenes.images[CHOSEN, 0], panels, (boxes[:, :2] + boxes[:, 2:]) / 2),
    "One scene three times with the votes as circles (right) and crosses (wrong). Those of the whole FPN gather at the "
    "centres; without laterals they form a grid around them; without top-down those of large digits scatter.",
)

# %% [markdown]
# - **Without laterals** a cell knows its surroundings, but not its place in them. All cells below one cell of C5 hear
#   the same and give the same answer, so that their votes form a grid as they do themselves. Small digits are lost.
# - **Without top-down** a cell at the rim of a large digit sees a stroke and has to guess: a wide cloud.
# - **The whole** has both, and its votes meet. That is what the paper promises, and on this task it is plain to see.
#
# And there is a surprise. With *small* digits the net without top-down is the best. One run of one seed may mislead, so
# the full setting trains longer, on more scenes, with three seeds:

# %% tags=["slow"]
if lesson.full:
    many, seeds = HandwritingScenes(train=True, count=1000), range(3)
    longer = {
        name: [share_right(train_voter(many, 6, seed, **options), test_scenes) for seed in seeds]
        for name, options in variants.items()
    }
    lesson.store({"torch": torch_version, "levels": [level.round(6) for level in reference], "votes": longer})
else:
    longer = lesson.stored()["results"]["votes"]

lines = ["| share of right votes | small | medium | large |", "|---|---|---|---|"]
for name, runs in longer.items():
    cells = []
    for which in ("small", "medium", "large"):
        values = [run[which] for run in runs]
        cells.append(f"{np.mean(values):.2f} [{min(values):.2f}-{max(values):.2f}]")
    lines.append(f"| {name} | {' | '.join(cells)} |")
small = {name: np.mean([run["small"] for run in runs]) for name, runs in longer.items()}
ahead = "ahead of" if small["no top-down"] > small["whole FPN"] else "behind"
lesson.say(
    "\n".join(lines) + "\n\nMeans over three seeds, with the lowest and the highest. (`tinynet lessons --reproduce 11` "
    f"made them.) Without the top-down pathway the net is **{ahead}** the whole FPN on *small* digits."
)

# %% [markdown]
# A likely reason: adding is not free. What the fine level gets is the *sum* of its lateral and all that comes from
# above. Where the lateral alone would do, as in a small digit, the rest is a disturbance that training has to learn to
# ignore. Keep this in mind for lesson 12, where every level looks for objects of its own size only.
#
# Finally, what the trained whole looks like inside, from C2 to C5 and from P2 to P5. Compare C2 and P2, which have
# equal cells: C2 shows strokes and their rims, in P2 the large digit is one piece. (The small ones hardly show there,
# probably because their cells need not point far and get by with small numbers.)

# %% tags=["slow"]
pyramid = voters["whole FPN"].pyramid
with tinynet.no_grad():
    seen_maps = pyramid.body(tinynet.from_numpy(pixels_of(test_scenes)[CHOSEN : CHOSEN + 1]))
    levels = pyramid.fpn(seen_maps)
photo = np.repeat(test_scenes.images[CHOSEN, 0][:, :, None], 3, axis=2)
rows = [
    {name: values.numpy()[0] for name, values in seen_maps.items()},
    {f"P{name[1:]}": values.numpy()[0] for name, values in levels.items()},
]
lesson.show(
    plot.features(photo, rows, "Backbone and pyramid of the trained net"),
    "The scene, then maps C2 to C5 in one row, from fine edges to a few coarse cells, and below P2 to P5: P2 is as "
    "fine as C2 but whole digits light up or stay dark in it.",
)

# %% [markdown] tags=["make"]
# ## Make: another way to join
#
# Who says that the two have to be added with equal weights? `FPN` takes `top_down_scale=0.5`, which halves what comes
# from above, and `lateral_norm=False`, which leaves the laterals without batch norm, so that their size is learned.
# Train one, compare its bars with those above, small digits first. Then try something of your own: the mean in place of
# the sum, bilinear in place of nearest, no 3×3 at the end. Write down beforehand what you expect.

# %% tags=["slow"]
gentler = share_right(train_voter(scenes, 6, lateral=True, top_down_scale=0.5), test_scenes)
pair = {"whole FPN": results["whole FPN"], "top-down × 0.5": gentler}
lesson.show(
    plot.bars(pair, unit="share of cells whose vote is right"),
    "Grouped bars of the whole FPN and the one with half of the top-down pathway, for small, medium and large digits.",
)

# %%
lesson.progress()

# %% [markdown] tags=["recap"]
# ## Recap
#
# Say the answers aloud before you unfold them.
#
# 1. What does the 1×1 on C5 do, and what would happen without it?
# 2. Why enlarge to the size of the lateral, and not by two?
# 3. Which map goes down to the next level, and which one goes out?
# 4. C3 is disturbed. Which levels change, and which one would change without the top-down pathway?
# 5. Which kind of digit suffers without laterals, which one without top-down, and why?
#
# <details><summary>Answers</summary>
#
# 1. It brings the map to the common number of channels. Without it, maps of 2048 and 1024 channels cannot be added.
# 2. Sizes are rounded up on the way to C5. Doubled, 4 rows are 8, where C4 may have 7.
# 3. The merged map goes down; what goes out is the 3×3 of it.
# 4. P3 and P2. Without top-down P3 alone.
# 5. Small ones without laterals: all positions come from the coarse C5. Large ones without top-down: the fine map has
#    seen too little of them.
#
# </details>

# %% [markdown] tags=["paper"]
# ## The paper's sentence
#
# > "The top-down pathway hallucinates higher resolution features by upsampling spatially coarser, but semantically
# > stronger, feature maps from higher pyramid levels. These features are then enhanced with features from the bottom-up
# > pathway via lateral connections. [...] The bottom-up feature map is of lower-level semantics, but its activations
# > are more accurately localized as it was subsampled fewer times."
#
# Tsung-Yi Lin, Piotr Dollár, Ross Girshick, Kaiming He, Bharath Hariharan and Serge Belongie, *Feature Pyramid Networks
# for Object Detection*, 2017, Section 3. You know why they are called hallucinated: without laterals, they are blocks
# of C5. And you have measured both "semantically stronger" and "more accurately localized".

# %% [markdown] tags=["read"]
# ## Read on, in tinynet
#
# - `tinynet/models/fpn.py`, `FeaturePyramidNetwork`: your class, under torchvision's names, with levels checked
# - `tinynet/models/fpn.py`, `LastLevelP6P7`: two levels more, for objects larger than P5's
# - `tinynet/models/pyramids.py`, `FPN`: how the parts are left out without being computed
# - `tinynet/ops/upsampling.py`, `Nearest`: exercises 1 and 4, forward and backward side by side
#
# Lesson 12 puts a head on the levels, and the detector is complete.
