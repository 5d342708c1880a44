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
# # Lesson 1: Tensors and backprop
#
# **Goal.** You write the heart of every deep-learning library: numbers that remember what they were made from, and a
# backward pass that finds all derivatives in one sweep. Then you meet the same idea with arrays: the tensor.
#
# **Time:** 45-60 minutes, of which the computer needs a few seconds.
#
# **You need:** Python, and from school: the derivative, and the chain rule. Nothing else.
#
# **New in tinynet:** `tinynet.tensor`, `tinynet.randn`, `tinynet.float64`, `tinynet.no_grad`
#
# **How a lesson works.** Run the cells from top to bottom (Shift-Enter). Before some of them you are asked to
# *predict*: write your guess in place of the `...`, it costs nothing to be wrong. In an *exercise* you replace the
# `...` with your own code; the cell below it tells you at once how it went. If you skip one, the cells after it use
# the folded solution, so you never get stuck.

# %%
import tinynet
from tinynet import plot
from tinynet.lesson import Lesson, relative_error

tinynet.manual_seed(0)
lesson = Lesson(1)

# %% [markdown]
# ## 1. A derivative is a nudge
#
# Here is a formula with two inputs. How fast does it change when you move `a` a little? That number is the derivative
# of `formula` with respect to `a`, and it tells you how to change `a` if you want the result to be smaller. Training a
# net is just that, with millions of inputs in place of two.

# %%
def formula(a, b):
    return a * b + a


print("formula(3, 2) =", formula(3.0, 2.0))

# %% [markdown] tags=["predict"]
# **Predict.** At `a = 3` and `b = 2`: if `a` grows by a tiny amount, how many times that amount does the result grow?
# And if `b` grows?

# %% tags=["predict"]
slope_a = ...  # your guess for a
slope_b = ...  # your guess for b


# %%
def nudge(function, inputs, which, step=1e-6):
    """How fast function(*inputs) changes with one of its inputs: move it by a small step and divide."""
    moved = list(inputs)
    moved[which] = moved[which] + step
    return (function(*moved) - function(*inputs)) / step


lesson.reveal("derivative for a", slope_a, nudge(formula, [3.0, 2.0], 0))
lesson.reveal("derivative for b", slope_b, nudge(formula, [3.0, 2.0], 1))

# %% [markdown]
# For `a` it is `b + 1`: the product contributes `b`, and the `+ a` contributes one more. **`a` is used twice, and its
# contributions add up.** Keep that in mind, it will come back three times in this lesson.
#
# Nudging works for any formula. But it needs one more run of the formula for every input, and a net has millions of
# them. Backpropagation gets all derivatives in *one* sweep, at about the price of one more run. Let us build it.
#
# ## 2. Numbers that remember
#
# The plan: a class `Value` that holds a number. Whenever two Values are added or multiplied, the result notes which
# two it was made from, and how fast it changes with each of them (the **local derivative**). Nothing else is needed.
#
# | result | changes with the left one by | with the right one by |
# |---|---|---|
# | `x + y` | 1 | 1 |
# | `x * y` | `y` | `x` |

# %% [markdown] tags=["exercise"]
# ### Exercise 1 · Numbers that remember · 2/5 · 10 minutes
#
# Fill in the two operations. Each returns a new `Value` that holds the result, and whose `parents` are a list of two
# pairs `(value, local derivative)`, the left operand first. `__add__` is what Python calls for `x + y`, and `__mul__`
# for `x * y`.

# %% tags=["stub"]
class Value:
    """A number that remembers what it was made from."""

    def __init__(self, data, parents=(), label="input"):
        self.data = data  # the number itself
        self.parents = parents  # pairs (value, local derivative)
        self.label = label  # for the drawing
        self.grad = 0.0  # derivative of the final result with respect to this number, once we know it

    def __add__(self, other):
        return ...

    def __mul__(self, other):
        return ...


# %% tags=["check"]
def check(Value):
    a, b = Value(3.0), Value(2.0)
    total, product = a + b, a * b
    for name, result in (("a + b", total), ("a * b", product)):
        kind = type(result).__name__
        assert isinstance(result, Value), f"{name} is a {kind}, it should be a Value: wrap the number in Value(...)"
        pairs = list(result.parents)
        assert len(pairs) == 2, f"{name} has {len(pairs)} parents, it was made from 2 values: did you pass them on?"
        complete = all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs)
        assert complete, f"the parents of {name} should be pairs (value, local derivative), not {pairs}"
        same = pairs[0][0] is a and pairs[1][0] is b
        assert same, f"each parent of {name} starts with the value itself, not its .data: first pair a, second pair b"
    assert total.data == 5.0, f"3 + 2 gives {total.data}: is the result made from both .data?"
    assert product.data == 6.0, f"3 * 2 gives {product.data}: is the result made from both .data?"
    slopes = [slope for _, slope in total.parents]
    assert slopes == [1.0, 1.0], f"if a grows a little, a + b grows as much: the slopes are 1 and 1, not {slopes}"
    slopes = [slope for _, slope in product.parents]
    numbers = not any(isinstance(slope, Value) for slope in slopes)
    assert numbers, "the slopes of a * b are Values: a local derivative is a plain number, take the .data"
    assert slopes != [3.0, 2.0], "for 3 * 2 your slopes are [3, 2]: each is its own number, it should be the other one"
    assert slopes == [2.0, 3.0], f"for 3 * 2 the slopes should be [2, 3], yours are {slopes}: look at the table again"


Value = lesson.check(check, Value)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The sum is `Value(self.data + other.data, [...])`. The list has one pair for `self` and one for `other`. Its second
# parts are in the table above.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# class Value:
#     """A number that remembers what it was made from."""
#
#     def __init__(self, data, parents=(), label="input"):
#         self.data = data  # the number itself
#         self.parents = parents  # pairs (value, local derivative)
#         self.label = label  # for the drawing
#         self.grad = 0.0  # derivative of the final result with respect to this number, once we know it
#
#     def __add__(self, other):
#         return Value(self.data + other.data, [(self, 1.0), (other, 1.0)], "sum")
#
#     def __mul__(self, other):
#         return Value(self.data * other.data, [(self, other.data), (other, self.data)], "product")
# ```
#
# </details>

# %% [markdown]
# ## 3. The tape, drawn
#
# What the Values remember is called a **tape**, or a **graph**: who was made from whom. Here is a small one. It has
# only three operations, and yet it holds the whole difficulty of this lesson, because two arrows leave `u`: one goes
# directly to `y`, the other takes the way through `v`. (In `x × x` the same value is the parent twice, and so it is in
# `u × u`. One arrow stands for both.)

# %%
def small_graph():
    """The steps of y = u + u·u with u = x·x, at x = 3."""
    x = Value(3.0, label="x")
    u = x * x
    v = u * u
    y = u + v
    u.label, v.label, y.label = "u = x × x", "v = u × u", "y = u + v"
    return x, u, v, y


def draw(values, title=""):
    """A picture of the tape: a box for each value, an arrow from everything it was made from."""
    boxes = {id(value): (value.label, f"data {value.data:g}", f"grad {value.grad:g}") for value in values}
    arrows = [(id(parent), id(value)) for value in values for parent, _ in value.parents]
    return plot.diagram(boxes, arrows, title)


x, u, v, y = small_graph()
lesson.show(
    draw([x, u, v, y], "Before the backward pass"),
    "Graph from top to bottom: x leads to u, u leads to v and to y, v leads to y. All gradients are still 0.",
)

# %% [markdown]
# ## 4. Handing gradients back
#
# We want `grad` in every box: how fast `y` changes with it. For `y` itself that is 1. From there each value hands back
# to its parents: **its own gradient times the local derivative**. That is the chain rule. A value that is used twice
# gets two such gifts, and **adds them up**.

# %% [markdown] tags=["exercise"]
# ### Exercise 2 · The sweep · 2/5 · 10 minutes
#
# Write `sweep(order)`. It gets a list of Values with the final result first, whose gradients are all 0. It gives the
# result the gradient 1, then goes through the list once and lets each value hand back to its parents.

# %% tags=["stub"]
def sweep(order):
    """Fills in .grad of all values in order, and of their parents. order[0] is the final result."""
    ...


# %% tags=["check"]
def check(sweep):
    a, b = Value(3.0), Value(2.0)
    product = a * b
    result = product + a
    sweep([result, product, a, b])
    assert result.grad != 0.0, "the result has the gradient 0: it changes as fast as itself, so give it 1 to start with"
    assert result.grad == 1.0, f"the result changes as fast as itself: its gradient is 1, not {result.grad}"
    assert a.grad != 0.0, "a got the gradient 0: each value in the list hands back to value.parents"
    replaced = a.grad in (1.0, 2.0)
    assert not replaced, f"in a * b + a, a.grad is {a.grad}, it should be 3: does a second gift replace the first?"
    assert (a.grad, b.grad) == (3.0, 3.0), f"in a * b + a the gradients are 3 and 3, yours are {a.grad} and {b.grad}"
    x, u, v, y = small_graph()
    sweep([y, v, u, x])
    assert u.grad == 19.0, f"in the drawn graph u.grad is {u.grad}, it should be 1 + 9 + 9 = 19"
    assert x.grad != 6.0, "x.grad is 6, the local derivatives alone: multiply them by the gradient of the value"
    assert x.grad == 114.0, f"in the drawn graph x.grad is {x.grad}, it should be 19 · (3 + 3) = 114"


sweep = lesson.check(check, sweep)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Two loops, one inside the other: over the values in the list, and over `value.parents`, whose elements are pairs
# `(parent, slope)`. The innermost line has a `+=`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def sweep(order):
#     """Fills in .grad of all values in order, and of their parents. order[0] is the final result."""
#     order[0].grad = 1.0
#     for value in order:
#         for parent, slope in value.parents:
#             parent.grad += slope * value.grad
# ```
#
# </details>

# %% [markdown]
# ## 5. Why the order matters
#
# The check above handed your sweep the values in a good order. Who finds that order in a net with a million values?
# A first idea: start at `y`, then its parents, then theirs, as one meets them. `y` was made from `u` and `v`, so that
# gives the order `y`, `u`, `v`, `x`.

# %% [markdown] tags=["predict"]
# **Predict.** With your sweep in the order `y, u, v, x`, which gradient does `x` get at `x = 3`? Take a pencil: go
# through the four boxes in this order, and write down what each one hands back. (The right one is
# $\frac{dy}{dx} = (1 + 2u) \cdot 2x = 19 \cdot 6 = 114$.)

# %% tags=["predict"]
grad_of_x = ...  # your guess for the order y, u, v, x

# %%
x, u, v, y = small_graph()
sweep([y, u, v, x])
lesson.reveal("x.grad in the order y, u, v, x", grad_of_x, x.grad)
lesson.show(
    draw([x, u, v, y], "After a sweep in the order y, u, v, x: wrong"),
    "The same graph after the wrong order: u has the right gradient 19, but x has 6 where 114 is right.",
)

# %% [markdown]
# `u` handed back when only the gift from `y` had arrived. Then `v` sent `u` its share, too late: nobody passes it on to
# `x`. The picture shows it: `u` ends with the right gradient, `x` does not.
#
# **A value may hand back only after everything that was made from it has done so.** An order in which every value
# stands before its own parents does that. It is called a *reverse topological order*. Here `y, v, u, x` is the only one.
# And you have just met the smallest graph that can go wrong: with two operations there is nothing to choose, the result
# comes first, then the other.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 · A topological order · 3/5 · 15 minutes
#
# Write `topological_order(result)`. It returns a list of all Values that `result` was made from, and `result` itself.
# Each stands there **once**, and **after** everything that it was made from, so `result` is the last one. (`backward`
# below will turn the list around.)

# %% tags=["stub"]
def topological_order(result):
    """All values behind result, each after its parents; result itself is the last."""
    return ...


# %% tags=["check"]
def check(topological_order):
    x, u, v, y = small_graph()
    names = {id(x): "x", id(u): "u", id(v): "v", id(y): "y"}
    order = topological_order(y)
    assert isinstance(order, list), f"a list of Values is expected, not a {type(order).__name__}"
    found = [names.get(id(value), "?") for value in order]
    twice = len(found) > len(set(found))
    assert not twice, f"your order is {found}: each value must stand there once, so remember who was seen"
    assert sorted(found) == ["u", "v", "x", "y"], f"your order is {found}, it needs x, u, v and y: follow .parents"
    assert found[0] != "y", f"your order is {found}: y comes last, after everything that it was made from"
    assert found == ["x", "u", "v", "y"], f"your order is {found}: v was made from u, so it must stand after it"
    again = len(topological_order(y))
    assert again == 4, f"a second call returns {again} values, not 4: does a default argument remember the first call?"
    values = [Value(float(number)) for number in range(3)]
    for number in range(12):
        values.append(values[-1 - number % 3] * values[-2] + values[-3])
    place = {id(value): index for index, value in enumerate(topological_order(values[-1]))}
    for value in values[3:]:
        late = [parent for parent, _ in value.parents if place.get(id(parent), -1) > place.get(id(value), 99)]
        assert not late, "in a larger graph a value stands before one of its parents: append it after all of them"


topological_order = lesson.check(check, topological_order)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Write an inner function `visit(value)`: if it was seen before, do nothing; else note that it is seen, visit all of its
# parents, and only then append it to the list. Note `id(value)` in a set.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def topological_order(result):
#     """All values behind result, each after its parents; result itself is the last."""
#     order, seen = [], set()
#
#     def visit(value):
#         if id(value) in seen:
#             return
#         seen.add(id(value))
#         for parent, _ in value.parents:
#             visit(parent)
#         order.append(value)
#
#     visit(result)
#     return order
# ```
#
# </details>

# %% [markdown]
# Together they are the backward pass. Count the lines of `Value`, `sweep` and `topological_order`: about forty, and it
# is the whole idea of backpropagation.

# %%
def backward(result):
    """Fills in .grad of everything that result was made from."""
    order = topological_order(result)
    sweep(order[::-1])
    return order


x, u, v, y = small_graph()
lesson.show(
    draw(backward(y), "After the backward pass"),
    "The same graph after the right order y, v, u, x: gradients 1 for y and v, 19 for u, 114 for x.",
)

# %% [markdown]
# Is it right? Ask the nudge of section 1, which knows nothing of tapes.

# %%
def longer(a, b, c):
    return (a * b + c) * (b + c * c) + a


inputs = [0.5, -1.5, 2.0]
leaves = [Value(number) for number in inputs]
backward(longer(*leaves))
by_nudge = [nudge(longer, inputs, which) for which in range(3)]
lesson.say(
    "| input | backward pass | nudge |\n|---|---|---|\n"
    + "\n".join(f"| {n} | {leaf.grad:.6f} | {slope:.6f} |" for n, leaf, slope in zip("abc", leaves, by_nudge))
)

# %% [markdown]
# The same, up to the small error of the nudge. (How small it can get is the question of lesson 2.) The nudges took a run
# of the formula for every input and one more; the tape took one run and one sweep, and so it would with a million inputs.
#
# One more trap. Chains can be long, and a function that calls itself cannot go arbitrarily deep in Python:

# %%
total = Value(0.0)
for _ in range(10_000):
    total = total + Value(1.0)
try:
    backward(total)
    print("your order copes with a chain of 10,000 additions")
except RecursionError:
    print("RecursionError: topological_order calls itself too deeply")

# %% [markdown]
# tinynet avoids both the recursion and the search: every result gets a **number** when it is made, one higher than the
# last. What a value was made from is always older, so *descending numbers are a reverse topological order*. You will
# find that idea in one line of `tinynet/tape/backward.py`.
#
# ## 6. Learning
#
# What is it good for? Five points lie near a line `y = slope · x + offset`. We look for the two numbers. The **loss**
# is the sum of the squared distances. Its gradient says where it grows, so we take small steps the other way. This is
# called **gradient descent**, and the factor in front of the gradient, here `0.03`, is the **learning rate**. Watch the
# loss in the picture. Its axis is logarithmic: from one line up to the next the loss is ten times as large.

# %%
xs = [-2.0, -1.0, 0.0, 1.0, 2.0]
ys = [-4.9, -3.1, -0.9, 0.8, 3.2]


def loss_of(slope, offset):
    loss = Value(0.0)
    for x, y in zip(xs, ys):
        error = slope * Value(x) + offset + Value(-y)
        loss = loss + error * error
    return loss


slope, offset = Value(0.0), Value(0.0)
losses = []
for step in range(25):
    loss = loss_of(slope, offset)
    backward(loss)
    losses.append(loss.data)
    slope = Value(slope.data - 0.03 * slope.grad)
    offset = Value(offset.data - 0.03 * offset.grad)

lesson.say(f"Found: **y = {slope.data:.2f} · x + ({offset.data:.2f})**, with the loss {losses[-1]:.3f}. It cannot "
           "reach 0: no line goes through all five points.")
lesson.show(
    plot.lines({"loss": (range(25), losses)}, x="step", y="loss", log="y", title="Gradient descent finds the line"),
    "The loss on a logarithmic axis falls steeply over the first ten steps and then stays level: the line is found.",
)

# %% [markdown]
# ## 7. Tensors
#
# A net multiplies matrices. One Value for each number in them would do, but let us count.

# %% [markdown] tags=["predict"]
# **Predict.** We multiply a (4, 3) matrix by a (3, 2) matrix with Values. Each number of the result is a sum of three
# products. How many new Values does the whole product leave on the tape?

# %% tags=["predict"]
new_values = ...  # your guess

# %%
left = [[Value(1.0) for _ in range(3)] for _ in range(4)]
right = [[Value(1.0) for _ in range(2)] for _ in range(3)]
everything = Value(0.0)
for row in left:
    for column in zip(*right):
        everything = everything + (row[0] * column[0] + row[1] * column[1] + row[2] * column[2])

inputs = 4 * 3 + 3 * 2 + 1
only_to_collect = 4 * 2
lesson.reveal("new Values", new_values, len(topological_order(everything)) - inputs - only_to_collect)

# %% [markdown]
# For every number in the result three products and two sums. A real layer with matrices of a thousand rows and columns
# would leave billions. So put the whole array into one node, and work out **once** what the backward pass of the whole
# product is. That is a **tensor**: an array of numbers with a place on the tape. Same idea, fewer and larger nodes. In
# the picture a *leaf* is a tensor that was not computed from others, and *matmul* is the matrix product `@`.

# %%
a = tinynet.tensor(3.0, requires_grad=True)  # this one shall get a gradient
b = tinynet.tensor(2.0, requires_grad=True)
y = a * b + a
y.backward()
print("the formula of section 1:", a.grad, b.grad)

points = tinynet.randn(4, 3, requires_grad=True)  # random numbers, 4 by 3
weight = tinynet.randn(3, 2, requires_grad=True)
bias = tinynet.randn(2, requires_grad=True)
result = points @ weight + bias  # a layer of a net: 4 points with 3 numbers each go in, 4 with 2 come out
lesson.show(
    plot.graph(result, title="points @ weight + bias"),
    "Tape: leaves of 4 by 3 and 3 by 2 enter matmul; its 4 by 2 result and a leaf of size 2 enter the addition.",
)

# %% [markdown] tags=["predict"]
# **Predict.** `bias` has the shape `(2,)`, the result has `(4, 2)`. Which shape does the gradient of `bias` have?

# %% tags=["predict"]
shape_of_grad = ...  # a tuple

# %%
upstream = tinynet.randn(4, 2)  # how fast some later result changes with each number of `result`
result.backward(upstream)
lesson.reveal("shape of bias.grad", shape_of_grad, tuple(bias.grad.shape))

# %% [markdown]
# A gradient has one number for each number of the tensor, so it has **the tensor's shape, always**. That is also the
# best help for finding a formula. `bias` was used by all four rows, and what is used four times collects four gifts.
#
# For the matrix product write it out once: $y_{ij} = \sum_k x_{ik} w_{kj}$. The number $x_{ik}$ is used in row $i$, in
# every column $j$, each time with the factor $w_{kj}$. So its gradient is $\sum_j g_{ij} w_{kj}$, where $g$ is the
# gradient that arrives at $y$. That is again a product of two matrices.

# %% [markdown] tags=["exercise"]
# ### Exercise 4 · Backward through a layer · 3/5 · 10 minutes
#
# For `y = x @ weight + bias` write the three gradients. `grad` is the one that arrives at `y` and has its shape. `x`,
# `weight`, `bias` have the shapes (n, k), (k, m), (m,), and so must the gradients. Use `@`, `.T` and `.sum(dim)`, where
# `dim` is what NumPy calls `axis`.

# %% tags=["stub"]
def linear_backward(grad, x, weight):
    """The gradients of x, weight and bias in y = x @ weight + bias, as a tuple of three tensors."""
    return ...


# %% tags=["check"]
def check(linear_backward):
    x, weight, bias, grad = (tinynet.randn(*size, dtype=tinynet.float64) for size in ((5, 3), (3, 3), (3,), (5, 3)))
    for tensor in (x, weight, bias):
        tensor.requires_grad_()
    (x @ weight + bias).backward(grad)
    given = linear_backward(grad, x.detach(), weight.detach())
    kind = type(given).__name__
    assert isinstance(given, tuple) and len(given) == 3, f"a tuple of three gradients is expected, not {kind}"
    for name, mine, tensor in zip(("x", "weight", "bias"), given, (x, weight, bias)):
        shape, wanted = tuple(mine.shape), tuple(tensor.shape)
        assert shape == wanted, f"the gradient of {name} has shape {shape}, not {wanted}: does each row add to it?"
        error = relative_error(mine, tensor.grad)
        advice = {
            "x": "is the weight transposed?",
            "weight": "is it x that is transposed, and does it stand on the left?",
            "bias": "is it a sum over the rows, not a mean?",
        }[name]
        assert error < 1e-9, f"the gradient of {name} has the relative error {error:.0e}, not about 1e-16: {advice}"


linear_backward = lesson.check(check, linear_backward)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Let the shapes lead you. For `x` you need (n, k), made from `grad` (n, m) and `weight` (k, m). For `weight` you need
# (k, m), made from `x` (n, k) and `grad` (n, m). In both cases only one order fits, with one of the two transposed.
# For `bias`: which axis of `grad` has to go?
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def linear_backward(grad, x, weight):
#     """The gradients of x, weight and bias in y = x @ weight + bias, as a tuple of three tensors."""
#     return grad @ weight.T, x.T @ grad, grad.sum(0)
# ```
#
# </details>

# %% [markdown]
# ## 8. Gradients add up, once more
#
# `backward` *adds* to what stands in `.grad`, just like your sweep. Usually that is what one wants. Sometimes it bites.

# %% [markdown] tags=["predict"]
# **Predict.** `x` is 3, and `x * x` has the derivative 6 there. We compute `x * x` and call `backward` twice, each time
# from a fresh formula, and never touch `x.grad` in between. What does it hold in the end?

# %% tags=["predict"]
after_two = ...  # your guess

# %%
x = tinynet.tensor(3.0, requires_grad=True)
for _ in range(2):
    (x * x).backward()
lesson.reveal("x.grad", after_two, x.grad)

# %% [markdown]
# So a training loop has to set gradients back before each step. (In section 6 each step made new Values, whose gradients
# were 0.) Here is section 6 with tensors. It is the loop of every deep-learning program, and there is nothing in it that
# you have not written yourself. Inside of `no_grad` nothing is recorded: the step itself is not part of the formula.

# %%
inputs = tinynet.tensor(xs, dtype=tinynet.float64)
targets = tinynet.tensor(ys, dtype=tinynet.float64)
slope = tinynet.tensor(0.0, dtype=tinynet.float64, requires_grad=True)
offset = tinynet.tensor(0.0, dtype=tinynet.float64, requires_grad=True)
tensor_losses = []
for step in range(25):
    error = slope * inputs + offset - targets
    loss = (error * error).sum()
    loss.backward()
    tensor_losses.append(loss.item())
    with tinynet.no_grad():
        for parameter in (slope, offset):
            parameter -= 0.03 * parameter.grad
            parameter.grad = None

difference = relative_error(tensor_losses, losses)
lesson.say(
    f"25 steps: **y = {slope.item():.2f} · x + ({offset.item():.2f})**. Beside the losses of your Values, the largest "
    f"relative difference is {difference:.1g}: it is the same computation, up to rounding."
)

# %% [markdown] tags=["make"]
# ## Make: a new operation
#
# Give your tape an operation that it does not have, and let the nudge confirm it. A good one is
# $\tanh$, whose derivative is $1 - \tanh^2$: start below, in place of `cube`. Then draw the graph of `tanh(w * x + b)`,
# which is one neuron. What happens to the gradient of `w` when `w * x + b` is large? (You will see that again when nets
# get deep, in lesson 7.)

# %%
def cube(value):
    """value³, with the local derivative 3·value²."""
    return Value(value.data**3, [(value, 3 * value.data**2)], "cube")


w = Value(0.7, label="w")
backward(cube(w * Value(2.0)))
print(f"tape {w.grad:.4f}, nudge {nudge(lambda number: (number * 2.0) ** 3, [0.7], 0):.4f}")

# %%
lesson.progress()

# %% [markdown] tags=["recap"]
# ## Recap
#
# Say the answers aloud before you unfold them.
#
# 1. What does a `Value` remember, and when does it learn its gradient?
# 2. Why may a value hand back its gradient only when its turn in the topological order has come?
# 3. A value is used three times. What is its gradient?
# 4. Which shape does a gradient have, and how does that help to find `x.T @ grad`?
# 5. Why does a training loop set the gradients back?
#
# <details><summary>Answers</summary>
#
# 1. What it was made from and the local derivatives, when it is made. Its gradient comes later, in the backward pass.
# 2. Before that, part of its own gradient has not arrived, and would never be passed on.
# 3. The sum of three gifts, one for each use.
# 4. The shape of its tensor. Of the products of `x`, `grad` and their transposes only one has the weight's shape.
# 5. `backward` adds to `.grad`; without it the next step would follow the old gradients, too.
#
# </details>

# %% [markdown] tags=["paper"]
# ## The paper's sentence
#
# > "The procedure repeatedly adjusts the weights of the connections in the network so as to minimize a measure of the
# > difference between the actual output vector of the net and the desired output vector."
#
# David Rumelhart, Geoffrey Hinton and Ronald Williams, *Learning representations by back-propagating errors*, Nature,
# 1986. You have written all of it: the measure (the loss), the adjusting (the step), and what makes it affordable (the
# sweep).

# %% [markdown] tags=["read"]
# ## Read on, in tinynet
#
# Now that you know the idea, you can read the real one:
#
# - `tinynet/tape/node.py`, `Node`: what an operation leaves behind; `edges` are your `parents`, `sequence` the number
# - `tinynet/tape/backward.py`, `backward`: the sweep, without recursion
# - `tinynet/ops/arithmetic.py`, `Multiply`: forward and backward of one operation, side by side
# - `tinynet/ops/linear.py`, `MatMul`: exercise 4 for all shapes
#
# Lesson 2 asks the question that this one left open: how do you *know* that a gradient is right?
