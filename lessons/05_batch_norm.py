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
# # Lesson 5: Batch norm
#
# **Goal.** One small layer stands after nearly every convolution of a deep net. You build it: what it does with a batch
# while the net trains, what it does with a single image afterwards, and its backward pass, derived and checked. You
# also learn where it fails, because that is where people lose days.
#
# **Time:** 45-60 minutes, of which the computer needs a few seconds.
#
# **You need:** the gradients of lesson 1, the random cotangents of lesson 2, the convolution of lesson 3.
#
# **New in tinynet:** `tinynet.nn.functional.batch_norm`, `tinynet.nn.BatchNorm2d`, `tinynet.nn.GroupNorm`,
# `tinynet.data.Digits`, `tinynet.cat`, `tinynet.ones`, `tinynet.zeros`, `tinynet.randint`, `tinynet.rand`

# %%
import math

import tinynet
from tinynet import plot
from tinynet.data import Digits
from tinynet.lesson import Lesson, relative_error
from tinynet.nn import BatchNorm2d, GroupNorm
from tinynet.nn.functional import batch_norm, conv2d

tinynet.manual_seed(0)
lesson = Lesson(5)

# %% [markdown]
# ## 1. Two inputs that do not get along
#
# Start with something smaller than a net. What does a flat cost? Say, 3 for every square metre, and 20 for every room.
# We pretend not to know that, take 200 flats with some noise in their prices, and look for the two numbers and an
# offset by gradient descent, exactly as in lesson 1. The only difference is in the inputs: there are two of them, and
# the area lies between 20 and 120 while the rooms lie between 1 and 5.
#
# We do it twice: with the inputs as they are, and with each input **standardised** first, which means that its mean is
# subtracted and the rest is divided by its standard deviation. No information is lost by that.

# %%
area = 20 + 100 * tinynet.rand(200)
rooms = 1 + 4 * tinynet.rand(200)
price = 3 * area + 20 * rooms + 5 * tinynet.randn(200)


def standardised(values):
    return (values - values.mean()) / values.std()


def descend(first, second, rate, steps=100):
    """The losses of gradient descent on price = w1 · first + w2 · second + offset."""
    w1, w2, offset = (tinynet.tensor(0.0, requires_grad=True) for _ in range(3))
    losses = []
    for _ in range(steps):
        loss = ((w1 * first + w2 * second + offset - price) ** 2).mean()
        losses.append(loss.item())
        if losses[-1] > 10 * losses[0]:
            break  # this learning rate is too large: the loss explodes
        loss.backward()
        with tinynet.no_grad():
            for parameter in (w1, w2, offset):
                parameter -= rate * parameter.grad
                parameter.grad = None
    return losses


RATES = [0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5]

# %% [markdown] tags=["predict"]
# **Predict.** Both kinds of inputs get 100 steps, and each the best of the ten learning rates in `RATES`. Where does the
# loss end lower, with the `"raw"` inputs or with the `"standardised"` ones? Or is it the `"same"`, since the formula
# that is looked for is the same?

# %% tags=["predict"]
lower_loss = ...  # "raw", "standardised" or "same"

# %%
def best(first, second):
    """The best learning rate and the losses that it gives."""
    runs = {rate: descend(first, second, rate) for rate in RATES}
    rate = min(runs, key=lambda rate: runs[rate][-1])
    return rate, runs[rate]


raw_rate, raw = best(area, rooms)
fair_rate, fair = best(standardised(area), standardised(rooms))
lesson.reveal("the lower loss", lower_loss, "standardised" if fair[-1] < raw[-1] else "raw")
lesson.say(
    f"After 100 steps the raw inputs have a loss of {raw[-1]:.0f} (their best learning rate is {raw_rate:g}), the "
    f"standardised ones {fair[-1]:.0f} (learning rate {fair_rate:g}). The noise in the prices alone makes "
    f"{((3 * area + 20 * rooms - price) ** 2).mean().item():.0f}: even the true formula does no better than that."
)
lesson.show(
    plot.lines(
        {f"raw inputs, rate {raw_rate:g}": (range(100), raw), f"standardised, rate {fair_rate:g}": (range(100), fair)},
        x="step", y="loss", log="y", title="The same flats, the same formula",
    ),
    "Loss against step, logarithmic. Standardised inputs reach the level of the noise within ten steps; raw inputs "
    "fall at once and then stay level, far above it.",
)

# %% [markdown]
# The loss is hundreds of times steeper along the factor of `area` than along that of `rooms`, because the numbers in
# `area` are so much larger. The learning rate has to be small enough for the steep direction. For the flat one it is
# then hopelessly small. Standardised inputs are steep in all directions alike, and one learning rate suits them all.
#
# Everybody standardises the inputs of a net. But what is true of its first layer is true of every layer: each has
# inputs, and nobody looks after their scales. You cannot fix them once and for all, because they move with every step of
# the layers before. So do it *inside* the net, in every step, with the numbers that are there: **the batch**.

# %% [markdown]
# ## 2. By hand
#
# A channel holds four numbers: 1, 2, 3 and 6. Their mean is 3. Their variance is the mean of the squared distances
# from it: $(4 + 1 + 0 + 9) / 4 = 3.5$. Batch norm subtracts the mean and divides by $\sqrt{3.5}$.

# %% [markdown] tags=["predict"]
# **Predict.** What becomes of the 6? (Three digits are plenty.)

# %% tags=["predict"]
of_six = ...  # a number

# %%
four = tinynet.tensor([1.0, 2.0, 3.0, 6.0], dtype=tinynet.float64)
mean = four.mean()
variance = ((four - mean) ** 2).mean()
normalised = (four - mean) / variance.sqrt()
lesson.reveal("the 6 becomes", of_six, normalised[3])
print("all four:", [round(number, 4) for number in normalised.tolist()])
print("their mean:", round(normalised.mean().item(), 6), " their variance:", round((normalised**2).mean().item(), 6))

# %% [markdown]
# Two numbers per channel follow, which the net learns: a factor, called `weight` (or $\gamma$), and a shift, `bias`
# (or $\beta$). Whatever the layer needs, it can have, even its old scale. The point is that scale and shift are now
# *two parameters of their own*, and no accident of all the weights before. In full:
#
# $$\hat x = \frac{x - \mu}{\sqrt{v + \varepsilon}}, \qquad y = \gamma \hat x + \beta$$
#
# The small $\varepsilon$, usually $10^{-5}$, keeps the root away from zero in a channel whose numbers are all the same.
#
# Which numbers belong together? In a batch of images, of shape (N, C, H, W), a channel means the same thing in every
# image and at every position. So **each channel has one mean and one variance, over the batch, the height and the
# width**. (That is also why a convolution before it needs no bias: the mean takes it away again.)

# %% [markdown] tags=["predict"]
# **Predict.** A batch has the shape `(32, 16, 8, 8)`. How many means does batch norm compute? And of how many numbers
# is each of them the mean?

# %% tags=["predict"]
how_many_means = ...  # a whole number
numbers_in_each = ...  # a whole number

# %%
batch = tinynet.randn(32, 16, 8, 8)
means = batch.mean((0, 2, 3))
lesson.reveal("means", how_many_means, means.numel())
lesson.reveal("numbers in each", numbers_in_each, batch.numel() // means.numel())

# %% [markdown] tags=["exercise"]
# ### Exercise 1 · Normalise a batch · 2/5 · 10 minutes
#
# Write `normalise(x, weight, bias, eps)` for `x` of shape (N, C, H, W). `weight` and `bias` have shape (C,). The means
# over the first two axes, for example, are `x.mean((0, 1), keepdim=True)`: with `keepdim` these axes stay, with length 1,
# so that the result can be subtracted from `x`. `weight.reshape(1, -1, 1, 1)` has the right shape to multiply.

# %% tags=["stub"]
def normalise(x, weight, bias, eps):
    """Batch norm of x (N, C, H, W) with the statistics of this batch."""
    return ...


# %% tags=["check"]
def check(normalise):
    x = 3 * tinynet.randn(4, 3, 2, 5, dtype=tinynet.float64) + 2
    weight, bias = (tinynet.tensor(numbers, dtype=x.dtype) for numbers in ([2.0, 1.0, -3.0], [1.0, 0.0, 5.0]))
    plain = normalise(x, weight / weight, 0 * bias, 1e-5)
    expected = batch_norm(x, None, None, None, None, True, 0.1, 1e-5)
    error = relative_error(plain, expected)
    others = {"each position by itself": (0,), "each image by itself": (2, 3), "all channels together": (0, 1, 2, 3),
              "each image over all its channels": (1, 2, 3)}  # fmt: skip
    for words, axes in others.items():
        other = (x - x.mean(axes, keepdim=True)) / (x.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()
        assert relative_error(plain, other) > 1e-3, f"you normalise {words}: a channel spans the axes 0, 2 and 3"
    mean, square = plain[:, 0].mean().item(), (plain[:, 0] ** 2).mean().item()
    advice = "is the mean subtracted, over the axes 0, 2 and 3?"
    assert abs(mean) < 1e-6, f"the mean of channel 0 is {mean:.2f} in your result, not 0: {advice}"
    assert abs(square - 39 / 40) > 1e-4, "the variance of your result is 39/40: divide by n, not by n - 1"
    advice = "do you divide by the square root of the variance?"
    assert abs(square - 1) < 1e-4, f"the variance of channel 0 is {square:.3g} in your result, not 1: {advice}"
    flat = normalise(0 * x + 7, weight / weight, 0 * bias, 1e-5)
    assert not flat.isnan().any(), "a channel of equal numbers becomes nan: add eps to the variance"
    small = relative_error(normalise(1e-3 * x, weight / weight, 0 * bias, 1e-5),
                           batch_norm(1e-3 * x, None, None, None, None, True, 0.1, 1e-5))  # fmt: skip
    assert small < 1e-9, f"for small x the relative error is {small:.0e}: eps goes inside the root, sqrt(v + eps)"
    assert error < 1e-9, f"without weight and bias the relative error is {error:.0e}, it should be about 1e-16"
    error = relative_error(normalise(x, weight, bias, 1e-5), batch_norm(x, None, None, weight, bias, True, 0.1, 1e-5))
    assert error < 1e-9, f"with weight and bias the relative error is {error:.0e}: it is weight · x̂ + bias, by channel"


normalise = lesson.check(check, normalise)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `mean = x.mean((0, 2, 3), keepdim=True)`. The variance is the mean of `(x - mean) ** 2` over the same axes. Give
# `weight` and `bias` the shape `(1, C, 1, 1)` at the end.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def normalise(x, weight, bias, eps):
#     """Batch norm of x (N, C, H, W) with the statistics of this batch."""
#     mean = x.mean((0, 2, 3), keepdim=True)
#     variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
#     normalised = (x - mean) / (variance + eps).sqrt()
#     return weight.reshape(1, -1, 1, 1) * normalised + bias.reshape(1, -1, 1, 1)
# ```
#
# </details>

# %% [markdown]
# ## 3. Training and evaluation
#
# Here are real images: the handwritten digits that come with scikit-learn, in one channel with the grey levels 0 to 16
# (dark blue to yellow below). They have 8×8 pixels; each is repeated in a square of four, which makes 16×16. We put the
# first digit into two batches, each time with other companions.

# %%
digits = Digits()
images = tinynet.from_numpy(digits.images)  # (1437, 1, 16, 16)
one, zero = tinynet.ones(1), tinynet.zeros(1)
lesson.show(
    plot.images([image[0] for image in digits.images[:8]], [f"a {label}" for label in digits.labels[:8]], columns=8),
    "Eight handwritten digits of 8 by 8 coarse pixels, light ink on dark ground.",
)

# %% [markdown] tags=["predict"]
# **Predict.** Is the output for the first digit the same in both batches? `True` or `False`?

# %% tags=["predict"]
same_output = ...  # True or False

# %%
with_seven = normalise(images[:8], one, zero, 1e-5)
with_others = normalise(tinynet.cat([images[:1], images[100:107]]), one, zero, 1e-5)
difference = (with_seven[0] - with_others[0]).abs().max().item()
lesson.reveal("the same output", same_output, difference < 1e-6)
lesson.say(f"The largest difference of a pixel is {difference:.3f}, where the outputs have a standard deviation of 1.")

# %% [markdown]
# It is not. In training an image's output depends on its companions. That does no harm (the bit of noise even helps
# against learning by heart), but in the end you want *one* answer for an image. It must not matter who else was asked.
# So there are **two modes**:
#
# | mode | mean and variance | set by |
# |---|---|---|
# | training | of this batch | `net.train()` |
# | evaluation | fixed numbers, noted during training | `net.eval()` |
#
# The fixed numbers are **running statistics**. After each training batch they move a bit towards it:
#
# $$\text{running} \leftarrow (1 - m) \cdot \text{running} + m \cdot \text{batch}$$
#
# with $m = 0.1$ as a rule. This $m$ is called `momentum`, though it is the share of the *new*. They start with mean 0
# and variance 1.

# %% [markdown] tags=["predict"]
# **Predict.** Suppose that the mean of every batch is exactly 1. The running mean starts at 0, with $m = 0.1$. Where is
# it after 10 batches?

# %% tags=["predict"]
after_ten = ...  # a number

# %%
running = 0.0
for _ in range(10):
    running = 0.9 * running + 0.1 * 1.0
lesson.reveal("after 10 batches", after_ten, running)
lesson.say(
    f"A tenth of the *remaining* way each time: $1 - 0.9^{{10}} = {running:.3f}$. It takes "
    f"{math.ceil(math.log(0.01) / math.log(0.9))} batches until only a hundredth of the way is left. **A net that is "
    "evaluated after a handful of batches uses statistics that are mostly their starting values.**"
)

# %% [markdown]
# One detail remains, and it is easily missed. A batch is a sample, and the variance of a
# sample, with `/ n`, is on average too small: the sample's own mean always fits the sample a bit too well.

# %%
samples = tinynet.randn(20_000, 4, dtype=tinynet.float64)
with_n = ((samples - samples.mean(1, keepdim=True)) ** 2).mean(1)
lesson.say(
    f"20,000 samples of 4 numbers from a distribution whose variance is 1: divided by n = 4, their variances are on "
    f"average **{with_n.mean().item():.3f}**; divided by n - 1 = 3, **{with_n.mean().item() * 4 / 3:.3f}**."
)

# %% [markdown]
# The correction is the factor $n / (n - 1)$. Batch norm normalises its batch *without* it, so that the output has a
# variance of 1. But into the **running variance goes the corrected one**, because that one is to describe all images,
# not only this batch. (torch does so, and a checkpoint made otherwise gives slightly other answers.)

# %% [markdown] tags=["exercise"]
# ### Exercise 2 · Running statistics · 2/5 · 10 minutes
#
# Write `update_running(running_mean, running_var, x, momentum)`: both, each of shape (C,), after one more batch `x` of
# shape (N, C, H, W). Return the new tensors, do not change the old ones. The variance of the batch is the corrected one.

# %% tags=["stub"]
def update_running(running_mean, running_var, x, momentum):
    """The running mean and the running variance after the batch x, as a tuple."""
    return ...


# %% tags=["check"]
def check(update_running):
    x = 3 * tinynet.randn(2, 3, 2, 2, dtype=tinynet.float64) + 2
    before = [tinynet.randn(3, dtype=x.dtype), 1 + tinynet.rand(3, dtype=x.dtype)]
    expected = [values.clone() for values in before]
    batch_norm(x, *expected, None, None, True, 0.25, 1e-5)
    given = [values.clone() for values in before]
    answer = update_running(*given, x, 0.25)
    assert isinstance(answer, tuple) and len(answer) == 2, "return a tuple: the running mean and the running variance"
    unchanged = relative_error(given[0], before[0]) + relative_error(given[1], before[1])
    assert unchanged == 0, "running_mean or running_var itself was changed: compute new ones, without += and the like"
    mean, variance = answer
    error = relative_error(mean, expected[0])
    swapped = relative_error(mean, 0.25 * before[0] + 0.75 * x.mean((0, 2, 3)))
    assert swapped > 1e-6, "momentum 0.25 keeps a quarter of your old mean: here it is the share of the new batch"
    fixed = relative_error(mean, 0.9 * before[0] + 0.1 * x.mean((0, 2, 3)))
    assert fixed > 1e-6, "the check calls it with momentum 0.25, you use 0.1: take the argument"
    assert relative_error(mean, x.mean((0, 2, 3))) > 1e-6, "you return this batch's mean: the old one has a share, too"
    assert error < 1e-9, f"the running mean has a relative error of {error:.0e}: (1 - m) · old + m · batch"
    error = relative_error(variance, expected[1])
    biased = 0.75 * before[1] + 0.25 * x.var((0, 2, 3), correction=0)
    assert relative_error(variance, biased) > 1e-6, "the variance of the batch must be corrected here: n / (n - 1)"
    per_image = 0.75 * before[1] + 0.25 * x.var((0, 2, 3), correction=0) * 2
    assert relative_error(variance, per_image) > 1e-6, "n is 8 here, not 2: the numbers of a channel, N · H · W"
    advice = "(1 - m) · old + m · corrected variance, with n = N · H · W"
    assert error < 1e-9, f"the running variance has a relative error of {error:.0e}: {advice}"


update_running = lesson.check(check, update_running)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The number of values in a channel is `n = x.numel() / x.shape[1]`. The corrected variance is the sum of
# `(x - mean) ** 2` divided by `n - 1`; `x.var((0, 2, 3))` divides like that by itself.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def update_running(running_mean, running_var, x, momentum):
#     """The running mean and the running variance after the batch x, as a tuple."""
#     mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
#     return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * variance
# ```
#
# </details>

# %% [markdown]
# Let your function watch the digits go by, in batches of 32, with three values of `momentum`. Look at two things: how
# soon a curve arrives at the true mean of all digits, and how much it jitters there.

# %%
paths = {}
for momentum in (0.5, 0.1, 0.01):
    running_mean, running_var, path = zero, one, [0.0]
    for start in range(0, 1280, 32):
        batch = images[start : start + 32]
        running_mean, running_var = update_running(running_mean, running_var, batch, momentum)
        path.append(running_mean.item())
    paths[f"momentum {momentum}"] = (range(len(path)), path)
paths["true mean"] = ((0, len(path) - 1), [images.mean().item()] * 2)
lesson.show(
    plot.lines(paths, x="batches of 32 digits", y="running mean of the grey level", title="Running statistics"),
    "Running mean of the pixels against batches. Momentum 0.5 arrives after a few batches and jitters, 0.1 arrives "
    "after about thirty and is calm, 0.01 is still far below the true mean after forty.",
)

# %% [markdown]
# The layer that does all of this is `BatchNorm2d`. It keeps the running statistics as *buffers*: they are saved with
# the net, but no gradient trains them.

# %%
layer = BatchNorm2d(1)
for start in range(0, 1280, 32):
    layer(images[start : start + 32])  # a new layer is in training mode
print("running mean", round(layer.running_mean.item(), 3), " running variance", round(layer.running_var.item(), 2))

layer.eval()
alone, together = layer(images[:1]), layer(images[:8])[:1]
print("in evaluation mode, alone and among eight the same:", bool((alone == together).all()))

layer.train()
alone, together = layer(images[:1]), layer(images[:8])[:1]
print("in training mode, alone and among eight the same:  ", bool((alone == together).all()))

# %% [markdown]
# That last line is the bug that everybody meets once: **a forgotten `eval()`**. Nothing crashes. The answers are a bit
# worse, they change with the batch, and the running statistics are spoiled on the way.
#
# ## 4. The backward pass
#
# Back to the channel 1, 2, 3, 6 of section 2. Now raise the 6 a little, and normalise again.

# %% [markdown] tags=["predict"]
# **Predict.** Which of the four *outputs* changes most (up or down)? That of the `1`, the `2`, the `3` or the `6`?

# %% tags=["predict"]
changes_most = ...  # 1, 2, 3 or 6

# %%
def normalise_channel(numbers):
    """Batch norm of a list of numbers that are one channel, without weight, bias and eps."""
    mean = sum(numbers) / len(numbers)
    variance = sum((number - mean) ** 2 for number in numbers) / len(numbers)
    return [(number - mean) / math.sqrt(variance) for number in numbers]


step = 1e-6
before, after = normalise_channel([1.0, 2.0, 3.0, 6.0]), normalise_channel([1.0, 2.0, 3.0, 6.0 + step])
change = [(b - a) / step for a, b in zip(before, after)]
lesson.reveal("changes most", changes_most, max(zip((1, 2, 3, 6), change), key=lambda pair: abs(pair[1]))[0])
lesson.say(
    "| input | output | change of the output when the 6 is raised, per unit |\n|---|---|---|\n"
    + "\n".join(f"| {x} | {y:+.3f} | {slope:+.4f} |" for x, y, slope in zip((1, 2, 3, 6), before, change))
)

# %% [markdown]
# Surprising at first: the 6 hardly moves, although it was raised, the 3 moves most, and the 1 moves *up*. Raising the 6
# does three things at once:
#
# 1. **Directly:** the output of the 6 rises.
# 2. **By the mean:** it rises too, and so *all four* outputs sink by the same amount.
# 3. **By the standard deviation:** it rises, and all four outputs are drawn towards 0: the 6 down, the 1 and the 2 up.
#
# For the 6 the three nearly cancel. The 3 lies at the mean, where way 3 does nothing: only way 2 acts on it, undamped.
#
# The backward pass needs these three ways and nothing else. Let $n$ numbers be in the channel, $\mu$ their mean,
# $s = \sqrt{v + \varepsilon}$, and let $g_i$ be the gradient that arrives at $\hat x_i$. How does the loss change with
# $x_i$?
#
# 1. Directly $\hat x_i$ changes by $1/s$. That gives $\frac{1}{s} g_i$.
# 2. The mean changes by $\frac 1n$, and each $\hat x_j$ sinks by $\frac{1}{s}$ of that. All together that gives
#    $-\frac{1}{s} \cdot \frac1n \sum_j g_j$, in which $\frac1n \sum_j g_j$ is just **the mean of $g$**.
# 3. From $s^2 = \frac1n \sum (x_j - \mu)^2 + \varepsilon$ one gets
#    $\frac{\partial s}{\partial x_i} = \frac{x_i - \mu}{n s} = \frac{\hat x_i}{n}$ (that $\mu$ moves, too, adds
#    nothing, because $\sum (x_j - \mu) = 0$). And if $s$ changes, $\hat x_j$
#    changes by $-\frac{\hat x_j}{s}$ of that. All together that gives $-\frac{1}{s} \hat x_i \cdot \frac1n \sum_j g_j
#    \hat x_j$, with **the mean of $g \hat x$**.
#
# Added up:
#
# $$\frac{\partial L}{\partial x} = \frac{1}{s}\Big( g - \operatorname{mean}(g) - \hat x \cdot
# \operatorname{mean}(g\,\hat x) \Big)$$
#
# In words: **take the gradient, and remove what it says about the shift and about the scale.** Neither can matter, since
# batch norm takes them away from $x$.

# %% [markdown] tags=["predict"]
# **Predict.** Somebody tests a backward pass of batch norm with `y.sum()` as the loss. Which number does the gradient
# of `x` have at every place?

# %% tags=["predict"]
gradient_of_sum = ...  # a number

# %%
x = tinynet.randn(4, 3, 5, 5, dtype=tinynet.float64, requires_grad=True)
batch_norm(x, None, None, None, None, True, 0.1, 1e-5).sum().backward()
lesson.reveal("gradient of the sum", gradient_of_sum, round(x.grad.abs().max().item(), 9))

# %% [markdown]
# The sum of a channel's outputs is 0 whatever `x` is. So this test would be passed by a backward pass that returns
# zeros, and by one that forgets way 3. Lesson 2 warned you: **use a random cotangent.**

# %% [markdown] tags=["exercise"]
# ### Exercise 3 · Backward · 4/5 · 20 minutes
#
# Write `batch_norm_backward(grad, x, weight, eps)`. `grad` arrives at `y = weight · x̂ + bias` and has the shape of `x`,
# (N, C, H, W). Return the gradients of `x`, `weight` and `bias`. Two hints to begin with: the gradient at $\hat x$ is
# `grad` times `weight`; and `weight` and `bias` are used at every position of every image, so their gradients are sums.

# %% tags=["stub"]
def batch_norm_backward(grad, x, weight, eps):
    """The gradients of x (N, C, H, W), weight (C,) and bias (C,), as a tuple."""
    return ...


# %% tags=["check"]
def check(batch_norm_backward):
    x = 3 * tinynet.randn(4, 3, 2, 5, dtype=tinynet.float64) + 2
    weight, bias, grad = (tinynet.randn(*size, dtype=x.dtype) for size in ((3,), (3,), x.shape))
    leaves = [values.clone().requires_grad_() for values in (x, weight, bias)]
    batch_norm(leaves[0], None, None, *leaves[1:], True, 0.1, 1e-5).backward(grad)
    answer = batch_norm_backward(grad, x, weight, 1e-5)
    assert isinstance(answer, tuple) and len(answer) == 3, "return three gradients: of x, of weight and of bias"
    error, of_weight, of_bias = (relative_error(mine, leaf.grad) for mine, leaf in zip(answer, leaves))
    advice = "the sum of grad · x̂, by channel, with the x̂ of exercise 1"
    assert of_bias < 1e-9, f"the gradient of bias has a relative error of {of_bias:.0e}: the sum of grad, by channel"
    assert of_weight < 1e-9, f"the gradient of weight has a relative error of {of_weight:.0e}: {advice}"
    axes, by_channel = (0, 2, 3), weight.reshape(1, -1, 1, 1)
    deviation = (x.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()
    normalised = (x - x.mean(axes, keepdim=True)) / deviation
    factor = by_channel / deviation
    shift = grad.mean(axes, keepdim=True)
    scale = normalised * (grad * normalised).mean(axes, keepdim=True)
    wrong = {
        "you take mean and variance for constants: the ways 2 and 3 are missing": factor * grad,
        "the way by the standard deviation (3) is missing": factor * (grad - shift),
        "the way by the mean (2) is missing": factor * (grad - scale),
        "the factor weight is missing": (grad - shift - scale) / deviation,
        "the factor 1 / s is missing": by_channel * (grad - shift - scale),
        "the factor 1 / s belongs to all three terms": by_channel * (grad / deviation - shift - scale),
        "the means are those of g, that is grad · weight": (by_channel * grad - shift - scale) / deviation,
        "the means are over N · H · W numbers, not sums": factor * (grad - 40 * shift - 40 * scale),
        "way 3 is drawn towards 0, so it is subtracted, too": factor * (grad - shift + scale),
    }
    for words, other in wrong.items():
        assert relative_error(answer[0], other) > 1e-6, f"gradient of x: {words}"
    assert error < 1e-9, f"the gradient of x has a relative error of {error:.0e}, it should be about 1e-15"


batch_norm_backward = lesson.check(check, batch_norm_backward)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# First compute `mean`, `deviation` (that is $s$) and `normalised` as in exercise 1, with `keepdim=True`. Then
# `at_normalised = grad * weight.reshape(1, -1, 1, 1)` is $g$. Now write the formula down, each mean over the axes 0, 2
# and 3. The other two are `(grad * normalised).sum((0, 2, 3))` and `grad.sum((0, 2, 3))`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def batch_norm_backward(grad, x, weight, eps):
#     """The gradients of x (N, C, H, W), weight (C,) and bias (C,), as a tuple."""
#     axes = (0, 2, 3)
#     deviation = (x.var(axes, correction=0, keepdim=True) + eps).sqrt()
#     normalised = (x - x.mean(axes, keepdim=True)) / deviation
#     at_normalised = grad * weight.reshape(1, -1, 1, 1)
#     shift = at_normalised.mean(axes, keepdim=True)
#     scale = (at_normalised * normalised).mean(axes, keepdim=True)
#     grad_x = (at_normalised - shift - normalised * scale) / deviation
#     return grad_x, (grad * normalised).sum(axes), grad.sum(axes)
# ```
#
# </details>

# %% [markdown]
# The check compared your formula with tinynet's. Trust neither: ask finite differences, in a random direction and with
# a random cotangent, as in lesson 2.

# %%
x, direction, cotangent = (tinynet.randn(4, 3, 2, 5, dtype=tinynet.float64) for _ in range(3))
weight, bias = tinynet.randn(3, dtype=tinynet.float64), tinynet.zeros(3, dtype=tinynet.float64)


def along(step):
    """A number that depends on all of the output, at a point on a line through x."""
    return (cotangent * normalise(x + step * direction, weight, bias, 1e-5)).sum().item()


numeric = (along(1e-5) - along(-1e-5)) / 2e-5
analytic = (batch_norm_backward(cotangent, x, weight, 1e-5)[0] * direction).sum().item()
lesson.say(f"Finite differences say {numeric:.9f}, the formula says {analytic:.9f}.")

# %% [markdown]
# ### Blind to the scale
#
# The formula removes the scale from the gradient. That has a consequence which you will need in lesson 7. Take a
# convolution followed by batch norm, and multiply *all weights of the convolution* by 10.

# %% [markdown] tags=["predict"]
# **Predict.** By which factor do the outputs after batch norm change? And by which factor does the gradient of the
# convolution's weights change?

# %% tags=["predict"]
factor_of_output = ...  # a number
factor_of_gradient = ...  # a number

# %%
some = (images[:16] / 16).to(tinynet.float64)
kernel = tinynet.randn(4, 1, 3, 3, dtype=tinynet.float64)
cotangent = tinynet.randn(16, 4, 14, 14, dtype=tinynet.float64)


def output_and_gradient(factor):
    scaled = (factor * kernel).detach().requires_grad_()
    output = batch_norm(conv2d(some, scaled), None, None, None, None, True, 0.1, 1e-5)
    output.backward(cotangent)
    return output.detach().abs().mean().item(), scaled.grad.abs().mean().item()


(output, gradient), (output_10, gradient_10) = output_and_gradient(1.0), output_and_gradient(10.0)
lesson.reveal("output, factor", factor_of_output, round(output_10 / output, 3))
lesson.reveal("gradient, factor", factor_of_gradient, round(gradient_10 / gradient, 3))

# %% [markdown]
# The output is the same: batch norm divides the factor out again. And since ten times larger weights must move ten
# times as far for the same effect, **the gradient is a tenth**. So if the weights before a batch norm grow, two things
# slow the layer down: smaller gradients, on larger weights. It is as if its learning rate were divided by
# $10 \cdot 10 = 100$. Once you know that, much of what nets with batch norm do becomes less mysterious.
#
# ## 5. Small batches
#
# How many numbers does a channel need? Take the extreme: feature maps of 1×1, as at the end of many nets.

# %% [markdown] tags=["predict"]
# **Predict.** A batch has *two* images, and a channel holds one number of each: 3 and 7. What becomes of them (without
# weight and bias)? And what becomes of 3 and 700?

# %% tags=["predict"]
of_3_and_7 = ...  # a list of two numbers
of_3_and_700 = ...  # a list of two numbers

# %%
def of_two(first, second):
    x = tinynet.tensor([first, second]).reshape(2, 1, 1, 1)
    return [round(number, 3) for number in normalise(x, one, zero, 1e-5).reshape(2).tolist()]


lesson.reveal("3 and 7", of_3_and_7, of_two(3.0, 7.0))
lesson.reveal("3 and 700", of_3_and_700, of_two(3.0, 700.0))
try:
    BatchNorm2d(1)(tinynet.tensor([3.0]).reshape(1, 1, 1, 1))
except ValueError as error:
    print(f"and one number alone: {error}")

# %% [markdown]
# Two numbers: always -1 and 1. Which is larger is all that is left, and the gradient is practically 0, so nothing
# before this layer learns. One number: always 0, and that is no use to anybody, so the layer refuses. **A last batch
# with a single image** therefore stops a training in the middle of the night; loaders have `drop_last=True` for that.
#
# With larger maps a batch of one image does work in training, because a channel still has H·W numbers. But it is noisy.
# How noisy? We put the first digit among random companions, 200 times, and see how much its own output jitters.

# %% [markdown] tags=["predict"]
# **Predict.** Take batches of 64 in place of 16. By which factor does that jitter *shrink*?

# %% tags=["predict"]
shrinks_by = ...  # a number

# %%
def jitter(size, tries=200):
    """How much the output of the first digit varies with its companions in a batch of this size."""
    outputs = []
    for _ in range(tries):
        companions = images[tinynet.randint(0, len(images), (size - 1,))]
        outputs.append(normalise(tinynet.cat([images[:1], companions]), one, zero, 1e-5)[:1])
    return tinynet.cat(outputs).std(0).mean().item()


sizes = [2, 4, 8, 16, 32, 64, 128, 256]
jitters = [jitter(size) for size in sizes]
lesson.reveal("shrinks by", shrinks_by, round(jitters[3] / jitters[5], 2))
lesson.show(
    plot.lines(
        {"measured": (sizes, jitters), "∝ 1 / √(batch size)": (sizes, [jitters[5] * (64 / n) ** 0.5 for n in sizes])},
        x="images in the batch", y="jitter of one image's output", log="xy", title="Companions are noise",
    ),
    "Jitter of an output against the batch size, both logarithmic. From eight images on it falls in a straight line, "
    "as one over the square root of the batch size; with two and four it is a little smaller than that.",
)

# %% [markdown]
# About 2: the mean of $n$ numbers has an error that falls with $1/\sqrt n$. (Below 8 images the line bends: among two,
# half of the statistics come from the image itself, and that half does not jitter.) With 32 images and more the noise
# is harmless. A detector works on large images of which only one or two fit into memory; for those, people freeze the
# statistics of a pretrained net (`tinynet/models/frozen_batch_norm.py`), or normalise over something else than the
# batch: see the task at the end.
#
# ## 6. After training it costs nothing
#
# In evaluation mode the statistics are constants. Then batch norm is a scale and a shift of each channel. A convolution
# is linear: scaling its output is the same as scaling its weights. So the pair is *one* convolution with other weights
# and a bias, and nobody who runs the finished net has to pay for batch norm at all.

# %% [markdown] tags=["exercise"]
# ### Exercise 4 · Fold it away · 3/5 · 10 minutes
#
# A convolution without bias has the weight `kernel`, of shape (out, in, height, width). Batch norm in evaluation mode
# comes after it. Write `fold(kernel, mean, variance, weight, bias, eps)`: weight and bias of the one convolution that
# gives the same result. `mean` and `variance` are the running ones. Start from
# $y = \gamma \frac{k * x - \mu}{s} + \beta$, where $k * x$ is the convolution, and sort what multiplies $x$ from what
# does not.

# %% tags=["stub"]
def fold(kernel, mean, variance, weight, bias, eps):
    """The weight and the bias of a convolution that does both at once, as a tuple."""
    return ...


# %% tags=["check"]
def check(fold):
    kernel, x = tinynet.randn(4, 4, 3, 3, dtype=tinynet.float64), tinynet.randn(2, 4, 6, 6, dtype=tinynet.float64)
    mean, weight, bias = (1 + tinynet.randn(4, dtype=x.dtype) for _ in range(3))
    variance = 0.5 + tinynet.rand(4, dtype=x.dtype)
    expected = batch_norm(conv2d(x, kernel), mean, variance, weight, bias, False, 0.1, 1e-2)
    answer = fold(kernel, mean, variance, weight, bias, 1e-2)
    assert isinstance(answer, tuple) and len(answer) == 2, "return two tensors: the new weight and the new bias"
    shapes = [tuple(values.shape) for values in answer]
    assert shapes == [(4, 4, 3, 3), (4,)], f"weight and bias have the shapes {shapes}, not [(4, 4, 3, 3), (4,)]"
    scale = weight / (variance + 1e-2).sqrt()
    by_input = relative_error(answer[0], kernel * scale.reshape(1, -1, 1, 1))
    assert by_input > 1e-6, "you scale by the input channel: a channel of the output is the kernel's first axis"
    error = relative_error(answer[0], kernel * scale.reshape(-1, 1, 1, 1))
    advice = "weight / sqrt(variance + eps), by output channel"
    assert error < 1e-9, f"the new weight has a relative error of {error:.0e}: the kernel times {advice}"
    assert relative_error(answer[1], bias) > 1e-6, "the new bias is the old one: where did the running mean go?"
    assert relative_error(answer[1], bias - mean) > 1e-6, "the mean in the new bias is scaled, too: it stands over s"
    error = relative_error(conv2d(x, *answer), expected)
    assert error < 1e-9, f"the outputs differ by {error:.0e}: the new bias is what the formula gives for x = 0"


fold = lesson.check(check, fold)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# With `scale = weight / (variance + eps).sqrt()` the formula reads `scale · (k * x) + (bias - scale · mean)`. The scale
# belongs to the output's channels, which are the first axis of the kernel: `scale.reshape(-1, 1, 1, 1)`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def fold(kernel, mean, variance, weight, bias, eps):
#     """The weight and the bias of a convolution that does both at once, as a tuple."""
#     scale = weight / (variance + eps).sqrt()
#     return kernel * scale.reshape(-1, 1, 1, 1), bias - scale * mean
# ```
#
# </details>

# %% [markdown] tags=["make"]
# ## Make: a norm that does not need a batch
#
# Change the axes, and you have another layer. Below stands a start: it normalises each image by itself, over all of its
# channels. That is group norm with a single group, and it agrees with tinynet's. Extend it to `groups` groups of
# channels (reshape to (N, groups, -1)) and compare with `GroupNorm(groups, channels)`. Then ask it what you asked batch
# norm: does the output of an image depend on its companions? Does the layer need two modes? What does it do with two
# channels in two groups, at 1×1? And what information about an image does it destroy that batch norm keeps?

# %%
def normalise_each_image(x, eps=1e-5):
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) / (x.var((1, 2, 3), correction=0, keepdim=True) + eps).sqrt()


x = tinynet.randn(4, 6, 5, 5)
print(f"difference from GroupNorm(1, 6): {relative_error(normalise_each_image(x), GroupNorm(1, 6)(x)):.0e}")

# %%
lesson.progress()

# %% [markdown] tags=["recap"]
# ## Recap
#
# Say the answers aloud before you unfold them.
#
# 1. Over which axes of (N, C, H, W) does batch norm take its means, and why over these?
# 2. What is different in evaluation mode, and what happens if you forget to switch?
# 3. In which three ways does one input change the outputs of its channel?
# 4. Why does `y.sum()` not test the backward pass of batch norm?
# 5. The weights of a convolution before batch norm are ten times as large. What about output and gradient?
#
# <details><summary>Answers</summary>
#
# 1. Over batch, height and width: a channel means the same in all images and at all positions.
# 2. Fixed running statistics replace those of the batch. Forgotten: the answer depends on the companions, quietly.
# 3. Directly, through the mean, and through the standard deviation.
# 4. The sum of a normalised channel is always 0, so its gradient is 0; many wrong formulas also give 0.
# 5. The output is the same, the gradient is a tenth.
#
# </details>

# %% [markdown] tags=["paper"]
# ## The paper's sentence
#
# > "Our method draws its strength from making normalization a part of the model architecture and performing the
# > normalization for each training mini-batch."
#
# Sergey Ioffe and Christian Szegedy, *Batch Normalization: Accelerating Deep Network Training by Reducing Internal
# Covariate Shift*, 2015 (arXiv 1502.03167). "A part of the model architecture" is the point: the gradient goes *through*
# the statistics, which are your ways 2 and 3. The "covariate shift" of the title, that layers suffer when their inputs
# move, is their explanation of why it helps. It is disputed: Santurkar et al. (*How Does Batch Normalization Help
# Optimization?*, 2018) added such shifts on purpose *after* batch norm, and the nets still trained well.

# %% [markdown] tags=["read"]
# ## Read on, in tinynet
#
# - `tinynet/ops/normalization.py`, `BatchNorm`: forward and backward side by side, with both modes
# - `tinynet/ops/normalization.py`, `_update`: your exercise 2
# - `tinynet/nn/normalization.py`, `_BatchNorm.forward`: how the layer chooses between batch and running statistics
# - `tinynet/kernels/batch_norm.py`, `_batch_norm_train_backward_numpy`: your exercise 3 in NumPy; below it, made fast
# - `tinynet/fusion/fold.py`, `folded`: your exercise 4, as `tinynet.fuse` uses it for whole nets
#
# Lesson 6 puts the layers together and trains them.
