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
# # Lesson 10: Objects come in sizes
#
# **Goal.** A net that reads handwriting fails as soon as the digits are larger than those it has learned from. You find
# out how badly, repair it with a pyramid of images, and pay for it. Then you draw the four designs with which detectors
# answer the problem, from live models, and measure what each one costs. In the end you know why a deep map and a
# shallow one each hold half of the answer.
#
# **Time:** 45-60 minutes, of which the computer needs less than one.
#
# **You need:** ResNet's stages (lesson 9), receptive fields (lesson 3), the tape (lesson 1), training (lesson 6).
#
# **New in tinynet:** `tinynet.image_pyramid`, `tinynet.data.HandwritingScenes`,
# `tinynet.detection.pyramid_detector.SmallResNet`, `tinynet.models.FeatureMaps`, `tinynet.models.SingleFeatureMap`,
# `tinynet.models.FeaturizedImagePyramid`, `tinynet.models.PyramidalFeatureHierarchy`, `tinynet.models.FPN`,
# `tinynet.nn.functional.interpolate`, `tinynet.optim.AdamW`

# %%
import time

import numpy as np

import tinynet
from tinynet import nn, optim, plot
from tinynet.data import Digits, HandwritingScenes
from tinynet.detection.pyramid_detector import SmallResNet
from tinynet.inspect import summary
from tinynet.lesson import Lesson, relative_error
from tinynet.models import FPN, FeatureMaps, FeaturizedImagePyramid, PyramidalFeatureHierarchy, SingleFeatureMap
from tinynet.nn import functional as F

tinynet.manual_seed(0)
lesson = Lesson(10)

# %% [markdown]
# ## 1. One net, one size
#
# In lesson 6 every digit filled its picture. The world is not like that. Here are scenes in which digits are between 8
# and 64 pixels high:

# %%
scenes = HandwritingScenes(train=True, count=8)
tallest = [int((target["boxes"][:, 3] - target["boxes"][:, 1]).max()) for target in map(scenes.annotation, range(3))]
lesson.show(
    plot.images([scenes.images[number, 0] for number in range(3)],
                [f"the largest is {height} pixels high" for height in tallest], columns=3),
    "Three grey scenes with handwritten digits on a cluttered background; in each, some digits fill a third of the "
    "scene and others are specks.",
)

# %% [markdown]
# What does a net make of that? We train a small one on single digits that are 12 to 24 pixels high: one **octave**,
# from a size to its double. It has three stages, each of which halves the map; of the last map it takes the strongest
# value of each channel, wherever that is, so that it works on pictures of any size.

# %%
def place(digits, height, side, top=None, left=None):
    """Digits (N, 1, 8, 8) enlarged to this height, on empty pictures of side × side (in the middle by default)."""
    digits = F.interpolate(digits, size=(height, height), mode="bilinear")
    top = (side - height) // 2 if top is None else top
    left = (side - height) // 2 if left is None else left
    return F.pad(digits, (left, side - height - left, top, side - height - top))


def convolution(before, after, stride):
    return nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()


class Reader(nn.Module):
    """Reads one digit in a picture of any size: three stages, the strongest values, a linear layer."""

    def __init__(self):
        super().__init__()
        self.stage1 = nn.Sequential(*convolution(1, 16, 2))
        self.stage2 = nn.Sequential(*convolution(16, 32, 2), *convolution(32, 32, 1))
        self.stage3 = nn.Sequential(*convolution(32, 64, 2), *convolution(64, 64, 1))
        self.fc = nn.Linear(64, 10)

    def maps(self, x):
        """The maps of the three stages by name; their strides are 2, 4 and 8."""
        found = {}
        for number, stage in enumerate((self.stage1, self.stage2, self.stage3), start=1):
            x = found[f"map {number}"] = stage(x)
        return found

    def forward(self, x):
        return self.fc(self.maps(x)["map 3"].amax((2, 3)))


def digits_and_labels(train):
    """The digits as 8×8 pixels in [0, 1], and their labels."""
    digits = Digits(train=train)
    return tinynet.from_numpy(digits.images[:, :, ::2, ::2] / np.float32(16)), digits.labels


def train(net, epochs=12, batch=64):
    """Shows the net digits of 12 to 24 pixels at random places."""
    digits, labels = digits_and_labels(train=True)
    numbers = np.random.default_rng(0)
    steps = epochs * (len(labels) // batch)
    optimizer = optim.AdamW(net.parameters(), lr=5e-3)
    for step in range(steps):
        if step % (len(labels) // batch) == 0:
            order = numbers.permutation(len(labels))
        chosen = order[batch * (step % (len(labels) // batch)) :][:batch]
        height = int(numbers.integers(12, 25))
        top, left = map(int, numbers.integers(0, 33 - height, 2))
        loss = F.cross_entropy(net(place(digits[chosen], height, 32, top, left)), tinynet.tensor(labels[chosen]))
        optimizer.param_groups[0]["lr"] = 5e-3 * min((step + 1) / 20, 0.5 + 0.5 * np.cos(np.pi * step / steps))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


reader = train(Reader())
test_digits, test_labels = digits_and_labels(train=False)


def read_right(pictures):
    """The percentage of the test digits that the net reads right on these pictures."""
    with tinynet.no_grad():
        answers = [reader(pictures[start : start + 90]).argmax(1).numpy() for start in range(0, len(test_labels), 90)]
    return 100 * float((np.concatenate(answers) == test_labels).mean())


print(f"test digits of 16 pixels: {read_right(place(test_digits, 16, 32)):.0f} % right")

# %% [markdown] tags=["predict"]
# **Predict.** The same test digits, enlarged to 48 pixels: you read them even better. How many percent does the net get
# right? (With ten classes, guessing gets 10.)

# %% tags=["predict"]
right_at_48 = ...  # percent

# %%
lesson.reveal("percent right at 48 pixels", right_at_48, read_right(place(test_digits, 48, 64)))
heights = [6, 8, 12, 16, 20, 24, 32, 48, 64]
alone = [read_right(place(test_digits, height, height + 16)) for height in heights]
lesson.show(
    plot.lines({"one net": (heights, alone)}, x="height of the digits, pixels", y="percent right", log="x",
               title="A net knows the sizes that it has seen"),
    "Percentage read right against the height of the digits: high from 16 to 24 pixels, and falling steeply to "
    "guessing on both sides.",
)

# %% [markdown]
# A convolution has no idea of size. Its 3×3 weights fit strokes of a certain thickness and curves of a certain radius,
# and its receptive field is so and so many pixels wide. Shift a digit, and everything shifts along. Enlarge it, and to
# the net it is something else. (At 12 pixels, the least that it was shown, it is weak already: such a digit covers one
# and a half cells of the last map.)
#
# ## 2. From far to near
#
# If the net cannot adapt to the picture, adapt the picture to the net: make it smaller and larger, and show the net all
# copies. In one of them the digit has the right size. That is an **image pyramid**: the original, with copies
# downsampled and upsampled, as if one saw it from far and from near.
#
# Making a picture smaller sounds easy: keep every second pixel. Try it on a row of fine stripes.

# %% [markdown] tags=["predict"]
# **Predict.** The row `0 1 0 1 0 1 0 1`. Keep every second number, the first included. Which row remains? And which one
# if the stripes are shifted by one pixel, `1 0 1 0 1 0 1 0`?

# %% tags=["predict"]
every_second = ...  # a list of four numbers
every_second_shifted = ...  # a list of four numbers

# %%
stripes = np.array([0, 1, 0, 1, 0, 1, 0, 1])
lesson.reveal("every second", every_second, stripes[::2])
lesson.reveal("shifted by one", every_second_shifted, (1 - stripes)[::2])

# %% [markdown]
# Fine stripes become plain black, or plain white, and a shift by a pixel decides which. False patterns of that kind are
# called **aliasing**: detail that is too fine for the new grid comes back as coarse structure that was never there. The
# cure: **smooth first**, so that what is too fine is gone, then drop pixels. The pyramid of Burt and Adelson (1983)
# takes a weighted mean of five neighbours; we use the weights $\frac{1}{16}(1, 4, 6, 4, 1)$. On stripes they give
# $\frac{1}{16}(1 \cdot 0 + 4 \cdot 1 + 6 \cdot 0 + 4 \cdot 1 + 1 \cdot 0) = \frac{1}{2}$: grey, which is what stripes
# look like from far.

# %%
def mirrored(x):
    """The array with two more values at both ends of its last axis, reflected at the end values."""
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(2, 2)], mode="reflect")


# %% [markdown] tags=["exercise"]
# ### Exercise 1 · Half as wide · 2/5 · 10 minutes
#
# Write `halve_rows`: it smooths along the last axis of a NumPy array with these five weights and keeps every second
# value, the first included. `mirrored(x)` continues the last axis by two values on either side, so that the result is
# not darker at the ends: position `i` of `x` is position `i + 2` of `mirrored(x)`. Write the sum of five shifted
# slices.

# %% tags=["stub"]
def halve_rows(x):
    """(..., W) → (..., W / 2 rounded up)."""
    return ...


# %% tags=["check"]
def check(halve_rows):
    plain = halve_rows(np.full(9, 3.0))
    assert plain is not None, "the result is None: is there a return?"
    length = np.shape(plain)[-1]
    assert length == 5, f"a row of 9 numbers should give 5 (rounded up), yours gives {length}"
    level = float(plain[2])
    assert abs(level - 48) > 1e-6, "a row of threes becomes 48: divide the weights by 16"
    assert abs(level - 3) < 1e-9, f"a row of threes should stay 3, in the middle you have {level:g}: (1, 4, 6, 4, 1)/16"
    ends = [float(plain[0]), float(plain[-1])]
    assert np.allclose(ends, 3), f"the ends of a row of threes are {ends}, only the middle is right: use mirrored(x)"
    shape = np.shape(halve_rows(np.ones((1, 9))))
    assert shape == (1, 5), f"(1, 9) becomes {shape}, not (1, 5): slice the last axis alone, x[..., a:b]"
    single = halve_rows(np.eye(9)[4] * 16).tolist()
    assert single != [0, 0, 16, 0, 0], "you keep every second value, but you do not smooth before"
    wanted = [0, 1, 6, 1, 0]
    assert single == wanted, f"a single 16 in the middle of 9 should leave {wanted}, yours is {single}: an offset?"
    image = np.random.default_rng(0).random((1, 1, 10, 13)).astype(np.float32)
    both = np.swapaxes(halve_rows(np.swapaxes(halve_rows(image), -1, -2)), -1, -2)
    wanted = tinynet.image_pyramid(tinynet.from_numpy(image), down=1, up=0)[1].features
    error = relative_error(both, wanted)
    assert error < 1e-5, f"beside tinynet.image_pyramid the relative error is {error:.0e}, it should be about 1e-7"


halve_rows = lesson.check(check, halve_rows)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# With `wide = mirrored(x)` and `size = x.shape[-1]`, the slice `wide[..., k : k + size]` holds the neighbour number `k`
# of every position (0 is two to the left, 2 is the position itself). Add them up with the weights, then take
# `[..., ::2]`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def halve_rows(x):
#     """(..., W) → (..., W / 2 rounded up)."""
#     wide, size = mirrored(x), x.shape[-1]
#     smooth = sum(weight / 16 * wide[..., k : k + size] for k, weight in enumerate((1, 4, 6, 4, 1)))
#     return smooth[..., ::2]
# ```
#
# </details>

# %% [markdown]
# In two dimensions: once along the rows, once along the columns. Here is a test picture that holds all frequencies:
# rings that get finer and finer, until they are two pixels wide at the edges.

# %%
def halve(image):
    """A picture (..., H, W) at half the size, smoothed before."""
    return np.swapaxes(halve_rows(np.swapaxes(halve_rows(image), -1, -2)), -1, -2)


side = 128
y, x = np.mgrid[:side, :side] - side / 2
rings = 0.5 + 0.5 * np.cos(np.pi * (x * x + y * y) / side)
lesson.show(
    plot.images([rings, rings[::2, ::2], halve(rings)],
                ["the original, 128×128", "every second pixel, 64×64", "smoothed first, 64×64"], columns=3),
    "Rings that get finer outwards. With every second pixel dropped, false rings appear in the corners and at the "
    "edges; smoothed first, the outer part turns grey and only the true centre remains.",
)

# %% [markdown]
# The rings around the other centres are **not in the original**. A net that looks at the middle picture sees objects
# where there are none. The right one has lost the fine rings, honestly: 64 pixels cannot show them.

# %%
def double(image):
    """A picture (..., H, W) at double size, bilinear."""
    height, width = image.shape[-2:]
    flat = tinynet.from_numpy(np.ascontiguousarray(image, np.float32)).reshape(-1, 1, height, width)
    large = F.interpolate(flat, size=(2 * height, 2 * width), mode="bilinear")
    return large.numpy().reshape(*image.shape[:-2], 2 * height, 2 * width)


# %% [markdown] tags=["exercise"]
# ### Exercise 2 · The pyramid · 2/5 · 10 minutes
#
# Write `pyramid(image, down, up)`. It returns a list of pairs `(stride, picture)`, the **largest picture first**: `up`
# doubled copies, the original with stride 1, and `down` halved copies. The stride is the distance between neighbouring
# pixels of the copy, in pixels of the original: 2 after one halving, 4 after two, `0.5` after one doubling. Each copy
# is made from its neighbour. `double(image)` is given; it invents nothing, it interpolates.

# %% tags=["stub"]
def pyramid(image, down, up):
    """Pairs (stride, picture), the largest picture first."""
    return ...


# %% tags=["check"]
def check(pyramid):
    image = np.random.default_rng(1).random((24, 40)).astype(np.float32)
    given = pyramid(image, 2, 1)
    assert isinstance(given, list), f"a list of pairs is expected, not a {type(given).__name__}"
    count = len(given)
    assert count == 4, f"down=2 and up=1 make 4 pictures with the original, yours are {count}"
    pairs = all(np.ndim(pair[0]) == 0 and np.ndim(pair[1]) == 2 for pair in given)
    assert pairs, "each pair should be (stride, picture), in this order"
    heights = [picture.shape[0] for _, picture in given]
    assert heights != [6, 12, 24, 48], "your smallest picture comes first: the largest one should"
    assert heights == [48, 24, 12, 6], f"the heights should be 48, 24, 12, 6, yours are {heights}"
    strides = [stride for stride, _ in given]
    assert strides != [2, 1, 0.5, 0.25], "your strides are upside down: in the doubled picture pixels are 0.5 apart"
    assert strides == [0.5, 1, 2, 4], f"the strides should be 0.5, 1, 2, 4, yours are {strides}"
    wanted = [level.features[0, 0] for level in tinynet.image_pyramid(tinynet.from_numpy(image[None, None]), 2, 1)]
    errors = [relative_error(mine, right) for (_, mine), right in zip(given, wanted)]
    assert errors[1] == 0, "the second picture should be the original itself"
    assert errors[2] < 1e-5, f"the halved copy has the relative error {errors[2]:.0e}, not about 1e-7: halve(image)?"
    again = "made from the halved one?"
    assert errors[3] < 1e-5, f"the copy of a quarter has the relative error {errors[3]:.0e}, not about 1e-7: {again}"
    assert errors[0] < 1e-5, f"the doubled copy has the relative error {errors[0]:.0e}, not about 1e-7: double(image)?"
    more = [picture.shape for _, picture in pyramid(image, 0, 2)]
    assert more == [(96, 160), (48, 80), (24, 40)], f"up=2 and down=0 of 24×40 give the shapes {more}"


pyramid = lesson.check(check, pyramid)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Start with `levels = [(1, image)]`. For each doubling, `levels.insert(0, ...)` what you make of `levels[0]`; for each
# halving, `levels.append(...)` what you make of `levels[-1]`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def pyramid(image, down, up):
#     """Pairs (stride, picture), the largest picture first."""
#     levels = [(1, image)]
#     for _ in range(up):
#         stride, picture = levels[0]
#         levels.insert(0, (stride / 2, double(picture)))
#     for _ in range(down):
#         stride, picture = levels[-1]
#         levels.append((stride * 2, halve(picture)))
#     return levels
# ```
#
# </details>

# %% [markdown]
# Does it repair the net? Every test digit, in every size, at four scales. Each curve is one copy of the pyramid; look
# for the copy that is best at each height:

# %%
by_stride = {}
for height in heights:
    pictures = place(test_digits, height, height + 16).numpy()
    for stride, copies in pyramid(pictures, 2, 1):
        right = read_right(tinynet.from_numpy(np.ascontiguousarray(copies, np.float32)))
        by_stride.setdefault(stride, []).append(right)
names = {0.5: "copy of double size", 1: "the original", 2: "copy of half the size", 4: "copy of a quarter"}
lesson.show(
    plot.lines({names[stride]: (heights, right) for stride, right in by_stride.items()}, log="x",
               x="height of the digits in the original, pixels", y="percent right",
               title="One net, four copies: each catches an octave"),
    "Four curves of the same shape, shifted against each other by an octave: where one copy fails, the next one reads "
    "nearly everything. Together they cover 8 to 64 pixels.",
)
best = np.max(list(by_stride.values()), axis=0)
lesson.say(
    "With the best copy for each size: "
    + ", ".join(f"{height} pixels **{right:.0f} %**" for height, right in zip(heights, best))
    + "."
)

# %% [markdown]
# From one training, a reader for all sizes. (Which copy to believe is left open here: a detector has to find out, and
# lesson 12 does.) But the price of *running* it:

# %% [markdown] tags=["exercise"]
# ### Exercise 3 · The price of a pyramid · 1/5 · 5 minutes
#
# Computing and memory of a convolutional net go with the number of pixels. Write the price of running it on copies of
# these `scales` (sides, relative to the original), relative to running it on the original alone. The original itself is
# among the copies only if `scales` holds a 1.

# %% tags=["stub"]
def price(scales):
    """How many times as much as the original alone do copies of these scales cost?"""
    return ...


# %% tags=["check"]
def check(price):
    given = price([2])
    assert given != 2, "a copy with twice the side has four times the pixels, not twice"
    assert given == 4, f"a copy with twice the side has four times the pixels, your price is {given}"
    given = price([1, 0.5])
    assert given != 1.5, "a copy with half the side has a quarter of the pixels"
    assert given == 1.25, f"the original and a copy of half its side cost 1.25, yours is {given}"
    given = price([1, 2, 4])
    assert given == 21, f"copies of 1, 2 and 4 times the side cost 1 + 4 + 16 = 21, yours is {given}"


price = lesson.check(check, price)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Pixels are height times width, and both are multiplied by the scale. Then add up.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def price(scales):
#     """How many times as much as the original alone do copies of these scales cost?"""
#     return sum(scale * scale for scale in scales)
# ```
#
# </details>

# %%
smaller = [2.0**-step for step in range(30)]
lesson.say(
    f"All smaller copies together, 1, 1/2, 1/4 and so on without end, cost **{price(smaller):.3f}**: the original and "
    f"a third. One doubled copy more, and it is **{price([2, *smaller]):.3f}**. Small copies are nearly free, and help "
    "with large objects. It is the **small objects** that are dear."
)

# %% [markdown]
# ## 3. Four designs
#
# A net with stages makes maps of several sizes anyway: C2, C3, C4, C5 of ResNet have strides 4 to 32. Is that not a
# pyramid, for free? Lin and others compared four designs in 2017, and named them (a) to (d):
#
# - **(a) Featurized image pyramid.** The net runs on every copy of the image pyramid.
# - **(b) Single feature map.** Only the last map predicts, for all sizes.
# - **(c) Pyramidal feature hierarchy.** Every stage's map predicts, as it is.
# - **(d) Feature pyramid network (FPN).** The maps of the stages, and a way back down, from coarse to fine. You build
#   it in lesson 11; here you see what it is for.
#
# tinynet has all four, on the same contract: an image in, a list of levels out, finest first. Each level has a name, a
# stride and its features. The backbone is a small ResNet of bottlenecks, one block in each stage, a quarter as wide as
# ResNet-50. Design (a) takes C4 of the original (x1) and of two doublings (x2, x4), so that it has fine maps, too.

# %%
backbone = SmallResNet(in_channels=1)
designs = {
    "(a) image pyramid": FeaturizedImagePyramid(FeatureMaps(backbone, ["C4"]), down=0, up=2),
    "(b) last map": SingleFeatureMap(FeatureMaps(backbone)),
    "(c) hierarchy": PyramidalFeatureHierarchy(FeatureMaps(backbone)),
    "(d) FPN": FPN(FeatureMaps(backbone), out_channels=32),
}
scene = tinynet.from_numpy(scenes.images[:1].astype(np.float32) / 255)
levels = {}
for name, design in designs.items():
    levels[name] = design.eval()(scene)
    shown = ", ".join(f"{level.name} {level.features.shape[-1]}²" for level in levels[name])
    print(f"{name:18} {shown}")

# %% [markdown]
# Where is the difference between (c) and (d)? They have the same four sizes. The paper draws some maps with thick
# outlines: those with *strong* features, for which much has been computed. We can count that. The tape knows how every
# tensor was made (lesson 1): `tensor.grad_fn` is its last operation, with a `name` such as `"conv2d"` or `"relu"`, and
# `next_functions`, pairs whose first part is the operation before (or None, where there is none).

# %% [markdown] tags=["exercise"]
# ### Exercise 4 · How deep is a map? · 3/5 · 15 minutes
#
# Write `depth(tensor)`: the number of convolutions on the **longest** way through the tape that ends at this tensor. At
# an addition two ways come together, and the longer one counts.

# %% tags=["stub"]
def depth(tensor):
    """The most convolutions on any way from the inputs to this tensor."""
    return ...


# %% tags=["check"]
def check(depth):
    convolutions = [nn.Conv2d(2, 2, 3, padding=1) for _ in range(4)]
    first, second, third, fourth = convolutions
    x = tinynet.randn(1, 2, 4, 4)
    given = depth(first(x))
    assert given is not None, "the result is None: is there a return?"
    assert given == 1, f"behind one convolution of an image there is 1, you count {given}"
    given = depth(second(first(x)).relu())
    assert given != 3, "you count ReLU, too: only operations whose name is conv2d"
    assert given == 2, f"behind conv, conv, ReLU there are 2 convolutions, you count {given}"
    start = first(x)
    given = depth(third(second(start)) + start)
    assert given != 4, "in a residual block you count 4 where 3 is right: do not add both ways up, take the longer one"
    assert given != 1, "in a residual block you count the shorter way, 1; the longest one has 3"
    assert given == 3, f"with a shortcut over two of three convolutions there are 3, you count {given}"
    given = depth(first(x) + third(second(x)))
    assert given != 3, "ways of 1 and 2 convolutions come together and you count all 3: the longer way alone counts, 2"
    assert given == 2, f"ways of 1 and 2 convolutions come together: 2, you count {given}. Do you look at all ways?"
    given = depth(F.interpolate(fourth(start + 1), scale_factor=2) * 2)
    assert given == 2, f"with other operations in between you count {given}, not 2"


depth = lesson.check(check, depth)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# An inner function `behind(node)`: for None it is 0. Else it is the `max` of `behind(parent)` over all
# `parent, _ in node.next_functions` (0 if there are none), plus 1 if `node.name == "conv2d"`. Note what you know in a
# dict, or long nets with many shortcuts take forever: each shortcut would double the number of ways.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def depth(tensor):
#     """The most convolutions on any way from the inputs to this tensor."""
#     known = {None: 0}
#
#     def behind(node):
#         if node not in known:
#             before = max((behind(parent) for parent, _ in node.next_functions), default=0)
#             known[node] = before + (node.name == "conv2d")
#         return known[node]
#
#     return behind(tensor.grad_fn)
# ```
#
# </details>

# %% [markdown] tags=["predict"]
# **Predict.** Both C2 of (c) and P2 of (d) have a cell for every 4×4 pixels. How many convolutions lie on the longest
# way from the image to C2? (One in the stem, one bottleneck with three.) And to P2, which gets something from C5 by a
# 1×1, and ends with a 3×3?

# %% tags=["predict"]
behind_c2 = ...  # convolutions
behind_p2 = ...  # convolutions

# %%
def plates(named_maps):
    """For the picture: the side of each map, and how deep it is."""
    return {name: (features.shape[-1], depth(features)) for name, features in named_maps.items()}


bottom_up = plates(designs["(c) hierarchy"].body(scene))
upwards = [("image", "C2"), ("C2", "C3"), ("C3", "C4"), ("C4", "C5")]
image = {"image": (scene.shape[-1], 0)}
final = {name: plates({level.name: level.features for level in found}) for name, found in levels.items()}
copies = {copy.name: (copy.features.shape[-1], 0) for copy in tinynet.image_pyramid(scene, down=0, up=2)}
drawings = {
    "(a) image pyramid": {"columns": [copies, final["(a) image pyramid"]],
                          "arrows": list(zip(copies, final["(a) image pyramid"]))},
    "(b) last map": {"columns": [image, bottom_up], "arrows": upwards},
    "(c) hierarchy": {"columns": [image, bottom_up], "arrows": upwards},
    "(d) FPN": {"columns": [image, bottom_up, final["(d) FPN"]],
                "arrows": [*upwards, *zip(bottom_up, final["(d) FPN"]), ("P5", "P4"), ("P4", "P3"), ("P3", "P2")]},
}
for name, drawing in drawings.items():
    drawing["predicts"] = list(final[name])
lesson.reveal("convolutions behind C2", behind_c2, bottom_up["C2"][1])
lesson.reveal("convolutions behind P2", behind_p2, final["(d) FPN"]["P2"][1])
lesson.show(
    plot.stacks(drawings, title="Outlines as thick as the map is deep, counted on the tape"),
    "The four designs. (a): three image sizes, a deep map from each. (b): only the last map predicts. (c): all four "
    "maps predict, the fine ones have thin outlines. (d): a second stack back down, all its maps have thick outlines.",
)

# %% [markdown]
# There it is.
#
# - In (a) all levels are deep, because each copy went through the whole net.
# - (b) has one deep map, and is blind to what the other layers know.
# - In (c) nothing that a fine map finds has to go through all layers. But the map that is fine enough for small objects
#   is the **shallow** one.
# - (d) has fine maps that are as deep as the coarse ones, from one run of the backbone.
#
# What does each level *see*? And what does it cost?

# %%
def sees(design, number, side=256):
    """How many pixels across can change the cell in the middle of a level: as wide as its gradient."""
    picture = tinynet.randn(1, 1, side, side, requires_grad=True)
    features = design(picture)[number].features
    middle = tinynet.zeros(*features.shape)
    middle[:, :, features.shape[2] // 2, features.shape[3] // 2] = 1.0
    features.backward(middle)
    columns = np.flatnonzero(picture.grad.numpy().any(axis=(0, 1, 2)))
    return int(columns[-1] - columns[0] + 1)


rows = []
for name in ("(a) image pyramid", "(c) hierarchy", "(d) FPN"):
    for number, level in enumerate(levels[name]):
        convolutions = final[name][level.name][1]
        rows.append(f"| {name} | {level.name} | {level.stride:g} | {sees(designs[name], number)} | {convolutions} |")
heading = "| design | level | a cell every … pixels | sees … pixels | convolutions |\n|---|---|---|---|---|\n"
lesson.say(heading + "\n".join(rows))

# %% [markdown]
# In (a) everything grows together: a finer level sees a smaller part, with the same net behind it. In (c) the finest
# level sees little **and** little has been computed for it. In (d) the finest level has seen nearly as much as the
# coarsest. (P5 sees more than C5 because of the 3×3 at its end, which takes in the neighbours of every cell.)

# %% [markdown] tags=["predict"]
# **Predict.** Design (a) runs its net on copies of 1, 2 and 4 times the side. How many times the MACs of the same net
# on the original alone? And how many times the MACs of (c) does the FPN (d) need?

# %% tags=["predict"]
times_of_a = ...  # a factor
times_of_d = ...  # a factor

# %%
work = {name: summary(design, (1, 1, 128, 128)).macs for name, design in designs.items()}
c4_alone = summary(SingleFeatureMap(FeatureMaps(backbone, ["C4"])), (1, 1, 128, 128)).macs
lesson.reveal("(a) against its net on the original", times_of_a, work["(a) image pyramid"] / c4_alone)
lesson.reveal("(d) against (c)", times_of_d, work["(d) FPN"] / work["(c) hierarchy"])

# %% tags=["varies"]
def milliseconds(model, image, runs=9):
    """The median time of a forward pass."""
    times = []
    with tinynet.no_grad():
        for _ in range(runs + 1):
            started = time.perf_counter()
            model(image)
            times.append(1e3 * (time.perf_counter() - started))
    return float(np.median(times[1:]))


def megabytes(model, image):
    """All that the layers hand on in one pass."""
    with tinynet.no_grad(), tinynet.profile() as report:
        model(image)
    return report.models[model].output / 2**20


costs = {
    name: {
        "MACs, million": work[name] / 1e6,
        "memory, MB": megabytes(design, scene),
        "time, ms": milliseconds(design, scene),
    }
    for name, design in designs.items()
}
lesson.show(
    plot.bars(costs, log=True, title="What the four designs cost for one scene"),
    "Bars for MACs, memory and time on a logarithmic scale: the image pyramid costs about ten times as much as each of "
    "the others, which lie close together.",
)

# %% [markdown]
# Design (a) multiplies everything, time and memory. (b) and (c) cost the same: the maps are there anyway, (b) just does
# not look at them. (d) computes half as much again, and needs hardly more memory. So the question is what the maps are
# worth.
#
# ## 4. What and where
#
# Detecting asks two questions of each map: *what* is there, and *where* is it? We put both to the three maps of the net
# that you trained in section 1 (strides 2, 4 and 8), on pictures of 64×64 with one digit somewhere. The examiner is the
# simplest there is: a linear readout, by least squares, of the map alone.
#
# - **What:** from the strongest value of each channel, say which digit it is.
# - **Where:** each cell says, from its own channels alone, whether it lies inside of the digit's box. The cells that
#   say yes paint a region. We compare it with the box: the area that both share, divided by the area that either
#   covers. (It is called intersection over union; 1 is perfect.)

# %%
def one_digit_scenes(train, side=64):
    """Pictures (N, 1, side, side) with one digit of 12 to 24 pixels each, a mask of its box, its height and label."""
    digits, labels = digits_and_labels(train)
    numbers = np.random.default_rng(1 + train)
    heights = numbers.integers(12, 25, len(labels))
    pictures = np.zeros((len(labels), 1, side, side), np.float32)
    masks = np.zeros((len(labels), side, side), bool)
    for height in range(12, 25):
        chosen = np.flatnonzero(heights == height)
        enlarged = F.interpolate(digits[chosen], size=(height, height), mode="bilinear").numpy()
        for number, digit in zip(chosen, enlarged):
            top, left = numbers.integers(0, side - height + 1, 2)
            box = (slice(top, top + height), slice(left, left + height))
            pictures[number, 0][box], masks[number][box] = digit[0], True
    return pictures, masks, heights, labels


def readout(inputs, wanted):
    """The linear map (with an offset) that comes closest to `wanted` in the mean square."""
    inputs = np.c_[inputs, np.ones(len(inputs))].astype(np.float64)
    square = inputs.T @ inputs
    return np.linalg.solve(square + 1e-3 * np.trace(square) / len(square) * np.eye(len(square)), inputs.T @ wanted)


def apply(weights, inputs):
    return np.c_[inputs, np.ones(len(inputs))] @ weights


def examine(net):
    """For each map: percent of digits named, painted region over box for all, small and large digits, and the paint."""
    known, asked = one_digit_scenes(True), one_digit_scenes(False)
    with tinynet.no_grad():
        known_maps, asked_maps = (net.maps(tinynet.from_numpy(pictures)) for pictures, *_ in (known, asked))
    _, known_masks, _, known_labels = known
    _, masks, heights, labels = asked
    results = {}
    for name in known_maps:
        learn, test = known_maps[name].numpy(), asked_maps[name].numpy()
        channels, cells = learn.shape[1], learn.shape[2]
        stride = masks.shape[1] // cells
        named = apply(readout(learn.max((2, 3)), np.eye(10)[known_labels]), test.max((2, 3))).argmax(1)
        inside = known_masks[:600, stride // 2 :: stride, stride // 2 :: stride].reshape(-1)
        weights = readout(learn[:600].transpose(0, 2, 3, 1).reshape(-1, channels), inside)
        said = apply(weights, test.transpose(0, 2, 3, 1).reshape(-1, channels)).reshape(-1, cells, cells)
        paint = (said > 0.5).repeat(stride, 1).repeat(stride, 2)
        overlap = (paint & masks).sum((1, 2)) / (paint | masks).sum((1, 2))
        results[name] = {
            "stride": stride, "what": 100 * (named == labels).mean(), "where": overlap.mean(),
            "small": overlap[heights < 15].mean(), "large": overlap[heights > 21].mean(), "paint": paint,
        }
    return results


# %% [markdown] tags=["predict"]
# **Predict.** Which map is the best at *what*, and which is the worst at *where*: "map 1" (stride 2), "map 2" (stride
# 4) or "map 3" (stride 8)?

# %% tags=["predict"]
best_at_what = ...  # "map 1", "map 2" or "map 3"
worst_at_where = ...  # the same

# %%
results = examine(reader)
lesson.reveal("best at what", best_at_what, max(results, key=lambda name: results[name]["what"]))
lesson.reveal("worst at where", worst_at_where, min(results, key=lambda name: results[name]["where"]))
heading = "| map | a cell every … pixels | what: digits named | where: overlap | 12 to 14 pixels high | 22 to 24 |"
lesson.say(
    f"{heading}\n|---|---|---|---|---|---|\n"
    + "\n".join(
        f"| {name} | {row['stride']} | {row['what']:.0f} % | {row['where']:.2f} | {row['small']:.2f} | "
        f"{row['large']:.2f} |"
        for name, row in results.items()
    )
)

# %%
pictures, masks, heights_shown, _ = one_digit_scenes(False)
small = int(np.flatnonzero(heights_shown == 13)[0])
large = int(np.flatnonzero(heights_shown == 23)[0])
shown, titles = [], []
for number in (small, large):
    shown += [pictures[number, 0], masks[number], *(row["paint"][number] for row in results.values())]
    titles += [f"{heights_shown[number]} pixels high", "its box", *(f"painted by {name}" for name in results)]
lesson.show(
    plot.images([array.astype(float) for array in shown], titles, columns=5),
    "Two rows, a small digit and a large one: the picture, the box, and what each map paints. Map 1 paints strokes and "
    "their rims, map 2 nearly the box, map 3 a few coarse blocks.",
)

# %% [markdown]
# Read it slowly, it is the reason for all that follows.
#
# - **What** gets better with every map. The shallow map has seen a few pixels: a piece of a stroke, and a 3 and an 8
#   share their pieces. The deep map has seen the whole digit.
# - **Where** is worst on the deepest map: it can only paint blocks. And the loss is the greatest for **small** digits,
#   which are hardly larger than one of its cells.
# - A surprise: the very finest map need not be the best at where. Its cells are the smallest, but one of them in the
#   hole of a zero has seen nothing but emptiness. To know that it lies *inside*, it would have to see more. **Where
#   needs a bit of what.**
#
# Here is a part of a scene, as the same net sees it. Follow the 0 from map to map: first its shape, at last a few
# bright cells.

# %%
with tinynet.no_grad():
    part = scenes.images[1:2, :, 24:120, 8:104]
    maps = reader.maps(tinynet.from_numpy(part / np.float32(255)))
    seen = {name: features.numpy()[0] for name, features in maps.items()}
photo = np.repeat(part[0, 0][:, :, None], 3, axis=2)
lesson.show(
    plot.features(photo, [seen], "A part of a scene through the net of section 1"),
    "A scene and three maps. Map 1 shows the outlines of all digits and strokes, in detail; map 3 shows a few bright "
    "blobs, and single channels of it answer to single places.",
)

# %% [markdown]
# So neither map will do alone: the deep one knows what, the shallow one knows better where. The hierarchy (c) hands the
# small objects to those who do not know what they are looking at. The image pyramid (a) gives every size a deep map,
# and costs a fortune. You can see what one would *want*: to tell the fine maps what the deep ones know. That is lesson
# 11.

# %% [markdown] tags=["make"]
# ## Make: depth, or training?
#
# Is *what* in the deep map because it is deep, or because the net was trained? Below, the same examination of a net
# that knows nothing. Follow *what* from map to map, here and in the table above, and say what training has done. Then
# train a `Reader` for digits of 24 to 48 pixels (change `train`), and draw the curve of section 1 again. Where should
# its peak be?

# %%
untrained = examine(Reader().eval())
for name, row in untrained.items():
    print(f"{name}, untrained: what {row['what']:.0f} %, where {row['where']:.2f}")

# %%
lesson.progress()

# %% [markdown] tags=["recap"]
# ## Recap
#
# Say the answers aloud before you unfold them.
#
# 1. Why does a net that reads digits of 16 pixels fail at 48?
# 2. What is aliasing, and what prevents it?
# 3. Which copies of an image pyramid are dear, and for which objects does one need them?
# 4. Designs (a) to (d): which maps predict in each?
# 5. What do deep maps know better, what do shallow ones, and whom does it hurt most?
#
# <details><summary>Answers</summary>
#
# 1. Its weights fit strokes and curves of the sizes that it has seen. Convolution follows shifts, not changes of size.
# 2. Detail too fine for the new grid comes back as a false coarse pattern. Smoothing before pixels are dropped.
# 3. The enlarged ones: twice the side costs four times as much. For small objects.
# 4. (a) the last map of every copy; (b) the last map alone; (c) each stage's map as it is; (d) maps that also get what
#    the coarser ones know.
# 5. Deep ones what, shallow ones where. Small objects: only fine maps resolve them, and those know the least.
#
# </details>

# %% [markdown] tags=["paper"]
# ## The paper's sentence
#
# > "The principal advantage of featurizing each level of an image pyramid is that it produces a multi-scale feature
# > representation in which all levels are semantically strong, including the high-resolution levels."
#
# Tsung-Yi Lin, Piotr Dollár, Ross Girshick, Kaiming He, Bharath Hariharan and Serge Belongie, *Feature Pyramid Networks
# for Object Detection*, 2017, Section 1. You know both halves of it: what it costs, and what "strong" means.

# %% [markdown] tags=["read"]
# ## Read on, in tinynet
#
# - `tinynet/models/pyramids.py`, `image_pyramid`: exercises 1 and 2, differentiable
# - `tinynet/models/pyramids.py`, `FeaturizedImagePyramid`: design (a) in ten lines; (b), (c) and (d) stand below it
# - `tinynet/models/feature_maps.py`, `FeatureMaps`: how a ResNet gives its maps instead of its classes
# - `tinynet/data/scenes.py`, `HandwritingScenes`: where the scenes come from
#
# Lesson 11 builds design (d), and takes it apart again.
