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
# # Lesson 14: Many processes
#
# **Goal.** A net that takes a week on one machine takes a day on ten, if they can train *one* net together. You find out
# what they have to tell each other in every step, why two batches of 32 are then one batch of 64, what batch norm has
# to do with it, and how many machines are worth it before they only talk.
#
# **Time:** 30-40 minutes, of which the computer needs less than one.
#
# **You need:** batch norm (lesson 5), training (lesson 6), a rough idea of ResNet-50's size (lesson 9).
#
# **New in tinynet:** `tinynet.distributed.init_process_group`, `tinynet.distributed.get_world_size`,
# `tinynet.distributed.destroy_process_group`, `tinynet.nn.parallel.DistributedDataParallel`,
# `tinynet.nn.SyncBatchNorm`, `tinynet.utils.data.DistributedSampler`, `tinynet.float32`

# %%
import time

import tinynet
from tinynet import distributed, plot
from tinynet.lesson import Lesson, relative_error
from tinynet.models import CifarResNet, resnet50
from tinynet.nn import BatchNorm2d, Conv2d, Flatten, Linear, ReLU, Sequential, SyncBatchNorm
from tinynet.nn.functional import cross_entropy
from tinynet.nn.parallel import DistributedDataParallel
from tinynet.optim import SGD
from tinynet.utils.data import DistributedSampler

tinynet.manual_seed(0)
lesson = Lesson(14)

# %% [markdown]
# ## 1. What is averaged
#
# A process that takes part is called a **rank**; ranks are numbered from 0. In **data-parallel** training every rank has
# the same net, and computes the gradient on its own part of the batch. Nothing else is divided. So after backward each
# rank has a different gradient, and before the optimizer moves anything they have to agree on one.
#
# Here is a net without batch norm (that comes later), and a batch of 64 images of noise in ten classes. All in double
# precision, so that we can tell rounding from a mistake.

# %%
def make_net(norm=None):  # a norm takes a bias before it away again, so there is none then
    tinynet.manual_seed(1)
    layers = [Conv2d(1, 6, 3, padding=1, bias=norm is None), ReLU(), Flatten(), Linear(6 * 64, 10)]
    if norm is not None:
        layers.insert(1, norm(6))
    return Sequential(*layers).double()


def gradients(net, images, labels):
    """The gradient of the mean loss, one tensor for each parameter."""
    for parameter in net.parameters():
        parameter.grad = None
    cross_entropy(net(images), labels).backward()
    return [parameter.grad for parameter in net.parameters()]


def worst(these, those):
    return max(relative_error(this, that) for this, that in zip(these, those))


images = tinynet.randn(64, 1, 8, 8).double()
labels = tinynet.randint(0, 10, (64,))
net = make_net()
whole = gradients(net, images, labels)
first, second = gradients(net, images[:32], labels[:32]), gradients(net, images[32:], labels[32:])

# %% [markdown] tags=["predict"]
# **Predict.** The loss is the *mean* over the images. The gradient on all 64, compared with the gradients on the two
# halves: is it their `"sum"`, their `"mean"`, or `"neither"`, because the net is not linear?

# %% tags=["predict"]
gradient_of_all = ...  # "sum", "mean" or "neither"

# %%
means = [(one + other) / 2 for one, other in zip(first, second)]
lesson.reveal("the gradient on all images", gradient_of_all, "mean" if worst(means, whole) < 1e-9 else "neither")
print(f"mean of the halves against the whole: {worst(means, whole):.0e}")

# %% [markdown]
# The net is not linear in its weights, but the loss is linear in the *images' losses*: it is their mean, and the
# gradient of a sum is the sum of the gradients. So the ranks have to average their gradients, that is all. If each then
# takes the same step with the same optimizer, the nets stay equal, bit by bit, without ever being sent.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 · Unequal parts · 2/5 · 5 minutes
#
# Three ranks share 64 images, and 64 does not divide by three. Write `average(parts, sizes)`: from each rank's gradient
# (a tensor, the gradient of the mean over its own images) and its number of images, the gradient of the mean over all.

# %% tags=["stub"]
def average(parts, sizes):
    """The whole batch's gradient from those of its parts."""
    return ...

# %% tags=["check"]
def check(average):
    x = tinynet.randn(7, 3).double()
    parts, sizes = [x[:4].mean(0), x[4:6].mean(0), x[6:].mean(0)], [4, 2, 1]
    before = [part.clone() for part in parts]
    result = average(parts, sizes)
    plain = (parts[0] + parts[1] + parts[2]) / 3
    assert relative_error(result, plain) > 1e-6, "this is the plain mean: a rank with 4 images must count 4 times"
    error = relative_error(result, x.mean(0))
    assert error < 1e-9, f"relative error {error:.0e}: weigh each part by its images, divide by all images"
    other = average([x[:2].mean(0), x[2:].mean(0)], [2, 5])
    error = relative_error(other, x.mean(0))
    assert error < 1e-9, f"with two parts of 2 and 5 images the relative error is {error:.0e}: use `parts` and `sizes`"
    changed = max(relative_error(part, old) for part, old in zip(parts, before))
    assert changed == 0, "you have changed the parts: each rank still needs its own"


average = lesson.check(check, average)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# A mean times its number of images is a sum. Add the sums up.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def average(parts, sizes):
#     """The whole batch's gradient from those of its parts."""
#     total = parts[0] * sizes[0]
#     for part, size in zip(parts[1:], sizes[1:]):
#         total = total + part * size
#     return total / sum(sizes)
# ```
#
# </details>

# %% [markdown]
# ## 2. The layer that looks at its neighbours
#
# Now the same with a batch norm after the convolution. Remember what it does in training: every image is normalised with
# the mean and the variance of the batch *that it is in*.

# %% [markdown] tags=["predict"]
# **Predict.** With batch norm in the net, is the mean of the halves' gradients still the gradient of the whole batch?
# `"yes"` or `"no"`?

# %% tags=["predict"]
still_equal = ...  # "yes" or "no"

# %%
net = make_net(BatchNorm2d)
whole = gradients(net, images, labels)
halves = [gradients(net, part, answers) for part, answers in ((images[:32], labels[:32]), (images[32:], labels[32:]))]
means = [(one + other) / 2 for one, other in zip(*halves)]
lesson.reveal("still equal", still_equal, "yes" if worst(means, whole) < 1e-9 else "no")
lesson.say(
    f"They are {worst(means, whole):.0%} apart. This is no mistake of anybody's: with 32 images in each norm it is "
    "*another function* than with 64. Many people train that way, and it works while the parts are large."
)

# %% [markdown]
# If a rank has only one or two images, as detectors often do, its statistics are poor, and then it matters. The way out
# is to let the ranks exchange statistics too, which is called **synchronised batch norm**. Each rank sends how many
# numbers a channel has, their mean and their variance. The mean of all is easy. What about the variance?

# %% [markdown] tags=["exercise"]
# ### Exercise 2 · The variance of all · 3/5 · 10 minutes
#
# Rank $r$ has $n_r$ numbers with the mean $m_r$ and the biased variance $v_r$ (divided by $n_r$). Write
# `combine(counts, means, variances)`, each a tensor with one entry per rank: the mean and the biased variance of all
# numbers together. It shall also be right when the means are a million and the variances 1.

# %% tags=["stub"]
def combine(counts, means, variances):
    """Mean and biased variance of the union, as a tuple."""
    return ...

# %% tags=["check"]
def check(combine):
    def case(offset):
        x = tinynet.randn(9).double() + offset
        parts = [x[:5], x[5:7] + 3, x[7:] - 1]
        together = tinynet.tensor([number for part in parts for number in part.tolist()], dtype=tinynet.float64)
        numbers = ([float(len(part)) for part in parts], [part.mean().item() for part in parts],
                   [part.var(correction=0).item() for part in parts])
        return [tinynet.tensor(each, dtype=tinynet.float64) for each in numbers], together

    given, together = case(0.0)
    result = combine(*given)
    assert isinstance(result, tuple) and len(result) == 2, "a tuple of two is expected, the mean and the variance"
    mean, variance = result
    error = relative_error(variance, together.mean())
    assert error > 1e-6, "the mean comes first, then the variance"
    error = relative_error(mean, together.mean())
    assert error < 1e-9, f"the mean is off by {error:.0e}: ranks with more numbers count more"
    expected = together.var(correction=0)
    error = relative_error(variance, together.var(correction=1))
    assert error > 1e-6, "this is the unbiased variance: divide by all numbers, not by one less"
    within = (given[0] * given[2]).sum() / given[0].sum()
    assert relative_error(variance, within) > 1e-6, "this is only the mean of the variances: the means differ, too"
    error = relative_error(variance, expected)
    advice = "add the squared distance of each rank's mean, weighed by its count like the variance"
    assert error < 1e-9, f"the variance is off by {error:.0e}: {advice}"
    far = [case(1e6 + offset) for offset in range(5)]
    error = max(relative_error(combine(*given)[1], together.var(correction=0)) for given, together in far)
    assert error < 1e-6, f"with means of a million the variance is off by {error:.0e}: do not subtract two huge squares"


combine = lesson.check(check, combine)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The mean squared distance of rank $r$'s numbers from the common mean $m$ is $v_r + (m_r - m)^2$.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def combine(counts, means, variances):
#     """Mean and biased variance of the union, as a tuple."""
#     total = counts.sum()
#     mean = (counts * means).sum() / total
#     return mean, (counts * (variances + (means - mean) ** 2)).sum() / total
# ```
#
# The other formula, the mean of the squares minus the square of the mean, subtracts two huge numbers and keeps noise.
#
# </details>

# %% [markdown]
# Backward is the same story: lesson 5 found that the gradient of an input needs two sums over the batch, of the gradient
# and of the gradient times the normalised input. The ranks add these up as well.
#
# ## 3. How exact is "equal"?
#
# So two ranks can do exactly what one does. Exactly? Floating-point sums depend on their order. Take *one* process and
# only swap the two halves of each batch. Mathematically nothing changes. Train the residual net of lesson 7, narrow and
# with 20 layers, for 20 steps, both ways.

# %%
def train(dtype, swapped):
    tinynet.manual_seed(1)
    net = CifarResNet(20, num_classes=10, width=8, in_channels=1).to(dtype)
    optimizer = SGD(net.parameters(), lr=0.5, momentum=0.9)
    order = [*range(32, 64), *range(32)] if swapped else list(range(64))
    for _ in range(20):
        optimizer.zero_grad()
        cross_entropy(net(images.to(dtype)[order]), labels[order]).backward()
        optimizer.step()
    return [parameter.detach() for parameter in net.parameters()]

# %% [markdown] tags=["predict"]
# **Predict.** Double precision keeps about 16 digits, float32 about 7. How large is the largest relative difference of a
# parameter tensor after 20 steps in float32: about 1e-7, 1e-5, 1e-3, or more?

# %% tags=["predict"]
drift = ...  # 1e-7, 1e-5, 1e-3 or 1e-1: the nearest power

# %% tags=["varies"]
drifts = {str(dtype): worst(train(dtype, True), train(dtype, False)) for dtype in (tinynet.float64, tinynet.float32)}
actual = drifts[str(tinynet.float32)]
lesson.reveal("the drift in float32", drift, next((p for p in (1e-7, 1e-5, 1e-3) if actual < 10 * p), 1e-1))
for name, value in drifts.items():
    print(f"{name}: {value:.0e}")

# %% [markdown]
# A sum that is off in its last digit is harmless, until it decides the sign of a number before a ReLU. Then a gradient
# flows in one run and not in the other, and from there on they are two trainings. In float32 that happens within a few
# steps; in float64 no number came so close to zero. That is why tinynet's own test of "two ranks of 32 are one of 64"
# runs in float64 and asks for nine digits; in float32 nobody could tell rounding from a small mistake. And it is why we
# promise the same bits only for the same number of ranks.

# %% [markdown]
# ## 4. The ring
#
# To average, everybody could send the gradient to rank 0. With a thousand ranks, rank 0 would receive a thousand
# gradients. The **ring all-reduce** has no such bottleneck. Each of $N$ ranks cuts its gradient into $N$ chunks and talks
# only to its right neighbour. In round $s$ of the first phase, rank $r$ sends chunk $(r - s) \bmod N$, and the neighbour
# adds it to its own. After $N - 1$ rounds every chunk is summed up somewhere. In the second phase the sums travel round
# once more, $N - 1$ rounds again.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 · One round · 3/5 · 10 minutes
#
# `chunks` is a tensor (N, N): row $r$ has rank $r$'s chunks (one number each, here). Write `one_round(chunks, s)`: the
# chunks after round $s$ of the first phase. All ranks send at the same time.

# %% tags=["stub"]
def one_round(chunks, s):
    """The chunks (N, N) after every rank has sent one to its right neighbour, which has added it."""
    return ...

# %% tags=["check"]
def check(one_round):
    start = tinynet.randn(4, 4).double()
    kept = start.clone()
    after = one_round(start, 0)
    right = hasattr(after, "shape") and tuple(after.shape) == (4, 4)
    assert right, "the chunks (N, N) after the round are to be returned"
    assert relative_error(start, kept) == 0, "you have changed the chunks you were given: work on a clone"
    changed = [(r, c) for r in range(4) for c in range(4) if after[r, c].item() != start[r, c].item()]
    assert len(changed) == 4, f"{len(changed)} chunks have changed, it should be one on each of 4 ranks"
    expected = [(1, 0), (2, 1), (3, 2), (0, 3)]
    assert sorted(changed) == sorted(expected), f"changed are {changed}: rank r sends chunk r, which rank r + 1 adds"
    replaced = relative_error(after[1, 0], start[0, 0])
    assert replaced > 1e-9, "the neighbour has replaced its chunk: it *adds* what it gets to its own"
    for count in (4, 3):
        start = tinynet.randn(count, count).double()
        chunks = start
        for s in range(count - 1):
            chunks = one_round(chunks, s)
        sums = tinynet.tensor([chunks[(c - 1) % count, c].item() for c in range(count)], dtype=tinynet.float64)
        error = relative_error(sums, start.sum(0))
        advice = f"with {count} ranks, after {count - 1} rounds, the sums are off by {error:.0e}"
        assert error < 1e-9, f"{advice}: in round s rank r sends chunk (r - s) % N"


one_round = lesson.check(check, one_round)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Rank $r$ receives from rank $r - 1$, which sends its chunk $(r - 1 - s) \bmod N$. Python's `%` is never negative.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def one_round(chunks, s):
#     """The chunks (N, N) after every rank has sent one to its right neighbour, which has added it."""
#     after = chunks.clone()
#     count = len(chunks)
#     for rank in range(count):
#         chunk = (rank - 1 - s) % count
#         after[rank, chunk] = chunks[rank, chunk] + chunks[rank - 1, chunk]
#     return after
# ```
#
# </details>

# %% [markdown] tags=["predict"]
# **Predict.** In the whole ring (both phases) with a thousand ranks: how many times the size of its gradient does *one*
# rank send, about?

# %% tags=["predict"]
times_sent = ...  # a number

# %%
lesson.reveal("gradients sent by one rank", times_sent, 2 * (1000 - 1) / 1000)

# %% [markdown] tags=["exercise"]
# ### Exercise 4 · How long it takes · 2/5 · 5 minutes
#
# A message of $b$ bytes takes `latency` seconds plus $b$ / `bandwidth` (bytes a second). Write
# `ring_seconds(ranks, size, bandwidth, latency)` for a gradient of `size` bytes, both phases.

# %% tags=["stub"]
def ring_seconds(ranks, size, bandwidth, latency):
    """Seconds of a ring all-reduce."""
    return ...

# %% tags=["check"]
def check(ring_seconds):
    alone = ring_seconds(1, 1e8, 1e8, 1e-3)
    assert alone == 0, f"one rank alone needs {alone} s, but it has nobody to talk to"
    wire = ring_seconds(4, 1e8, 1e8, 0.0)
    assert wire != 3.0, "3 s for 4 ranks: that is one phase with whole gradients; send a quarter each, in two phases"
    assert abs(wire - 1.5) < 1e-9, f"without latency 4 ranks need {wire} s, not 1.5: 2 · 3 rounds, a quarter each"
    both = ring_seconds(4, 1e8, 1e8, 1e-3)
    assert abs(both - 1.506) < 1e-9, f"with latency it is {both} s, not 1.506: every round waits once"


ring_seconds = lesson.check(check, ring_seconds)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# $2(N - 1)$ rounds, and in each a message of `size / ranks` bytes.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def ring_seconds(ranks, size, bandwidth, latency):
#     """Seconds of a ring all-reduce."""
#     return 2 * (ranks - 1) * (latency + size / ranks / bandwidth)
# ```
#
# </details>

# %% [markdown]
# ## 5. When is it worth it?
#
# ResNet-50's gradient has as many numbers as the net has parameters, four bytes each: `SIZE`. How long a training step
# with 8 images takes, `STEP`, is measured here and now. Each rank keeps its 8 images, so with more ranks a step does not
# get shorter, but has more images. Two links: office Ethernet with one gigabit a second, and a cluster's with a hundred.

# %% tags=["varies"]
big = resnet50()
SIZE = 4 * sum(parameter.numel() for parameter in big.parameters())
optimizer, seconds = SGD(big.parameters(), lr=0.1, momentum=0.9), []
for _ in range(3):
    started = time.perf_counter()
    optimizer.zero_grad()
    cross_entropy(big(tinynet.randn(8, 3, 224, 224)), tinynet.randint(0, 1000, (8,))).backward()
    optimizer.step()
    seconds.append(time.perf_counter() - started)
STEP = min(seconds)
print(f"a step takes {STEP:.2f} s, its gradient has {SIZE / 1e6:.0f} MB")

# %%
LINKS = {"1 Gbit/s, 50 µs": (1e9 / 8, 50e-6), "100 Gbit/s, 2 µs": (100e9 / 8, 2e-6)}
RANKS = [1, 2, 4, 8, 16, 64, 256, 1024]

# %% [markdown] tags=["predict"]
# **Predict.** On office Ethernet, from how many ranks on does a step spend more time talking than computing? (A number,
# or 0 for never.)

# %% tags=["predict"]
talks_more_from = ...  # a number of ranks

# %% tags=["varies"]
office = LINKS["1 Gbit/s, 50 µs"]
truth = next((ranks for ranks in range(1, 5000) if ring_seconds(ranks, SIZE, *office) > STEP), 0)
lesson.reveal("more talk than work from", talks_more_from, truth)
shares = {}
for name, link in LINKS.items():
    talk = [ring_seconds(ranks, SIZE, *link) for ranks in RANKS]
    shares[name] = (RANKS, [100 * seconds / (STEP + seconds) for seconds in talk])
lesson.show(
    plot.lines(shares, x="ranks", y="communication, % of a step", log="x", title="ResNet-50, 8 images per rank"),
    "Share of communication in a step against the number of ranks. On 1 Gbit/s it rises steeply with the first ranks "
    "and then stays nearly level; on 100 Gbit/s it stays at a few percent.",
)
slow, quick = (ring_seconds(1024, SIZE, *LINKS[name]) for name in ("1 Gbit/s, 50 µs", "100 Gbit/s, 2 µs"))
lesson.say(
    f"For every {STEP:.2f} s of computing a thousand ranks talk for {slow:.2f} s on office Ethernet, on the cluster's "
    f"network for {1000 * quick:.0f} ms."
)

# %% [markdown]
# The curve is nearly flat on the right: that is the beauty of the ring. And part of the talk can be hidden. Backward
# computes the *last* layer's gradient first, and that gradient can travel while the earlier layers are still computed.
# So gradients are put into **buckets**, from the last parameter to the first, and a bucket leaves when it is full.

# %% [markdown]
# ## 6. In tinynet
#
# All of it has torch's names. Without `mpiexec` the group has one rank, and the same code runs, here too.

# %%
distributed.init_process_group("mpi")
net = SyncBatchNorm.convert_sync_batchnorm(make_net(BatchNorm2d))
parallel = DistributedDataParallel(net)  # sends rank 0's parameters to all, averages gradients in backward
print("ranks:", distributed.get_world_size())
print("against the plain net:", f"{worst(gradients(parallel, images, labels), whole):.0e}")
for rank in range(3):
    sampler = DistributedSampler(range(10), num_replicas=3, rank=rank, shuffle=False)
    print(f"rank {rank} of 3 takes", list(sampler))
distributed.destroy_process_group()

# %% [markdown]
# Ten samples do not divide by three, so two are taken twice: every rank must make as many steps as the others, or they
# would wait for it for ever.
#
# ### On a cluster
#
# `pip install -e ".[mpi]"` brings mpi4py and MPICH with its `mpiexec`. All hosts need the same Python environment and the
# same files at the same paths.
#
# ```bash
# mpiexec -n 2 tinynet train                             # two ranks here
# mpiexec -f hosts -n 8 tinynet train --out /shared/runs # a line for each host: node1:4
# srun --mpi=pmix -n 8 tinynet train --out /shared/runs  # Slurm, with an mpi4py made for the cluster's own MPI
# tinynet train --resume /shared/runs/NAME               # goes on with any number of ranks, here one
# ```
#
# If a rank fails or is killed, the whole job ends and says which one it was; the last epoch's checkpoint is whole.

# %% [markdown] tags=["make"]
# ## Make: two ranks of your own
#
# Write the training of section 3 into a file `two.py`: `init_process_group` first, `DistributedDataParallel` around the
# net, and on rank $r$ only the images `images[32 * r : 32 * r + 32]`. Print the rank and a
# parameter at the end, as one string. Run it alone with all 64 images, then with `mpiexec -n 2 python two.py`, with and
# without `SyncBatchNorm`, in both precisions. Which of the four pairs agree, and to how many digits? Then leave
# `DistributedDataParallel` out: what do the ranks do?

# %%
lesson.progress()

# %% [markdown] tags=["recap"]
# ## Recap
#
# Say the answers aloud before you unfold them.
#
# 1. Why is it enough to average gradients? Why are the parameters never sent again?
# 2. When do two halves of a batch not give the gradient of the whole, and what helps?
# 3. Why does the order of a sum matter after 20 steps?
# 4. What does one rank send in a ring of 1000, and why does that hardly grow with more ranks?
# 5. Why are buckets filled from the last layer to the first?
#
# <details><summary>Answers</summary>
#
# 1. The loss is a mean over images. Equal nets that take equal steps stay equal.
# 2. With batch norm, whose statistics are the part's. Exchange count, mean and variance, and two sums in backward.
# 3. Rounding differs in the last digit, and one ReLU that switches the other way makes two trainings of it.
# 4. About two gradients: nearly 2000 rounds, each with a thousandth of it. With more ranks there are more, smaller ones.
# 5. Backward reaches the last layer first; its gradient travels while the others are still computed.
#
# </details>

# %% [markdown] tags=["paper"]
# ## The paper's sentence
#
# > "As of v1.5, PyTorch natively provides several techniques to accelerate distributed data parallel, including
# > bucketing gradients, overlapping computation with communication, and skipping gradient synchronization."
#
# Shen Li et al., *PyTorch Distributed: Experiences on Accelerating Data Parallel Training*, 2020, abstract. You know the
# first two: buckets leave while backward still runs. The third is `DistributedDataParallel.no_sync`: add several
# gradients up alone before you talk.

# %% [markdown] tags=["read"]
# ## Read on, in tinynet
#
# - `tinynet/nn/parallel/reducer.py`, `Reducer`: buckets, hooks, and what happens when backward ends
# - `tinynet/kernels/sync_batch_norm.py`, `moments_of_all`: your exercise 2
# - `tinynet/ranks.py`, `PartsOfBatches`: how `tinynet train` divides batches, unequal parts included
# - `tinynet/bench/ring.py`, `Plan`: your exercise 4, with what backward hides
