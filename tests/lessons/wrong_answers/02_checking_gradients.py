"""Plausible wrong answers to the exercises of lesson 2, with words that the check must say."""

WRONG = {
    "central_difference": [
        ("that is the one-sided slope", '''
def central_difference(function, x, step):
    return (function(x + step) - function(x)) / step
'''),
        ("the two points are 2 · step apart", '''
def central_difference(function, x, step):
    return (function(x + step) - function(x - step)) / step
'''),
        ("use brackets", '''
def central_difference(function, x, step):
    return (function(x + step) - function(x - step)) / 2 * step
'''),
        ("is there a return?", '''
def central_difference(function, x, step):
    slope = (function(x + step) - function(x - step)) / (2 * step)
'''),
    ],
    "numeric_gradient": [
        ("weigh the changes by grad", '''
def numeric_gradient(function, x, grad, step=1e-5):
    result = x * 0
    for index in np.ndindex(*x.shape):
        up, down = x.clone(), x.clone()
        up[index] += step
        down[index] -= step
        result[index] = (function(up) - function(down)).sum() / (2 * step)
    return result
'''),
        ("x has changed", '''
def numeric_gradient(function, x, grad, step=1e-5):
    result = x * 0
    for index in np.ndindex(*x.shape):
        x[index] += step
        above = function(x)
        x[index] -= 2 * step
        result[index] = (grad * (above - function(x))).sum() / (2 * step)
    return result
'''),
        ("move one number of x at a time", '''
def numeric_gradient(function, x, grad, step=1e-5):
    return (function(x + step) - function(x - step)) / (2 * step) * grad
'''),
        ("weigh each change by its own grad", '''
def numeric_gradient(function, x, grad, step=1e-5):
    result = x * 0
    for index in np.ndindex(*x.shape):
        up, down = x.clone(), x.clone()
        up[index] += step
        down[index] -= step
        result[index] = grad[index] * (function(up) - function(down)).sum() / (2 * step)
    return result
'''),
        ("each time from a fresh copy", '''
def numeric_gradient(function, x, grad, step=1e-5):
    result = x * 0
    up, down = x.clone(), x.clone()
    for index in np.ndindex(*x.shape):
        up[index] += step
        down[index] -= step
        result[index] = (grad * (function(up) - function(down))).sum() / (2 * step)
    return result
'''),
        ("divide by 2 · step", '''
def numeric_gradient(function, x, grad, step=1e-5):
    result = x * 0
    for index in np.ndindex(*x.shape):
        up, down = x.clone(), x.clone()
        up[index] += step
        down[index] -= step
        result[index] = (grad * (function(up) - function(down))).sum() / step
    return result
'''),
        ("add up over all outputs", '''
def numeric_gradient(function, x, grad, step=1e-5):
    result = x * 0
    for index in np.ndindex(*x.shape):
        up, down = x.clone(), x.clone()
        up[index] += step
        down[index] -= step
        result[index] = (grad * (function(up) - function(down)))[index] / (2 * step)
    return result
'''),
        ("do you go to both sides", '''
def numeric_gradient(function, x, grad, step=1e-5):
    result = x * 0
    for index in np.ndindex(*x.shape):
        up = x.clone()
        up[index] += step
        result[index] = (grad * (function(up) - function(x))).sum() / step
    return result
'''),
    ],
    "diagnosis": [
        ("your dictionary has no MeanSquare, Normalise", '''
def diagnosis():
    return {"Complement": "sign", "Square": "upstream", "Pick": "overwritten", "Reverse": "order",
            "Product": "transposed"}
'''),
        ("Normalise is not 'dropped'", '''
def diagnosis():
    return {"Complement": "sign", "MeanSquare": "factor",
            "Square": "upstream", "Pick": "overwritten", "Reverse": "order",
            "Product": "transposed", "Normalise": "dropped"}
'''),
        ("all points would lie on one line through 0", '''
def diagnosis():
    return {"Complement": "sign", "MeanSquare": "factor",
            "Square": "factor", "Pick": "overwritten", "Reverse": "order",
            "Product": "transposed", "Normalise": "deviation"}
'''),
        ("the first and the last row would be exchanged", '''
def diagnosis():
    return {"Complement": "sign", "MeanSquare": "factor",
            "Square": "upstream", "Pick": "overwritten",
            "Product": "order", "Reverse": "transposed", "Normalise": "deviation"}
'''),
        ("is not one of the patients and words", '''
def diagnosis():
    return {"Complement": "minus", "MeanSquare": "factor",
            "Square": "upstream", "Pick": "overwritten", "Reverse": "order",
            "Product": "transposed", "Normalise": "deviation"}
'''),
    ],
    "is_kink": [
        ("is steep and smooth", '''
def is_kink(function, x):
    return gap(function, x, 1e-4) > 0.01
'''),
        ("has a small kink", '''
def is_kink(function, x):
    return gap(function, x, 1e-9) > 0.01
'''),
        ("its gap is noise", '''
def is_kink(function, x):
    return gap(function, x, 1e-4) > 0.5 * gap(function, x, 1e-3)
'''),
        ("far below a millionth of its slope", '''
def is_kink(function, x):
    return gap(function, x, 1e-4) > max(1e-6, 0.5 * gap(function, x, 1e-3))
'''),
        ("True or False is expected", '''
def is_kink(function, x):
    return gap(function, x, 1e-4)
'''),
    ],
}
