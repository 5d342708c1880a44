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
# # Lesson 7: Degradation, and the residual answer
#
# **Goal.** A net of 56 layers trains *worse* than one of 20. Not on new images: on the very images it trains on. You see
# it happen, you build the cure, which is one addition, and then you look for the reason with instruments of your own.
# The reason is not the one that is usually given.
#
# **Time:** 45-60 minutes, of which the computer needs one or two: it trains four nets.
#
# **You need:** batch norm (lesson 5), the training loop (lesson 6).
#
# **New in tinynet:** `tinynet.nn.Module`, `tinynet.nn.init.kaiming_normal_`, `tinynet.models.BasicBlock`,
# `tinynet.models.CifarResNet`

# %%
import math

import tinynet
from tinynet import nn, plot
from tinynet.data import Digits
from tinynet.lesson import Lesson, relative_error
from tinynet.models import BasicBlock, CifarResNet
from tinynet.nn.functional import conv2d, cross_entropy
from tinynet.optim import SGD
from tinynet.optim.lr_scheduler import LambdaLR
from tinynet.utils.progress import progress

tinynet.manual_seed(0)
lesson = Lesson(7)

# %% [markdown]
# ## 1. A deeper net cannot be worse
#
# Here is an argument that seems to leave no way out. Take a net of 20 layers that is well trained. Put 36 more layers
# into it, each of which does nothing: its output is its input. That is a net of 56 layers, and it is exactly as good. So
# the best net of 56 layers is at least as good as the best of 20, and its training loss is at most as high.
#
# Can a layer do nothing? Let us see for a 3×3 convolution.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 · A convolution that does nothing · 2/5 · 10 minutes
#
# Write `identity_kernel(channels)`: a weight of shape (channels, channels, 3, 3) such that a convolution with it (stride
# 1, padding 1) gives back its input.

# %% tags=["stub"]
def identity_kernel(channels):
    """The weight (channels, channels, 3, 3) of a convolution whose output is its input."""
    return ...


# %% tags=["check"]
def check(identity_kernel):
    x = tinynet.randn(2, 4, 5, 6)
    kernel = identity_kernel(4)
    size = tuple(getattr(kernel, "shape", ()))
    assert size == (4, 4, 3, 3), f"the weight has shape {size}, it should be (4, 4, 3, 3)"
    ones = int((kernel != 0).sum())
    assert ones != 16, "16 numbers are not 0: output channel c should see input channel c only, not all four"
    assert ones != 36, "36 numbers are not 0: all 9 positions of the kernel are filled, only the middle one should be"
    assert ones != 0, "all weights are 0, so the output is 0, too"
    error = relative_error(conv2d(x, kernel, padding=1), x)
    places = sorted({(int(row), int(column)) for _, _, row, column in (kernel != 0).nonzero().tolist()})
    assert places == [(1, 1)], f"numbers stand at the positions {places} of the kernel, only the middle (1, 1) is right"
    assert error < 1e-6, f"the output differs from the input by {error:.1g}: is there a 1 from each channel to itself?"


identity_kernel = lesson.check(check, identity_kernel)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Start with `tinynet.zeros(channels, channels, 3, 3)`. Which positions (output channel, input channel, row, column) need
# a 1? A loop over the channels is fine.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def identity_kernel(channels):
#     """The weight (channels, channels, 3, 3) of a convolution whose output is its input."""
#     kernel = tinynet.zeros(channels, channels, 3, 3)
#     for channel in range(channels):
#         kernel[channel, channel, 1, 1] = 1.0
#     return kernel
# ```
#
# </details>

# %% [markdown]
# Batch norm can do nothing as well: its weight and bias can undo what the normalisation does. And ReLU does nothing to
# numbers that are not negative, which is what comes out of the ReLU before. Let us put the three together, 36 times:

# %%
def layer_that_does_nothing(x):
    channels = x.shape[1]
    layer = nn.BatchNorm2d(channels)
    with tinynet.no_grad():
        layer.weight.copy_((x.var((0, 2, 3), correction=0) + layer.eps).sqrt())
        layer.bias.copy_(x.mean((0, 2, 3)))
    return nn.ReLU()(layer(conv2d(x, identity_kernel(channels), padding=1)))


before = nn.ReLU()(tinynet.randn(4, 8, 16, 16))
after = before
for _ in range(36):
    after = layer_that_does_nothing(after)
change = relative_error(after, before)
lesson.say(f"After 36 layers of convolution, batch norm and ReLU the numbers have changed by {change:.0e}.")

# %% [markdown]
# So the argument holds: among all nets of 56 layers there is one as good as the best of 20. But that a net *exists* does
# not mean that gradient descent *finds* it. Keep this in mind for the experiment in section 5.
#
# ## 2. F(x) = H(x) - x
#
# Suppose some layers should turn $x$ into $H(x)$. In a deep net each of them only has a little to do, so that $H(x)$
# is near $x$. A stack of random layers, however, starts far from that. It has to build the identity first, number by
# number, as you just did by hand, and then the little.
#
# The idea of He, Zhang, Ren and Sun: **let the layers compute only the difference, and add $x$.**
#
# $$F(x) = H(x) - x, \qquad \text{and the block gives } \; x + F(x)$$
#
# With numbers: for $x = (1, 2, 3)$ the layers should give $H(x) = (1.1,\; 2,\; 2.9)$. Then all that is left for $F$ is
# $(0.1,\; 0,\; -0.1)$. And if nothing is to be done, $F$ is 0: weights of 0 do that, and weight decay even pulls them
# there.

# %% [markdown] tags=["exercise"]
# ### Exercise 2 · What is left to do · 1/5 · 5 minutes
#
# Say it in code. `H` is a function of a tensor. Write `what_is_left(H)`: it returns another *function*, $F$.

# %% tags=["stub"]
def what_is_left(H):
    """The function F for which x + F(x) is H(x)."""
    return ...


# %% tags=["check"]
def check(what_is_left):
    x = tinynet.tensor([1.0, 2.0, 3.0])
    wanted = tinynet.tensor([1.1, 2.0, 2.9])
    F = what_is_left(lambda x: wanted)
    assert callable(F), f"a function is expected, not a {type(F).__name__}: what does F do with an x that comes later?"
    left = F(x)
    assert left is not None, "F(x) is None: is there a return inside of F?"
    text = [round(number, 3) for number in left.tolist()]
    assert relative_error(left, x - wanted) > 1e-3, f"for H(x) = (1.1, 2, 2.9) you get {text}: the sign is reversed"
    assert relative_error(left, wanted) > 1e-3, "that is H itself: x will be added to it, so it must be taken away here"
    assert relative_error(left, wanted + x) > 1e-3, "x is added here AND by the block: take it away"
    error = relative_error(left, wanted - x)
    assert error < 1e-5, f"for H(x) = (1.1, 2, 2.9) you get {text}, it should be [0.1, 0.0, -0.1]"
    nothing = what_is_left(lambda x: x)(tinynet.randn(5)).abs().max().item()
    assert nothing == 0, f"if H does nothing, F should give zeros, not {nothing:.2g}: does it use its own x?"


what_is_left = lesson.check(check, what_is_left)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# A function inside a function, or a `lambda`: `return lambda x: ...`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def what_is_left(H):
#     """The function F for which x + F(x) is H(x)."""
#     return lambda x: H(x) - x
# ```
#
# </details>

# %% [markdown]
# **In your own words.** Before you go on: write one or two sentences (on paper, or in this cell) that explain to a friend
# who knows convolutions why `x + F(x)` could be easier to learn than `H(x)`, although both can express the same. Then
# compare.
#
# <details><summary>One way to say it</summary>
#
# "Layers that have nothing to do must still pass everything on. In a plain net they have to *learn* to pass it on; here
# that is built in, and they only learn what to change. It starts from 'leave it as it is' and not from noise."
#
# </details>
#
# The simplest deep net shows it in numbers. Let each block have a single weight $w$. A **plain** block computes
# $w \cdot x$, a **residual** block $x + w \cdot x$. Small random weights are near 0; say $w = 0.1$ in all of 20 blocks.

# %% [markdown] tags=["predict"]
# **Predict.** The input is 1. What comes out of 20 plain blocks? And out of 20 residual blocks?

# %% tags=["predict"]
plain_output = ...  # a number
residual_output = ...  # a number

# %%
def chain(residual):
    """What 20 blocks make of 1, and the gradient of that by the first weight."""
    weights = [tinynet.tensor(0.1, dtype=tinynet.float64, requires_grad=True) for _ in range(20)]
    x = tinynet.tensor(1.0, dtype=tinynet.float64)
    for weight in weights:
        x = x + weight * x if residual else weight * x
    x.backward()
    return x.item(), weights[0].grad.item()


(plain, at_plain), (residual, at_residual) = chain(False), chain(True)
lesson.reveal("20 plain blocks", plain_output, plain)
lesson.reveal("20 residual blocks", residual_output, residual)
lesson.say(
    f"And the gradient that reaches the *first* weight: {at_plain:.0e} in the plain chain, {at_residual:.1f} in the "
    "residual one. Each block multiplies by $0.1$ in the one, and by $1 + 0.1$ in the other."
)

# %% [markdown]
# That is the textbook's picture: without shortcuts signals and gradients **vanish**. But real nets have batch norm, which
# holds the forward signal at 1 (lesson 5), and He's weights (lesson 6). Does that not solve it? Let us build the nets and
# see.
#
# ## 3. The block
#
# The basic block of the paper: two 3×3 convolutions with batch norm, and the shortcut around both.

# %%
lesson.show(
    plot.diagram(
        {"x": ("x",), "one": ("conv 3×3", "batch norm, ReLU"), "two": ("conv 3×3", "batch norm: this is F(x)"),
         "plus": ("+",), "relu": ("ReLU",)},
        [("x", "one"), ("one", "two"), ("two", "plus"), ("x", "plus"), ("plus", "relu")],
        "The basic block",
    ),
    "Diagram of the block: x goes through two convolutions with batch norm to an addition, and also directly there by "
    "the shortcut; a ReLU comes after the addition.",
)  # fmt: skip

# %% [markdown]
# Where the block halves the resolution and doubles the channels, $x$ does not have the shape of $F(x)$. There a 1×1
# convolution with the same stride, and batch norm, adapts it; it is called `downsample`. (Lesson 8 is about that.) The
# plain net has the same block without the shortcut.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 · The block · 3/5 · 10 minutes
#
# The parts are there, write `forward`. With `self.residual` the result is $\text{ReLU}(x + F(x))$, where $x$ goes through
# `self.downsample` if there is one (else it is None). Without, it is $\text{ReLU}(F(x))$.

# %% tags=["stub"]
class Block(nn.Module):
    """Two 3×3 convolutions, with a shortcut around them if `residual`."""

    def __init__(self, inputs, outputs, stride, residual):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.residual = residual
        self.downsample = None
        if residual and (stride != 1 or inputs != outputs):
            projection = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x):
        return ...


# %% tags=["check"]
def check(Block):
    x = tinynet.randn(4, 8, 6, 6)
    for outputs, stride, residual in ((8, 1, False), (8, 1, True), (16, 2, True), (16, 2, False)):
        mine = Block(8, outputs, stride, residual)
        with tinynet.no_grad():
            for norm in (mine.bn1, mine.bn2):  # as if trained, so that the two are not alike
                norm.weight.copy_(0.5 + tinynet.rand(outputs))
                norm.bias.copy_(tinynet.rand(outputs) - 0.5)
        theirs = BasicBlock(8, outputs, stride, mine.downsample, residual=residual)
        theirs.load_state_dict(mine.state_dict())
        branch = theirs.bn2(theirs.conv2(theirs.relu(theirs.bn1(theirs.conv1(x)))))
        short = x if mine.downsample is None else mine.downsample(x)
        mine_of_x, expected = mine(x), theirs(x)
        what = f"Block(8, {outputs}, stride={stride}, residual={residual})"
        added, without_relu = (short if residual else 0), theirs.bn2(theirs.conv2(theirs.bn1(theirs.conv1(x))))
        likely = {
            "the last ReLU is missing": branch + added,
            "the ReLU between the convolutions is missing": (without_relu + added).relu(),
        }
        if residual:
            likely["the addition is missing"] = branch.relu()
            likely["ReLU comes after the addition, not before it"] = branch.relu() + short
            likely["no ReLU before the addition: F(x) may be negative"] = (branch.relu() + short).relu()
        elif short.shape == branch.shape:
            likely["the plain block has no shortcut"] = (branch + x).relu()
        for words, wrong in likely.items():
            assert relative_error(mine_of_x, wrong) > 1e-4, f"{what}: {words}"
        error = relative_error(mine_of_x, expected)
        assert error < 1e-4, f"{what} is off by {error:.1g}: conv1, bn1, relu, conv2, bn2, addition, relu"


Block = lesson.check(check, Block)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `branch = self.bn2(self.conv2(...))` with ReLU, `bn1` and `conv1` inside. Then, if `self.residual`, add `x` or
# `self.downsample(x)` to it. The last line is the same for both kinds.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# class Block(nn.Module):
#     """Two 3×3 convolutions, with a shortcut around them if `residual`."""
#
#     def __init__(self, inputs, outputs, stride, residual):
#         super().__init__()
#         self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
#         self.bn1 = nn.BatchNorm2d(outputs)
#         self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
#         self.bn2 = nn.BatchNorm2d(outputs)
#         self.relu = nn.ReLU()
#         self.residual = residual
#         self.downsample = None
#         if residual and (stride != 1 or inputs != outputs):
#             projection = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
#             self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))
#
#     def forward(self, x):
#         branch = self.relu(self.bn1(self.conv1(x)))
#         branch = self.bn2(self.conv2(branch))
#         if self.residual:
#             branch = branch + (x if self.downsample is None else self.downsample(x))
#         return self.relu(branch)
# ```
#
# </details>

# %% [markdown]
# ## 4. The nets
#
# Our nets are those of the paper's Section 4.2, half as wide: one convolution to 8 channels, then three **stages** of
# blocks with 8, 16 and 32 channels, then the mean of each channel and one matrix product. The first block of the second
# and of the third stage halves the resolution. With $n$ blocks per stage there are $1 + 3 \cdot 2n + 1 = 6n + 2$ layers
# with weights: 20 for $n = 3$, 56 for $n = 9$.

# %% [markdown] tags=["exercise"]
# ### Exercise 4 · The plan · 2/5 · 10 minutes
#
# Write `plan(depth)`: a list with `(inputs, outputs, stride)` for each block, in order. For a depth of 20 it has nine
# entries and starts with `(8, 8, 1)`.

# %% tags=["stub"]
def plan(depth):
    """For each block of a net of this depth (inputs, outputs, stride)."""
    return ...


# %% tags=["check"]
def check(plan):
    blocks = [tuple(block) for block in plan(20)]
    assert len(blocks) == 9, f"a depth of 20 has (20 - 2) / 2 = 9 blocks, yours has {len(blocks)}"
    outputs = [block[1] for block in blocks]
    assert outputs == [8] * 3 + [16] * 3 + [32] * 3, f"the outputs should be three times 8, 16, 32; yours are {outputs}"
    strides = [block[2] for block in blocks]
    advice = "only the first block of the second and of the third stage halves the resolution"
    assert strides == [1, 1, 1, 2, 1, 1, 2, 1, 1], f"your strides are {strides}: {advice}"
    inputs = [block[0] for block in blocks]
    assert inputs == [8, *outputs[:-1]], f"the inputs of a block are the outputs of the one before; yours are {inputs}"
    deep = len(plan(56))
    assert deep == 27, f"a depth of 56 has 27 blocks, yours has {deep}: is their number computed from the depth?"
    halved = sum(stride == 2 for _, _, stride in plan(56))
    assert halved == 2, f"at depth 56 {halved} blocks have the stride 2, it should be 2 at any depth"


plan = lesson.check(check, plan)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Two loops: over the stages `(8, 1), (16, 2), (32, 2)`, and over the $n$ blocks of each. Only the block with the index 0
# gets the stage's stride. Keep the channels of the block before in a variable.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def plan(depth):
#     """For each block of a net of this depth (inputs, outputs, stride)."""
#     blocks, inputs = [], 8
#     for outputs, stride in ((8, 1), (16, 2), (32, 2)):
#         for index in range((depth - 2) // 6):
#             blocks.append((inputs, outputs, stride if index == 0 else 1))
#             inputs = outputs
#     return blocks
# ```
#
# </details>

# %%
NETS = {"plain-20": (20, False), "plain-56": (56, False), "residual-20": (20, True), "residual-56": (56, True)}


def make_net(name, block=Block):
    depth, residual = NETS[name]
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        *[block(*sizes, residual) for sizes in plan(depth)],
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip
    for part in net.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")  # lesson 6, with the fan-out
    return net


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


# %% [markdown] tags=["predict"]
# **Predict.** How many *more* parameters does residual-56 have than plain-56? (Think of what the shortcuts are made of.
# A batch norm has a weight and a bias for each channel.)

# %% tags=["predict"]
more_parameters = ...  # a whole number

# %%
sizes = {name: count(make_net(name)) for name in NETS}
lesson.reveal("more parameters", more_parameters, sizes["residual-56"] - sizes["plain-56"])
ready = count(CifarResNet(56, width=8, in_channels=1, shortcut="B"))
lesson.say(
    ", ".join(f"{name}: {size:,}" for name, size in sizes.items())
    + f". (tinynet's own residual-56 of this width has {ready:,}.)"
)

# %% [markdown]
# Two small 1×1 convolutions, with $8 \cdot 16 + 16 \cdot 32$ weights, and their batch norms, with $2 \cdot (16 + 32)$
# numbers; all other shortcuts are free. So whatever we are going to see, it is
# *not* because the residual nets have more to learn with.
#
# ## 5. The experiment
#
# The digits of lesson 6, without augmentation, because here we want to know how well a net learns *what it is shown*.
# Batches of 64, SGD with momentum `0.9`, three epochs of warm-up to a rate of `0.05`, then a cosine to 0: ten epochs.
# The same for all four nets. Every tenth step we note how large the gradient is that arrives at the very first
# convolution.

# %%
def tensors(part):
    pixels = (part.images - part.mean) / part.std
    return tinynet.from_numpy(pixels.astype("float32")), tinynet.from_numpy(part.labels)


images, labels = tensors(Digits(train=True))
new_images, new_labels = tensors(Digits(train=False))
SIZE, STEPS = 64, len(images) // 64  # of a batch; steps in an epoch


def rate_at(step, steps, warm_up):
    """Exercise 5 of lesson 6."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


def norm(tensor):
    return (tensor * tensor).sum().sqrt().item()


def accuracy(net, images, labels):
    net.eval()
    with tinynet.no_grad():
        return (net(images).argmax(1) == labels).to(tinynet.float64).mean().item()


def limit(net, largest):
    """Shortens every gradient that is longer than `largest`."""
    with tinynet.no_grad():
        for parameter in net.parameters():
            parameter.grad *= min(1.0, largest / norm(parameter.grad))


def train(name, seed, epochs=10, rate=0.05, largest=None, block=Block, stop_after=None):
    """The trained net; and the loss of each epoch, the first layer's gradient at every tenth step, what came out."""
    tinynet.manual_seed(seed)
    net = make_net(name, block)
    first = net[0].weight
    optimizer = SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    schedule = LambdaLR(optimizer, lambda step: rate_at(step, epochs * STEPS, warm_up=3 * STEPS))
    losses, gradients, start = [], [], norm(first)
    for _ in progress(range(stop_after or epochs), desc=name):
        order = tinynet.randperm(len(images))
        for number in range(STEPS):
            chosen = order[number * SIZE : (number + 1) * SIZE]
            loss = cross_entropy(net(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            if len(losses) % 10 == 0:
                gradients.append(norm(first.grad))
            if largest is not None:
                limit(net, largest)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    return net, {
        "loss": [sum(losses[k : k + STEPS]) / STEPS for k in range(0, len(losses), STEPS)],
        "gradient": gradients, "weight": [start, norm(first)],
        "accuracy": accuracy(net, images, labels), "held_out": accuracy(net, new_images, new_labels),
    }  # fmt: skip


# %% [markdown] tags=["predict"]
# **Predict.** After ten epochs: which plain net has the lower *training* loss, 20 or 56? And what share of its own
# training images does plain-56 get right (0 to 1)?

# %% tags=["predict"]
lower_plain = ...  # 20 or 56
right_of_plain_56 = ...  # between 0 and 1

# %% tags=["slow"]
seeds = (0, 1, 2) if lesson.full else (0,)
runs = {name: [train(name, seed)[1] for seed in seeds] for name in NETS}
loss_of = {name: results[0]["loss"][-1] for name, results in runs.items()}
lesson.reveal("the lower plain net", lower_plain, 20 if loss_of["plain-20"] < loss_of["plain-56"] else 56)
lesson.reveal("right in plain-56", right_of_plain_56, runs["plain-56"][0]["accuracy"])
lesson.show(
    plot.lines({name: (range(1, 11), [run["loss"] for run in results]) for name, results in runs.items()},
               x="epoch", y="training loss", log="y", title="Four nets on the same digits"),
    "Training loss against epoch, logarithmic. Both residual nets end near 0.005, plain-20 several times higher, "
    "and plain-56 hardly gets below the loss of a net that knows nothing.",
)  # fmt: skip

# %% [markdown]
# There it is, the **degradation**: the deep plain net is worse, *on the images that it trains on*. So this is not
# overfitting. The same depth with shortcuts trains well.
#
# One run proves little. The full experiment ran the four nets with three seeds; here is what it found.

# %% tags=["slow"]
NAMES = ("seed", "plain-20", "plain-56", "residual-20", "residual-56")


def table(results, key, form):
    """A row for each seed."""
    rows = [NAMES, ["---"] * 5]
    for seed in range(len(results["plain-20"])):
        rows.append([str(seed), *[format(run[key][-1] if key == "loss" else run[key], form)
                                  for run in (results[name][seed] for name in NETS)]])  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


stored = lesson.stored()
nets = stored["results"]["nets"] if stored and not lesson.full else runs
if stored and not lesson.full:
    lesson.say(f"Stored results of `{stored['command']}` (tinynet {stored['tinynet']}, {stored['threads']} threads).")
lesson.say("Training loss of the last epoch:\n\n" + table(nets, "loss", ".4f"))
lesson.say("Accuracy on the training images:\n\n" + table(nets, "accuracy", ".1%"))
lesson.say("Accuracy on the held-out images:\n\n" + table(nets, "held_out", ".1%"))
lesson.show(
    plot.lines({name: (range(1, 11), [run["loss"] for run in results]) for name, results in nets.items()},
               x="epoch", y="training loss", log="y", title="Three seeds: mean, and the range around it"),
    "Training loss against epoch for three seeds. The ranges of plain-56, plain-20 and the two residual nets do not "
    "overlap at the end; plain-56 is by far the highest.",
)  # fmt: skip

# %% [markdown]
# ## 6. Is it the vanishing gradient?
#
# The usual suspect. In section 2 it vanished along the plain chain. Does it here, with batch norm? Build the instrument.

# %% [markdown] tags=["exercise"]
# ### Exercise 5 · The gradient, layer by layer · 2/5 · 10 minutes
#
# Write `gradient_by_layer(net, images, labels)`: a list with the norm of the gradient at the weight of every 3×3
# convolution, from the first to the last. (The 1×1 convolutions of the shortcuts are not among them.) `net.modules()`
# goes through all parts in order. Only an `nn.Conv2d` has a `kernel_size`; it is `(3, 3)` for those you want. `norm` is
# defined above. The loss is the cross entropy on the given images; before its `backward()` every `.grad` is None. Leave
# the net in training mode.

# %% tags=["stub"]
def gradient_by_layer(net, images, labels):
    """The norms of the gradients of all 3×3 convolutions' weights, in order."""
    return ...


# %% tags=["check"]
def check(gradient_by_layer):
    tinynet.manual_seed(0)
    net = make_net("residual-20")
    given = gradient_by_layer(net, images[:32], labels[:32])
    assert isinstance(given, list), f"a list of numbers is expected, not a {type(given).__name__}"
    assert len(given) != 21, "21 numbers: two 1×1 convolutions of the shortcuts are among them"
    assert len(given) == 19, f"residual-20 has 19 convolutions of 3×3, your list has {len(given)} numbers"
    assert all(isinstance(number, float) for number in given), "plain numbers are expected: norm(...) gives them"
    weights = [part.weight for part in net.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)]
    assert net.training, "your function has switched the net to evaluation mode: batch norm must use this batch"
    net.zero_grad()
    cross_entropy(net(images[:32]), labels[:32]).backward()
    expected = [norm(weight.grad) for weight in weights]
    of_weights = relative_error(given, [norm(weight) for weight in weights])
    assert of_weights > 1e-3, "these are the norms of the weights themselves, not of their gradients"
    assert relative_error(given, expected[::-1]) > 1e-3, "the order is reversed: the first convolution comes first"
    error = relative_error(given, expected)
    assert error < 1e-3, f"your numbers are off by {error:.1g}: zero_grad, forward, backward, norm(part.weight.grad)"
    again = relative_error(gradient_by_layer(net, images[:32], labels[:32]), expected)
    assert again < 1e-3, f"called again, the numbers are off by {again:.1g}: were old gradients still there?"


gradient_by_layer = lesson.check(check, gradient_by_layer)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# First `net.zero_grad()`, then `cross_entropy(net(images), labels).backward()`. Then a loop over `net.modules()` with
# `isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def gradient_by_layer(net, images, labels):
#     """The norms of the gradients of all 3×3 convolutions' weights, in order."""
#     net.zero_grad()
#     cross_entropy(net(images), labels).backward()
#     convolutions = [part for part in net.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)]
#     return [norm(part.weight.grad) for part in convolutions]
# ```
#
# </details>

# %% [markdown] tags=["predict"]
# **Predict.** In a *new* plain-56, before the first step: is the gradient at the first convolution `"smaller"` than at
# the last one, `"similar"`, or `"larger"`?

# %% tags=["predict"]
at_the_first = ...  # "smaller", "similar" or "larger" (by a factor of more than 10)

# %%
by_layer = {}
for name in NETS:
    tinynet.manual_seed(0)
    by_layer[name] = gradient_by_layer(make_net(name), images[:64], labels[:64])

ratios = {name: norms[0] / norms[-1] for name, norms in by_layer.items()}
ratio = ratios["plain-56"]
lesson.reveal("at the first", at_the_first, "larger" if ratio > 10 else "smaller" if ratio < 0.1 else "similar")
lesson.show(
    plot.lines({name: (range(1, len(norms) + 1), norms) for name, norms in by_layer.items()},
               x="convolution, from the input to the output", y="gradient norm", log="y",
               title="Before the first step"),
    "Gradient norm at each convolution of new nets, logarithmic. In plain-56 it grows in a straight line from the last "
    "layer towards the first, over three to four orders of magnitude; in the other nets by one to one and a half.",
)  # fmt: skip
lesson.say(
    "First over last: " + ", ".join(f"{name} {value:,.1f}" for name, value in ratios.items())
    + f". In plain-56 that is a factor of {ratio ** (1 / 54):.2f} for each of 54 layers."
)  # fmt: skip

# %% [markdown]
# The opposite of the textbook's picture: with batch norm the gradient of a deep plain net does not vanish. It
# **explodes** on its way from the output back to the input. (The paper says that the gradients of its plain nets had
# "healthy norms", so that neither signal vanishes. That they do not *vanish*, we can confirm.)
#
# The straight line says: each layer multiplies by the same factor. One can even compute it. A gradient tells how much a
# tiny difference before a layer becomes after it, so follow a tiny difference *forwards*. Take numbers after a batch
# norm: mean 0, mean square 1, about normally distributed. Now ReLU.
#
# - Two images that differ by a tiny bit: the difference survives where the number is positive, so **half** of its mean
#   square survives.
# - The spread among *all* images: the mean square becomes $\frac12$ as well, but the numbers now have a mean,
#   $1/\sqrt{2\pi}$, and the next batch norm takes that away. So only $\frac12 - \frac1{2\pi}$ is left of the spread.
#
# The next batch norm divides by the spread. So compared with the spread, the tiny difference has grown, in the square by
#
# $$\frac{\frac12}{\frac12 - \frac{1}{2\pi}} = \frac{\pi}{\pi - 1}$$

# %%
growth = math.sqrt(math.pi / (math.pi - 1))
lesson.say(
    f"Its root is **{growth:.3f}** for each layer, and over 54 layers that makes {growth**54:,.0f}. You measured a "
    f"factor of {ratio ** (1 / 54):.3f}. The theory is for very wide layers (Yang et al., *A Mean Field Theory of "
    "Batch Normalization*, 2019); ours have 8 to 32 channels."
)

# %% [markdown]
# **Every plain layer magnifies small differences.** Along the shortcut they pass unmagnified, and only the part in
# $F(x)$ grows.
#
# ## 7. What is left of the digit?
#
# A large gradient at the first layer means: a tiny change at the bottom (the input) is a large change at the top (the
# output). Think that through. Two images of a 3 are a little different. If every layer magnifies that little, then at
# the top they have no more in common than any two images. Let us measure it, with nets that have not learned anything
# yet: how well can one still tell the digits from what a layer puts out?
#
# As a simple judge we take the **nearest mean**: average the features of each digit over one half of 800 images, and
# assign each image of the other half to the nearest of the ten averages.

# %% [markdown] tags=["predict"]
# **Predict.** On the pixels themselves this judge gets about nine of ten right. What share does it get right on the
# features after the last block of a new plain-56?

# %% tags=["predict"]
right_at_the_top = ...  # between 0 and 1

# %%
def nearest_mean(features, labels):
    """The share of the second half that is nearest to the mean of its own class in the first half."""
    flat = features.reshape(len(labels), -1)
    half = len(labels) // 2
    member = (labels[:half].reshape(-1, 1) == tinynet.arange(10)).to(flat.dtype)
    means = (member.T @ flat[:half]) / member.sum(0).reshape(-1, 1)
    nearness = 2 * (flat[half:] @ means.T) - (means * means).sum(1)
    return (nearness.argmax(1) == labels[half:]).to(tinynet.float64).mean().item()


def by_depth(net):
    """After the first layer and each block: the share that the judge gets right, and what 1 % noise has become."""
    tinynet.manual_seed(1)
    x, y = images[:800], images[:800] + 0.01 * tinynet.randn(800, 1, 16, 16)
    shares, noise = [], []
    with tinynet.no_grad():
        for part in net:
            x, y = part(x), part(y)
            if isinstance(part, (nn.ReLU, Block)):
                shares.append(nearest_mean(x, labels[:800]))
                noise.append(norm(x - y) / norm(x - x.mean(0, keepdim=True)))
    return shares, noise


seen = {}
for name in NETS:
    tinynet.manual_seed(0)
    seen[name] = by_depth(make_net(name))
layers = {name: range(1, 2 * len(shares), 2) for name, (shares, _) in seen.items()}
lesson.reveal("right at the top of plain-56", right_at_the_top, seen["plain-56"][0][-1])
lesson.say(f"(On the pixels it gets {nearest_mean(images[:800], labels[:800]):.0%} right; guessing gives 10 %.)")
curves = {name: (layers[name], shares) for name, (shares, _) in seen.items()}
lesson.show(
    plot.lines({**curves, "guessing": ((1, 55), (0.1, 0.1))},
               x="layers passed", y="share right, by the nearest mean", title="Is the digit still in there?"),
    "Share of digits recognised from untrained features, by depth. In plain-56 it falls to the level of guessing after "
    "half of the layers; in residual-56 it stays high for most of the depth and ends well above guessing.",
)  # fmt: skip
lesson.show(
    plot.lines({name: (layers[name], noise) for name, (_, noise) in seen.items()},
               x="layers passed", y="noise, relative to the spread", log="y", title="One percent of noise"),
    "Relative noise by depth, logarithmic. In plain-56 one percent becomes one hundred after thirty layers and stays "
    "there; in the other nets it remains much smaller.",
)  # fmt: skip

# %% [markdown]
# That is the diagnosis. **In a new plain-56 the digit is gone after half of the layers.** One percent of noise at the
# input has become as large as everything else. The upper half sees what looks like random numbers, and the gradient that
# it sends down says how to make something of random numbers. In residual-56 the input is carried past the layers, and at
# a depth of 56 there is about as much left of it as in plain-20.
#
# ## 8. What the explosion does
#
# And then training begins, with a gradient at the first layers that is larger than in any other net by a factor of a
# hundred and more. Look at what it does to them. The weights of the first layer, and the gradient that reaches it, in
# three seeds:

# %% tags=["slow"]
lesson.show(
    plot.lines({name: (range(0, 220, 10), [run["gradient"] for run in results]) for name, results in nets.items()},
               x="step", y="gradient norm at the first convolution", log="y",
               title="The gradient that reaches the first layer"),
    "Gradient at the first convolution against the step, logarithmic. In plain-56 it starts a hundred times higher "
    "than in residual-56, and falls far below all other nets within thirty steps.",
)  # fmt: skip
lesson.say(
    "How much the first layer's weights have grown in training (seed by seed):\n\n"
    + "\n".join(
        f"- {name}: " + ", ".join(f"× {run['weight'][1] / run['weight'][0]:.2g}" for run in results)
        for name, results in nets.items()
    )
)

# %% [markdown]
# The first steps kick the weights of the first layers far out. There they stay, because of what you found in lesson 5:
# before a batch norm, weights $k$ times as large get a gradient of $1/k$, which moves them by another $1/k$ of
# themselves. With a $k$ of 40 such a layer learns more than a thousand times more slowly. It explodes first, and then it
# is **frozen**, as the kick has left it.
#
# So is the kick the illness? We can try: before each step, every gradient with a norm of more than `0.2` is shortened to
# that. Then there is no kick.

# %% [markdown] tags=["predict"]
# **Predict.** With limited gradients, does plain-56 end with a *lower* training loss than before? `True` or `False`?

# %% tags=["predict"]
limit_helps = ...  # True or False

# %% tags=["slow"]
def rounded(run):
    """Four digits are plenty."""
    return {key: [float(f"{v:.4g}") for v in value] if isinstance(value, list) else float(f"{value:.4g}")
            for key, value in run.items()}  # fmt: skip


if lesson.full:
    others = {f"rate {rate:g}": train("plain-56", 0, rate=rate)[1] for rate in (0.1, 0.02, 0.01, 0.003)}
    others["gradients limited"] = train("plain-56", 0, largest=0.2)[1]
    others["30 epochs"] = train("plain-56", 0, epochs=30)[1]
    lesson.store({
        "nets": {name: [{"seed": seed, **rounded(run)} for seed, run in zip(seeds, results)]
                 for name, results in runs.items()},
        "plain-56, otherwise": {name: rounded(run) for name, run in others.items()},
    })  # fmt: skip
    stored = lesson.stored()
if stored:
    limited = stored["results"]["plain-56, otherwise"]["gradients limited"]
    lesson.reveal("a limit helps", limit_helps, limited["loss"][-1] < nets["plain-56"][0]["loss"][-1])
    first = {"as above": nets["plain-56"][0], **stored["results"]["plain-56, otherwise"]}
    lesson.say(
        "plain-56, seed 0:\n\n| changed | training loss | accuracy in training |\n|---|---|---|\n"
        + "\n".join(f"| {name} | {run['loss'][-1]:.3f} | {run['accuracy']:.1%} |" for name, run in first.items())
        + f"\n\n(residual-56 as above: {nets['residual-56'][0]['loss'][-1]:.4f})"
    )

# %% [markdown]
# Other learning rates and more time were tried as well. Read the table line by line:
#
# - **No learning rate rescues it.**
# - **Limiting the gradients makes it worse.** The kick is not the illness!
# - **More time helps, slowly.** A deep plain net is not *unable* to learn. It is *slow*. The paper says the same: it
#   conjectures that such nets have "exponentially low convergence rates".
#
# Why does the limit not help? Take your second instrument: send the noise through the nets after the first two epochs.

# %% tags=["slow"]
tinynet.manual_seed(0)
stages = {
    "new": make_net("plain-56"),
    "after two epochs": train("plain-56", 0, stop_after=2)[0],
    "after two epochs with the limit": train("plain-56", 0, largest=0.2, stop_after=2)[0],
}
for net in stages.values():
    net.train()
found = {name: by_depth(net) for name, net in stages.items()}
lesson.show(
    plot.lines({name: (range(1, 56, 2), noise) for name, (_, noise) in found.items()},
               x="layers passed", y="noise, relative to the spread", log="y", title="One percent of noise in plain-56"),
    "Relative noise by depth in plain-56. New, and after two epochs with limited gradients, it grows to one hundred "
    "percent; after two usual epochs it hardly grows at all.",
)  # fmt: skip
lesson.say(
    "Right by the nearest mean at the top: "
    + ", ".join(f"{name} {shares[-1]:.0%}" for name, (shares, _) in found.items()) + "."
)

# %% [markdown]
# The kick is crude, but it ends the chaos: the kicked layers do not magnify any more, and a little of the digit arrives
# at the top. Then learning can begin, above layers that are frozen in a poor state. With the limit the net is after two
# epochs as wild as on the first day: gradients that come from a top which cannot see the digit do not know a way out.
#
# So this is the story that our measurements tell: **each plain layer magnifies small differences, after thirty of them
# the digit is lost, and gradient descent first has to repair that, before it can begin to learn.** The shortcut carries
# the digit past the layers, and nothing is to be repaired. That it is the whole story, we have made plausible, not
# proved. But you got there with two instruments of ten lines each, and the vanishing gradient did not come into it.

# %% [markdown] tags=["make"]
# ## Make: your own cure
#
# The addition is one cure. Invent another, or spoil this one, and measure *before* you train: `gradient_by_layer` and
# `by_depth` take a second, and they predict a lot. Some ideas: a weaker shortcut, as below. A shortcut around one
# convolution, or around four. A plain net whose kernels start as *your identity kernel* plus a little noise. A plain net
# with twice as many channels. tanh in place of ReLU. Then train the one that looks best, and the one that looks worst.

# %%
class WeakShortcut(Block):
    """A block whose shortcut carries only half of x."""

    def forward(self, x):
        branch = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(branch + 0.5 * (x if self.downsample is None else self.downsample(x)))


tinynet.manual_seed(0)
norms = gradient_by_layer(make_net("residual-56", WeakShortcut), images[:64], labels[:64])
print(f"half a shortcut: the gradient at the first over that at the last layer is {norms[0] / norms[-1]:,.0f}")

# %%
lesson.progress()

# %% [markdown] tags=["recap"]
# ## Recap
#
# Say the answers aloud before you unfold them.
#
# 1. Why can the best net of 56 layers not be worse than the best one of 20? And why did training not find it?
# 2. What is $F(x)$, and which weights make a residual block do nothing?
# 3. How do you know that plain-56 does not suffer from overfitting?
# 4. What happens to the gradient in a new plain-56, and what to the digit on its way up?
# 5. Which observation speaks against "plain-56 is unable to learn", and which against "its gradients are just too large"?
#
# <details><summary>Answers</summary>
#
# 1. 36 added layers could be identities. But random layers start far from that, and gradient descent is slow to get
#    there.
# 2. $F(x) = H(x) - x$, what is left to do. Weights of 0.
# 3. Its loss is high on the images that it trains on.
# 4. The gradient explodes on its way back to the input. On its way up the digit drowns: small differences are magnified.
# 5. With three times as many epochs it gets much further. Limiting the gradients made it worse, not better.
#
# </details>

# %% [markdown] tags=["paper"]
# ## The paper's sentence
#
# > "We hypothesize that it is easier to optimize the residual mapping than to optimize the original, unreferenced
# > mapping. To the extreme, if an identity mapping were optimal, it would be easier to push the residual to zero than to
# > fit an identity mapping by a stack of nonlinear layers."
#
# Kaiming He, Xiangyu Zhang, Shaoqing Ren and Jian Sun, *Deep Residual Learning for Image Recognition*, 2015, Section 1
# (arXiv 1512.03385). "Fit an identity mapping by a stack of nonlinear layers" was exercise 1, and "push the residual to
# zero" exercise 2. The paper's Figure 6 is your experiment, on photos.

# %% [markdown] tags=["read"]
# ## Read on, in tinynet
#
# - `tinynet/models/resnet.py`, `BasicBlock`: your exercise 3, with torch's names
# - `tinynet/models/resnet.py`, `CifarResNet`: your exercise 4; `shortcut="none"` gives the plain nets
# - `tinynet/models/resnet.py`, `_shortcut`: the three kinds of shortcut of the paper
# - `tinynet/nn/utils.py`, `clip_grad_norm_`: the usual way to limit gradients, all of them together
#
# In lesson 8 the block gets cheaper: the bottleneck. And the shortcuts that must change the number of channels get their
# turn.
