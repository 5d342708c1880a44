"""Plausible wrong answers to assignment 1, the tests that each one loses, and a word that its feedback must say."""

from tests.assignments.sources import solutions
from tests.assignments.wrong import Wrong, changed

RIGHT = solutions("01_tape")
UNBROADCAST, TENSOR, ORDER, SWEEP = (RIGHT[name] for name in ("unbroadcast", "tensor", "backward_order", "sweep"))
MATMUL, RELU, CROSS_ENTROPY = (RIGHT[name] for name in ("matmul", "relu", "cross_entropy"))

ADDED, REPEATED, BROADCAST = "unbroadcast-added", "unbroadcast-repeated", "tensor-broadcast"
ADD, MULTIPLY = "tensor-add", "tensor-multiply"
COMPLETE, ORDERED, LONG = "backward_order-complete", "backward_order-order", "backward_order-long"
PATHS, SHARED, TWICE = "sweep-paths", "sweep-shared", "sweep-twice"
PLAIN, STACKS = "matmul-plain", "matmul-stacks"
VALUE, GRADIENT = "relu-value", "relu-gradient"
LOSS, LOSS_GRADIENT, LARGE = "cross_entropy-value", "cross_entropy-gradient", "cross_entropy-large"
FINALE = ("finale-gradients", "finale-training")

WRONG = [
    Wrong("unbroadcast", "the broadcast gradient is not summed", (ADDED, REPEATED, BROADCAST, *FINALE), "summed", '''
def unbroadcast(grad, shape):
    return grad
'''),
    Wrong("unbroadcast", "summed over the wrong axes", (ADDED, REPEATED, BROADCAST, *FINALE), "in front", '''
def unbroadcast(grad, shape):
    while grad.ndim > len(shape):
        grad = grad.sum(axis=-1)
    for axis, size in enumerate(shape):
        if size == 1:
            grad = grad.sum(axis=axis, keepdims=True)
    return grad
'''),
    Wrong("unbroadcast", "axes of length 1 forgotten", (REPEATED, BROADCAST), "repeated axis", '''
def unbroadcast(grad, shape):
    return grad.sum(axis=tuple(range(grad.ndim - len(shape))))
'''),
    Wrong("unbroadcast", "a mean in place of the sum", (ADDED, REPEATED, BROADCAST, *FINALE), "mean",
          changed(UNBROADCAST, "grad.sum", "grad.mean")),
    Wrong("unbroadcast", "the repeated axis is lost", (REPEATED, BROADCAST), "length 1",
          changed(UNBROADCAST, ".reshape(shape)", "")),
    Wrong("tensor", "each operand gets its own numbers", (MULTIPLY, BROADCAST, *FINALE), "other operand",
          changed(changed(TENSOR, "grad * other.data", "grad * SELF"), "grad * self.data", "grad * other.data")
          .replace("SELF", "self.data")),
    Wrong("tensor", "the gradient from above is ignored", (MULTIPLY, BROADCAST, *FINALE), "from above",
          changed(changed(TENSOR, "grad * other.data", "other.data + 0 * grad"),
                  "grad * self.data", "self.data + 0 * grad")),
    Wrong("tensor", "the broadcasting is not undone", (BROADCAST, *FINALE), "unbroadcast it",
          TENSOR.replace("unbroadcast(", "first(") + '''

def first(gradient, shape):
    return gradient
'''),
    Wrong("tensor", "the right operand of a sum is no parent", (ADD, BROADCAST, *FINALE), "among the parents",
          changed(TENSOR, "                (other, lambda grad: unbroadcast(grad, other.data.shape)),\n", "")),
    Wrong("tensor", "the pulls of a loop all use its last values", (MULTIPLY, BROADCAST, *FINALE), "own operand", '''
class Tensor:
    def __init__(self, data, parents=()):
        self.data = np.asarray(data, dtype=np.float64)
        self.parents = list(parents)
        self.grad = None

    def __add__(self, other):
        return Tensor(self.data + other.data, [
            (self, lambda grad: unbroadcast(grad, self.data.shape)),
            (other, lambda grad: unbroadcast(grad, other.data.shape)),
        ])

    def __mul__(self, other):
        parents = []
        for one, two in ((other, self), (self, other)):
            parents.insert(0, (one, lambda grad: unbroadcast(grad * two.data, one.data.shape)))
        return Tensor(self.data * other.data, parents)
'''),
    Wrong("backward_order", "the order of a plain queue, as one meets them", (ORDERED, *FINALE), "was made from", '''
def backward_order(result):
    order, waiting, seen = [], [result], {id(result)}
    while waiting:
        tensor = waiting.pop(0)
        order.append(tensor)
        for parent, _ in tensor.parents:
            if id(parent) not in seen:
                seen.add(id(parent))
                waiting.append(parent)
    return order
'''),
    Wrong("backward_order", "the order of a plain stack", (ORDERED, *FINALE), "was made from", '''
def backward_order(result):
    order, waiting, seen = [], [result], set()
    while waiting:
        tensor = waiting.pop()
        if id(tensor) not in seen:
            seen.add(id(tensor))
            order.append(tensor)
            waiting += [parent for parent, _ in tensor.parents]
    return order
'''),
    Wrong("backward_order", "recursion", (LONG,), "recursion", '''
def backward_order(result):
    order, seen = [], set()

    def visit(tensor):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            for parent, _ in tensor.parents:
                visit(parent)
            order.append(tensor)

    visit(result)
    return order[::-1]
'''),
    Wrong("backward_order", "a tensor stands there once for each use", (COMPLETE, LONG, "finale-gradients"), "once", '''
def backward_order(result):
    order, waiting = [], [result]
    while waiting:
        tensor = waiting.pop()
        order.append(tensor)
        if len(order) < 30_000:
            waiting += [parent for parent, _ in tensor.parents]
    return order
'''),
    Wrong("backward_order", "the result stands last", (ORDERED, LONG, *FINALE), "stands first",
          changed(ORDER, "return order", "return order[::-1]")),
    Wrong("backward_order", "the inputs are missing", (COMPLETE, ORDERED, LONG, *FINALE), "the input too",
          changed(ORDER, "return order", "return [tensor for tensor in order if tensor.parents]")),
    Wrong("sweep", "gradients are overwritten instead of accumulated", (PATHS, SHARED, *FINALE), "replace",
          changed(SWEEP, "arrived[id(parent)] + gift if id(parent) in arrived else gift", "gift")),
    Wrong("sweep", "added in place to an array that two tensors share", (SHARED,), "in place", '''
def sweep(order, grad):
    arrived = {id(order[0]): grad}
    for tensor in order:
        gradient = arrived.pop(id(tensor))
        if not tensor.parents:
            tensor.grad = gradient.copy() if tensor.grad is None else tensor.grad + gradient
        for parent, pull in tensor.parents:
            gift = pull(gradient)
            if id(parent) in arrived:
                arrived[id(parent)] += gift
            else:
                arrived[id(parent)] = gift
'''),
    Wrong("sweep", "the second pass replaces the gradient", (SHARED, TWICE), "second one alone",
          changed(SWEEP, "gradient.copy() if tensor.grad is None else tensor.grad + gradient", "gradient.copy()")),
    Wrong("sweep", "the gradients between stay for the next pass", (PATHS, TWICE), "first pass", '''
def sweep(order, grad):
    order[0].grad = grad.copy()
    for tensor in order:
        for parent, pull in tensor.parents:
            gift = pull(tensor.grad)
            parent.grad = gift.copy() if parent.grad is None else parent.grad + gift
'''),
    Wrong("sweep", "starts from ones", (PATHS, SHARED, TWICE), "ignored",
          changed(SWEEP, "{id(order[0]): grad}", "{id(order[0]): np.ones_like(grad)}")),
    Wrong("matmul", "the right operand is not transposed", (PLAIN, STACKS, *FINALE), "transposed",
          changed(MATMUL, "grad @ b.data.swapaxes(-1, -2)", "grad @ b.data")),
    Wrong("matmul", "the order is reversed", (PLAIN, STACKS, *FINALE), "order",
          changed(MATMUL, "a.data.swapaxes(-1, -2) @ grad", "grad @ a.data.swapaxes(-1, -2)")),
    Wrong("matmul", "the transpose reverses all axes", (STACKS,), "last two axes",
          MATMUL.replace(".swapaxes(-1, -2)", ".T")),
    Wrong("matmul", "number by number", (PLAIN, STACKS, *FINALE), "number by number",
          changed(MATMUL, "a.data @ b.data", "a.data * b.data")),
    Wrong("relu", "the sign of the gradient decides", (GRADIENT, *FINALE), "sign",
          changed(RELU, "grad * (x.data > 0)", "grad * (grad > 0)")),
    Wrong("relu", "the gradient goes through at 0", (GRADIENT,), "at x = 0",
          changed(RELU, "x.data > 0", "x.data >= 0")),
    Wrong("relu", "NaN becomes 0", (VALUE,), "NaN",
          changed(RELU, "np.maximum(x.data, 0.0)", "np.where(x.data > 0, x.data, 0.0)")),
    Wrong("relu", "the derivative alone", (GRADIENT, *FINALE), "from above",
          changed(RELU, "grad * (x.data > 0)", "1.0 * (x.data > 0)")),
    Wrong("relu", "the gradient goes through everywhere", (GRADIENT, *FINALE), "gets [0, 0, -1, 10]",
          changed(RELU, "grad * (x.data > 0)", "grad")),
    Wrong("cross_entropy", "the sum over the examples", (LOSS, LOSS_GRADIENT, LARGE, *FINALE), "mean",
          changed(changed(CROSS_ENTROPY, ".mean()", ".sum()"), " / len(labels)", "")),
    Wrong("cross_entropy", "the gradient without 1/N", (LOSS_GRADIENT, LARGE, *FINALE), "1/N",
          changed(CROSS_ENTROPY, " / len(labels)", "")),
    Wrong("cross_entropy", "np.exp overflows", (LARGE,), "maximum",
          changed(CROSS_ENTROPY, " - logits.data.max(axis=1, keepdims=True)", "")),
    Wrong("cross_entropy", "the maximum of all rows together", (LARGE,), "own maximum",
          changed(CROSS_ENTROPY, "logits.data.max(axis=1, keepdims=True)", "logits.data.max()")),
    Wrong("cross_entropy", "the pull changes what it has kept", (LOSS_GRADIENT,), "copy",
          changed(changed(CROSS_ENTROPY, "        difference = np.exp(shifted) / total\n", ""),
                  "\n    def pull", "    difference = np.exp(shifted) / total\n\n    def pull")),
    Wrong("cross_entropy", "the gradient from above is ignored", (LOSS_GRADIENT,), "from above",
          changed(CROSS_ENTROPY, "grad * difference", "difference")),
]
