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
# # Assignment 1: A tape of arrays
#
# **Goal.** In lesson 1 a `Value` was one number. Here you write the same engine for whole arrays: tensors that remember
# what they were made from, five operations, and a backward pass that hands gradients back in the right order. At the
# end a small residual network learns on your tape, and its gradients are those of tinynet.
#
# **You need:** lessons 1 and 2. **Time:** two to three hours. **Points:** 20.
#
# | task | points |
# |---|---|
# | 1 · The gradient of what was broadcast | 2 |
# | 2 · Tensors that remember | 3 |
# | 3 · An order for the backward pass | 3 |
# | 4 · The sweep | 3 |
# | 5 · Matrix product | 2 |
# | 6 · ReLU | 2 |
# | 7 · Softmax cross-entropy | 3 |
# | 8 · Finale: a network learns on your tape | 2 |
#
# **How to work.** Replace the lines `# YOUR CODE HERE` and `raise NotImplementedError()` with your code. Below each task
# stand checks that say at once what is wrong. Your submission is graded by them and by further tests with other shapes
# and fresh random numbers. The tasks are graded one by one: if you are stuck, go on with the next one.
#
# **Your own work.** Everything is to be computed with NumPy and plain Python; no other library can be imported.
# tinynet has an answer to each task (`tinynet.tensor`, `tinynet.tape`, `tinynet.ops`): its use is refused, and so is
# that of any other library for derivatives. Keep the names and parameters of the functions. Cells without
# `YOUR CODE HERE` are given: they are replaced by the original ones before grading.

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import numpy as np

# %% [markdown]
# ## Task 1 · The gradient of what was broadcast · 2 points
#
# NumPy **broadcasts**: in `x + bias` with shapes (4, 3) and (3,) it adds an axis in front of `bias` and uses its three
# numbers in each of the four rows. An axis of length 1 is repeated in the same way: (4, 1) beside (4, 3) is used three
# times along the last axis. For a number $a_i$ that is copied to the places $j \in U(i)$ of the result
#
# $$\frac{\partial L}{\partial a_i} = \sum_{j \in U(i)} g_j ,$$
#
# where $g$ is the gradient in the result's shape: what is used several times collects several gifts, and they add up.
# So the way back from the result's shape to the operand's shape is a sum, over the axes that were added in front and
# over those that were repeated. Every operation below will need it.


# %% nbgrader={"grade": false, "grade_id": "unbroadcast", "locked": false, "schema_version": 3, "solution": true, "task": false}
def unbroadcast(grad, shape):
    """The gradient of an operand that NumPy broadcast from `shape` to the shape of `grad`.

    Args:
        grad: float64 array, a gradient in the shape of the result.
        shape: tuple of ints, the operand's own shape. It broadcasts to grad.shape: it may have fewer axes, even
            none, and axes of length 1.

    Returns:
        float64 array whose shape is exactly `shape`: for each number of the operand the sum of `grad` over all
        places to which that number was copied. `grad` itself must not change.
    """
    ### BEGIN SOLUTION
    added = grad.ndim - len(shape)
    repeated = tuple(added + axis for axis, size in enumerate(shape) if size == 1)
    return grad.sum(axis=tuple(range(added)) + repeated).reshape(shape)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "unbroadcast-added", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Axes that were added in front.
grad = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
got = unbroadcast(grad, (3,))
assert got is not None, "unbroadcast returned None: is there a return?"
assert np.shape(got) == (3,), (
    f"the gradient of an operand of shape (3,) has that shape, yours {np.shape(got)}: which axis was added in front, "
    "and summed?"
)
assert not np.allclose(got, [1, 2, 3]), "you return the first row of grad: all rows used the operand, so sum them up"
assert not np.allclose(got, [5.5, 11, 16.5]), "you return the mean of the rows: gifts add up, nothing is divided"
assert np.allclose(got, [11, 22, 33]), (
    f"for grad {grad.tolist()} and shape (3,) the sum is [11, 22, 33], you return {got}"
)
got = unbroadcast(grad, ())
assert np.shape(got) == (), f"an operand of shape () is a single number, yours has the shape {np.shape(got)}"
assert np.allclose(got, 66), f"a single number that is used in all six places collects 1 + 2 + ... + 30 = 66, not {got}"


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(unbroadcast)
    rng = fresh_generator()
    for size, shape in (((3, 3), (3,)), ((4, 2, 3), (2, 3)), ((2, 4, 3), (3,)), ((5, 4), (5, 4)), ((2, 2, 2), ())):
        grad = rng.standard_normal(size)
        copies = np.broadcast_to(np.arange(np.prod(shape, dtype=int)).reshape(shape), size)  # which number stands where
        expected = np.bincount(copies.ravel(), grad.ravel()).reshape(shape)
        added = len(size) - len(shape)
        wrong = {
            "the last axes are summed, but NumPy adds axes in front": grad.sum(
                tuple(range(len(size) - added, len(size)))
            ),
            "a mean is taken where a sum is due": grad.mean(tuple(range(added))),
            "only the first copy counts, the others are not summed": grad[(0,) * added],
        }
        given = grad.copy()
        got = unbroadcast(given, shape)
        compare(got, expected, f"unbroadcast from {size} to {shape}", rtol=1e-9, wrong=wrong if added else {})


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "unbroadcast-repeated", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Axes of length 1 that were repeated.
grad = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
got = unbroadcast(grad, (2, 1))
assert got is not None, "unbroadcast returned None: is there a return?"
assert np.shape(got) == (2, 1), (
    f"the operand has the shape (2, 1), its gradient {np.shape(got)}: sum over the repeated axis, and keep it with "
    "length 1"
)
assert not np.allclose(got, [[2], [20]]), (
    "you return the mean along the repeated axis: gifts add up, nothing is divided"
)
assert np.allclose(got, [[6], [60]]), (
    f"the sums along the repeated axis are [[6], [60]], you return {np.asarray(got).tolist()}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(unbroadcast)
    rng = fresh_generator()
    for size, shape in (
        ((3, 3), (1, 3)),
        ((3, 3), (3, 1)),
        ((2, 4, 3), (2, 1, 3)),
        ((2, 4, 3), (4, 1)),
        ((2, 1), (2, 1)),
        ((5, 2, 4), (1, 1)),
    ):
        grad = rng.standard_normal(size)
        copies = np.broadcast_to(np.arange(np.prod(shape, dtype=int)).reshape(shape), size)
        expected = np.bincount(copies.ravel(), grad.ravel()).reshape(shape)
        compare(unbroadcast(grad.copy(), shape), expected, f"unbroadcast from {size} to {shape}", rtol=1e-9)


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2 · Tensors that remember · 3 points
#
# A `Tensor` holds a float64 array and its **parents**: the tensors it was made from. In lesson 1 each parent came with a
# number, the local derivative. For arrays a *function* takes that place. For each parent there is a **pull**: it takes
# the gradient of the result and returns what this use hands back to the parent. With $g$ for the result's gradient
#
# | result | hands to the left operand | hands to the right operand |
# |---|---|---|
# | $a + b$ | $g$ | $g$ |
# | $a \cdot b$ (number by number) | $g \cdot b$ | $g \cdot a$ |
#
# each **in the operand's own shape**: where an operand was broadcast, your `unbroadcast` is the last step.
#
# Fill in the two operators. `__add__` is what Python calls for `a + b`, `__mul__` for `a * b`.


# %% nbgrader={"grade": false, "grade_id": "tensor", "locked": false, "schema_version": 3, "solution": true, "task": false}
class Tensor:
    """A float64 array that remembers what it was made from.

    Attributes:
        data: the float64 array.
        parents: list of pairs (parent, pull), one for each use of a parent, the left operand first. `pull(grad)`
            takes the gradient of this tensor (float64 array in the shape of `data`) and returns what this use hands
            back to the parent (float64 array in the shape of `parent.data`). It may be called more than once, and
            changes nothing. A tensor without parents is an *input*.
        grad: None until a backward pass reaches an input, then a float64 array in the shape of `data`.
    """

    def __init__(self, data, parents=()):
        self.data = np.asarray(data, dtype=np.float64)
        self.parents = list(parents)
        self.grad = None

    def __add__(self, other):
        """self + other, for two Tensors whose shapes broadcast. Returns a new Tensor with two parents."""
        ### BEGIN SOLUTION
        return Tensor(
            self.data + other.data,
            [
                (self, lambda grad: unbroadcast(grad, self.data.shape)),
                (other, lambda grad: unbroadcast(grad, other.data.shape)),
            ],
        )
        ### END SOLUTION

    def __mul__(self, other):
        """self * other number by number, for two Tensors whose shapes broadcast. Returns a new Tensor."""
        ### BEGIN SOLUTION
        return Tensor(
            self.data * other.data,
            [
                (self, lambda grad: unbroadcast(grad * other.data, self.data.shape)),
                (other, lambda grad: unbroadcast(grad * self.data, other.data.shape)),
            ],
        )
        ### END SOLUTION


# %% [markdown]
# The next cell is given. `run_operation` runs one operation on fresh Tensors and shows what it hands back. The checks
# use it, and so can you: `run_operation("multiply", [a, b], [grad])` with three arrays.


# %% nbgrader={"grade": false, "grade_id": "run-operation", "locked": true, "schema_version": 3, "solution": false, "task": false}
def run_operation(name, arrays, grads, labels=None):
    """One operation of yours, alone: "add", "multiply", "matmul", "relu" or "cross_entropy" (with labels).

    Returns (value, handed): the result's array, and in handed[i][k] what is handed back to arrays[k] where the
    gradient of the result is grads[i]; None if nothing is.
    """
    operations = {
        "add": lambda a, b: a + b,
        "multiply": lambda a, b: a * b,
        "matmul": lambda a, b: matmul(a, b),
        "relu": lambda a: relu(a),
        "cross_entropy": lambda logits: cross_entropy(logits, labels),
    }
    inputs = [Tensor(array) for array in arrays]
    result = operations[name](*inputs)
    assert isinstance(result, Tensor), f"{name} returned a {type(result).__name__}, it should be a Tensor"
    handed = []
    for grad in grads:
        gifts = []
        for one in inputs:
            uses = [np.asarray(pull(grad)) for parent, pull in result.parents if parent is one]
            gifts.append(sum(uses[1:], start=uses[0]) if uses else None)
        handed.append(gifts)
    return result.data, handed


# %% nbgrader={"grade": true, "grade_id": "tensor-add", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# A sum of two arrays of the same shape.
a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[10.0, 20.0], [30.0, 40.0]])
grad = np.array([[1.0, -1.0], [0.5, 2.0]])
value, [(to_a, to_b)] = run_operation("add", [a, b], [grad])
assert np.allclose(value, a + b), f"a + b should hold\n{a + b}\nand holds\n{value}: is it made from both .data?"
assert to_a is not None and to_b is not None, (
    "a + b hands nothing back to one of its operands: are both among the parents?"
)
assert np.allclose(to_a, grad), f"a + b hands the gradient on as it is; to a you hand\n{to_a}\nfor the gradient\n{grad}"
assert np.allclose(to_b, grad), f"a + b hands the gradient on as it is; to b you hand\n{to_b}\nfor the gradient\n{grad}"


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(unbroadcast, run_operation)
    rng = fresh_generator()
    for shape in ((3, 4), (5,), ()):
        a, b, first, second = (rng.standard_normal(shape) for _ in range(4))
        value, handed = run_operation("add", [a, b], [first, second])
        compare(value, a + b, f"the value of a + b with shape {shape}", rtol=1e-12)
        for grad, gifts in zip((first, second), handed):
            for name, gift in zip("ab", gifts):
                wrong = {"the gradient from above is ignored": np.ones(shape), "the sign is turned": -grad}
                compare(gift, grad, f"what a + b hands back to {name}, shape {shape}", rtol=1e-12, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "tensor-multiply", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# A product of two arrays of the same shape.
a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[10.0, 20.0], [30.0, 40.0]])
grad = np.array([[1.0, -1.0], [0.5, 2.0]])
value, [(to_a, to_b)] = run_operation("multiply", [a, b], [grad])
assert np.allclose(value, a * b), f"a * b should hold\n{a * b}\nand holds\n{value}: number by number, from both .data"
assert to_a is not None and to_b is not None, (
    "a * b hands nothing back to one of its operands: are both among the parents?"
)
assert not np.allclose(to_a, grad * a), (
    "a gets the gradient times its own numbers: it should be those of the other operand"
)
assert not np.allclose(to_a, b), "a gets the local derivative alone: multiply it by the gradient from above"
assert np.allclose(to_a, grad * b), f"a * b should hand g · b back to a, that is\n{grad * b}\nyou hand\n{to_a}"
assert np.allclose(to_b, grad * a), (
    f"a * b should hand g · a back to b, that is\n{grad * a}\nyou hand\n{to_b}\n(does each pull use its own operand, "
    "also when it is called later?)"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(unbroadcast, run_operation)
    rng = fresh_generator()
    for shape in ((3, 4), (5,), ()):
        a, b, first, second = (rng.standard_normal(shape) for _ in range(4))
        value, handed = run_operation("multiply", [a, b], [first, second])
        compare(value, a * b, f"the value of a * b with shape {shape}", rtol=1e-12)
        for grad, gifts in zip((first, second), handed):
            for name, gift, own, other in zip("ab", gifts, (a, b), (b, a)):
                wrong = {
                    "its own numbers stand where the other operand's should": grad * own,
                    "the gradient from above is ignored": other,
                }
                compare(gift, grad * other, f"what a * b hands back to {name}, shape {shape}", rtol=1e-12, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "tensor-broadcast", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Sum and product where one operand is broadcast. (This one needs your unbroadcast.)
a, b, grad = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([1.0, 10.0, 100.0]), np.ones((2, 3))
for name, expected in (("add", [2.0, 2.0, 2.0]), ("multiply", [5.0, 7.0, 9.0])):
    value, [(to_a, to_b)] = run_operation(name, [a, b], [grad])
    assert np.shape(to_a) == (2, 3), f"{name}: what goes back to a has the shape {np.shape(to_a)}, a has (2, 3)"
    assert np.shape(to_b) == (3,), (
        f"{name}: b has the shape (3,) and was broadcast to (2, 3); what goes back to it has the shape "
        f"{np.shape(to_b)}: unbroadcast it"
    )
    assert np.allclose(to_b, expected), (
        f"{name}: b should get {expected}, you hand back {to_b}: multiply first, then undo the broadcasting"
    )


### BEGIN HIDDEN TESTS
def hidden_tests():
    import tinynet
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(unbroadcast, run_operation)
    rng = fresh_generator()
    for left, right in (((4, 3), (3,)), ((4, 3), (4, 1)), ((), (2, 3)), ((2, 1, 3), (4, 1))):
        a, b = rng.standard_normal(left), rng.standard_normal(right)
        grad = rng.standard_normal((a + b).shape)
        for name in ("add", "multiply"):
            leaves = [tinynet.from_numpy(array.copy()).requires_grad_() for array in (a, b)]
            result = leaves[0] + leaves[1] if name == "add" else leaves[0] * leaves[1]
            result.backward(tinynet.from_numpy(grad))
            value, [gifts] = run_operation(name, [a, b], [grad])
            compare(value, result.detach().numpy(), f"the value of {name} for shapes {left} and {right}", rtol=1e-12)
            for operand, gift, leaf in zip("ab", gifts, leaves):
                compare(
                    gift,
                    leaf.grad.numpy(),
                    f"what {name} hands back to {operand}, shapes {left} and {right}",
                    rtol=1e-9,
                )


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3 · An order for the backward pass · 3 points
#
# A tensor may hand its gradient back only after everything that was made from it has done so: only then its own gradient
# is complete. If $t$ was made from $p$, written $p \to t$, the backward pass needs an order with
#
# $$p \to t \quad\Longrightarrow\quad t \text{ stands before } p .$$
#
# Write `backward_order`. The result stands first, and every tensor stands before its own parents. Chains get long, and
# Python functions cannot call themselves a thousand times deep: here a tape of 20,000 operations has to work, so use a
# loop, no recursion. One way: first count how often each tensor behind the result is used by others. Then start with the
# result, and let a tensor into the order once all of its uses stand there.


# %% nbgrader={"grade": false, "grade_id": "backward_order", "locked": false, "schema_version": 3, "solution": true, "task": false}
def backward_order(result):
    """The order in which tensors hand their gradients back.

    Args:
        result: Tensor. `parents` may name the same tensor twice (as in a * a), and tensors are shared.

    Returns:
        list of Tensors: `result` first, then everything that it was made from, inputs included. Each tensor stands
        there once (compare with `is` or by `id`), and before all of its parents. Tensors that `result` was not made
        from do not belong there. No recursion: 20,000 tensors in a chain must work, within a second.
    """
    ### BEGIN SOLUTION
    uses, reached, waiting = {}, {id(result)}, [result]
    while waiting:
        for parent, _ in waiting.pop().parents:
            uses[id(parent)] = uses.get(id(parent), 0) + 1
            if id(parent) not in reached:
                reached.add(id(parent))
                waiting.append(parent)
    order, ready = [], [result]
    while ready:
        tensor = ready.pop()
        order.append(tensor)
        for parent, _ in tensor.parents:
            uses[id(parent)] -= 1
            if uses[id(parent)] == 0:
                ready.append(parent)
    return order
    ### END SOLUTION


# %% [markdown]
# Given: `run_order` builds a tape from plain numbers. `made_from[k]` lists the numbers of the tensors that tensor $k$ was
# made from; the last tensor is the result. It returns your order as a list of numbers.


# %% nbgrader={"grade": false, "grade_id": "run-order", "locked": true, "schema_version": 3, "solution": false, "task": false}
def run_order(made_from):
    """The numbers of the tensors in your backward_order of the last one; -1 for something that is none of them."""
    tensors = []
    for parents in made_from:
        tensors.append(Tensor(len(tensors), [(tensors[number], lambda grad: grad) for number in parents]))
    numbers = {id(tensor): number for number, tensor in enumerate(tensors)}
    return [numbers.get(id(tensor), -1) for tensor in backward_order(tensors[-1])]


# %% nbgrader={"grade": true, "grade_id": "backward_order-complete", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Every tensor behind the result stands in the order, once.
found = run_order([[], [0, 0], [1, 1], [1, 2]])  # x, u = x * x, v = u * u, y = u + v
assert -1 not in found, "the order should be a list of Tensors"
assert found, "the order is empty"
assert len(found) == len(set(found)), (
    f"the order of y = u + u·u, u = x·x has {len(found)} entries for 4 tensors: each stands there once, also if it is "
    "used twice"
)
assert sorted(found) == [0, 1, 2, 3], (
    f"for x, u = x·x, v = u·u, y = u + v (numbers 0 to 3) your order has the numbers {found}: all four are needed, the "
    "input too"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import fresh_generator, require_own_work

    require_own_work(run_order)
    rng = fresh_generator()
    for _ in range(5):
        made_from = [[], [], []]
        while len(made_from) < 14:
            made_from.append([int(number) for number in rng.choice(len(made_from), 2)])
        behind, waiting = set(), [13]
        while waiting:
            number = waiting.pop()
            behind.add(number)
            waiting += made_from[number]
        found = run_order(made_from)
        twice = sorted(number for number in set(found) if found.count(number) > 1)
        assert not twice, (
            f"on a tape of 14 tensors number {twice[0]} stands {found.count(twice[0])} times in the order: each stands "
            "there once"
        )
        missing, surplus = sorted(behind - set(found)), sorted(set(found) - behind)
        assert not missing, (
            f"on a tape of 14 tensors the result was made from number {missing[0]}, which is missing in the order"
        )
        assert not surplus, (
            f"on a tape of 14 tensors number {surplus[0]} is in the order, but the result was not made from it"
        )


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "backward_order-order", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Every tensor stands before its parents.
found = run_order([[], [0, 0], [1, 1], [1, 2]])  # x, u = x * x, v = u * u, y = u + v
assert found and found[0] == 3, (
    f"your order begins with tensor {found[0] if found else None}: the result stands first, here number 3"
)
assert 1 in found and 2 in found, f"your order {found} lacks u or v: both are behind the result"
assert found.index(2) < found.index(1), (
    f"your order is {found}: v (number 2) was made from u (number 1), so it hands back before u; u waits until all of "
    "its uses stand in the order"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import fresh_generator, require_own_work

    require_own_work(run_order)
    rng = fresh_generator()
    for _ in range(20):
        made_from = [[], [], []]
        while len(made_from) < 14:
            recent = max(0, len(made_from) - 5)
            made_from.append([len(made_from) - 1, int(rng.integers(recent, len(made_from)))])
        place = {number: position for position, number in enumerate(run_order(made_from))}
        assert place.get(13) == 0, "on a tape of 14 tensors the result does not stand first"
        for number, parents in enumerate(made_from):
            for parent in parents if number in place else ():
                assert parent in place, f"on a tape of 14 tensors number {parent} is missing in the order"
                assert place[number] < place[parent], (
                    f"on a tape of 14 tensors number {number} was made from {parent}, but stands after it: it hands "
                    "back too late"
                )


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "backward_order-long", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# A long chain, and many diamonds.
found = run_order([[], *[[number] for number in range(20_000)]])
assert found == list(range(20_000, -1, -1)), (
    f"a chain of 20,000 operations should give the order 20000, 19999, ..., 0; yours has {len(found)} entries and "
    f"begins {found[:3]}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import require_own_work

    require_own_work(run_order)
    found = run_order([[], *[[number, number] for number in range(10)]])
    assert found == list(range(10, -1, -1)), (
        f"ten squarings in a row have 11 tensors; your order has {len(found)} entries"
    )
    assert len(run_order([[], *[[number, number] for number in range(5_000)]])) == 5_001, (
        "5,000 squarings have 5,001 tensors"
    )


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4 · The sweep · 3 points
#
# With the tensors in order, one loop does the work: every tensor $t$ takes the sum of all gifts that have arrived,
#
# $$g_p = \sum_{t \,:\, p \to t} \text{pull}_{t \to p}(g_t) ,$$
#
# and hands gifts to its parents. Three things are different from lesson 1:
#
# - **Only inputs keep a gradient.** What arrives at the other tensors is needed during this pass only. It must not be in
#   the way when a second pass goes through the same tensors, so keep it in the function, not in `.grad`.
# - **A second pass adds** to the `.grad` of an input, as torch does.
# - **A pull may hand the same array to two parents** (`a + b` does). Whoever adds to it *in place* changes both.


# %% nbgrader={"grade": false, "grade_id": "sweep", "locked": false, "schema_version": 3, "solution": true, "task": false}
def sweep(order, grad):
    """Hands the gradient of order[0] back to everything that it was made from.

    Args:
        order: list of Tensors, each before its own parents, as backward_order returns it.
        grad: float64 array in the shape of order[0].data, the gradient of order[0]. It must not change.

    Returns:
        None. Afterwards every input in `order` (a tensor without parents) has the gradient of this pass added to
        its `.grad`: float64 array in the shape of its data; where `.grad` was None it is that gradient. The `.grad`
        of all other tensors stays as it was. No two tensors share one array as their `.grad`.
    """
    ### BEGIN SOLUTION
    arrived = {id(order[0]): grad}
    for tensor in order:
        gradient = arrived.pop(id(tensor))
        if not tensor.parents:
            tensor.grad = gradient.copy() if tensor.grad is None else tensor.grad + gradient
        for parent, pull in tensor.parents:
            gift = pull(gradient)
            arrived[id(parent)] = arrived[id(parent)] + gift if id(parent) in arrived else gift
    ### END SOLUTION


# %% [markdown]
# Given: `run_sweep` builds a tape from plain numbers, as above, and lets your `sweep` go over it. `made_from[k]` lists
# pairs `[number, factor]`; the pull multiplies by the factor, and hands the gradient on *as it is* where the factor is 1.
# Each pass is a pair of an order and a gradient. `backward` is yours, put together.


# %% nbgrader={"grade": false, "grade_id": "run-sweep", "locked": true, "schema_version": 3, "solution": false, "task": false}
def run_sweep(made_from, passes, size):
    """The .grad of every tensor (None or an array) after the passes, and the passes' own gradients afterwards."""

    def pull_by(factor):
        return lambda grad: grad if factor == 1 else factor * grad

    tensors = []
    for parents in made_from:
        pairs = [(tensors[number], pull_by(factor)) for number, factor in parents]
        tensors.append(Tensor(np.zeros(size), pairs))
    for order, grad in passes:
        sweep([tensors[number] for number in order], grad)
    return [tensor.grad for tensor in tensors], [grad for _, grad in passes]


def backward(result, grad=1.0):
    """Adds the gradients of `result` to the .grad of all inputs behind it."""
    sweep(backward_order(result), np.broadcast_to(np.float64(grad), result.data.shape).copy())


# %% nbgrader={"grade": true, "grade_id": "sweep-paths", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# A tensor that is used several times.
# u = 2·x, v = 3·u, y = 5·u + 7·v: two paths lead from y to u
found, _ = run_sweep([[], [[0, 2]], [[1, 3]], [[1, 5], [2, 7]]], [([3, 2, 1, 0], np.array([1.0, 10.0]))], 2)
x, u, v, y = found
assert x is not None, "the input x has no .grad after the pass: a tensor without parents keeps its gradient"
assert not np.allclose(x, [10, 100]) and not np.allclose(x, [42, 420]), (
    f"x gets {x}, one path alone: does the second gift to u replace the first? They add up: [52, 520]"
)
assert not np.allclose(x, [52, 52]), (
    "the gradient that was given for y is ignored: the sweep starts from it, not from ones"
)
assert np.allclose(x, [52, 520]), f"with the gradient [1, 10] at y, x gets (5 + 7·3)·2 times that, [52, 520], not {x}"
assert u is None and v is None and y is None, "only inputs keep a gradient, the .grad of u, v and y stays None"


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(run_sweep)
    rng = fresh_generator()
    for _ in range(3):
        made_from = [[], [], []]
        while len(made_from) < 12:
            latest = len(made_from) - 1
            factors = rng.uniform(0.5, 1.5, 2)
            made_from.append(
                [[latest, float(factors[0])], [int(rng.integers(max(0, latest - 3), latest + 1)), float(factors[1])]]
            )
        grad = rng.standard_normal(3)
        expected, overwritten = ({11: grad} for _ in range(2))
        for number in range(11, -1, -1):
            for parent, factor in made_from[number] if number in expected else ():
                expected[parent] = expected.get(parent, 0) + factor * expected[number]
                overwritten[parent] = factor * overwritten[number]
        reached = sorted(expected, reverse=True)
        found, _ = run_sweep(made_from, [(reached, grad.copy())], 3)
        kept = [number for number in range(3, 12) if found[number] is not None]
        assert not kept, f"tensor {kept[0]} of 12 is no input and has a .grad after the pass: only inputs keep one"
        for number in (0, 1, 2):
            if number in expected:
                wrong = {"gifts are overwritten instead of accumulated": overwritten[number]}
                compare(
                    found[number],
                    expected[number],
                    f"the gradient of input {number} on a tape of 12 tensors",
                    rtol=1e-9,
                    wrong=wrong,
                )


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "sweep-shared", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# One array handed to two parents.
# y = a + b, w = 3·a, z = y + w: y hands on one array for both a and b, and a second gift for a comes later
tape = [[], [], [[0, 1], [1, 1]], [[0, 3]], [[2, 1], [3, 1]]]
found, [grad] = run_sweep(tape, [([4, 2, 3, 1, 0], np.array([1.0, 10.0]))], 2)
a, b = found[:2]
assert a is not None and b is not None, (
    "an input has no .grad after the pass: a tensor without parents keeps its gradient"
)
assert not np.allclose(b, [4, 40]), (
    "b gets [4, 40], which is due to a alone: both were handed the same array, and an addition in place changes both"
)
assert np.allclose(b, [1, 10]), f"b is used once, it gets [1, 10], not {b}"
assert np.allclose(a, [4, 40]), f"a is used by y and, times 3, by w: it gets [4, 40], not {a}"
assert np.allclose(grad, [1, 10]), f"the gradient that sweep was given is now {grad}, it was [1, 10]: added in place?"


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(run_sweep)
    rng = fresh_generator()
    first, second = rng.standard_normal(4), rng.standard_normal(4)
    # s = a + b is swept twice: in the second pass an addition in place would reach what a and b share
    found, kept = run_sweep([[], [], [[0, 1], [1, 1]]], [([2, 1, 0], first.copy()), ([2, 0, 1], second.copy())], 4)
    for number, name in enumerate("ab"):
        wrong = {
            "the two inputs share one array, which gets every gift twice: added in place": first + 2 * second,
            "the second pass replaces the gradient instead of adding": second,
        }
        compare(
            found[number], first + second, f"the gradient of {name} in a + b after two passes", rtol=1e-12, wrong=wrong
        )
    for before, after in zip((first, second), kept):
        compare(
            after, before, "the gradient given to sweep, after the pass (it must not be changed in place)", rtol=1e-12
        )
    factor = float(rng.uniform(2, 3))
    # t = a + b, w = factor·a, z = t + w: a gets a second gift while b still waits with the array that t handed on
    tape = [[], [], [[0, 1], [1, 1]], [[0, factor]], [[2, 1], [3, 1]]]
    found, _ = run_sweep(tape, [([4, 2, 3, 0, 1], first.copy())], 4)
    wrong = {"a gift for the other input was added in place to an array that both share": (1 + factor) * first}
    compare(found[1], first, "the gradient of an input used once, beside one used twice", rtol=1e-12, wrong=wrong)
    compare(found[0], (1 + factor) * first, "the gradient of an input that is used twice", rtol=1e-12)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "sweep-twice", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Two passes over the same tensors.
# u = 2·x, y = 3·u: each pass brings 6 times its gradient
found, _ = run_sweep([[], [[0, 2]], [[1, 3]]], [([2, 1, 0], np.array([1.0])), ([2, 1, 0], np.array([10.0]))], 1)
assert found[0] is not None, "the input x has no .grad after two passes"
assert not np.allclose(found[0], [60]), (
    "after two passes x has the gradient of the second one alone: a second pass adds"
)
assert not np.allclose(found[0], [6]), "after two passes x has the gradient of the first one alone: a second pass adds"
assert np.allclose(found[0], [66]), (
    f"after two passes with the gradients 1 and 10 x has 6 + 60 = 66, not {found[0]}: does something of the first pass "
    "stay in u?"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(run_sweep)
    rng = fresh_generator()
    p, q, r = (float(factor) for factor in rng.uniform(0.5, 2, 3))
    first, second = rng.standard_normal(3), rng.standard_normal(3)
    # u = p·x + w is used by two results, y = q·u and z = r·u, and each gets a pass of its own
    tape = [[], [], [[0, p], [1, 1.0]], [[2, q]], [[2, r]]]
    found, _ = run_sweep(tape, [([3, 2, 1, 0], first.copy()), ([4, 2, 0, 1], second.copy())], 3)
    for number, name, factor in ((0, "x", p), (1, "w", 1.0)):
        expected = factor * (q * first + r * second)
        wrong = {
            "the second pass replaces the gradient instead of adding": factor * r * second,
            "the gradient that was given is ignored, the sweep starts from ones": factor * (q + r) * np.ones(3),
            "the gradient of the first pass was kept in a tensor between and handed back again": expected
            + factor * q * first,
        }
        compare(
            found[number],
            expected,
            f"the gradient of {name} after a pass from y and one from z",
            rtol=1e-9,
            wrong=wrong,
        )


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5 · Matrix product · 2 points
#
# For matrices $Y = A B$ with the gradient $G$ at $Y$, as in lesson 1,
#
# $$\frac{\partial L}{\partial A} = G\, B^T, \qquad \frac{\partial L}{\partial B} = A^T G .$$
#
# Here the operands may also be *stacks* of matrices with the same axes in front: shapes (8, 5, 3) and (8, 3, 4) mean
# eight products of (5, 3) by (3, 4). NumPy's `@` does that by itself. The transpose concerns the last two axes only.


# %% nbgrader={"grade": false, "grade_id": "matmul", "locked": false, "schema_version": 3, "solution": true, "task": false}
def matmul(a, b):
    """The matrix product a @ b of two Tensors.

    Args:
        a: Tensor of shape (..., n, k).
        b: Tensor of shape (..., k, m), with the same axes in front as `a`.

    Returns:
        Tensor of shape (..., n, m) with the parents `a` and `b`, in this order.
    """
    ### BEGIN SOLUTION
    return Tensor(
        a.data @ b.data,
        [
            (a, lambda grad: grad @ b.data.swapaxes(-1, -2)),
            (b, lambda grad: a.data.swapaxes(-1, -2) @ grad),
        ],
    )
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "matmul-plain", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Two matrices.
a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 8.0]])
grad = np.array([[1.0, 0.0], [0.0, 10.0]])
value, [(to_a, to_b)] = run_operation("matmul", [a, b], [grad])
assert not np.allclose(value, a * b), "you multiply number by number: a matrix product is `@`"
assert np.allclose(value, a @ b), f"the value should be\n{a @ b}\nit is\n{value}"
assert to_a is not None and to_b is not None, (
    "the product hands nothing back to one of its operands: are both among the parents?"
)
assert not np.allclose(to_a, grad @ b), "what a gets is grad @ b: the right operand is to be transposed there"
assert not np.allclose(to_b, a @ grad), "what b gets is a @ grad: the left operand is to be transposed there"
assert not np.allclose(to_b, grad @ a.T), (
    "what b gets is grad @ a transposed: the order is reversed, a's transpose stands on the left"
)
assert np.allclose(to_a, [[5, 7], [60, 80]]), (
    f"for the gradient {grad.tolist()} a gets [[5, 7], [60, 80]], you hand back {to_a.tolist()}"
)
assert np.allclose(to_b, [[1, 30], [2, 40]]), (
    f"for the gradient {grad.tolist()} b gets [[1, 30], [2, 40]], you hand back {to_b.tolist()}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(run_operation)
    rng = fresh_generator()
    for n, k, m in ((3, 3, 3), (4, 2, 5), (1, 6, 1)):
        a, b = rng.standard_normal((n, k)), rng.standard_normal((k, m))
        grads = [rng.standard_normal((n, m)) for _ in range(2)]
        value, handed = run_operation("matmul", [a, b], grads)
        compare(value, a @ b, f"the product of ({n}, {k}) and ({k}, {m})", rtol=1e-9)
        for grad, gifts in zip(grads, handed):
            wrong = {"the right operand is not transposed": grad @ b} if k == m else {}
            compare(
                gifts[0],
                np.einsum("nm,km->nk", grad, b),
                f"what the product hands back to a, ({n}, {k}) by ({k}, {m})",
                rtol=1e-9,
                wrong=wrong,
            )
            wrong = (
                {"the left operand is not transposed": a @ grad, "the order is reversed": grad @ a.T}
                if n == k == m
                else {}
            )
            compare(
                gifts[1],
                np.einsum("nk,nm->km", a, grad),
                f"what the product hands back to b, ({n}, {k}) by ({k}, {m})",
                rtol=1e-9,
                wrong=wrong,
            )


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "matmul-stacks", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Stacks of matrices: each product of the stack is one of its own.
a, b, grad = np.arange(8.0).reshape(2, 2, 2), np.arange(8.0).reshape(2, 2, 2) ** 2, np.ones((2, 2, 2))
value, [(to_a, to_b)] = run_operation("matmul", [a, b], [grad])
assert not np.allclose(to_a, grad @ b.T), "`.T` reverses all axes: only the last two axes are to be exchanged"
a, b = np.arange(12.0).reshape(2, 2, 3), np.arange(24.0).reshape(2, 3, 4) - 10
grad = np.ones((2, 2, 4))
value, [(to_a, to_b)] = run_operation("matmul", [a, b], [grad])
assert np.allclose(value[1], a[1] @ b[1]), "the second product of the stack is not a[1] @ b[1]"
for name, operand, gift in (("a", a, to_a), ("b", b, to_b)):
    assert np.shape(gift) == operand.shape, (
        f"what {name} gets has the shape {np.shape(gift)}, {name} has {operand.shape}: only the last two axes are "
        "transposed, `.T` reverses all"
    )
assert np.allclose(to_a[1], grad[1] @ b[1].T), "what a[1] gets should be grad[1] times the transpose of b[1]"
assert np.allclose(to_b[1], a[1].T @ grad[1]), "what b[1] gets should be the transpose of a[1] times grad[1]"


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(run_operation)
    rng = fresh_generator()
    cube, other, grad = (rng.standard_normal((3, 3, 3)) for _ in range(3))
    value, [gifts] = run_operation("matmul", [cube, other], [grad])
    wrong = {"`.T` reverses all axes, only the last two are transposed": grad @ other.T}
    compare(
        gifts[0],
        np.einsum("snm,skm->snk", grad, other),
        "what a stack of 3 products of (3, 3) hands back to a",
        rtol=1e-9,
        wrong=wrong,
    )
    for stack in ((3,), (2, 3)):
        a, b = rng.standard_normal((*stack, 4, 2)), rng.standard_normal((*stack, 2, 5))
        grad = rng.standard_normal((*stack, 4, 5))
        value, [gifts] = run_operation("matmul", [a, b], [grad])
        compare(value, a @ b, f"a stack of {stack} products", rtol=1e-9)
        compare(
            gifts[0],
            np.einsum("...nm,...km->...nk", grad, b),
            f"what a stack of {stack} products hands back to a",
            rtol=1e-9,
        )
        compare(
            gifts[1],
            np.einsum("...nk,...nm->...km", a, grad),
            f"what a stack of {stack} products hands back to b",
            rtol=1e-9,
        )


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6 · ReLU · 2 points
#
# $$y = \max(x, 0), \qquad
# \frac{\partial L}{\partial x} = \begin{cases} g & \text{where } x > 0 \\ 0 & \text{elsewhere} \end{cases}$$
#
# At the kink itself, $x = 0$, no derivative exists; everybody takes 0 there. And a network must not hide its accidents:
# **NaN stays NaN** in the value (a ReLU that turns it into 0 lets a broken net go on, looking well).


# %% nbgrader={"grade": false, "grade_id": "relu", "locked": false, "schema_version": 3, "solution": true, "task": false}
def relu(x):
    """max(x, 0), number by number.

    Args:
        x: Tensor of any shape. It must not change.

    Returns:
        Tensor of the same shape with the parent `x`: x where x > 0, NaN where x is NaN, 0 elsewhere (also for -inf).
        The gradient goes through where x > 0; where x is 0 or negative it is 0.
    """
    ### BEGIN SOLUTION
    return Tensor(np.maximum(x.data, 0.0), [(x, lambda grad: grad * (x.data > 0))])
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "relu-value", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The value.
x = np.array([[-2.0, -0.5, 0.0], [0.5, 2.0, -np.inf]])
value, _ = run_operation("relu", [x], [])
assert np.array_equal(value, [[0, 0, 0], [0.5, 2, 0]]), (
    f"for {x.tolist()} the value should be [[0, 0, 0], [0.5, 2, 0]], it is {np.asarray(value).tolist()}"
)
value, _ = run_operation("relu", [np.array([np.nan, 1.0])], [])
assert np.isnan(value[0]), (
    f"NaN went in and {value[0]} came out: a comparison with NaN is False, so it takes the other branch"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(run_operation)
    rng = fresh_generator()
    for shape in ((4, 5), (7,), (2, 3, 2)):
        x = rng.standard_normal(shape)
        compare(
            run_operation("relu", [x], [])[0],
            (np.abs(x) + x) / 2,
            f"ReLU of shape {shape}",
            rtol=1e-12,
            wrong={"the absolute value is taken": np.abs(x)},
        )
    x = rng.standard_normal(6)
    x[2] = np.nan
    value = np.asarray(run_operation("relu", [x], [])[0])
    assert np.isnan(value[2]), f"ReLU of NaN should be NaN, got {value[2]}"
    assert not np.isnan(np.delete(value, 2)).any(), "one NaN in x, but more than one in ReLU's value"


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "relu-gradient", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The gradient.
x, grad = np.array([-2.0, 0.0, 1.0, 3.0]), np.array([5.0, 7.0, -1.0, 10.0])
_, [(to_x,)] = run_operation("relu", [x], [grad])
assert to_x is not None, "ReLU hands nothing back: is x among the parents?"
assert not np.allclose(to_x, [0, 0, 1, 1]), "you hand back the derivative alone: multiply it by the gradient from above"
assert not np.allclose(to_x, [5, 7, 0, 10]), "you look at the sign of the gradient: it is the sign of x that decides"
assert not np.allclose(to_x, [0, 7, -1, 10]), "at x = 0 the gradient goes through: there it is 0 by agreement"
assert np.allclose(to_x, [0, 0, -1, 10]), (
    f"for x = {x.tolist()} and the gradient {grad.tolist()} x gets [0, 0, -1, 10], not {np.asarray(to_x).tolist()}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(run_operation)
    rng = fresh_generator()
    for shape in ((4, 5), (9,)):
        x = rng.standard_normal(shape)
        x.flat[3] = 0.0
        grads = [rng.standard_normal(shape) for _ in range(2)]
        _, handed = run_operation("relu", [x], grads)
        for grad, [gift] in zip(grads, handed):
            expected = np.array([g if number > 0 else 0.0 for number, g in zip(x.flat, grad.flat)]).reshape(shape)
            wrong = {
                "the gradient goes through everywhere": grad,
                "the sign of the gradient decides, not that of x": np.maximum(grad, 0),
                "at x = 0 the gradient goes through": np.where(x >= 0, grad, 0),
                "the gradient from above is ignored": np.float64(x > 0),
            }
            compare(gift, expected, f"what ReLU hands back, shape {shape}", rtol=1e-12, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 7 · Softmax cross-entropy · 3 points
#
# For $N$ examples and $C$ classes a network returns logits $z$ of shape $(N, C)$. With the label $c_n$ of example $n$ the
# loss is a mean over the examples,
#
# $$L = \frac 1N \sum_n \Big( \log \sum_j e^{z_{nj}} - z_{n c_n} \Big), \qquad
# p_{nj} = \frac{e^{z_{nj}}}{\sum_k e^{z_{nk}}}, \qquad
# \frac{\partial L}{\partial z_{nj}} = \frac 1N \big( p_{nj} - [\,j = c_n\,] \big),$$
#
# where $[\,j = c_n\,]$ is 1 for the label's class and 0 for the others. What arrives from above is one number $g$, which
# multiplies it all. $e^{1000}$ is too large for a float64, so subtract each row's own maximum $m_n$ first:
# $\log \sum_j e^{z_{nj}} = m_n + \log \sum_j e^{z_{nj} - m_n}$, and $p$ does not change either.


# %% nbgrader={"grade": false, "grade_id": "cross_entropy", "locked": false, "schema_version": 3, "solution": true, "task": false}
def cross_entropy(logits, labels):
    """The mean softmax cross-entropy of logits and labels.

    Args:
        logits: Tensor of shape (N, C). Finite for logits of ±10,000, too.
        labels: int64 array of shape (N,), classes from 0 to C - 1 (a plain array, not a Tensor).

    Returns:
        Tensor of shape () with the single parent `logits`: the mean over the N examples.
    """
    ### BEGIN SOLUTION
    rows = np.arange(len(labels))
    shifted = logits.data - logits.data.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    loss = (np.log(total[:, 0]) - shifted[rows, labels]).mean()

    def pull(grad):
        difference = np.exp(shifted) / total
        difference[rows, labels] -= 1
        return grad * difference / len(labels)

    return Tensor(loss, [(logits, pull)])
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "cross_entropy-value", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The value.
logits = np.log(np.array([[1.0, 3.0], [1.0, 1.0]]))  # probabilities 1/4, 3/4 and 1/2, 1/2
value, _ = run_operation("cross_entropy", [logits], [], labels=np.array([1, 0]))
expected = (np.log(4 / 3) + np.log(2)) / 2
assert np.shape(value) == (), (
    f"the loss is one number, yours has the shape {np.shape(value)}: take the mean over the examples"
)
assert not np.isclose(value, 2 * expected), (
    f"the loss is {value:.4f}, the sum over the examples: it is a mean, {expected:.4f}"
)
assert not np.isclose(value, -expected), "the sign is turned: -log p is positive"
assert np.isclose(value, expected), (
    f"the labels have the probabilities 3/4 and 1/2, so the loss is (log 4/3 + log 2) / 2 = {expected:.4f}, not "
    f"{value:.4f}"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    import tinynet
    from tinynet.grading import compare, fresh_generator, require_own_work
    from tinynet.nn import functional as F

    require_own_work(run_operation)
    rng = fresh_generator()
    for examples, classes in ((6, 4), (3, 3), (1, 5)):
        logits, labels = 2 * rng.standard_normal((examples, classes)), rng.integers(0, classes, examples)
        expected = F.cross_entropy(tinynet.from_numpy(logits), tinynet.from_numpy(labels)).numpy()
        powers = np.exp(logits)
        wrong = {
            "the sum over the examples, not their mean": examples * expected,
            "the mean over all numbers, not over the examples": expected / classes,
            "the softmax runs over the examples, not over the classes": -np.log(
                (powers / powers.sum(0))[np.arange(examples), labels]
            ).mean(),
            "the softmax runs over the whole array": -np.log(
                (powers / powers.sum())[np.arange(examples), labels]
            ).mean(),
        }
        wrong = {words: array for words, array in wrong.items() if not np.allclose(array, expected)}
        value, _ = run_operation("cross_entropy", [logits], [], labels=labels)
        compare(value, expected, f"the loss of {examples} examples with {classes} classes", rtol=1e-9, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "cross_entropy-gradient", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# The gradient.
logits = np.log(np.array([[1.0, 3.0], [1.0, 1.0]]))
_, handed = run_operation(
    "cross_entropy", [logits], [np.array(1.0), np.array(1.0), np.array(8.0)], labels=np.array([1, 0])
)
(first,), (again,), (eight,) = handed
expected = np.array([[0.25, -0.25], [-0.5, 0.5]]) / 2
assert first is not None, "the loss hands nothing back: are the logits among the parents?"
assert np.shape(first) == (2, 2), f"what the logits get has the shape {np.shape(first)}, they have (2, 2)"
assert not np.allclose(first, 2 * expected), (
    "what the logits get is N times too large: the mean has its 1/N in the gradient, too"
)
assert not np.allclose(first, [[0.125, 0.375], [0.25, 0.25]]), "what the logits get is p / N: subtract 1 at each label"
assert np.allclose(first, expected), (
    f"the logits should get {expected.tolist()}, you hand back {np.asarray(first).tolist()}"
)
assert np.allclose(again, first), (
    "a second call of the same pull gives something else: it changes what it has kept; work on a copy"
)
assert np.allclose(eight, 8 * expected), "with the gradient 8 from above the logits get 8 times as much: multiply by it"


### BEGIN HIDDEN TESTS
def hidden_tests():
    import tinynet
    from tinynet.grading import compare, fresh_generator, require_own_work
    from tinynet.nn import functional as F

    require_own_work(run_operation)
    rng = fresh_generator()
    for examples, classes in ((6, 4), (5, 3)):
        logits, labels = 2 * rng.standard_normal((examples, classes)), rng.integers(0, classes, examples)
        leaf = tinynet.from_numpy(logits.copy()).requires_grad_()
        F.cross_entropy(leaf, tinynet.from_numpy(labels)).backward()
        expected, probabilities = leaf.grad.numpy(), np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        grads = [np.array(factor) for factor in rng.uniform(2, 3, 2)]
        _, handed = run_operation("cross_entropy", [logits], grads, labels=labels)
        for grad, [gift] in zip(grads, handed):
            wrong = {
                "the 1/N of the mean is missing": grad * examples * expected,
                "the gradient from above is ignored": expected,
                "the 1 at the label is not subtracted": grad * probabilities / examples,
                "the sign is turned": -grad * expected,
            }
            compare(gift, grad * expected, f"what the loss of {examples} examples hands back", rtol=1e-9, wrong=wrong)


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "cross_entropy-large", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Large logits.
logits = np.array([[10_000.0, 0.0], [-10_000.0, -10_001.0]])
value, [(gift,)] = run_operation("cross_entropy", [logits], [np.array(1.0)], labels=np.array([0, 0]))
expected = np.log(1 + np.exp(-1.0)) / 2
assert np.isfinite(value), f"for logits of ±10,000 the loss is {value}: subtract each row's own maximum before np.exp"
assert np.isclose(value, expected), f"for these logits the loss is {expected:.4f}, not {value:.4f}"
assert gift is not None and np.isfinite(gift).all(), (
    "for logits of ±10,000 the gradient is not finite: use the shifted logits there, too"
)


### BEGIN HIDDEN TESTS
def hidden_tests():
    from tinynet.grading import compare, fresh_generator, require_own_work

    require_own_work(run_operation)
    rng = fresh_generator()
    small, labels = rng.standard_normal((4, 3)), rng.integers(0, 3, 4)
    shift = np.array([[1e4], [-1e4], [800.0], [-800.0]])
    probabilities = np.exp(small) / np.exp(small).sum(1, keepdims=True)
    value, [(gift,)] = run_operation("cross_entropy", [small + shift], [np.array(1.0)], labels=labels)
    compare(
        value,
        -np.log(probabilities[np.arange(4), labels]).mean(),
        "the loss where each row is shifted by up to 10,000",
        rtol=1e-6,
    )
    compare(
        gift,
        (probabilities - np.eye(3)[labels]) / 4,
        "what it hands back where each row is shifted by up to 10,000",
        rtol=1e-6,
    )
    value, _ = run_operation("cross_entropy", [np.array([[0.0, 2000.0, -500.0]])], [], labels=np.array([0]))
    compare(value, np.array(2000.0), "the loss of logits 0, 2000, -500 with the label 0", rtol=1e-9)


hidden_tests()
### END HIDDEN TESTS

# %% [markdown]
# ## Task 8 · Finale: a network learns on your tape · 2 points
#
# Everything together: a small *residual* network for points in the plane. Its second layer adds something to what came
# in, so `hidden` is used twice, and order and sum matter. Nothing is left to write. The given cell trains it on your
# tape.


# %% nbgrader={"grade": false, "grade_id": "train-network", "locked": true, "schema_version": 3, "solution": false, "task": false}
def network(parameters, x, labels):
    """The loss of a residual network with two layers, for a dict of Tensors and an array x (N, 2)."""
    hidden = relu(matmul(Tensor(x), parameters["first"]) + parameters["first bias"])
    branch = relu(matmul(hidden, parameters["second"]) + parameters["second bias"])
    hidden = parameters["scale"] * branch + hidden
    return cross_entropy(matmul(hidden, parameters["last"]) + parameters["last bias"], labels)


def train_network(parameters, x, labels, steps, rate):
    """Gradient descent on your tape; `parameters` is a dict of arrays.

    Returns a dict: "losses" before each step, "gradients" of the first step and "parameters" after the last one
    (both dicts of arrays), and "tensors", the number of tensors on your tape.
    """
    arrays = {name: np.array(array, dtype=np.float64) for name, array in parameters.items()}
    losses, first_gradients, tensors = [], None, 0
    for _ in range(steps):
        leaves = {name: Tensor(array) for name, array in arrays.items()}
        loss = network(leaves, x, labels)
        backward(loss)
        for name, leaf in leaves.items():
            assert leaf.grad is not None, f"the backward pass does not reach {name!r}"
            shapes = np.shape(leaf.grad), leaf.data.shape
            assert shapes[0] == shapes[1], f"the gradient of {name!r} has the shape {shapes[0]}, not {shapes[1]}"
        losses.append(float(loss.data))
        if first_gradients is None:
            first_gradients = {name: leaf.grad for name, leaf in leaves.items()}
            tensors = len(backward_order(loss))
        arrays = {name: leaf.data - rate * leaf.grad for name, leaf in leaves.items()}
    return {"losses": losses, "gradients": first_gradients, "parameters": arrays, "tensors": tensors}


# %% nbgrader={"grade": true, "grade_id": "finale-gradients", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# One backward pass through the whole network: your gradient against a nudge, in a random direction.
rng = np.random.default_rng(0)
sizes = {
    "first": (2, 16),
    "first bias": (16,),
    "second": (16, 16),
    "second bias": (16,),
    "scale": (16,),
    "last": (16, 3),
    "last bias": (3,),
}
parameters = {name: rng.standard_normal(size) / 2 for name, size in sizes.items()}
x, labels = rng.standard_normal((30, 2)), rng.integers(0, 3, 30)
gradients = train_network(parameters, x, labels, 1, 0.0)["gradients"]
for name in sizes:
    direction = rng.standard_normal(sizes[name])
    moved = [{**parameters, name: parameters[name] + step * direction} for step in (1e-6, -1e-6)]
    up, down = (train_network(values, x, labels, 1, 0.0)["losses"][0] for values in moved)
    by_nudge, by_tape = (up - down) / 2e-6, np.sum(gradients[name] * direction)
    error = abs(by_tape - by_nudge) / max(abs(by_nudge), 1e-3)
    assert error < 1e-4, (
        f"the gradient of {name!r}: your tape says {by_tape:.6f} in a random direction, a nudge says {by_nudge:.6f} "
        f"(relative error {error:.0e}, should be about 1e-8)"
    )


### BEGIN HIDDEN TESTS
def hidden_tests():
    import tinynet
    from tinynet.grading import compare, fresh_generator, require_own_work
    from tinynet.nn import functional as F

    require_own_work(unbroadcast, backward_order, sweep, matmul, relu, cross_entropy)
    rng = fresh_generator()
    parameters = {name: rng.standard_normal(size) / 2 for name, size in sizes.items()}
    x, labels = rng.standard_normal((12, 2)), rng.integers(0, 3, 12)
    leaves = {name: tinynet.from_numpy(array.copy()).requires_grad_() for name, array in parameters.items()}
    hidden = (tinynet.from_numpy(x) @ leaves["first"] + leaves["first bias"]).relu()
    hidden = hidden + leaves["scale"] * (hidden @ leaves["second"] + leaves["second bias"]).relu()
    loss = F.cross_entropy(hidden @ leaves["last"] + leaves["last bias"], tinynet.from_numpy(labels))
    loss.backward()
    run = train_network(parameters, x, labels, 1, 0.0)
    compare(np.array(run["losses"][0]), loss.detach().numpy(), "the loss of the residual network", rtol=1e-9)
    for name, leaf in leaves.items():
        compare(
            run["gradients"][name],
            leaf.grad.numpy(),
            f"the gradient of {name!r} in the residual network, beside tinynet's",
            rtol=1e-9,
        )
    assert run["tensors"] == 19, (
        f"the tape of the network has 8 inputs and 11 results, your order has {run['tensors']} tensors"
    )


hidden_tests()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "finale-training", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# Three arms of a spiral, 300 points; the network learns to tell the arms apart.
rng = np.random.default_rng(1)
labels = np.repeat(np.arange(3), 100)
radius = np.tile(np.linspace(0.1, 1, 100), 3)
angle = labels * 2 * np.pi / 3 + 3 * radius + 0.1 * rng.standard_normal(300)
x = 2 * np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
sizes = {
    "first": (2, 32),
    "first bias": (32,),
    "second": (32, 32),
    "second bias": (32,),
    "scale": (32,),
    "last": (32, 3),
    "last bias": (3,),
}
parameters = {
    name: rng.standard_normal(size) * (2 / size[0]) ** 0.5 if len(size) == 2 else np.zeros(size)
    for name, size in sizes.items()
}
parameters["scale"] += 0.5
run = train_network(parameters, x, labels, 200, 0.3)
before, after = run["losses"][0], run["losses"][-1]
print(f"{run['tensors']} tensors on the tape; in 200 steps the loss falls from {before:.3f} to {after:.3f}")
assert after < 0.25, f"after 200 steps the loss is {after:.3f}, it should be below 0.25: it started at {before:.3f}"


### BEGIN HIDDEN TESTS
def hidden_tests():
    import tinynet
    from tinynet.grading import compare, require_own_work
    from tinynet.nn import functional as F

    require_own_work(unbroadcast, backward_order, sweep, matmul, relu, cross_entropy)
    leaves = {name: tinynet.from_numpy(array.copy()).requires_grad_() for name, array in parameters.items()}
    points, classes, losses = tinynet.from_numpy(x), tinynet.from_numpy(labels), []
    for _ in range(20):
        hidden = (points @ leaves["first"] + leaves["first bias"]).relu()
        hidden = hidden + leaves["scale"] * (hidden @ leaves["second"] + leaves["second bias"]).relu()
        loss = F.cross_entropy(hidden @ leaves["last"] + leaves["last bias"], classes)
        loss.backward()
        losses.append(loss.item())
        with tinynet.no_grad():
            for leaf in leaves.values():
                leaf -= 0.3 * leaf.grad
                leaf.grad = None
    run = train_network(parameters, x, labels, 20, 0.3)
    compare(
        np.array(run["losses"]), np.array(losses), "the losses of 20 steps on the spiral, beside tinynet's", rtol=1e-7
    )
    for name, leaf in leaves.items():
        compare(
            run["parameters"][name],
            leaf.detach().numpy(),
            f"the parameter {name!r} after 20 steps, beside tinynet's",
            rtol=1e-6,
        )


hidden_tests()
### END HIDDEN TESTS
