"""Plausible wrong answers to the exercises of lesson 1, with words that the check must say."""

HEAD = '''
class Value:
    def __init__(self, data, parents=(), label="input"):
        self.data, self.parents, self.label, self.grad = data, parents, label, 0.0
'''

WRONG = {
    "Value": [
        ("wrap the number", HEAD + '''
    def __add__(self, other):
        return self.data + other.data

    def __mul__(self, other):
        return self.data * other.data
'''),
        ("it should be the other one", HEAD + '''
    def __add__(self, other):
        return Value(self.data + other.data, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        return Value(self.data * other.data, [(self, self.data), (other, other.data)])
'''),
        ("should be pairs", HEAD + '''
    def __add__(self, other):
        return Value(self.data + other.data, [self, other])

    def __mul__(self, other):
        return Value(self.data * other.data, [self, other])
'''),
        ("not its .data", HEAD + '''
    def __add__(self, other):
        return Value(self.data + other.data, [(self.data, 1.0), (other.data, 1.0)])

    def __mul__(self, other):
        return Value(self.data * other.data, [(self.data, other.data), (other.data, self.data)])
'''),
        ("take the .data", HEAD + '''
    def __add__(self, other):
        return Value(self.data + other.data, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        return Value(self.data * other.data, [(self, other), (other, self)])
'''),
        ("did you pass them on", HEAD + '''
    def __add__(self, other):
        return Value(self.data + other.data)

    def __mul__(self, other):
        return Value(self.data * other.data)
'''),
        ("the slopes are 1 and 1", HEAD + '''
    def __add__(self, other):
        return Value(self.data + other.data, [(self, self.data), (other, other.data)])

    def __mul__(self, other):
        return Value(self.data * other.data, [(self, other.data), (other, self.data)])
'''),
    ],
    "sweep": [
        ("give it 1 to start with", '''
def sweep(order):
    for value in order:
        for parent, slope in value.parents:
            parent.grad += slope * value.grad
'''),
        ("does a second gift replace the first", '''
def sweep(order):
    order[0].grad = 1.0
    for value in order:
        for parent, slope in value.parents:
            parent.grad = slope * value.grad
'''),
        ("multiply them by the gradient", '''
def sweep(order):
    order[0].grad = 1.0
    for value in order:
        for parent, slope in value.parents:
            parent.grad += slope
'''),
        ("hands back to value.parents", '''
def sweep(order):
    order[0].grad = 1.0
    for value in reversed(order):
        for parent, slope in value.parents:
            if value.grad:
                return
'''),
    ],
    "topological_order": [
        ("remember who was seen", '''
def topological_order(result):
    order = []
    for parent, _ in result.parents:
        order += topological_order(parent)
    return order + [result]
'''),
        ("y comes last", '''
def topological_order(result):
    order, waiting = [], [result]
    while waiting:
        value = waiting.pop(0)
        if all(value is not other for other in order):
            order.append(value)
            waiting += [parent for parent, _ in value.parents]
    return order
'''),
        ("v was made from u", '''
def topological_order(result):
    order, waiting = [], [result]
    while waiting:
        value = waiting.pop(0)
        if all(value is not other for other in order):
            order.append(value)
            waiting += [parent for parent, _ in value.parents]
    return order[::-1]
'''),
        ("a second call returns 5 values", '''
def topological_order(result, order=[]):
    for parent, _ in result.parents:
        if parent not in order:
            topological_order(parent)
    order.append(result)
    return order
'''),
        ("a second call returns 0 values", '''
def topological_order(result, seen=set()):
    if result in seen:
        return []
    seen.add(result)
    return [value for parent, _ in result.parents for value in topological_order(parent)] + [result]
'''),
        ("follow .parents", '''
def topological_order(result):
    return [parent for parent, _ in result.parents] + [result]
'''),
    ],
    "linear_backward": [
        ("is the weight transposed", '''
def linear_backward(grad, x, weight):
    return grad @ weight, x.T @ grad, grad.sum(0)
'''),
        ("does it stand on the left", '''
def linear_backward(grad, x, weight):
    return grad @ weight.T, (grad.T @ x), grad.sum(0)
'''),
        ("not a mean", '''
def linear_backward(grad, x, weight):
    return grad @ weight.T, x.T @ grad, grad.mean(0)
'''),
        ("does each row add to it", '''
def linear_backward(grad, x, weight):
    return grad @ weight.T, x.T @ grad, grad
'''),
    ],
}
