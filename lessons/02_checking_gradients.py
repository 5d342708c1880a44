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
# # Lesson 2: Checking gradients
#
# **Goal.** You build the tool that tells whether a gradient is right, find out how far it can be trusted, and use it
# to diagnose seven mistakes that everyone makes once.
#
# **Time:** 45-60 minutes, of which the computer needs a few seconds.
#
# **You need:** lesson 1: the nudge, tensors, and `backward` with a gradient from above.
#
# **New in tinynet:** `tinynet.autograd.Function`, `tinynet.autograd.gradcheck`

# %%
import math

import numpy as np

import tinynet
from tinynet import plot
from tinynet.autograd import Function, gradcheck
from tinynet.autograd.gradcheck import diagnose
from tinynet.lesson import Lesson, relative_error

tinynet.manual_seed(0)
lesson = Lesson(2)

# %% [markdown]
# ## 1. A wrong gradient does not crash
#
# A wrong shape stops the program with an error. A wrong *gradient* is just other numbers of the same shape: nothing
# stops. Here is a small net with two layers, trained by gradient descent. Between the layers stands
# $\max(x, 0)$, which is called **ReLU**. Its backward pass lets the gradient through where the number was positive
# and stops it elsewhere. That is the line under `if not wrong`. We train twice: with that line, and without it.

# %%
points = np.random.default_rng(0).standard_normal((64, 4))
targets = np.sin(2 * points[:, :1]) + points[:, 1:2] * points[:, 2:3]


def train(wrong):
    """The losses of 300 steps."""
    random = np.random.default_rng(1)
    first, second = 0.5 * random.standard_normal((4, 32)), 0.2 * random.standard_normal((32, 1))
    losses = []
    for step in range(300):
        hidden = np.maximum(points @ first, 0)  # ReLU
        error = hidden @ second - targets
        losses.append((error * error).mean())
        back = error @ second.T  # the mean's factor 2 / 64 is part of the learning rate below
        if not wrong:
            back = back * (hidden > 0)
        first, second = first - 0.002 * points.T @ back, second - 0.002 * hidden.T @ error
    return losses


# %% [markdown] tags=["predict"]
# **Predict.** The line is missing. Does the loss still fall? And does it end as low as with the line?

# %% tags=["predict"]
still_falls = ...  # "yes" or "no"
as_low = ...  # "yes" or "no"

# %%
right, wrong = train(wrong=False), train(wrong=True)
lesson.reveal("the loss falls with a wrong gradient", still_falls, "yes" if wrong[-1] < wrong[0] / 2 else "no")
lesson.reveal("it ends as low", as_low, "yes" if wrong[-1] < 1.1 * right[-1] else "no")
lesson.show(
    plot.lines(
        {"right gradient": (range(300), right), "one line missing": (range(300), wrong)},
        x="step", y="loss", log="y", title="Both nets learn. One has a mistake in its backward pass",
    ),
    "Two losses fall over 300 steps. With the wrong gradient the loss falls too, only slower, and it ends higher.",
)

# %% [markdown]
# If you saw only the second curve, you would try another learning rate, more layers, more data. People have lost weeks
# that way. A falling loss proves nothing. **A gradient has to be checked before it is used**, on its own, against
# something that cannot share its mistakes.
#
# ## 2. One nudge or two
#
# That something is the nudge of lesson 1: it needs the function only, and nothing of the backward pass. But how exact is
# it? Take $f(x) = x^3$ at $x = 1$, where the slope is exactly 3, and the step $h = 0.1$. By hand:
#
# | | formula | number | error |
# |---|---|---|---|
# | one-sided | $(f(x + h) - f(x)) / h$ | $(1.331 - 1) / 0.1 = 3.31$ | $0.31$ |
# | two-sided | $(f(x + h) - f(x - h)) / 2h$ | $(1.331 - 0.729) / 0.2 = 3.01$ | $0.01$ |
#
# The second one is called the **central difference**. It looks to both sides, and the bends of the curve nearly cancel.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 · The central difference · 1/5 · 5 minutes
#
# Write it.

# %% tags=["stub"]
def central_difference(function, x, step):
    """The slope of function at x, from its values a step to the right and a step to the left."""
    return ...


# %% tags=["check"]
def check(central_difference):
    slope = central_difference(lambda x: x**3, 1.0, 0.1)
    error = relative_error(slope, 3.01)
    assert not math.isclose(slope, 3.31), "that is the one-sided slope, 3.31: go a step to the left as well"
    assert not math.isclose(slope, 6.02), "6.02 is twice too much: the two points are 2 · step apart"
    assert not math.isclose(slope, 0.0301), "0.0301: `/ 2 * step` divides by 2 and multiplies by step; use brackets"
    assert error < 1e-12, f"for x³ at 1 with step 0.1 it is {slope}, should be 3.01"
    error = relative_error(central_difference(math.sin, 2.0, 1e-5), math.cos(2.0))
    assert error < 1e-9, f"for sin at 2 the relative error is {error:.0e}, should be about 1e-11: is x used everywhere?"


central_difference = lesson.check(check, central_difference)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# It is the second row of the table, with `x + step` and `x - step`. The two points are `2 * step` apart; mind the
# brackets around that.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def central_difference(function, x, step):
#     """The slope of function at x, from its values a step to the right and a step to the left."""
#     return (function(x + step) - function(x - step)) / (2 * step)
# ```
#
# </details>

# %% [markdown] tags=["predict"]
# **Predict.** Now the step becomes ten times smaller, `0.01`. The error becomes how many times smaller, for the
# one-sided slope, and for the two-sided one?

# %% tags=["predict"]
one_sided_gain = ...  # a number
two_sided_gain = ...  # a number


# %%
def one_sided(function, x, step):
    return (function(x + step) - function(x)) / step


def cube(x):
    return x**3


gains = [(slope(cube, 1.0, 0.1) - 3) / (slope(cube, 1.0, 0.01) - 3) for slope in (one_sided, central_difference)]
lesson.reveal("one-sided: the error becomes smaller by", one_sided_gain, gains[0])
lesson.reveal("two-sided: the error becomes smaller by", two_sided_gain, gains[1])

# %% [markdown]
# Taylor's formula says why. A step to the right and a step to the left give
#
# $$f(x \pm h) = f(x) \pm h\,f'(x) + \tfrac{h^2}{2} f''(x) \pm \tfrac{h^3}{6} f'''(x) + \dots$$
#
# In the one-sided slope the $f''$ term stays, and leaves an error in proportion to the step $h$. In the two-sided
# one it cancels, and what is left of the $f'''$ term, $\tfrac{h^2}{6} f'''$, falls with the *square* of the step.
#
# ## 3. Then make the step tiny?
#
# Whenever the step becomes ten times smaller, two more digits are right. So why not take a step of a millionth of a
# millionth?

# %% [markdown] tags=["predict"]
# **Predict.** For $\sin$, at points between $0.5$ and $1.5$, we try the steps $1, 10^{-1}, 10^{-2}, \dots, 10^{-15}$ with
# the two-sided slope. Which one is best? And how many decimal digits of the slope are right then? (A number of Python
# has about 16.)

# %% tags=["predict"]
best_exponent = ...  # 3 means a step of 10⁻³
right_digits = ...  # a whole number

# %%
steps = 10.0 ** -np.arange(16)
places = np.linspace(0.5, 1.5, 101)


def slope_errors(slope, kind):
    """For every step: the error of the slopes of sin, relative to the slopes' own size."""
    errors = []
    for step in steps:
        found = slope(np.sin, places.astype(kind), kind(step))
        errors.append(np.linalg.norm(found - np.cos(places)) / np.linalg.norm(np.cos(places)))
    return np.array(errors)


two_sided = slope_errors(central_difference, np.float64)
lesson.reveal("best step, as an exponent", best_exponent, int(two_sided.argmin()))
lesson.reveal("right digits then", right_digits, math.floor(-math.log10(two_sided.min())))
lesson.show(
    plot.step_sizes(
        steps,
        {
            "one-sided": slope_errors(one_sided, np.float64),
            "two-sided": two_sided,
            "two-sided, float32": slope_errors(central_difference, np.float32),
        },
        [(1, 1e-4, 1e-3), (2, 1e-2, 1e-6), (-1, 1e-11, 1e-7)],
        "The error of a slope has two causes",
    ),
    "Logarithmic axes. As the step shrinks the error falls like the step or its square, then rises again like one "
    "over the step. The two-sided curve reaches lowest; in float32 it turns back much earlier.",
)

# %% [markdown]
# On the left the curves fall as Taylor promised, along the thin guides ($\propto$ means *in proportion to*): a step ten
# times smaller makes the one-sided error ten times smaller, the two-sided one a hundred times. This part is called the
# **truncation error**. Then they turn back. On the right it is **rounding** that counts. A float64 keeps about 16 digits,
# so each value of $f$ is off by about $\varepsilon\,|f|$ with $\varepsilon = 2^{-53}$. For a tiny step the two values
# agree in nearly all of their digits; the difference consists of the few last ones, which are noise; and then we divide
# by a tiny number:
#
# $$\text{error} \approx \underbrace{\tfrac{h^2}{6} |f'''|}_{\text{truncation}} +
# \underbrace{\frac{\varepsilon\,|f|}{h}}_{\text{rounding}}$$
#
# The sum is smallest where both parts are about equal, near $h = \varepsilon^{1/3}$. (Why does the float32 curve end at a
# level 1? There the step is lost in rounding: $x + h$ and $x - h$ are the same number, and the slope comes out as 0.)

# %%
epsilon = {"float64": 2.0**-53, "float32": 2.0**-24}
lesson.say(
    "| numbers | rounding | best step, about | relative error there, about |\n|---|---|---|---|\n"
    + "\n".join(f"| {n} | {e:.0e} | {e ** (1 / 3):.0e} | {e ** (2 / 3):.0e} |" for n, e in epsilon.items())
)

# %% [markdown]
# Two habits follow, and every gradient checker has them. **Two-sided, with a step near** `1e-5`. And **in float64**, even
# if the net will run in float32: float32 leaves four digits at best, too few to see a small missing term.
#
# ## 4. A checker for functions of many numbers
#
# A layer takes a tensor and returns a tensor. Each number of the input moves *every* number of the output. In lesson
# 1 `backward` got an **upstream gradient** $g$: for each number $y_j$ of the output, how fast some later result $L$
# changes with it. Then
#
# $$\frac{\partial L}{\partial x_i} = \sum_j g_j \frac{\partial y_j}{\partial x_i}
# \approx \sum_j g_j \, \frac{y_j(x_i + h) - y_j(x_i - h)}{2h}$$
#
# On the left stands what `backward` says. On the right stand values only: move *one* input, see how *all* outputs
# change, weigh the changes by $g$, add them up.

# %% [markdown] tags=["exercise"]
# ### Exercise 2 · The numeric gradient · 3/5 · 15 minutes
#
# Write the right side, for every number of `x`. `x` and `grad` are float64 tensors; `function(x)` has the shape of
# `grad`. `x` itself must not change. You may use `x.clone()`, `x * 0`, `.sum()`, `t[index] += step`, and
# `np.ndindex(*x.shape)`, which goes through all indices: `(0, 0)`, `(0, 1)`, …

# %% tags=["stub"]
def numeric_gradient(function, x, grad, step=1e-5):
    """The gradient of x by central differences, if grad is the gradient of function(x). A tensor like x."""
    return ...


# %% tags=["check"]
def check(numeric_gradient):
    x = tinynet.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, -2.0]], dtype=tinynet.float64)
    grad = tinynet.tensor([[1.0, 10.0], [100.0, -2.0], [0.1, 3.0]], dtype=tinynet.float64)
    before = x.clone()
    given = numeric_gradient(lambda x: x * x, x, grad)
    error = relative_error(given, 2 * x * grad)
    assert relative_error(x, before) == 0, "x has changed: move a copy, x.clone(), a fresh one for every element"
    assert relative_error(given, 2 * x) > 1e-6, "for x·x you get 2·x whatever grad is: weigh the changes by grad"
    assert relative_error(given, 4 * x * grad) > 1e-6, "everything is twice too large: divide by 2 · step"
    words = f"for x·x the relative error is {error:.0e}, should be about 1e-12"
    assert error < 1e-8, f"{words}: do you go to both sides, each time from a fresh copy?"
    given = numeric_gradient(lambda x: x - x.mean(0), x, grad)
    moved = relative_error(given, grad * 0) > 1e-6
    assert moved, "for x - x.mean(0) you get 0: move one number of x at a time, and weigh each change by its own grad"
    own = relative_error(given, grad * 2 / 3)
    assert own > 1e-6, "in x - x.mean(0) every x moves its whole column: add up over all outputs, not the own one"
    error = relative_error(given, grad - grad.mean(0))
    assert error < 1e-8, f"for x - x.mean(0) the relative error is {error:.0e}, should be about 1e-11"


numeric_gradient = lesson.check(check, numeric_gradient)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# For each index: two copies of `x`, one with `up[index] += step`, one with `down[index] -= step`. The change is
# `function(up) - function(down)`, a tensor like `grad`. What belongs into `result[index]` is a sum over all of it.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def numeric_gradient(function, x, grad, step=1e-5):
#     """The gradient of x by central differences, if grad is the gradient of function(x). A tensor like x."""
#     result = x * 0
#     for index in np.ndindex(*x.shape):
#         up, down = x.clone(), x.clone()
#         up[index] += step
#         down[index] -= step
#         change = function(up) - function(down)
#         result[index] = (grad * change).sum() / (2 * step)
#     return result
# ```
#
# </details>

# %% [markdown]
# Now both sides can be compared. The upstream gradient is drawn at random: different numbers for every output.

# %%
def compare(function, x, upstream=None):
    """What backward says and what the finite differences say, for one upstream gradient."""
    leaf = x.clone().requires_grad_()
    y = function(leaf)
    if upstream is None:
        upstream = tinynet.randn(*y.shape, dtype=tinynet.float64)
    y.backward(upstream)
    return leaf.grad, numeric_gradient(function, x, upstream)


weight = tinynet.randn(3, 3, dtype=tinynet.float64)
x = tinynet.randn(5, 3, dtype=tinynet.float64)
functions = {
    "x @ weight": lambda x: x @ weight,
    "log(1 + exp(x))": lambda x: (1 + x.exp()).log(),
    "x / (1 + x·x), summed over the rows": lambda x: (x / (1 + x * x)).sum(0),
}
lesson.say(
    "| function | relative error |\n|---|---|\n"
    + "\n".join(f"| {name} | {relative_error(*compare(function, x)):.0e} |" for name, function in functions.items())
)

# %% [markdown]
# How small is small? In float64, with a step of `1e-5`:
#
# | relative error | verdict |
# |---|---|
# | below `1e-7` | right |
# | `1e-7` to `1e-3` | look again: float32 somewhere, a kink nearby (section 7), a strongly curved function |
# | above `1e-3` | wrong |
#
# ## 5. Seven patients
#
# An operation of your own is a class with two functions side by side: `forward` computes, and keeps what `backward` will
# need; `backward` gets the upstream gradient and returns the gradient of the input. `Function` puts it on the tape. This
# one is healthy:

# %%
class Cube(Function):
    """x³"""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x * x * grad


print(f"Cube: relative error {relative_error(*compare(Cube.apply, x)):.0e}")


# %% [markdown]
# The next seven are ill. In each the forward is right, and the backward has one mistake. You will be tempted to read
# the code first. Don't: run the cell, go on, and look at what the numbers say.

# %%
class Complement(Function):
    """1 - x"""

    @staticmethod
    def forward(ctx, x):
        return 1 - x

    @staticmethod
    def backward(ctx, grad):
        return grad


class MeanSquare(Function):
    """The mean of all squares."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x * x).mean()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad


class Square(Function):
    """x²"""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x


class Pick(Function):
    """Six rows, picked from x by their numbers."""

    rows = [0, 2, 2, 1, 2, 0]

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x[Pick.rows]

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        result = x * 0
        for place, row in enumerate(Pick.rows):
            result[row] = grad[place]
        return result


class Reverse(Function):
    """The rows in reverse order."""

    @staticmethod
    def forward(ctx, x):
        return x.flip(0)

    @staticmethod
    def backward(ctx, grad):
        return grad


images = tinynet.randn(4, 3, dtype=tinynet.float64)


class Product(Function):
    """images @ x"""

    @staticmethod
    def forward(ctx, x):
        return images @ x

    @staticmethod
    def backward(ctx, grad):
        return grad.T @ images


class Normalise(Function):
    """Every column minus its mean, divided by its standard deviation."""

    @staticmethod
    def forward(ctx, x):
        y = (x - x.mean(0)) / x.std(0, correction=0)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad - grad.mean(0) - y * (grad * y).mean(0)


scales = tinynet.tensor([0.4, 1.0, 2.5], dtype=tinynet.float64)
operations = (Complement, MeanSquare, Square, Pick, Reverse, Product, Normalise)
patients = {operation.__name__: operation.apply for operation in operations}
inputs = {name: tinynet.randn(3, 3, dtype=tinynet.float64) for name in patients}
inputs["Normalise"] = scales * tinynet.randn(12, 3, dtype=tinynet.float64)
findings = {name: compare(patients[name], inputs[name]) for name in patients}
lesson.show(
    plot.agreement(findings, title="A point for each number of the gradient, a colour and marker for each column"),
    "Seven scatter plots, backward against finite differences. Complement lies on the other diagonal, MeanSquare on "
    "a steep line, Pick partly on the diagonal, Normalise on one line for each column; three are clouds.",
)

# %% [markdown]
# Healthy points would lie on the dashed diagonal. Four of the pictures show a pattern. (For `Pick` look closely: which
# points are on the diagonal, and which are not?) `Square`, `Reverse` and `Product` are clouds; for those, look at the
# numbers. The third matrix is what backward says if the upstream gradient is twice as large.

# %%
def evidence(name):
    """Prints the gradient by backward, by finite differences, and by backward for twice the upstream gradient."""
    upstream = tinynet.randn(*patients[name](inputs[name]).shape, dtype=tinynet.float64)
    analytic, numeric = compare(patients[name], inputs[name], upstream)
    doubled, _ = compare(patients[name], inputs[name], 2 * upstream)
    print(f"{name:16}backward    {'finite difference':>20}    {'backward, upstream doubled':>30}")
    for rows in zip(analytic.tolist(), numeric.tolist(), doubled.tolist()):
        print("     ".join("".join(f"{number:8.3f}" for number in row) for row in rows))


for name in ("Square", "Reverse", "Product"):
    evidence(name)

# %% [markdown] tags=["exercise"]
# ### Exercise 3 · Seven diagnoses · 3/5 · 15 minutes
#
# What is wrong with each patient? Return a dictionary from the seven names to these words,
# `{"Complement": "…", "MeanSquare": "…", …}`. One of the eight words fits nobody. `evidence(name)` shows the numbers of
# the others, too. Only then read the code, and find the line.
#
# | word | the mistake |
# |---|---|
# | `"sign"` | a minus was forgotten |
# | `"factor"` | one factor for all numbers is missing or too many |
# | `"upstream"` | what came from above was ignored |
# | `"overwritten"` | a number was used several times, and only one of its gifts was kept |
# | `"order"` | the right numbers, but in reversed rows |
# | `"transposed"` | rows and columns are exchanged |
# | `"deviation"` | each column lacks a factor of its own |
# | `"dropped"` | the gradient should have been minus its own mean, and that term is missing |

# %% tags=["stub"]
def diagnosis():
    """A dictionary: for each of the seven names the word for its mistake."""
    return ...


# %% tags=["check"]
def check(diagnosis):
    said = {"sign": "wrong sign", "factor": "too large", "upstream": "upstream gradient ignored",
            "overwritten": "overwritten", "order": "flipped", "transposed": "transposed",
            "deviation": "depends only on the index", "dropped": "mean's gradient dropped"}  # fmt: skip
    look = {
        "sign": "all points would lie on the other diagonal",
        "factor": "all points would lie on one line through 0, steeper or flatter than the diagonal",
        "upstream": "the third matrix would equal the first: twice the upstream gradient, and backward says the same",
        "overwritten": "some rows would be right, and others not",
        "order": "the first and the last row would be exchanged, as wholes",
        "transposed": "the diagonal of the matrix would be right, and the corners exchanged",
        "deviation": "each column would lie on a line of its own",
        "dropped": "the two would differ by the same number all along a column",
    }
    words = diagnosis()
    assert isinstance(words, dict), f"a dictionary is expected, not a {type(words).__name__}"
    missing = sorted(patients.keys() - words.keys())
    assert not missing, f"your dictionary has no {', '.join(missing)}"
    for name, word in words.items():
        assert name in patients and word in said, f"{name!r}: {word!r} is not one of the patients and words"
        found = diagnose(patients[name], inputs[name].clone().requires_grad_()).text
        assert said[word] in found, f"{name} is not {word!r}: then {look[word]}"


diagnosis = lesson.check(check, diagnosis)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Pictures: which has its points on the other diagonal, which on one steep line, which on three lines, which partly on
# the diagonal? That leaves three clouds. In one of them backward did not care about the upstream gradient. In the other
# two all the right numbers are there, in wrong places: in one by rows, in the other mirrored.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def diagnosis():
#     """A dictionary: for each of the seven names the word for its mistake."""
#     return {
#         "Complement": "sign",
#         "MeanSquare": "factor",
#         "Square": "upstream",
#         "Pick": "overwritten",
#         "Reverse": "order",
#         "Product": "transposed",
#         "Normalise": "deviation",
#     }
# ```
#
# The right lines: `return -grad`; `return 2 * x * grad / 9`, as there are nine numbers; `return 2 * x * grad`;
# `result[row] += grad[place]`, gradients add up; `return grad.flip(0)`; `return images.T @ grad`; and for Normalise
# all of it divided by the standard deviation of each column.
#
# </details>

# %% [markdown]
# The check did not know the answers either. It asked tinynet's own checker, which compares as you do and then looks for
# such patterns. This is what it says:

# %%
for name, function in patients.items():
    report = diagnose(function, inputs[name].clone().requires_grad_())
    print(f"{name}: {report.inputs[0].cause.split(';')[0]}")

# %% [markdown]
# ## 6. Why random numbers from above
#
# Many people check their layers with `layer(x).sum().backward()`: one line, and a scalar to differentiate. The upstream
# gradient is then 1 for every output.

# %% [markdown] tags=["predict"]
# **Predict.** How many of the seven patients pass as healthy with an upstream gradient of all ones? Go through them in
# your head.

# %% tags=["predict"]
pass_with_ones = ...  # 0 to 7


# %%
def healthy(function, x, upstream):
    """Whether both gradients agree. The 1e-8 is for gradients that are zero: there is no relative error of nothing."""
    analytic, numeric = compare(function, x, upstream)
    return bool((analytic - numeric).abs().max() <= 1e-6 * numeric.abs().max() + 1e-8)


passed = {"ones": [], "random": []}
for name, function in patients.items():
    random = tinynet.randn(*function(inputs[name]).shape, dtype=tinynet.float64)
    for kind, upstream in (("ones", random * 0 + 1), ("random", random)):
        if healthy(function, inputs[name], upstream):
            passed[kind].append(name)

lesson.reveal("patients that pass under sum()", pass_with_ones, len(passed["ones"]))
lesson.say(f"With ones pass: **{', '.join(passed['ones'])}**. With random numbers pass: {len(passed['random'])}.")

# %% [markdown]
# `Square` ignores what comes from above; if that is 1 anyway, nobody notices. `Reverse` returns it in the wrong order;
# ones have no order. And `Normalise`?

# %% [markdown] tags=["predict"]
# **Predict.** `x` has 6 rows and 3 columns of random numbers. What is the sum of all numbers of `Normalise(x)`? And so:
# what is the gradient of that sum?

# %% tags=["predict"]
total = ...  # a number
gradient_of_total = ...  # a number, the same for all elements

# %%
x = scales * tinynet.randn(6, 3, dtype=tinynet.float64)
gradient = numeric_gradient(Normalise.apply, x, x * 0 + 1)
lesson.reveal("sum of Normalise(x)", total, round(abs(Normalise.apply(x).sum().item()), 9))
lesson.reveal("its gradient", gradient_of_total, round(gradient.abs().max().item(), 6))

# %% [markdown]
# Every column minus its mean has the sum 0, whatever `x` is. A result that never changes has the gradient 0 everywhere.
# Under `sum()` the right answer is nothing at all, and *any* backward that returns nothing passes: also ours without the
# deviation, also one that says `return 0 * grad`. This operation is the heart of batch norm (lesson 5), which stands
# behind every convolution of a ResNet. A test of it with `sum()` passes, whatever backward does.
#
# **So the upstream gradient is drawn at random.** Different numbers for different outputs make every mistake visible,
# and a second draw would show a backward that is not even proportional to what comes from above.
#
# ## 7. Kinks and ties
#
# One trap is left, and in it the checker is wrong and the backward right. Look at two functions at the point 0, where
# both have a kink:
#
# | | left of 0 | right of 0 | tinynet's backward at 0 |
# |---|---|---|---|
# | ReLU, $\max(x, 0)$ | slope 0 | slope 1 | 0, by convention |
# | $\lvert x \rvert$ | slope -1 | slope 1 | 0, by convention |

# %% [markdown] tags=["predict"]
# **Predict.** What does the central difference say at 0, for ReLU and for $\lvert x \rvert$? Does it depend on the step?

# %% tags=["predict"]
relu_at_0 = ...  # a number
absolute_at_0 = ...  # a number


# %%
def relu(x):
    return max(x, 0.0)


lesson.reveal("ReLU, step 1e-5", relu_at_0, central_difference(relu, 0.0, 1e-5))
lesson.reveal("|x|, step 1e-5", absolute_at_0, central_difference(abs, 0.0, 1e-5))
print("ReLU, step 1e-9:", central_difference(relu, 0.0, 1e-9))
print("ReLU at 3e-6, step 1e-5:", round(central_difference(relu, 3e-6, 1e-5), 6))

# %% [markdown]
# At a kink no derivative exists. The central difference gives the mean of the two slopes, for every step. With ReLU that
# looks like an error, a *false alarm*. With $\lvert x \rvert$ both say 0: they agree, and it *proves nothing*. And the
# last line shows that one need not stand on the kink: it is enough that the step reaches across. The same happens at a
# **tie** in a maximum, when two numbers are equally large: move one up and it wins, move it down and nothing changes.
#
# How could a program notice? Compare the slope to the right with the slope to the left. Here is the gap between the two,
# for smaller and smaller steps. Which curves fall, and which one stays? (A curve ends where its gap is 0, which a
# logarithmic axis cannot show: there the step no longer reaches the kink.)

# %%
def gap(function, x, step):
    """How far the slopes to the right and to the left of x are apart."""
    right = (function(x + step) - function(x)) / step
    left = (function(x) - function(x - step)) / step
    return abs(right - left)


def steep(x):
    return 50 * x * x


shrinking = 10.0 ** -np.arange(1, 8, 0.5)
cases = {"|x| at 0: a kink": (abs, 0.0), "ReLU at 0.001": (relu, 1e-3), "50·x² at 1: smooth": (steep, 1.0)}
lesson.show(
    plot.step_sizes(
        shrinking, {name: [gap(*case, step) for step in shrinking] for name, case in cases.items()}, [(1, 1e-5, 1e-2)],
        "A kink stays, however small the step", y="gap between the two slopes",
    ),
    "At the kink the gap stays at 2 for all steps. For the smooth function it falls in proportion to the step. Near "
    "the kink it is about 1 as long as the step reaches across, then it is gone.",
)

# %% [markdown] tags=["exercise"]
# ### Exercise 4 · Is it a kink? · 3/5 · 10 minutes
#
# Write `is_kink(function, x)` for functions of one number. Where a function is smooth, a tenth of the step leaves a
# tenth of the gap. At a kink the gap stays. Beware: the gap of a straight line is not quite 0, but rounding noise, and
# noise does not shrink either. Count a gap only if it is more than a millionth of the slopes themselves.

# %% tags=["stub"]
def is_kink(function, x):
    """Whether function has a kink at x: True or False. Steps of 1e-3 and 1e-4 will do."""
    return ...


# %% tags=["check"]
def check(is_kink):
    found = is_kink(abs, 0.0)
    assert type(found).__name__ in ("bool", "bool_"), f"True or False is expected, not {found!r}"
    assert found, "|x| has the slopes -1 and 1 beside 0, and you say that there is no kink"
    assert is_kink(relu, 0.0), "ReLU has the slopes 0 and 1 beside 0, and you say that there is no kink"
    assert not is_kink(lambda x: 1000 * x * x, 1.0), "1000·x² is steep and smooth: does the gap shrink with the step?"
    assert is_kink(lambda x: 1e-3 * abs(x), 0.0), "0.001·|x| has a small kink: compare two gaps, not a gap and a number"
    assert not is_kink(lambda x: 3 * x - 5, 0.3), "3x - 5 is straight: its gap is noise, below a millionth of the slope"
    steep = is_kink(lambda x: 3e8 * x, 0.7)
    assert not steep, "3e8·x is straight: its noise is above 1e-6, but far below a millionth of its slope"
    assert not is_kink(abs, 1.0), "|x| is straight at 1: its gap is noise, or exactly 0"
    assert not is_kink(math.exp, 0.0), "exp is smooth at 0: its gap falls to a tenth with a tenth of the step"


is_kink = lesson.check(check, is_kink)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Two gaps, for `1e-3` and `1e-4`. The small one is about a tenth of the large one, or about the same: half of it is a
# good border. For the slopes' own size take `abs((function(x + step) - function(x)) / step)`, and the same to the left,
# and of the two the larger.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def is_kink(function, x):
#     """Whether function has a kink at x: True or False. Steps of 1e-3 and 1e-4 will do."""
#     step = 1e-4
#     right = abs(function(x + step) - function(x)) / step
#     left = abs(function(x) - function(x - step)) / step
#     stays = gap(function, x, step) > 0.5 * gap(function, x, 10 * step)
#     return bool(stays and gap(function, x, step) > 1e-6 * max(right, left))
# ```
#
# </details>

# %% [markdown]
# What to do about a kink? **Move the point.** Inputs for a gradient check are drawn at random and kept away from kinks by
# more than the step; then a kink never matters. (In training one hardly ever stands exactly on a kink, and there any
# number between the two slopes will do.)
#
# ## 8. The real one
#
# `gradcheck` is torch's name for what you have built, with torch's arguments, and here it does all of the above: it
# draws upstream gradients at random, measures the rounding, finds kinks, and refuses float32. It returns `True` or raises
# an error; `diagnose` does the same and returns the report.

# %%
def layer(x, weight, bias):
    return (x @ weight + bias).relu()


def leaf(*shape, dtype=tinynet.float64):
    return tinynet.randn(*shape, dtype=dtype, requires_grad=True)


print("a layer:", gradcheck(layer, (leaf(5, 3), leaf(3, 4), leaf(4))))
on_the_kink = tinynet.tensor([-1.0, 0.0, 2.0], dtype=tinynet.float64, requires_grad=True)
print(diagnose(lambda x: x.relu(), on_the_kink).inputs[0].text)
try:
    gradcheck(layer, (leaf(5, 3, dtype=None), leaf(3, 4, dtype=None), leaf(4, dtype=None)))
except ValueError as error:
    print(error)

# %% [markdown] tags=["make"]
# ## Make: a whole net in two runs
#
# Your checker runs the function twice for every number of `x`. A net has millions. There is a shorter way: move *all*
# numbers at once, along one random direction $v$. Then
#
# $$\sum_i \frac{\partial L}{\partial x_i} v_i \approx \sum_j g_j \, \frac{y_j(x + h v) - y_j(x - h v)}{2h}$$
#
# Two runs, one number on each side. Finish `direction_check` below, try it on the seven patients, and ask: which mistake
# could it overlook? What does it no longer tell you? (tinynet does this for large tensors, too.)

# %%
def direction_check(function, x, step=1e-5):
    """The two sides of the equation, for one random direction and one random upstream gradient."""
    y = function(x)
    upstream = tinynet.randn(*y.shape, dtype=tinynet.float64)
    direction = tinynet.randn(*x.shape, dtype=tinynet.float64)
    leaf = x.clone().requires_grad_()
    function(leaf).backward(upstream)
    by_backward = (leaf.grad * direction).sum().item()
    by_moving = ...  # two runs of function
    return by_backward, by_moving


print(direction_check(Cube.apply, x))

# %%
lesson.progress()

# %% [markdown] tags=["recap"]
# ## Recap
#
# Say the answers aloud before you unfold them.
#
# 1. The loss falls nicely. What does that say about the gradient?
# 2. Why does the error of a finite difference grow again when the step gets very small?
# 3. What does a two-sided difference gain over a one-sided one?
# 4. Why is `sum()` a bad loss for checking batch norm?
# 5. At a kink, why is agreement between both gradients worth nothing?
#
# <details><summary>Answers</summary>
#
# 1. Little. A wrong gradient often points roughly downhill, too.
# 2. The two values are nearly equal, so their difference is made of rounding errors, and is divided by a tiny number.
# 3. The bend of second order cancels: the error falls with the square of the step.
# 4. Each normalised column sums to 0 whatever the input is, so the right gradient is 0, and returning nothing passes.
# 5. No derivative exists there. Both sides made a choice (0, or the mean of two slopes), and choices may coincide.
#
# </details>

# %% [markdown] tags=["paper"]
# ## The paper's sentence
#
# > "Using the limit definition of the derivative for finite difference approximation commits both cardinal sins of
# > numerical analysis: 'thou shalt not add small numbers to big numbers', and 'thou shalt not subtract numbers which are
# > approximately equal'."
#
# Atılım Güneş Baydin, Barak Pearlmutter, Alexey Radul and Jeffrey Siskind, *Automatic differentiation in machine
# learning: a survey*, JMLR, 2018, a footnote of Section 2.1. You have seen both sins on the right half of the picture in
# section 3, and you know how to sin in moderation: with a step near the cube root of the rounding.

# %% [markdown] tags=["read"]
# ## Read on, in tinynet
#
# - `tinynet/autograd/gradcheck/differences.py`, `Numeric._central`: your central difference, with the rounding measured
# - `tinynet/autograd/gradcheck/differences.py`, `Numeric.ladder`: many steps, and the kink that stays
# - `tinynet/autograd/gradcheck/causes.py`, `likely_cause`: the patterns behind the diagnoses
# - `tinynet/autograd/function.py`, `Function`: how an operation of yours gets onto the tape
#
# On the command line, `tinynet check` does this for every operation of the library. In lesson 3 you will need it: you
# write a convolution and its two gradients.
