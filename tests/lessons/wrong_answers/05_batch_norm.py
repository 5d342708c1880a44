"""Plausible wrong answers to the exercises of lesson 5, with words that the check must say."""

NORMALISE = """
def normalise(x, weight, bias, eps):
    axes = {axes}
    mean = x.mean(axes, keepdim=True)
    variance = x.var(axes, correction={correction}, keepdim=True)
    normalised = (x - mean) / {divisor}
    return weight.reshape(1, -1, 1, 1) * normalised + bias.reshape(1, -1, 1, 1)
"""


def normalise(axes="(0, 2, 3)", correction=0, divisor="(variance + eps).sqrt()"):
    return NORMALISE.format(axes=axes, correction=correction, divisor=divisor)


BACKWARD = """
def batch_norm_backward(grad, x, weight, eps):
    axes = (0, 2, 3)
    deviation = (x.var(axes, correction=0, keepdim=True) + eps).sqrt()
    normalised = (x - x.mean(axes, keepdim=True)) / deviation
    at_normalised = grad * weight.reshape(1, -1, 1, 1)
    shift = at_normalised.mean(axes, keepdim=True)
    scale = (at_normalised * normalised).mean(axes, keepdim=True)
    grad_x = {grad_x}
    return grad_x, {grad_weight}, {grad_bias}
"""


def backward(grad_x="(at_normalised - shift - normalised * scale) / deviation",
             grad_weight="(grad * normalised).sum(axes)", grad_bias="grad.sum(axes)"):  # fmt: skip
    return BACKWARD.format(grad_x=grad_x, grad_weight=grad_weight, grad_bias=grad_bias)


WRONG = {
    "normalise": [
        ("each position by itself", normalise(axes="(0,)")),
        ("each image by itself", normalise(axes="(2, 3)")),
        ("all channels together", normalise(axes="(0, 1, 2, 3)")),
        ("divide by n, not by n - 1", normalise(correction=1)),
        ("the square root of the variance", normalise(divisor="(variance + eps)")),
        ("add eps to the variance", normalise(divisor="variance.sqrt()")),
        ("eps goes inside the root", normalise(divisor="(variance.sqrt() + eps)")),
        ("is the mean subtracted", normalise().replace("(x - mean)", "x")),
        ("weight · x̂ + bias, by channel", normalise().replace(" + bias.reshape(1, -1, 1, 1)", "")),
        ("the result has shape", "def normalise(x, weight, bias, eps):\n    return x.mean((0, 2, 3))\n"),
        ("over all its channels", normalise(axes="(1, 2, 3)")),
        ("over the axes 0, 2 and 3", normalise(axes="(0, 1)")),
        ("is there a return", "def normalise(x, weight, bias, eps):\n    (x - x.mean()) / x.std()\n"),
    ],
    "update_running": [
        ("must be corrected", """
def update_running(running_mean, running_var, x, momentum):
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * variance
"""),
        ("n is 8 here, not 2", """
def update_running(running_mean, running_var, x, momentum):
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0) * len(x) / (len(x) - 1)
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * variance
"""),
        ("the share of the new batch", """
def update_running(running_mean, running_var, x, momentum):
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    return momentum * running_mean + (1 - momentum) * mean, momentum * running_var + (1 - momentum) * variance
"""),
        ("the old one has a share", """
def update_running(running_mean, running_var, x, momentum):
    return x.mean((0, 2, 3)), x.var((0, 2, 3))
"""),
        ("itself was changed", """
def update_running(running_mean, running_var, x, momentum):
    running_mean += momentum * (x.mean((0, 2, 3)) - running_mean)
    running_var += momentum * (x.var((0, 2, 3)) - running_var)
    return running_mean, running_var
"""),
        ("take the argument", """
def update_running(running_mean, running_var, x, momentum):
    return 0.9 * running_mean + 0.1 * x.mean((0, 2, 3)), 0.9 * running_var + 0.1 * x.var((0, 2, 3))
"""),
        ("with n = N · H · W", """
def update_running(running_mean, running_var, x, momentum):
    variance = x.var((0, 2, 3), correction=0) * x.numel() / (x.numel() - 1)
    mean = x.mean((0, 2, 3))
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * variance
"""),
        ("return a tuple", """
def update_running(running_mean, running_var, x, momentum):
    return (1 - momentum) * running_mean + momentum * x.mean((0, 2, 3))
"""),
    ],
    "batch_norm_backward": [
        ("take mean and variance for constants", backward("at_normalised / deviation")),
        ("the way by the standard deviation (3) is missing", backward("(at_normalised - shift) / deviation")),
        ("the way by the mean (2) is missing", backward("(at_normalised - normalised * scale) / deviation")),
        ("the factor weight is missing", backward().replace("grad * weight.reshape(1, -1, 1, 1)", "grad")),
        ("the factor 1 / s is missing", backward("at_normalised - shift - normalised * scale")),
        ("not sums", backward().replace(".mean(axes, keepdim=True)\n    scale", ".sum(axes, keepdim=True)\n    scale")
            .replace("normalised).mean", "normalised).sum")),
        ("subtracted, too", backward("(at_normalised - shift + normalised * scale) / deviation")),
        ("the sum of grad, by channel", backward(grad_bias="grad.mean(axes)")),
        ("belongs to all three terms", backward("at_normalised / deviation - shift - normalised * scale")),
        ("the means are those of g", backward().replace("shift = at_normalised", "shift = grad")
            .replace("(at_normalised * normalised).mean", "(grad * normalised).mean")),
        ("the x̂ of exercise 1", backward().replace("correction=0, ", "")),
        ("the sum of grad · x̂", backward(grad_weight="(grad * x).sum(axes)")),
    ],
    "fold": [
        ("where did the running mean go", """
def fold(kernel, mean, variance, weight, bias, eps):
    scale = weight / (variance + eps).sqrt()
    return kernel * scale.reshape(-1, 1, 1, 1), bias
"""),
        ("it stands over s", """
def fold(kernel, mean, variance, weight, bias, eps):
    scale = weight / (variance + eps).sqrt()
    return kernel * scale.reshape(-1, 1, 1, 1), bias - mean
"""),
        ("scale by the input channel", """
def fold(kernel, mean, variance, weight, bias, eps):
    scale = weight / (variance + eps).sqrt()
    return kernel * scale.reshape(1, -1, 1, 1), bias - scale * mean
"""),
        ("for x = 0", """
def fold(kernel, mean, variance, weight, bias, eps):
    scale = weight / (variance + eps).sqrt()
    return kernel * scale.reshape(-1, 1, 1, 1), bias + scale * mean
"""),
        ("by output channel", """
def fold(kernel, mean, variance, weight, bias, eps):
    scale = weight / (variance + eps)
    return kernel * scale.reshape(-1, 1, 1, 1), bias - scale * mean
"""),
    ],
}  # fmt: skip
