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
# # Lesson 6: Training a net
#
# **Goal.** A net, a pile of images, and now what? You write the parts of a training yourself: the first weights, the
# loss, the step, the loop, the schedule. You learn the habit that finds most bugs in a minute. At the end a net of yours
# reads handwriting that it has never seen, at least 98 of 100 digits right.
#
# **Time:** 45-60 minutes, of which the computer needs less than one.
#
# **You need:** gradient descent (lesson 1), convolution (lesson 3), batch norm (lesson 5).
#
# **New in tinynet:** `tinynet.nn.Sequential`, `tinynet.nn.Conv2d`, `tinynet.nn.ReLU`, `tinynet.nn.AdaptiveAvgPool2d`,
# `tinynet.nn.Flatten`, `tinynet.nn.Linear`, `tinynet.nn.Softmax`, `tinynet.nn.functional.relu`,
# `tinynet.nn.functional.cross_entropy`, `tinynet.optim.SGD`, `tinynet.optim.lr_scheduler.LambdaLR`,
# `tinynet.data.RandomAffine`, `tinynet.arange`, `tinynet.randperm`

# %%
import math

import tinynet
from tinynet import nn, plot
from tinynet.data import Digits, RandomAffine
from tinynet.lesson import Lesson, relative_error
from tinynet.nn.functional import cross_entropy, relu
from tinynet.optim import SGD
from tinynet.optim.lr_scheduler import LambdaLR
from tinynet.utils.progress import progress

tinynet.manual_seed(0)
lesson = Lesson(6)

# %% [markdown]
# ## 1. The task
#
# The digits of lesson 5. Most of them are for training. The rest is **held out**: the net never learns
# from them, they only tell us in the end whether it has learned to read, or just learned its examples by heart.
#
# The net turns an image into ten numbers, one for each digit. They are called **logits**: the larger, the more the net
# believes in that digit. Inside there is nothing that you have not seen: convolution, batch norm, ReLU, six times; the
# resolution is halved twice by a stride of 2, while the number of channels doubles. Then the mean of each channel, and
# one matrix product.

# %%
def tensors(part):
    """All images of a part of the digits, standardised, and their labels."""
    pixels = (part.images - part.mean) / part.std
    return tinynet.from_numpy(pixels.astype("float32")), tinynet.from_numpy(part.labels)


digits, held_out = Digits(train=True), Digits(train=False)
images, labels = tensors(digits)
new_images, new_labels = tensors(held_out)


def layer(inputs, outputs, stride=1):
    return [nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def make_net():
    net = nn.Sequential(
        *layer(1, 16), *layer(16, 16),
        *layer(16, 32, stride=2), *layer(32, 32),
        *layer(32, 64, stride=2), *layer(64, 64),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    with tinynet.no_grad():
        for part in net:
            if isinstance(part, nn.Conv2d):
                part.weight.copy_(he_weights(part.weight.shape))
    return net


print(len(images), "images to train,", len(new_images), "held out, each of shape", tuple(images.shape[1:]))

# %% [markdown]
# `make_net` cannot run yet: `he_weights` is missing. It fills in the first weights, and that deserves a section.
#
# ## 2. Where to start: initialisation
#
# Weights start as random numbers. How large should they be? Let us look at a simple deep net: 30 layers, each a product
# with a 100×100 matrix, and ReLU. The input has a root mean square of 1. We follow that number through the layers.

# %%
def through_layers(std, layers=30, width=100):
    """The root mean square of the numbers after each layer, with weights of this standard deviation."""
    x = tinynet.randn(500, width)
    sizes = []
    for _ in range(layers):
        x = relu(x @ (std * tinynet.randn(width, width)))
        sizes.append((x * x).mean().sqrt().item())
    return sizes


# %% [markdown] tags=["predict"]
# **Predict.** Each output is a sum of 100 products. With a standard deviation of `0.1` in the weights, such a sum of 100
# random terms has a standard deviation of $\sqrt{100} \cdot 0.1 = 1$. So what happens to the numbers over 30 layers with
# ReLU? Do they `"grow"`, `"stay"` or `"shrink"`?

# %% tags=["predict"]
thirty_layers = ...  # "grow", "stay" or "shrink"

# %%
curves = {f"std {std:.3f}": (range(1, 31), through_layers(std)) for std in (0.1, math.sqrt(2 / 100), 0.2)}
last = [sizes[-1] for _, sizes in curves.values()]
lesson.reveal("over thirty layers", thirty_layers, "shrink" if last[0] < 0.1 else "stay")
lesson.say(f"After 30 layers the root mean squares are {last[0]:.1g}, {last[1]:.2g} and {last[2]:.2g}.")
lesson.show(
    plot.lines(curves, x="layer", y="root mean square", log="y", title="Signals by depth"),
    "Size of the numbers against the layer, logarithmic. Weights of 0.1 lead down in a straight line, 0.2 lead up, and "
    "0.141 stay level.",
)

# %% [markdown]
# Straight lines on a logarithmic axis: every layer multiplies by the same factor. Where does it come from? Let a layer
# have $n$ inputs $x_i$, and independent weights $w_i$ with mean 0 and standard deviation $\sigma$. Then the sum
# $z = \sum w_i x_i$ has the mean square
#
# $$\overline{z^2} = n \, \sigma^2 \, \overline{x^2}.$$
#
# It is positive as often as negative, and ReLU sets the negative half to 0. That leaves *half* of the mean square. So
# each layer multiplies it by $n \sigma^2 / 2$, and the prediction of "stay" forgot the 2. To make the factor 1:
#
# $$\sigma = \sqrt{2 / n}$$
#
# This is **He initialisation**. For 100 inputs it gives the level line of the picture. For a convolution, $n$ counts
# what goes into *one* output number: all input channels, at every position of the kernel. It is called the **fan-in**.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 · The first weights · 2/5 · 10 minutes
#
# Write `he_weights(shape)`: a tensor of random normal numbers with the right standard deviation. `shape` is that of a
# convolution's weight, (out, in, height, width), or of a matrix, (out, in).

# %% tags=["stub"]
def he_weights(shape):
    """Random weights of this shape, with mean 0 and He's standard deviation."""
    return ...


# %% tags=["check"]
def check(he_weights):
    weights = he_weights((64, 16, 3, 3))
    size = tuple(getattr(weights, "shape", ()))
    assert size == (64, 16, 3, 3), f"the weights have shape {size}, not (64, 16, 3, 3)"
    mean, std = weights.mean().item(), weights.std().item()
    assert abs(mean) < 0.1 * std, f"the mean is {mean:.2f}, it should be about 0: are the numbers normal, from randn?"
    likely = {
        2 / 144: "that is 2 / n, the variance; the standard deviation is its root",
        1 / 144: "that is 1 / n; it is a standard deviation that is asked for, and there is a 2",
        math.sqrt(1 / 144): "the 2 is missing: ReLU halves the mean square",
        math.sqrt(2 / 16): "one output number sees 16 channels at 9 positions each",
        math.sqrt(2 / 64): "one output number sees 16 channels at 9 positions each, and 64 is the number of outputs",
        math.sqrt(2 / 576): "n counts the inputs of one output number, 16 · 9; you count the outputs, 64 · 9",
        math.sqrt(2 / 9): "the input channels count, too: n is 16 · 9",
        math.sqrt(2 / 9216): "n counts the inputs of one output number, 16 · 9; you count all weights",
        math.sqrt(2) / 144: "the root is drawn of 2 / n as a whole",
        1.0: "randn gives the standard deviation 1, so multiply by sqrt(2 / n)",
    }
    for wrong, words in likely.items():
        assert abs(std / wrong - 1) > 0.05, f"the standard deviation is {std:.4f}: {words}"
    right = math.sqrt(2 / 144)
    assert abs(std / right - 1) < 0.05, f"the standard deviation is {std:.4f}, it should be sqrt(2 / 144) = {right:.4f}"
    std, right = he_weights((80, 100)).std().item(), math.sqrt(2 / 100)
    assert abs(std / right - 1) < 0.05, f"for a matrix (80, 100) it is {std:.4f}, not sqrt(2 / 100) = {right:.4f}"


he_weights = lesson.check(check, he_weights)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# $n$ is the product of `shape[1:]`; `math.prod` computes it. Then `tinynet.randn(*shape)` times a factor.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def he_weights(shape):
#     """Random weights of this shape, with mean 0 and He's standard deviation."""
#     return math.sqrt(2 / math.prod(shape[1:])) * tinynet.randn(*shape)
# ```
#
# </details>

# %% [markdown]
# Backwards the same argument holds for gradients, with the fan-*out* for $n$: tinynet's ResNets use that variant. And
# batch norm after every layer keeps the numbers at 1 whatever the weights are, *forwards*. What it does to gradients is
# another matter, with which lesson 7 will surprise you.
#
# ## 3. What to make small: the loss
#
# Ten logits come out, and one label says which of them should be largest. First make probabilities of the logits:
# positive, and with the sum 1. That is the **softmax**:
#
# $$p_k = \frac{e^{z_k}}{\sum_j e^{z_j}}$$
#
# The logits 2, 1, 0 become $e^2, e^1, e^0$, divided by their sum. The loss of an image is then $-\log p$ of the right
# class (the natural logarithm, `math.log`), the **cross entropy**: 0 if the net is sure and right, large if it is sure
# and wrong.

# %%
powers = [math.exp(logit) for logit in (2.0, 1.0, 0.0)]
probabilities = [power / sum(powers) for power in powers]
lesson.say(
    "| logit | probability | loss if this is the right class |\n|---|---|---|\n"
    + "\n".join(f"| {z} | {p:.3f} | {-math.log(p):.3f} |" for z, p in zip((2, 1, 0), probabilities))
)

# %% [markdown] tags=["predict"]
# **Predict.** A new net has no idea: each of the ten digits gets about the same probability. What is its loss?

# %% tags=["predict"]
loss_of_a_new_net = ...  # a number

# %%
lesson.reveal("no idea among ten", loss_of_a_new_net, -math.log(1 / 10))
net = make_net()
loss = cross_entropy(net(images[:200]), labels[:200]).item()
lesson.say(f"And a freshly made net: {loss:.2f}, not far from it.")

# %% [markdown]
# That is the first test of every training: **the first loss is about $\log(\text{number of classes})$**. If it is `8`,
# the first weights are too large. If it is `0.1`, the labels have found a way into the input.
#
# The gradient is surprisingly simple. From $L = -\log p_y = -z_y + \log \sum_j e^{z_j}$ follows
#
# $$\frac{\partial L}{\partial z_k} = p_k - [k = y]$$
#
# where $[k = y]$ is 1 for the right class and 0 for the others. The right logit is pushed up by what is missing to 1,
# the others are pushed down by what they have too much. For a batch the loss is the mean over its images.

# %% [markdown] tags=["exercise"]
# ### Exercise 2 · Cross entropy · 3/5 · 15 minutes
#
# Write `loss_and_gradient(logits, labels)` for logits of shape (N, K) and labels of shape (N,): the mean loss, and its
# gradient by the logits, (N, K). It must also survive logits such as 1000, whose power overflows. Softmax does not change
# if you subtract the same number from all logits of an image; so subtract each image's largest,
# `logits.amax(1, keepdim=True)`.
#
# `labels.reshape(-1, 1) == tinynet.arange(K)` is (N, K) and true at the right classes; `.to(logits.dtype)` makes 1 and 0
# of it.

# %% tags=["stub"]
def loss_and_gradient(logits, labels):
    """The mean cross entropy, and its gradient by the logits (N, K), as a tuple."""
    return ...


# %% tags=["check"]
def check(loss_and_gradient):
    logits = (2 * tinynet.randn(5, 3, dtype=tinynet.float64)).requires_grad_()
    labels = tinynet.tensor([0, 2, 1, 2, 2])
    expected = cross_entropy(logits, labels)
    expected.backward()
    answer = loss_and_gradient(logits.detach(), labels)
    assert isinstance(answer, tuple) and len(answer) == 2, "return a tuple: the loss and the gradient"
    loss, gradient = answer
    off = relative_error(loss, expected)
    assert relative_error(loss, -expected) > 1e-6, f"the loss is {float(loss):.2f}: it is MINUS the logarithm"
    assert relative_error(loss, 5 * expected) > 1e-6, "the loss is the sum over the images, it should be their mean"
    assert relative_error(3 * loss, expected) > 1e-6, "the loss is divided by N · K, not by the N images"
    advice = "the mean of -log(p[label]), with a softmax for each row"
    assert off < 1e-9, f"the loss is {float(loss):.4f}, it should be {expected.item():.4f}: {advice}"
    right = (labels.reshape(-1, 1) == tinynet.arange(3)).to(logits.dtype)
    likely = {
        "1 is to be subtracted at the right class": logits.grad + right / 5,
        "the sign is the other way round: p - [k = y]": -logits.grad,
        "divide by the number of images, the loss is a mean": 5 * logits.grad,
        "divide by the number of images, not by all numbers": logits.grad / 3,
    }
    for words, wrong in likely.items():
        assert relative_error(gradient, wrong) > 1e-6, f"the gradient: {words}"
    off = relative_error(gradient, logits.grad)
    assert off < 1e-9, f"the gradient has a relative error of {off:.0e}, it should be about 1e-16: p - [k = y], over N"
    with_large = loss_and_gradient(tinynet.tensor([[1000.0, 0.0, -1000.0], [0.0, 0.0, 1.0]]), tinynet.tensor([1, 2]))
    large = float(with_large[0])
    finite = math.isfinite(large) and math.isfinite(float(with_large[1].sum()))
    assert finite, "logits of 1000 give nan or infinity: subtract the row's largest, and do not take log of a rounded 0"
    assert abs(large - 500.3) < 1, f"for an image with a loss of 1000, and one of 0.55, you get {large:.1f}, not 500.3"


loss_and_gradient = lesson.check(check, loss_and_gradient)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Call the logits without their largest `shifted`. The logarithm of the softmax is
# `shifted - shifted.exp().sum(1, keepdim=True).log()`, which never takes the logarithm of 0. Multiplied by the matrix of
# ones and zeros, and summed, it leaves the logarithms at the right classes. The probabilities are its `.exp()`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def loss_and_gradient(logits, labels):
#     """The mean cross entropy, and its gradient by the logits (N, K), as a tuple."""
#     right = (labels.reshape(-1, 1) == tinynet.arange(logits.shape[1])).to(logits.dtype)
#     shifted = logits - logits.amax(1, keepdim=True)
#     log_probabilities = shifted - shifted.exp().sum(1, keepdim=True).log()
#     loss = -(right * log_probabilities).sum() / len(logits)
#     return loss, (log_probabilities.exp() - right) / len(logits)
# ```
#
# </details>

# %% [markdown]
# ## 4. How to step: momentum
#
# Gradients of one batch after the other, and a small step against each: that is **stochastic gradient descent**, SGD.
# Its enemy is a narrow valley: steep across, flat along. Lesson 5 began with one. The steep direction allows only small
# steps, and along the valley they lead nowhere.
#
# **Momentum** is a memory. A buffer collects the gradients, and forgets a tenth of what it has at each step:
#
# $$\text{buffer} \leftarrow \mu \cdot \text{buffer} + \text{gradient}, \qquad
# \text{parameter} \leftarrow \text{parameter} - \text{rate} \cdot \text{buffer}$$
#
# with $\mu = 0.9$ as a rule.

# %% [markdown] tags=["predict"]
# **Predict.** If the gradient is 1 at every step, how large does the buffer become in the long run, with $\mu = 0.9$?

# %% tags=["predict"]
buffer_in_the_end = ...  # a number

# %%
buffer = 0.0
for _ in range(200):
    buffer = 0.9 * buffer + 1.0
lesson.reveal("the buffer", buffer_in_the_end, round(buffer, 3))

# %% [markdown]
# Along the valley all gradients agree, and the steps become up to ten times longer. Across it they change sign again and
# again, and in the buffer they cancel, so the swings do not become larger. Here is the map of such a valley, with both
# ways down from the ring to the crosses. (The steep axis is stretched, the real valley is ten times as narrow as it is
# long. With $\mu = 0.9$ the path would run past the bottom and come back; in so few steps $0.8$ is the better choice.)

# %%
def valley(a, b):
    return (a * a + 100 * b * b) / 2  # its gradient is (a, 100·b)


def way_down(rate, momentum, steps=30):
    a, b, buffer_a, buffer_b = 10.0, 1.0, 0.0, 0.0
    points = [(a, b)]
    for _ in range(steps):
        buffer_a, buffer_b = momentum * buffer_a + a, momentum * buffer_b + 100 * b
        a, b = a - rate * buffer_a, b - rate * buffer_b
        points.append((a, b))
    return list(zip(*points))


ways = {"without momentum": way_down(0.018, 0.0), "momentum 0.8": way_down(0.018, 0.8)}
ends = [valley(xs[-1], ys[-1]) for xs, ys in ways.values()]
lesson.show(
    plot.descent(valley, ways, x="a: flat", y="b: steep", title="30 steps down a narrow valley"),
    "Contour map of a narrow valley with two paths. Without momentum the path zigzags across the valley and gets half "
    "way; with momentum it takes longer steps along the valley and ends at the bottom.",
)
lesson.say(
    f"Heights after 30 steps: {ends[0]:.2g} without momentum, {ends[1]:.2g} with it. Across the valley the swings of "
    "both are equally wide; along it the one with momentum gets much further."
)

# %% [markdown]
# One more ingredient: **weight decay**. Add a small multiple of each weight to its gradient, and the step pulls all
# weights a little towards 0, so that only those stay large that the loss really needs.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 · The step · 2/5 · 10 minutes
#
# Write `step(parameter, gradient, buffer, rate, momentum, decay)`. In this order: add `decay · parameter` to the
# gradient; update the buffer; move the parameter. Return the new parameter and the new buffer.

# %% tags=["stub"]
def step(parameter, gradient, buffer, rate, momentum, decay):
    """The parameter and the buffer after one step of SGD, as a tuple."""
    return ...


# %% tags=["check"]
def check(step):
    start = tinynet.randn(6, dtype=tinynet.float64)
    gradients = [tinynet.randn(6, dtype=tinynet.float64) for _ in range(4)]

    def difference(momentum, decay, rates):  # from tinynet's SGD, after one step for each rate
        reference = start.clone().requires_grad_()
        optimizer = SGD([reference], lr=0.1, momentum=momentum, weight_decay=decay)
        parameter, buffer = start.clone(), 0 * start
        for gradient, rate in zip(gradients, rates):
            answer = step(parameter, gradient.clone(), buffer, rate, momentum, decay)
            two = isinstance(answer, tuple) and len(answer) == 2
            assert two, "return a tuple: the new parameter and the new buffer"
            parameter, buffer = answer
            optimizer.param_groups[0]["lr"], reference.grad = rate, gradient.clone()
            optimizer.step()
        return relative_error(parameter, reference)

    first = difference(0.0, 0.0, [0.1])
    uphill = relative_error(step(start, gradients[0], 0 * start, 0.1, 0.0, 0.0)[0], start + 0.1 * gradients[0])
    assert uphill > 1e-9, "you climb: the step goes AGAINST the gradient"
    advice = "is it parameter - rate · NEW buffer, and does the parameter come first in your tuple?"
    assert first < 1e-9, f"one step without momentum and decay is off by {first:.0e}: {advice}"
    several = difference(0.9, 0.0, [0.1] * 4)
    advice = "is the buffer momentum · buffer + gradient, without a factor at the gradient, and is it returned?"
    assert several < 1e-9, f"four steps with momentum are off by {several:.0e}: {advice}"
    changing = difference(0.9, 0.0, [0.1, 0.01, 0.1, 0.01])
    advice = "the rate belongs to the step, not into the buffer"
    assert changing < 1e-9, f"it is right at a fixed rate, but off by {changing:.0e} when the rate changes: {advice}"
    decayed = difference(0.9, 0.1, [0.1] * 4)
    advice = "add decay · parameter to the gradient, before the buffer"
    assert decayed < 1e-9, f"with weight decay four steps are off by {decayed:.0e}: {advice}"


step = lesson.check(check, step)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Three lines, as in the text above: `gradient = gradient + ...`, `buffer = ...`, and what is returned.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def step(parameter, gradient, buffer, rate, momentum, decay):
#     """The parameter and the buffer after one step of SGD, as a tuple."""
#     gradient = gradient + decay * parameter
#     buffer = momentum * buffer + gradient
#     return parameter - rate * buffer, buffer
# ```
#
# </details>

# %% [markdown]
# From here on tinynet's `SGD` does that for all parameters of a net at once; you have just compared it with yours.
#
# ## 5. The loop, and a habit
#
# All parts are there: the net, the loss, the step. The loop puts them in order. You have seen it in lesson 1; with an
# optimizer each line has a name:
#
# | line | what |
# |---|---|
# | `loss = cross_entropy(net(images), labels)` | forward |
# | `optimizer.zero_grad()` | forget the gradients of the last step |
# | `loss.backward()` | gradients of all parameters |
# | `optimizer.step()` | exercise 3, for each of them |

# %% [markdown] tags=["exercise"]
# ### Exercise 4 · The loop · 2/5 · 10 minutes
#
# Write `train_on(net, optimizer, images, labels, steps)`. It trains on the same batch again and again, and returns the
# list of the losses, as plain numbers (`loss.item()`), each from before its step.

# %% tags=["stub"]
def train_on(net, optimizer, images, labels, steps):
    """The losses of training on this one batch."""
    return ...


# %% tags=["check"]
def check(train_on):
    some, targets = images[:20], labels[:20]

    def fresh(rate=0.1):
        tinynet.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
        return model, SGD(model.parameters(), lr=rate)

    def reference(forgetful):
        model, optimizer = fresh()
        losses = []
        for _ in range(6):
            loss = cross_entropy(model(some), targets)
            losses.append(loss.item())
            if not forgetful:
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return losses

    model, optimizer = fresh()
    losses = train_on(model, optimizer, some, targets, 6)
    assert isinstance(losses, list), f"a list of losses is expected, not a {type(losses).__name__}"
    assert len(losses) == 6, f"6 steps were asked for, your list has {len(losses)} losses"
    plain = all(isinstance(loss, float) for loss in losses)
    assert plain, "the list holds tensors, each with its whole graph behind it: append loss.item()"
    still = max(losses) - min(losses) < 1e-6
    assert not still, "the loss does not move: step() comes after backward(), and zero_grad() before it"
    piled_up = relative_error(losses, reference(forgetful=True)) < 1e-6
    assert not piled_up, "the gradients of earlier steps are still there: reset them in every step"
    late = abs(losses[0] - reference(forgetful=False)[0]) > 1e-6
    assert not late, f"the first loss is {losses[0]:.3f}: it should be the one from before the first step"
    error = relative_error(losses, reference(forgetful=False))
    assert error < 1e-4, f"your losses {losses} differ by {error:.0e} from those of the four lines above"


train_on = lesson.check(check, train_on)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The four lines of the table in a `for` loop, and an `append` of `loss.item()`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def train_on(net, optimizer, images, labels, steps):
#     """The losses of training on this one batch."""
#     losses = []
#     for _ in range(steps):
#         loss = cross_entropy(net(images), labels)
#         losses.append(loss.item())
#         optimizer.zero_grad()
#         loss.backward()
#         optimizer.step()
#     return losses
# ```
#
# </details>

# %% [markdown]
# Now the habit: **before you train for an hour, overfit one batch.** Give the net 32 images, always the same, and see
# whether it learns them by heart. A healthy net and loop bring the loss close to 0 in less than a hundred steps. If it
# does not, there is a bug, and you have found that out in a second.
#
# Here are five runs: a healthy one and four with a mistake that people really make.
#
# | run | what is wrong |
# |---|---|
# | `healthy` | nothing |
# | `labels shuffled` | the images were sorted, the labels were not: they do not belong together |
# | `softmax twice` | a softmax layer ends the net, and `cross_entropy` has another one inside |
# | `no zero_grad` | the gradients are never reset |
# | `weights 0` | all convolutions start with zeros |

# %% [markdown] tags=["predict"]
# **Predict.** Which of the four mistakes does the test *miss*: in which run does the loss come down to nearly 0 all the
# same? And below which number can the loss of `softmax twice` never fall, even if the net is completely sure and right?
# (In that case the ten "logits" that enter the cross entropy are 1, and nine times 0.)

# %% tags=["predict"]
missed = ...  # "labels shuffled", "softmax twice", "no zero_grad" or "weights 0"
best_with_two = ...  # a number, for "softmax twice"

# %%
class ForgetfulSGD(SGD):
    def zero_grad(self):
        pass


def with_zeros(net):
    with tinynet.no_grad():
        for part in net:
            if isinstance(part, nn.Conv2d):
                part.weight.zero_()
    return net


batch, its_labels = images[:32], labels[:32]
runs = {}
for name in ("healthy", "labels shuffled", "softmax twice", "no zero_grad", "weights 0"):
    tinynet.manual_seed(0)
    net = make_net()
    targets = its_labels[tinynet.randperm(32)] if name == "labels shuffled" else its_labels
    net = nn.Sequential(net, nn.Softmax(1)) if name == "softmax twice" else net
    net = with_zeros(net) if name == "weights 0" else net
    kind = ForgetfulSGD if name == "no zero_grad" else SGD
    runs[name] = train_on(net, kind(net.parameters(), lr=0.05, momentum=0.9), batch, targets, 60)

small = [name for name, losses in runs.items() if losses[-1] < 0.1 and name != "healthy"]
lesson.reveal("missed by the test", missed, ", ".join(small))
lesson.reveal("best with two", best_with_two, -math.log(math.e / (math.e + 9)))
lesson.show(
    plot.lines({name: (range(60), losses) for name, losses in runs.items()}, x="step", y="loss", log="y",
               title="Five runs on one batch"),
    "Loss on one batch of 32. Healthy and shuffled labels fall below 0.01; softmax twice and weights 0 stay near 2; "
    "without zero_grad it falls at first and then explodes.",
)  # fmt: skip
shares = [(its_labels == digit).to(tinynet.float64).mean().item() for digit in range(10)]
entropy = -sum(share * math.log(share) for share in shares if share)
lesson.say(
    "Last losses: " + ", ".join(f"{name} {losses[-1]:.3g}" for name, losses in runs.items())
    + f". With weights 0 only the last bias learns, so all that it can find out is how often each digit occurs in this "
    f"batch. The best loss from that alone is {entropy:.2f}."
)  # fmt: skip

# %% [markdown]
# Learn the faces of these curves, you will meet them again. `no zero_grad` adds up *all* gradients so far, so the steps
# grow until they destroy what was learned. `softmax twice` is far even from its own limit: the second softmax reacts so
# weakly that little gradient comes through. And note what the test cannot see: **a net learns wrong labels by heart just
# as well.** Overfitting one batch shows that net, loss and step work together. Whether the data make sense, only your
# eyes can tell: look at images *with their labels*, exactly as they enter the net.
#
# ## 6. When to slow down: schedules
#
# The gradient of a batch is the true one plus noise. With a large learning rate one gets quickly to where it is good,
# and then the noise throws one about. With a small one it is calm there, but one never arrives. We try it on the
# simplest problem: a single number $w$ that should become 0, with the gradient $w$ plus random noise. A thousand such
# walks start at 10; we see their root mean square.

# %% [markdown] tags=["predict"]
# **Predict.** Three learning rates over 200 steps: always `0.5`; always `0.02`; or `"falling"` from `0.5` to `0`. Which
# ends nearest to 0? Write `"0.5"`, `"0.02"` or `"falling"`.

# %% tags=["predict"]
ends_nearest = ...  # "0.5", "0.02" or "falling"

# %%
def walk(rates):
    """How far from 0 a thousand noisy descents are, step by step."""
    tinynet.manual_seed(0)
    w = 10 + tinynet.zeros(1000)
    distances = []
    for rate in rates:
        w = w - rate * (w + tinynet.randn(1000))
        distances.append((w * w).mean().sqrt().item())
    return distances


walks = {
    "0.5": walk([0.5] * 200),
    "0.02": walk([0.02] * 200),
    "falling": walk([0.25 * (1 + math.cos(math.pi * t / 200)) for t in range(200)]),
}
lesson.reveal("ends nearest", ends_nearest, min(walks, key=lambda name: walks[name][-1]))
lesson.show(
    plot.lines({f"rate {name}": (range(200), distances) for name, distances in walks.items()},
               x="step", y="distance from the best", log="y", title="Noise, and what a schedule does about it"),
    "Distance from the optimum on a logarithmic axis. Rate 0.5 drops at once and stays at half a unit, rate 0.02 comes "
    "down slowly, the falling rate drops at once and keeps sinking to the lowest end.",
)  # fmt: skip

# %% [markdown]
# First fast, then calm: that is what a **schedule** is for. At the other end there is a danger as well. A new net changes
# violently in its first steps, and so do its gradients; a full rate may throw it somewhere it does not come back from.
# So one begins low and rises: the **warm-up**.

# %% [markdown] tags=["exercise"]
# ### Exercise 5 · A schedule · 1/5 · 5 minutes
#
# Write `rate_at(step, steps, warm_up)`, the factor of the learning rate at `step` = 0, 1, …, `steps - 1`. During the
# first `warm_up` steps it is `(step + 1) / warm_up`. Then it falls from 1 to 0 along half a cosine,
# $\frac12 (1 + \cos \pi t)$, where $t$ goes from 0 at `step` = `warm_up` to 1 at `step` = `steps`.

# %% tags=["stub"]
def rate_at(step, steps, warm_up):
    """The factor of the learning rate: a linear warm-up, then half a cosine down to 0."""
    return ...


# %% tags=["check"]
def check(rate_at):
    rates = [rate_at(step, 110, 10) for step in range(110)]
    assert rates[0] != 0, "at step 0 the rate is 0, a wasted step: (step + 1) / warm_up"
    assert abs(rates[0] - 0.1) < 1e-9, f"at step 0 of a warm-up over 10 the factor is {rates[0]:.3f}, it should be 0.1"
    assert abs(rates[9] - 1) < 1e-9, f"at step 9 the factor is {rates[9]:.3f}, the warm-up of 10 steps should end at 1"
    assert abs(rates[10] - 2) > 1e-9, "after the warm-up the factor is 2: is the half before (1 + cos) missing?"
    assert abs(rates[10] - 1.1) > 1e-9, "step 10 still rises, to 1.1: a warm-up of 10 steps has the steps 0 to 9"
    advice = "does t start at 0 there, and is it 1 + cos?"
    assert abs(rates[10] - 1) < 1e-9, f"at step 10, after the warm-up, the factor is {rates[10]:.4f}, not 1: {advice}"
    advice = "is t one half there, and π in the cosine?"
    assert abs(rates[60] - 0.5) < 1e-9, f"half way down, at step 60, the factor is {rates[60]:.3f}, not 0.5: {advice}"
    assert 0 < rates[109] < 0.001, f"at the last step the factor is {rates[109]:.4f}, it should be nearly 0"


rate_at = lesson.check(check, rate_at)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `t = (step - warm_up) / (steps - warm_up)`, and `math.cos(math.pi * t)`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def rate_at(step, steps, warm_up):
#     """The factor of the learning rate: a linear warm-up, then half a cosine down to 0."""
#     if step < warm_up:
#         return (step + 1) / warm_up
#     return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))
# ```
#
# </details>

# %% [markdown]
# ## 7. Reading handwriting
#
# One idea is still missing. There are only 1437 images to learn from, a little net can learn them by heart. But a digit
# that is turned by a few degrees, or moved by a pixel, is still that digit. So the net never sees the same image twice:
# each batch is changed at random, a little. This is called **data augmentation**. (The changed digits look smoother,
# because a pixel that is moved by a fraction is mixed from its neighbours.)

# %%
change = RandomAffine(degrees=10, translate=1, scale=0.1, shear=8, fill=digits.background)
versions = change(tinynet.cat([images[:1]] * 7))
lesson.show(
    plot.images([images[0, 0], *versions[:, 0]], ["as it is", *["changed"] * 7], columns=8),
    "The same handwritten 2 eight times: as it is, and seven times a little turned, moved, scaled or slanted.",
)

# %% [markdown]
# Now everything together, 20 times through all images, which one calls 20 **epochs**. In each the images come in a new
# order, in batches of 64. After each we look at the held-out digits, in evaluation mode.

# %% tags=["slow"]
def measure(net, images, labels):
    """Loss and accuracy in evaluation mode, and the logits."""
    net.eval()
    with tinynet.no_grad():
        logits = net(images)
        loss = cross_entropy(logits, labels).item()
    net.train()
    return loss, (logits.argmax(1) == labels).to(tinynet.float64).mean().item(), logits


def train(seed=0, epochs=20, size=64, rate=0.1, augment=change):
    """A trained net, and one row of results for each epoch."""
    tinynet.manual_seed(seed)
    net = make_net()
    optimizer = SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    steps = len(images) // size
    schedule = LambdaLR(optimizer, lambda step: rate_at(step, epochs * steps, warm_up=2 * steps))
    history = []
    for epoch in progress(range(epochs), desc="training"):
        order = tinynet.randperm(len(images))
        losses, right = [], 0
        for number in range(steps):
            chosen = order[number * size : (number + 1) * size]
            logits = net(augment(images[chosen]))
            loss = cross_entropy(logits, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            right += int((logits.argmax(1) == labels[chosen]).sum())
        held_out_loss, held_out_accuracy, _ = measure(net, new_images, new_labels)
        history.append({
            "epoch": epoch + 1, "loss": sum(losses) / steps, "accuracy": right / (steps * size),
            "held_out_loss": held_out_loss, "held_out_accuracy": held_out_accuracy,
        })  # fmt: skip
    return net, history


net, history = train()

# %% [markdown] tags=["predict"]
# **Predict.** It is trained. Of the 360 held-out digits, how many does it get *wrong*?

# %% tags=["predict"]
mistakes = ...  # a whole number

# %% tags=["slow"]
_, accuracy, logits = measure(net, new_images, new_labels)
lesson.reveal("mistakes among 360", mistakes, round((1 - accuracy) * len(new_labels)))
lesson.say(f"**{accuracy:.1%}** of the held-out digits are read right.")
lesson.show(
    plot.curves(history, "six convolutions on handwritten digits"),
    "Loss and accuracy over 20 epochs, for training and held-out digits. Both losses fall and both accuracies come "
    "close to one; the held-out curves jump about at first and are calm at the end.",
)

# %% [markdown]
# The held-out curves are shaky while the rate is high, and calm when it goes to 0: that is the schedule at work. Here and
# there the held-out digits even do *better* than the training ones. Those are augmented, which makes them harder, and
# they are measured while the net still changes.
#
# And where is the net wrong? Always look.

# %% tags=["slow"]
probabilities = nn.Softmax(1)(logits).numpy()
lesson.show(
    plot.mistakes(held_out.images, held_out.labels, probabilities, held_out.classes, "held-out digits"),
    "Confusion matrix of the held-out digits, nearly all on the diagonal, and beside it the few misread digits, large, "
    "with their true and their predicted class.",
)

# %% [markdown] tags=["make"]
# ## Make: your own table
#
# Change *one* thing, train again, and note the accuracy; then another. Half the width. No augmentation
# (`augment=lambda batch: batch`). No batch norm (then the convolutions want a bias: what must change at the learning
# rate?). A constant rate. Five epochs. Before each run, write down what you expect.
#
# Be honest about noise: the same recipe with another `seed` gives another number. With 360 images, one digit more or
# less is a quarter of a percent. So a difference that is smaller than that between two seeds is none. (The recipe above
# was itself chosen by looking at these 360 digits. Is its accuracy too optimistic? How could one find out?)

# %%
print("for example: net, history = train(seed=1, augment=lambda batch: batch)")

# %%
lesson.progress()

# %% [markdown] tags=["recap"]
# ## Recap
#
# Say the answers aloud before you unfold them.
#
# 1. Where does the 2 in $\sqrt{2/n}$ come from, and what is $n$ for a convolution?
# 2. What should the first loss be with ten classes, and why?
# 3. What does momentum do along a valley, and what across it?
# 4. You overfit one batch, and the loss goes to 0. Which mistakes are excluded, and which is not?
# 5. Why does the learning rate start low, and why does it end low?
#
# <details><summary>Answers</summary>
#
# 1. ReLU removes half of the mean square. $n$ is the number of inputs of one output: channels times kernel positions.
# 2. $\log 10 \approx 2.3$: a net that knows nothing gives each class a tenth.
# 3. Along it the gradients add up, to ten times a single one with $\mu = 0.9$. Across it they cancel.
# 4. Net, loss and loop work together. Wrong labels are not excluded: those can be learned by heart.
# 5. At first because new nets have wild gradients; in the end because the noise of the batches shakes the weights.
#
# </details>

# %% [markdown] tags=["paper"]
# ## The paper's sentence
#
# > "We use SGD with a mini-batch size of 256. The learning rate starts from 0.1 and is divided by 10 when the error
# > plateaus [...]. We use a weight decay of 0.0001 and a momentum of 0.9."
#
# Kaiming He, Xiangyu Zhang, Shaoqing Ren and Jian Sun, *Deep Residual Learning for Image Recognition*, 2015, Section 3.4
# (arXiv 1512.03385). Three sentences that describe a training of weeks: you know each word of them now. The weights start
# as you made them; the initialisation carries the first author's name.

# %% [markdown] tags=["read"]
# ## Read on, in tinynet
#
# - `tinynet/nn/init.py`, `kaiming_normal_`: exercise 1, with its variants
# - `tinynet/ops/loss.py`, `CrossEntropy`: exercise 2, with weights and smoothing
# - `tinynet/optim/sgd.py`, `SGD`: exercise 3; `_with_momentum` is the buffer
# - `tinynet/optim/lr_scheduler.py`, `LambdaLR`: how a schedule reaches the optimizer
# - `tinynet/training.py`, `FitLoop`: the loop for long trainings, which can be interrupted and says what broke
#
# In lesson 7 you take the same loop and the same digits, make the net deeper, and it becomes worse.
