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
#     allowed: [numpy, math]
#     refused: []
# ---

# %% [markdown]
# # Assignment 3: Batch norm
#
# **Goal.** You write batch norm with all that a network needs of it: training mode forward and backward, running
# statistics, evaluation mode forward and backward. At the end a residual network trains on your functions, and a block of
# ResNet-50 on them gives torch's gradients.
#
# **You need:** lesson 5 (batch norm), lesson 2 (what wrong gradients look like). **Time:** two to three hours.
# **Points:** 20.
#
# | task | points |
# |---|---|
# | 1 · Training mode, forward | 5 |
# | 2 · Running statistics | 3 |
# | 3 · Evaluation mode, forward | 2 |
# | 4 · Training mode, backward | 4 |
# | 5 · Evaluation mode, backward | 2 |
# | 6 · Finale: a residual network on your functions | 4 |
#
# **How to work.** Replace the lines `# YOUR CODE HERE` and `raise NotImplementedError()` with your code. Below each task
# stand checks that say at once what is wrong. Your submission is graded by them and by further tests with other shapes
# and fresh random numbers. No task needs another one: if you are stuck, go on with the next.
#
# **Your own work.** Everything is to be computed with NumPy and plain Python; no other library can be imported.
# tinynet has an answer to each task (`F.batch_norm`, `nn.BatchNorm2d`, `tinynet.kernels.batch_norm_train`, ...): its use
# is refused. Keep the names and parameters of the functions. Cells without `YOUR CODE HERE` are given: they are replaced
# by the original ones before grading.
#
# **Names.** The arrays have the shape $(N, C, L)$: $N$ images, $C$ channels, $L = H \cdot W$ positions in a row. A
# channel has $n = N \cdot L$ numbers. All results have the dtype of `x`.

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import numpy as np

# %% [markdown]
# ## Task 1 · Training mode, forward · 5 points
#
# Each channel $c$ has one mean and one variance, over all images and all positions:
#
# $$\mu_c = \frac 1n \sum_{i,\,l} x_{i c l}, \qquad v_c = \frac 1n \sum_{i,\,l} (x_{i c l} - \mu_c)^2, \qquad
# \hat x = \frac{x - \mu}{\sqrt{v + \varepsilon}}, \qquad y = \gamma\, \hat x + \beta$$
#
# with $\gamma$ = `weight` and $\beta$ = `bias`. Some care is needed with numbers that are far from 0: the shortcut
# $v = \operatorname{mean}(x^2) - \mu^2$ subtracts two huge, nearly equal numbers. Use the formula as it stands. And a
# variance of a single number says nothing: refuse it.


# %% nbgrader={"grade": false, "grade_id": "batch_norm_train", "locked": false, "schema_version": 3, "solution": true, "task": false}
def batch_norm_train(x, weight, bias, eps):
    """Batch norm with the statistics of this batch.

    Args:
        x: array of shape (N, C, L), float32 or float64. It must not change.
        weight, bias: arrays of shape (C,), in the dtype of x.
        eps: positive float, added to the variance.

    Returns:
        tuple (y, mean, variance): y of shape (N, C, L), mean and variance of shape (C,), all in the dtype of x. The
        variance is the one that normalises, with 1/n, and without eps.

    Raises:
        ValueError: a channel has a single number (N·L = 1).
    """
    ### BEGIN SOLUTION
    if x.shape[0] * x.shape[2] == 1:
        raise ValueError(f"one number in each channel of an array of shape {x.shape}: it has no variance")
    mean = x.mean(axis=(0, 2), keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=(0, 2), keepdims=True)
    y = (x - mean) / np.sqrt(variance + eps) * weight[:, None] + bias[:, None]
    return y.astype(x.dtype), mean.ravel(), variance.ravel()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "batch_norm_train-statistics", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Mean and variance of each channel.
x = np.array([[[1.0, 2.0], [10.0, 10.0]], [[3.0, 6.0], [30.0, 30.0]]])  # two images, two channels, two positions
answer = batch_norm_train(x, np.ones(2), np.zeros(2), 1e-5)
assert isinstance(answer, (tuple, list)) and len(answer) == 3, "return three arrays: y, mean and variance"
_, mean, variance = answer
assert np.shape(mean) == (2,), f"there is one mean for each of the 2 channels, yours have the shape {np.shape(mean)}"
assert np.allclose(mean, [3, 20]), (
    f"channel 0 holds 1, 2, 3, 6 and channel 1 holds 10, 10, 30, 30: the means are 3 and 20, not {mean}"
)
assert np.shape(variance) == (2,), (
    f"there is one variance for each of the 2 channels, yours have the shape {np.shape(variance)}"
)
assert not np.allclose(variance, [14 / 3, 400 / 3]), (
    "your variance is divided by n - 1: the one that normalises is divided by n"
)
assert not np.allclose(variance, np.sqrt([3.5, 100])), "you return the standard deviation, the variance is its square"
assert np.allclose(variance, [3.5, 100], rtol=1e-9), (
    f"the variances are (4 + 1 + 0 + 9) / 4 = 3.5 and 100, not {variance} (without eps)"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(batch_norm_train)
    rng = fresh_generator()
    for shape in ((4, 3, 5), (3, 3, 3), (2, 4, 1), (1, 2, 6)):
        x = 3 * rng.standard_normal(shape) + 2 * rng.standard_normal((shape[1], 1))
        _, mean, variance = batch_norm_train(x.copy(), np.ones(shape[1]), np.zeros(shape[1]), 1e-5)
        channels = [x[:, channel].ravel() for channel in range(shape[1])]
        expected = np.array([channel.sum() / channel.size for channel in channels])
        wrong = {"the means run over the wrong axes": x.mean((1, 2))} if shape[0] == shape[1] else {}
        compare(mean, expected, f"the means of a batch of shape {shape}", rtol=1e-9, wrong=wrong)
        expected = np.array([((channel - channel.mean()) ** 2).sum() / channel.size for channel in channels])
        n = channels[0].size
        wrong = {
            "divided by n - 1: the variance that normalises is divided by n": expected * n / (n - 1),
            "eps is already in it: the variance is returned without": expected + 1e-5,
            "it is the standard deviation": np.sqrt(expected),
        }
        compare(variance, expected, f"the variances of a batch of shape {shape}", rtol=1e-9, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "batch_norm_train-normalised", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The normalised batch (weight 1, bias 0).
x = np.array([[[1.0, 2.0], [10.0, 10.0]], [[3.0, 6.0], [30.0, 30.0]]])
y = batch_norm_train(x, np.ones(2), np.zeros(2), 1e-5)[0]
assert np.shape(y) == (2, 2, 2), f"y has the shape of x, (2, 2, 2), yours {np.shape(y)}"
found = y[:, 0].ravel()
assert not np.allclose(found, [-2 / 3.5, -1 / 3.5, 0, 3 / 3.5], atol=1e-4), (
    "you divide by the variance: it is its square root"
)
assert abs(found.mean()) < 1e-6, (
    f"the mean of the normalised channel 0 is {found.mean():.3g}, it should be 0: subtract the channel's own mean"
)
assert np.allclose(found, np.array([-2, -1, 0, 3]) / 3.5**0.5, atol=1e-4), (
    f"1, 2, 3, 6 become -1.069, -0.535, 0, 1.604, yours are {found}"
)
assert np.allclose(y[:, 1].ravel(), [-1, -1, 1, 1], atol=1e-4), (
    f"10, 10, 30, 30 become -1, -1, 1, 1, yours are {y[:, 1].ravel()}"
)
single = batch_norm_train(*(array.astype(np.float32) for array in (x, np.ones(2), np.zeros(2))), 1e-5)
assert all(array.dtype == np.float32 for array in single), "float32 went in, another dtype came out"


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet import kernels
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(batch_norm_train)
    rng = fresh_generator()
    for shape in ((4, 3, 5), (3, 3, 3), (2, 4, 6)):
        x = 3 * rng.standard_normal(shape) + 2 * rng.standard_normal((1, *shape[1:]))
        ones, zeros = np.ones(shape[1]), np.zeros(shape[1])
        with kernels.backend("numpy"):
            expected = kernels.batch_norm_train(x, ones, zeros, 1e-12)[0]

        def over(*axes, correction=0):
            return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, ddof=correction, keepdims=True) + 1e-12)

        wrong = {
            "the statistics run over the wrong axes: each position by itself": over(0),
            "the statistics run over the wrong axes: each image by itself": over(2),
            "the statistics run over the wrong axes: each image with all of its channels": over(1, 2),
            "the statistics run over the wrong axes: all channels together": over(0, 1, 2),
            "the batch is normalised with the variance divided by n - 1": over(0, 2, correction=1),
            "the mean is not subtracted": x / np.sqrt(x.var((0, 2), keepdims=True) + 1e-12),
            "divided by the variance, not by its root": (x - x.mean((0, 2), keepdims=True))
            / (x.var((0, 2), keepdims=True) + 1e-12),
        }
        found = batch_norm_train(x.copy(), ones, zeros, 1e-12)[0]
        compare(found, expected, f"a normalised batch of shape {shape}", rtol=1e-9, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "batch_norm_train-weight", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Weight and bias, one number for each channel.
x = np.array([[[-1.0, 1.0], [-1.0, 1.0]]])  # one image, two channels, two positions: already normalised
y = batch_norm_train(x, np.array([1.0, 10.0]), np.array([0.0, 5.0]), 1e-12)[0]
assert not np.allclose(y[0], [[-1, 15], [-1, 15]]), (
    "weight and bias go along the positions: they have one number for each *channel*"
)
assert np.allclose(y[0, 0], [-1, 1]), f"channel 0 has the weight 1 and the bias 0: it stays [-1, 1], yours is {y[0, 0]}"
assert not np.allclose(y[0, 1], [40, 60]), "the bias is multiplied by the weight, too: it is weight · x̂ + bias"
assert np.allclose(y[0, 1], [-5, 15]), (
    f"channel 1 has the weight 10 and the bias 5: it becomes [-5, 15], yours is {y[0, 1]}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet import kernels
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(batch_norm_train)
    rng = fresh_generator()
    for shape in ((4, 3, 5), (3, 4, 4), (6, 2, 1)):
        x, weight, bias = (
            rng.standard_normal(shape),
            2 + rng.standard_normal(shape[1]),
            1 + rng.standard_normal(shape[1]),
        )
        with kernels.backend("numpy"):
            expected = kernels.batch_norm_train(x, weight, bias, 1e-12)[0]
            plain = kernels.batch_norm_train(x, np.ones(shape[1]), np.zeros(shape[1]), 1e-12)[0]
        by_channel = weight[:, None]
        wrong = {
            "weight and bias are forgotten": plain,
            "the bias is forgotten": by_channel * plain,
            "the weight is forgotten": plain + bias[:, None],
            "the bias is multiplied by the weight, too": by_channel * (plain + bias[:, None]),
        }
        if shape[1] == shape[2]:
            wrong["weight and bias go along the positions, not along the channels"] = weight * plain + bias
        compare(
            batch_norm_train(x.copy(), weight, bias, 1e-12)[0],
            expected,
            f"weight · x̂ + bias of shape {shape}",
            rtol=1e-9,
            wrong=wrong,
        )


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "batch_norm_train-careful", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Tiny variances, and numbers far from 0.
y = batch_norm_train(np.full((2, 1, 3), 7.0), np.array([1.0]), np.array([5.0]), 1e-5)[0]
assert np.isfinite(y).all(), "a channel of equal numbers becomes nan: add eps to the variance"
assert np.allclose(y, 5), f"a channel of equal numbers becomes the bias, 5, yours {y.ravel()}"
y = batch_norm_train(np.array([[[-0.001, 0.001]]]), np.ones(1), np.zeros(1), 1e-5)[0]
assert not np.isclose(y.max(), 0.001 / (0.001 + 1e-5)), "eps stands outside of the root: it is sqrt(variance + eps)"
assert np.isclose(y.max(), 0.001 / np.sqrt(1.1e-5)), (
    f"0.001 becomes 0.001 / sqrt(0.000001 + 0.00001) = 0.3015, yours {y.max():.4f}"
)
mean, variance = batch_norm_train(np.array([[[-1.0, 1.0]]]) + 1e8, np.ones(1), np.zeros(1), 1e-5)[1:]
assert np.isclose(variance[0], 1), (
    f"the variance of 10⁸ - 1 and 10⁸ + 1 is 1, yours is {variance[0]}: subtract the mean first, then square"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(batch_norm_train)
    rng = fresh_generator()
    for scale, eps in ((1e-3, 1e-5), (1e-2, 1e-3), (1.0, 0.5)):
        x = scale * rng.standard_normal((4, 3, 5))
        deviation = x.std((0, 2), keepdims=True)
        centred = x - x.mean((0, 2), keepdims=True)
        wrong = {
            "eps stands outside of the root": centred / (deviation + eps),
            "eps is forgotten": centred / deviation,
            "eps is squared: it is added to the variance as it is": centred / np.sqrt(deviation**2 + eps**2),
        }
        found = batch_norm_train(x.copy(), np.ones(3), np.zeros(3), eps)[0]
        expected = centred / np.sqrt(deviation**2 + eps)
        compare(found, expected, f"a batch with a deviation of {scale:g} and eps {eps:g}", rtol=1e-9, wrong=wrong)
    x = rng.standard_normal((4, 3, 50))
    far = x + 1e7
    y, mean, variance = batch_norm_train(far, np.ones(3), np.zeros(3), 1e-5)
    exact = (far - 1e7).var((0, 2))
    wrong = {
        "digits are lost in mean(x²) - mean(x)²: subtract the mean first, then square": (far**2).mean((0, 2))
        - far.mean((0, 2)) ** 2
    }
    compare(variance, exact, "the variance of numbers around 10,000,000", rtol=1e-6, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS


# %% nbgrader={"grade": true, "grade_id": "batch_norm_train-one", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# A single number in each channel is refused, two are not.
def refuses(shape):
    try:
        batch_norm_train(np.ones(shape), np.ones(shape[1]), np.zeros(shape[1]), 1e-5)
    except ValueError:
        return True
    return False


assert refuses((1, 3, 1)), (
    "one image with one position: a channel has a single number and no variance, so raise a ValueError"
)
assert not refuses((2, 3, 1)), "two images with one position are two numbers for each channel: nothing to refuse"
assert not refuses((1, 3, 2)), "one image with two positions has two numbers for each channel: nothing to refuse"


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import require_own_work

    require_own_work(batch_norm_train)
    assert refuses((1, 1, 1)), "one image, one channel, one position: a ValueError is due"
    assert not refuses((2, 1, 1)) and not refuses((1, 1, 5)), "two numbers in a channel are enough"


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2 · Running statistics · 3 points
#
# For evaluation the layer notes statistics while it trains. After each batch they move towards the batch by the share
# $m$ = `momentum`,
#
# $$\text{running} \leftarrow (1 - m) \cdot \text{running} + m \cdot \text{batch} .$$
#
# The mean goes in as it is. Of the variance the *unbiased* one goes in, $\frac{n}{n-1} v$: it is to describe all images,
# and a batch is only a sample of them. What you are given is $v$ of task 1, and $n$.


# %% nbgrader={"grade": false, "grade_id": "update_running", "locked": false, "schema_version": 3, "solution": true, "task": false}
def update_running(running_mean, running_var, mean, variance, count, momentum):
    """The running statistics after one more batch.

    Args:
        running_mean, running_var: arrays of shape (C,), as they are so far.
        mean, variance: arrays of shape (C,), of the batch, as batch_norm_train returns them (variance with 1/n).
        count: int, n: how many numbers each channel of the batch had, at least 2.
        momentum: float between 0 and 1, the share of the new batch.

    Returns:
        tuple (running_mean, running_var) of two new arrays of shape (C,).
    """
    ### BEGIN SOLUTION
    unbiased = variance * count / (count - 1)
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * unbiased
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "update_running-mean", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The running mean.
answer = update_running(np.array([0.0, 10.0]), np.ones(2), np.array([100.0, 20.0]), np.ones(2), 8, 0.1)
assert isinstance(answer, (tuple, list)) and len(answer) == 2, (
    "return two arrays: the running mean and the running variance"
)
found = answer[0]
assert np.shape(found) == (2,), f"there is one running mean for each channel: shape (2,), not {np.shape(found)}"
assert not np.allclose(found, [90, 19]), "you keep a tenth of the old mean: momentum is the share of the *new* batch"
assert not np.allclose(found, [100, 20]), "you return the mean of the batch alone: the old one has a share, too"
assert np.allclose(found, [10, 11]), (
    f"with momentum 0.1, 0 and 10 move a tenth of the way to 100 and 20: [10, 11], not {found}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(update_running)
    rng = fresh_generator()
    for momentum in (0.1, 0.3, 1.0, 0.0):
        before, mean = rng.standard_normal(4), rng.standard_normal(4)
        found = update_running(before.copy(), np.ones(4), mean, 1 + rng.random(4), 12, momentum)[0]
        expected = before + momentum * (mean - before)
        wrong = {
            "momentum the wrong way round: it is the share of the new batch": momentum * before + (1 - momentum) * mean,
            "the old mean is kept whole, its share is 1 - momentum": before + momentum * mean,
            "the mean is corrected by n / (n - 1), too": (1 - momentum) * before + momentum * mean * 12 / 11,
        }
        wrong = {words: array for words, array in wrong.items() if not np.allclose(array, expected)}
        compare(found, expected, f"the running mean with momentum {momentum:g}", rtol=1e-9, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "update_running-variance", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# The running variance.
answer = update_running(np.zeros(2), np.array([1.0, 10.0]), np.zeros(2), np.array([3.0, 6.0]), 4, 0.5)
assert isinstance(answer, (tuple, list)) and len(answer) == 2, (
    "return two arrays: the running mean and the running variance"
)
found = answer[1]
assert np.shape(found) == (2,), f"there is one running variance for each channel: shape (2,), not {np.shape(found)}"
assert not np.allclose(found, [2, 8]), "the biased variance went in: correct it by n / (n - 1), here 4/3"
assert not np.allclose(found, [8 / 3, 32 / 3]), (
    "the old running variance is corrected, too: correct that of the batch before the two are mixed"
)
assert not np.allclose(found, [1.625, 7.25]), "you corrected by (n - 1) / n: the unbiased variance is the *larger* one"
assert np.allclose(found, [2.5, 9]), f"half of 1 and 10, and half of the unbiased 4 and 8: [2.5, 9], not {found}"


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(update_running)
    rng = fresh_generator()
    for count, momentum in ((2, 0.1), (5, 0.3), (12, 1.0), (40, 0.1)):
        before, variance = 1 + rng.random(4), 1 + rng.random(4)
        found = update_running(
            rng.standard_normal(4), before.copy(), rng.standard_normal(4), variance, count, momentum
        )[1]
        unbiased = np.array([v * count / (count - 1) for v in variance])
        expected = before + momentum * (unbiased - before)
        wrong = {
            "the biased variance went in, it is to be corrected by n / (n - 1)": before
            + momentum * (variance - before),
            "momentum the wrong way round: it is the share of the new batch": momentum * before
            + (1 - momentum) * unbiased,
            "corrected by (n - 1) / n, the wrong way round": before
            + momentum * (variance * (count - 1) / count - before),
            "the old running variance is corrected, too": (before + momentum * (variance - before))
            * count
            / (count - 1),
        }
        wrong = {words: array for words, array in wrong.items() if not np.allclose(array, expected)}
        compare(
            found, expected, f"the running variance with n = {count} and momentum {momentum:g}", rtol=1e-9, wrong=wrong
        )


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3 · Evaluation mode, forward · 2 points
#
# In evaluation mode the answer for an image must not depend on its companions. So the statistics are given constants:
#
# $$y = \gamma \, \frac{x - \mu}{\sqrt{v + \varepsilon}} + \beta$$
#
# with the running $\mu$ and $v$. A single image with a single position is fine here.


# %% nbgrader={"grade": false, "grade_id": "batch_norm_eval", "locked": false, "schema_version": 3, "solution": true, "task": false}
def batch_norm_eval(x, weight, bias, mean, variance, eps):
    """Batch norm with given statistics.

    Args:
        x: array of shape (N, C, L), float32 or float64. It must not change.
        weight, bias, mean, variance: arrays of shape (C,), in the dtype of x.
        eps: positive float, added to the variance.

    Returns:
        array of shape (N, C, L), in the dtype of x.
    """
    ### BEGIN SOLUTION
    scale = weight / np.sqrt(variance + eps)
    return ((x - mean[:, None]) * scale[:, None] + bias[:, None]).astype(x.dtype)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "batch_norm_eval-constants", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The given statistics count, not those of the batch.
x = np.array([[[1.0, 3.0], [20.0, 60.0]]])
one, zero = np.ones(2), np.zeros(2)
y = batch_norm_eval(x, one, zero, zero, one, 1e-12)
assert y is not None, "batch_norm_eval returned None: is there a return?"
assert np.shape(y) == (1, 2, 2), f"y has the shape of x, (1, 2, 2), yours {np.shape(y)}"
assert not np.allclose(y, [[[-1, 1], [-1, 1]]]), "you normalise with the statistics of the batch: use the given ones"
assert np.allclose(y, x), f"with mean 0, variance 1, weight 1 and bias 0 nothing changes; yours is {y.tolist()}"
y = batch_norm_eval(x, one, zero, np.array([1.0, 20.0]), np.array([4.0, 100.0]), 1e-12)
assert not np.allclose(y, [[[0, 0.5], [0, 0.4]]]), "you divide by the variance: it is its square root"
assert np.allclose(y, [[[0, 1], [0, 4]]]), (
    f"with the means 1 and 20 and the variances 4 and 100, x becomes [[0, 1], [0, 4]], yours {y[0].tolist()}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet import kernels
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(batch_norm_eval)
    rng = fresh_generator()
    for shape, eps in (((4, 3, 5), 1e-5), ((3, 4, 4), 0.1), ((1, 2, 1), 1e-5)):
        x, mean, variance = rng.standard_normal(shape), rng.standard_normal(shape[1]), 0.5 + rng.random(shape[1])
        ones, zeros = np.ones(shape[1]), np.zeros(shape[1])
        with kernels.backend("numpy"):
            expected = kernels.batch_norm_eval(x, ones, zeros, mean, variance, eps)
        centred, spread = x - mean[:, None], variance[:, None]
        wrong = {
            "the batch's own statistics were used": (x - x.mean((0, 2), keepdims=True))
            / np.sqrt(x.var((0, 2), keepdims=True) + eps),
            "the mean is not subtracted": x / np.sqrt(spread + eps),
            "divided by the variance, not by its root": centred / (spread + eps),
            "eps stands outside of the root": centred / (np.sqrt(spread) + eps),
            "eps is forgotten": centred / np.sqrt(spread),
        }
        found = batch_norm_eval(x.copy(), ones, zeros, mean, variance, eps)
        compare(found, expected, f"evaluation of a batch of shape {shape} with eps {eps:g}", rtol=1e-9, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "batch_norm_eval-weight", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Weight and bias.
x = np.array([[[1.0, 3.0], [20.0, 60.0]]])
y = batch_norm_eval(x, np.array([2.0, 1.0]), np.array([0.0, 5.0]), np.array([1.0, 20.0]), np.array([4.0, 100.0]), 1e-12)
assert np.allclose(y[0, 0], [0, 2]), f"channel 0 with weight 2 becomes 2 · [0, 1], yours {y[0, 0]}"
assert np.allclose(y[0, 1], [5, 9]), f"channel 1 with bias 5 becomes [0, 4] + 5, yours {y[0, 1]}"


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet import kernels
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(batch_norm_eval)
    rng = fresh_generator()
    for shape in ((4, 3, 5), (3, 4, 4), (1, 2, 1)):
        x, weight, bias, mean = (rng.standard_normal(size) for size in (shape, shape[1], shape[1], shape[1]))
        variance = 0.5 + rng.random(shape[1])
        with kernels.backend("numpy"):
            expected = kernels.batch_norm_eval(x, weight, bias, mean, variance, 1e-12)
        plain = (x - mean[:, None]) / np.sqrt(variance[:, None] + 1e-12)
        wrong = {
            "weight and bias are forgotten": plain,
            "the bias is forgotten": weight[:, None] * plain,
            "the weight is forgotten": plain + bias[:, None],
            "the bias is multiplied by the weight, too": weight[:, None] * (plain + bias[:, None]),
        }
        if shape[1] == shape[2]:
            wrong["weight and bias go along the positions, not along the channels"] = weight * plain + bias
        found = batch_norm_eval(x.copy(), weight, bias, mean, variance, 1e-12)
        compare(found, expected, f"evaluation with weight and bias, shape {shape}", rtol=1e-9, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4 · Training mode, backward · 4 points
#
# Let $g$ be the gradient at $y$. Weight and bias are used at every position of every image:
#
# $$\frac{\partial L}{\partial \beta_c} = \sum_{i,\,l} g_{icl}, \qquad
# \frac{\partial L}{\partial \gamma_c} = \sum_{i,\,l} g_{icl}\, \hat x_{icl} .$$
#
# To $x$ lead three ways: directly, by the mean, and by the variance, since both were computed from $x$. Together
#
# $$\frac{\partial L}{\partial x} = \frac{\gamma}{\sqrt{v + \varepsilon}} \Big( g
# - \frac 1n \frac{\partial L}{\partial \beta} - \hat x \cdot \frac 1n \frac{\partial L}{\partial \gamma} \Big) .$$
#
# Mean and variance of the batch are given, so that you need not compute them again; $\hat x$ you compute from them.


# %% nbgrader={"grade": false, "grade_id": "batch_norm_train_backward", "locked": false, "schema_version": 3, "solution": true, "task": false}
def batch_norm_train_backward(grad, x, weight, mean, variance, eps):
    """The gradients of batch norm where the statistics came from x itself.

    Args:
        grad: array of shape (N, C, L), the gradient of y.
        x: array of shape (N, C, L), the input of the forward pass.
        weight: array of shape (C,).
        mean, variance: arrays of shape (C,), the statistics of x (variance with 1/n).
        eps: positive float, that of the forward pass.

    Returns:
        tuple (grad_x, grad_weight, grad_bias): arrays of the shapes (N, C, L), (C,) and (C,), in the dtype of x.
    """
    ### BEGIN SOLUTION
    count = x.shape[0] * x.shape[2]
    deviation = np.sqrt(variance + eps)[:, None]
    normalised = (x - mean[:, None]) / deviation
    grad_bias, grad_weight = grad.sum(axis=(0, 2)), (grad * normalised).sum(axis=(0, 2))
    shift, scale = grad_bias[:, None] / count, grad_weight[:, None] / count
    grad_x = weight[:, None] / deviation * (grad - shift - normalised * scale)
    return grad_x.astype(x.dtype), grad_weight, grad_bias
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "batch_norm_train_backward-bias", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The gradient of bias.
x, grad = np.array([[[-1.0, 1.0], [-1.0, 1.0]]]), np.array([[[1.0, 2.0], [10.0, 30.0]]])
answer = batch_norm_train_backward(grad, x, np.array([1.0, 2.0]), np.zeros(2), np.ones(2), 1e-12)
assert isinstance(answer, (tuple, list)) and len(answer) == 3, "return three gradients: of x, of weight and of bias"
found = answer[2]
assert np.shape(found) == (2,), f"bias has the shape (2,), so has its gradient, not {np.shape(found)}"
assert not np.allclose(found, [1.5, 20]), "the gradient of bias is a mean: every position used it, so add up"
assert not np.allclose(found, [3, 80]), "the weight is in the gradient of bias: the bias is added after it"
assert np.allclose(found, [3, 40]), (
    f"the gradients of channel 0 are 1 and 2, of channel 1 they are 10 and 30: bias gets [3, 40], not {found}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(batch_norm_train_backward)
    rng = fresh_generator()
    for shape in ((4, 3, 5), (3, 3, 3)):
        x, grad, weight = rng.standard_normal(shape), rng.standard_normal(shape), 2 + rng.random(shape[1])
        found = batch_norm_train_backward(grad.copy(), x.copy(), weight, x.mean((0, 2)), x.var((0, 2)), 1e-5)[2]
        expected = np.array([grad[:, channel].sum() for channel in range(shape[1])])
        wrong = {
            "a mean stands where a sum should": expected / (shape[0] * shape[2]),
            "not summed over the batch": grad[0].sum(1),
            "the weight is in it": weight * expected,
        }
        if shape[0] == shape[1]:
            wrong["summed over the wrong axes"] = grad.sum((1, 2))
        compare(found, expected, f"the gradient of bias for shape {shape}", rtol=1e-9, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "batch_norm_train_backward-weight", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The gradient of weight.
x, grad = np.array([[[1.0, 5.0], [-1.0, 1.0]]]), np.array([[[1.0, 2.0], [10.0, 30.0]]])
answer = batch_norm_train_backward(grad, x, np.array([1.0, 2.0]), np.array([3.0, 0.0]), np.array([4.0, 1.0]), 1e-12)
assert isinstance(answer, (tuple, list)) and len(answer) == 3, "return three gradients: of x, of weight and of bias"
found = answer[1]
assert np.shape(found) == (2,), f"weight has the shape (2,), so has its gradient, not {np.shape(found)}"
assert not np.allclose(found, [11, 20]), "you multiply grad by x: the weight stands before the normalised x̂"
assert not np.allclose(found, [0.5, 10]), "the gradient of weight is a mean: every position used it, so add up"
assert not np.allclose(found, [1, 40]), "the weight itself is in its gradient: that of γ · x̂ by γ is x̂ alone"
assert np.allclose(found, [1, 20]), (
    f"x̂ is -1 and 1 in both channels, so weight gets 2 - 1 and 30 - 10: [1, 20], not {found}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(batch_norm_train_backward)
    rng = fresh_generator()
    for shape, eps in (((4, 3, 5), 1e-5), ((3, 3, 3), 0.1)):
        x, grad, weight = 2 * rng.standard_normal(shape) + 1, rng.standard_normal(shape), 2 + rng.random(shape[1])
        mean, variance = x.mean((0, 2)), x.var((0, 2))
        found = batch_norm_train_backward(grad.copy(), x.copy(), weight, mean, variance, eps)[1]
        centred = x - mean[:, None]
        expected = np.einsum("ncl,ncl->c", grad, centred) / np.sqrt(variance + eps)
        wrong = {
            "x stands where the normalised x̂ should": (grad * x).sum((0, 2)),
            "the mean is not subtracted in x̂": (grad * x).sum((0, 2)) / np.sqrt(variance + eps),
            "x̂ is not divided by the standard deviation": (grad * centred).sum((0, 2)),
            "a mean stands where a sum should": expected / (shape[0] * shape[2]),
            "the weight is in it": weight * expected,
            "eps is forgotten": expected * np.sqrt((variance + eps) / variance),
        }
        compare(found, expected, f"the gradient of weight for shape {shape} with eps {eps:g}", rtol=1e-9, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "batch_norm_train_backward-input", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# The gradient of x.
x, grad = np.array([[[1.0, 2.0, 3.0, 6.0]]]), np.array([[[1.0, 0.0, 0.0, 0.0]]])
answer = batch_norm_train_backward(grad, x, np.array([1.0]), np.array([3.0]), np.array([3.5]), 1e-12)
assert isinstance(answer, (tuple, list)) and len(answer) == 3, "return three gradients: of x, of weight and of bias"
found = answer[0]
assert np.shape(found) == (1, 1, 4), f"x has the shape (1, 1, 4), so has its gradient, not {np.shape(found)}"
assert not np.allclose(found, grad / 3.5**0.5), (
    "mean and variance are taken for constants, but both depend on x: two of the three ways are missing"
)
assert abs(np.sum(found)) < 1e-9, (
    f"the gradient of x sums to {np.sum(found):.3g} in this channel, it should be 0: a common shift of x changes "
    "nothing (the way by the mean)"
)
assert abs(np.sum(found * x)) < 1e-9, (
    f"the gradient of x times x sums to {np.sum(found * x):.3g}, it should be 0: a common scale of x changes nothing "
    "(the way by the variance)"
)
expected = np.array([13 / 28, -11 / 28, -7 / 28, 5 / 28]) / 3.5**0.5
assert np.allclose(found.ravel(), expected), f"x gets {expected}, yours is {found.ravel()}"


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet import kernels
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(batch_norm_train_backward)
    rng = fresh_generator()
    for shape, eps in (((4, 3, 5), 1e-5), ((3, 3, 3), 0.1), ((6, 2, 1), 1e-5)):
        x, grad, weight = 2 * rng.standard_normal(shape) + 1, rng.standard_normal(shape), 2 + rng.random(shape[1])
        mean, variance = x.mean((0, 2)), x.var((0, 2))
        with kernels.backend("numpy"):
            expected = kernels.batch_norm_train_backward(grad, x, weight, mean, variance, eps)[0]
        deviation, gamma, n = np.sqrt(variance + eps)[:, None], weight[:, None], shape[0] * shape[2]
        normalised = (x - mean[:, None]) / deviation
        shift, scale = grad.mean((0, 2), keepdims=True), normalised * (grad * normalised).mean((0, 2), keepdims=True)
        right = gamma / deviation * (grad - shift - scale)
        wrong = {
            "mean and variance are taken for constants: the gradients through both are dropped": gamma
            / deviation
            * grad,
            "the variance's gradient is dropped": gamma / deviation * (grad - shift),
            "the mean's gradient is dropped": gamma / deviation * (grad - scale),
            "the factor weight is missing": right / gamma,
            "the factor 1 / sqrt(variance + eps) is missing": right * deviation,
            "sums stand where means should: divide by n": gamma / deviation * (grad - n * (shift + scale)),
            "divided by n - 1, not by n": gamma / deviation * (grad - n / (n - 1) * (shift + scale)),
            "the way by the variance has the wrong sign": gamma / deviation * (grad - shift + scale),
            "divided by N, not by n = N·L": gamma / deviation * (grad - shape[2] * (shift + scale)),
        }
        wrong = {words: array for words, array in wrong.items() if not np.allclose(array, expected)}
        found = batch_norm_train_backward(grad.copy(), x.copy(), weight, mean, variance, eps)[0]
        compare(found, expected, f"the gradient of x for shape {shape} with eps {eps:g}", rtol=1e-9, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5 · Evaluation mode, backward · 2 points
#
# Networks are also trained with their batch norms in evaluation mode (detectors, which see one or two images at a time).
# Then mean and variance are constants: of the three ways only the direct one is left,
#
# $$\frac{\partial L}{\partial x} = \frac{\gamma}{\sqrt{v + \varepsilon}}\; g ,$$
#
# and weight and bias have the same sums as before, with the $\hat x$ of the given statistics.


# %% nbgrader={"grade": false, "grade_id": "batch_norm_eval_backward", "locked": false, "schema_version": 3, "solution": true, "task": false}
def batch_norm_eval_backward(grad, x, weight, mean, variance, eps):
    """The gradients of batch norm where the statistics are constants.

    Args:
        grad: array of shape (N, C, L), the gradient of y.
        x: array of shape (N, C, L), the input of the forward pass.
        weight: array of shape (C,).
        mean, variance: arrays of shape (C,), the running statistics that were used (not those of x).
        eps: positive float, that of the forward pass.

    Returns:
        tuple (grad_x, grad_weight, grad_bias): arrays of the shapes (N, C, L), (C,) and (C,), in the dtype of x.
    """
    ### BEGIN SOLUTION
    deviation = np.sqrt(variance + eps)[:, None]
    normalised = (x - mean[:, None]) / deviation
    grad_x = (weight[:, None] / deviation * grad).astype(x.dtype)
    return grad_x, (grad * normalised).sum(axis=(0, 2)), grad.sum(axis=(0, 2))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "batch_norm_eval_backward-input", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The gradient of x.
x, grad = np.array([[[1.0, 2.0, 3.0, 6.0]]]), np.array([[[1.0, 0.0, 0.0, -2.0]]])
answer = batch_norm_eval_backward(grad, x, np.array([10.0]), np.array([1.0]), np.array([4.0]), 1e-12)
assert isinstance(answer, (tuple, list)) and len(answer) == 3, "return three gradients: of x, of weight and of bias"
found = answer[0]
assert np.shape(found) == (1, 1, 4), f"x has the shape (1, 1, 4), so has its gradient, not {np.shape(found)}"
assert np.allclose(found[0, 0, 1:3], 0), (
    "where the gradient of y is 0 that of x is not: you subtract means, but the statistics are constants here"
)
assert np.allclose(found.ravel(), [5, 0, 0, -10]), (
    f"the factor is 10 / sqrt(4), so x gets [5, 0, 0, -10], yours is {found.ravel()}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet import kernels
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(batch_norm_eval_backward)
    rng = fresh_generator()
    for shape, eps in (((4, 3, 5), 1e-5), ((1, 2, 1), 0.1)):
        x, grad, weight = rng.standard_normal(shape), rng.standard_normal(shape), 2 + rng.random(shape[1])
        mean, variance = rng.standard_normal(shape[1]), 2 + rng.random(shape[1])
        with kernels.backend("numpy"):
            expected = kernels.batch_norm_eval_backward(grad, x, weight, mean, variance, eps)[0]
            training = kernels.batch_norm_train_backward(grad, x, weight, mean, variance, eps)[0]
        wrong = {
            "that is the gradient of training mode: here the statistics are constants": training,
            "the factor weight is missing": expected / weight[:, None],
            "the factor 1 / sqrt(variance + eps) is missing": weight[:, None] * grad,
            "divided by the variance, not by its root": weight[:, None] / (variance + eps)[:, None] * grad,
        }
        found = batch_norm_eval_backward(grad.copy(), x.copy(), weight, mean, variance, eps)[0]
        compare(found, expected, f"the gradient of x in evaluation mode, shape {shape}", rtol=1e-9, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "batch_norm_eval_backward-parameters", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The gradients of weight and bias.
x, grad = np.array([[[1.0, 5.0], [2.0, 4.0]]]), np.array([[[1.0, 2.0], [10.0, 30.0]]])
answer = batch_norm_eval_backward(grad, x, np.array([3.0, 7.0]), np.array([1.0, 0.0]), np.array([4.0, 1.0]), 1e-12)
assert isinstance(answer, (tuple, list)) and len(answer) == 3, "return three gradients: of x, of weight and of bias"
assert np.allclose(answer[2], [3, 40]), (
    f"the gradients of channel 0 are 1 and 2, of channel 1 they are 10 and 30: bias gets [3, 40], not {answer[2]}"
)
assert not np.allclose(answer[1], [1, 20]), "x̂ is made with the statistics of x: use the given mean and variance"
assert np.allclose(answer[1], [4, 140]), (
    f"x̂ is [0, 2] and [2, 4] here, so weight gets 2·2 and 10·2 + 30·4: [4, 140], not {answer[1]}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet import kernels
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(batch_norm_eval_backward)
    rng = fresh_generator()
    for shape, eps in (((4, 3, 5), 1e-5), ((3, 3, 3), 0.1)):
        x, grad, weight = rng.standard_normal(shape), rng.standard_normal(shape), 2 + rng.random(shape[1])
        mean, variance = rng.standard_normal(shape[1]), 2 + rng.random(shape[1])
        with kernels.backend("numpy"):
            _, by_weight, by_bias = kernels.batch_norm_eval_backward(grad, x, weight, mean, variance, eps)
        own = (x - x.mean((0, 2), keepdims=True)) / np.sqrt(x.var((0, 2), keepdims=True) + eps)
        n = shape[0] * shape[2]
        wrong = {
            "x̂ is made with the statistics of the batch": (grad * own).sum((0, 2)),
            "x stands where the normalised x̂ should": (grad * x).sum((0, 2)),
            "a mean stands where a sum should": by_weight / n,
        }
        _, found_weight, found_bias = batch_norm_eval_backward(grad.copy(), x.copy(), weight, mean, variance, eps)
        compare(
            found_weight, by_weight, f"the gradient of weight in evaluation mode, shape {shape}", rtol=1e-9, wrong=wrong
        )
        wrong = {"a mean stands where a sum should": by_bias / n, "not summed over the batch": grad[0].sum(1)}
        compare(found_bias, by_bias, f"the gradient of bias in evaluation mode, shape {shape}", rtol=1e-9, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6 · Finale: a residual network on your functions · 4 points
#
# Nothing is left to write. `kernels.override` puts your functions in the place of tinynet's own, and counts how often
# they were called. The network is the ResNet-20 of He et al. (2015, section 4.2) with a batch norm after each of its 19
# convolutions: first one step of training, then its running statistics, then evaluation mode.

# %% nbgrader={"grade": true, "grade_id": "finale-training", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# A ResNet-20 in training mode on your forward and backward, compared layer by layer.
import tinynet
from tinynet import kernels, models, nn

tinynet.manual_seed(0)
network, images = models.cifar_resnet20().double(), tinynet.randn(4, 3, 16, 16, dtype=tinynet.float64)
with tinynet.no_grad():
    for parameter in network.parameters():
        if parameter.ndim == 1:  # the norms' weights and biases are no longer 1 and 0
            parameter += tinynet.randn(*parameter.shape, dtype=tinynet.float64) / 4
outputs = {}
for name, module in network.named_modules():
    if isinstance(module, nn.BatchNorm2d):
        module.register_forward_hook(
            lambda module, args, y, name=name: outputs.update({f"the output of {name}": y.detach().numpy().copy()})
        )


def step():
    """The output of every batch norm, and the gradients of all parameters."""
    network.zero_grad()
    logits = network(images)
    (logits * logits).sum().backward()
    gradients = {f"the gradient of {name}": array.grad.numpy() for name, array in network.named_parameters()}
    return {**outputs, "the logits": logits.detach().numpy(), **gradients}


yours = {"batch_norm_train": batch_norm_train, "batch_norm_train_backward": batch_norm_train_backward}
with kernels.backend("numpy"):
    by_tinynet = step()
    with kernels.override(**yours) as used:
        by_you = step()
for name, expected in by_tinynet.items():
    error = np.abs(by_you[name] - expected).max() / max(np.abs(expected).max(), 1e-6)
    assert error < 1e-6, f"{name} in ResNet-20 differs by {error:.0e} from tinynet's, it should be about 1e-12"
print("your functions were called", used.calls)
assert set(used.calls.values()) == {19}, f"your functions were called {used.calls}, there are 19 batch norms"


### BEGIN HIDDEN TESTS
def hidden_tests():
    import sys
    from dataclasses import replace
    from pathlib import Path

    from tinynet.grading import require_own_work

    require_own_work(batch_norm_train, batch_norm_train_backward)
    sys.path.insert(0, str(Path(tinynet.__file__).parents[1]))
    try:
        from tests.reference.cases import family_cases
        from tests.reference.store import difference, load, record, tolerance
    except ImportError:
        stored = {}  # installed without its tests: the comparison with tinynet above has to do
    else:
        stored = load("models")
    finally:
        del sys.path[0]
    if stored:  # torch's results for a block of ResNet-50 in training mode, running statistics included
        case = next(case for case in family_cases("models") if case.name == "models/resnet50 layer2.1")
        case = replace(case, build=lambda models: models.resnet.Bottleneck(512, 128))
        with kernels.backend("numpy"), kernels.override(**yours) as used:
            results = case.evaluate(tinynet, "float64")
        assert set(used.calls.values()) == {3}, f"your functions were called {used.calls}, there are 3 batch norms"
        for name, array in results.items():
            key = f"{case.name}|float64|{name}"
            problem = difference(record(key, array), stored[key], tolerance(key, "float64"))
            assert not problem, (
                f"{name or 'the output'} of a block of ResNet-50, on your functions, is not torch's: {problem}"
            )


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "finale-running", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Three batches go through the network; your update_running follows all of its batch norms.
import tinynet
from tinynet import kernels, models, nn

tinynet.manual_seed(1)
network = models.cifar_resnet20().double()
norms = {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
running = {name: (np.zeros(norm.num_features), np.ones(norm.num_features)) for name, norm in norms.items()}
inputs = {}
for name, norm in norms.items():
    norm.register_forward_pre_hook(lambda module, args, name=name: inputs.update({name: args[0].numpy()}))
with tinynet.no_grad(), kernels.backend("numpy"):
    for _ in range(3):
        network(tinynet.randn(4, 3, 16, 16, dtype=tinynet.float64))
        for name, x in inputs.items():
            n = x.shape[0] * x.shape[2] * x.shape[3]
            running[name] = update_running(*running[name], x.mean((0, 2, 3)), x.var((0, 2, 3)), n, 0.1)
for name, norm in norms.items():
    for words, found, expected in zip(("mean", "variance"), running[name], (norm.running_mean, norm.running_var)):
        error = np.abs(found - expected.numpy()).max() / np.abs(expected.numpy()).max()
        assert error < 1e-6, (
            f"after three batches the running {words} of {name} differs by {error:.0e} from the network's, it should "
            "be about 1e-15"
        )


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import require_own_work

    require_own_work(update_running)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "finale-evaluation", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The network in evaluation mode on your functions, forward and backward.
import tinynet
from tinynet import kernels, models

tinynet.manual_seed(2)
network, images = models.cifar_resnet20().double(), tinynet.randn(4, 3, 16, 16, dtype=tinynet.float64)
with tinynet.no_grad():
    for parameter in network.parameters():
        if parameter.ndim == 1:  # the norms' weights and biases are no longer 1 and 0
            parameter += tinynet.randn(*parameter.shape, dtype=tinynet.float64) / 4
yours = {"batch_norm_eval": batch_norm_eval, "batch_norm_eval_backward": batch_norm_eval_backward}
with kernels.backend("numpy"):
    network(images)  # one batch in training mode, for the running statistics
    network.eval()
    results = []
    for functions in ({}, yours):
        network.zero_grad()
        with kernels.override(**functions) as used:
            logits = network(images)
            (logits * logits).sum().backward()
        gradients = {f"the gradient of {name}": array.grad.numpy() for name, array in network.named_parameters()}
        results.append({"the logits": logits.detach().numpy(), **gradients})
for name, expected in results[0].items():
    error = np.abs(results[1][name] - expected).max() / max(np.abs(expected).max(), 1e-6)
    assert error < 1e-6, (
        f"{name} of ResNet-20 in evaluation mode differs by {error:.0e} from tinynet's, it should be about 1e-12"
    )
print("your functions were called", used.calls)
assert set(used.calls.values()) == {19}, f"your functions were called {used.calls}, there are 19 batch norms"


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import require_own_work

    require_own_work(batch_norm_eval, batch_norm_eval_backward)


hidden_tests()
### END HIDDEN TESTS
