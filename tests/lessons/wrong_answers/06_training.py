"""Plausible wrong answers to the exercises of lesson 6, with words that the check must say."""

LOSS = """
def loss_and_gradient(logits, labels):
    right = (labels.reshape(-1, 1) == tinynet.arange(logits.shape[1])).to(logits.dtype)
    shifted = logits - logits.amax(1, keepdim=True)
    log_probabilities = shifted - shifted.exp().sum(1, keepdim=True).log()
    loss = {loss}
    return loss, {gradient}
"""


def loss(loss="-(right * log_probabilities).sum() / len(logits)",
         gradient="(log_probabilities.exp() - right) / len(logits)"):  # fmt: skip
    return LOSS.format(loss=loss, gradient=gradient)


STEP = """
def step(parameter, gradient, buffer, rate, momentum, decay):
    gradient = gradient + decay * parameter
    buffer = momentum * buffer + gradient
    return parameter - rate * buffer, buffer
"""

LOOP = """
def train_on(net, optimizer, images, labels, steps):
    losses = []
    for _ in range(steps):
        {0}
        {1}
        {2}
        {3}
        {4}
    return losses
"""
FORWARD, NOTE = "loss = cross_entropy(net(images), labels)", "losses.append(loss.item())"
RESET, BACKWARD, MOVE = "optimizer.zero_grad()", "loss.backward()", "optimizer.step()"

RATE = """
def rate_at(step, steps, warm_up):
    if step < warm_up:
        return {rise}
    return {fall}
"""
RISE, FALL = "(step + 1) / warm_up", "0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))"

WRONG = {
    "he_weights": [
        ("that is 2 / n, the variance", """
def he_weights(shape):
    return 2 / math.prod(shape[1:]) * tinynet.randn(*shape)
"""),
        ("the 2 is missing", """
def he_weights(shape):
    return math.sqrt(1 / math.prod(shape[1:])) * tinynet.randn(*shape)
"""),
        ("one output number sees 16 channels at 9 positions each", """
def he_weights(shape):
    return math.sqrt(2 / shape[1]) * tinynet.randn(*shape)
"""),
        ("you count the outputs", """
def he_weights(shape):
    return math.sqrt(2 / (shape[0] * math.prod(shape[2:]))) * tinynet.randn(*shape)
"""),
        ("multiply by sqrt(2 / n)", """
def he_weights(shape):
    return tinynet.randn(*shape)
"""),
        ("are the numbers normal", """
def he_weights(shape):
    return tinynet.rand(*shape)
"""),
        ("you count all weights", """
def he_weights(shape):
    return math.sqrt(2 / math.prod(shape)) * tinynet.randn(*shape)
"""),
        ("2 / n as a whole", """
def he_weights(shape):
    return math.sqrt(2) / math.prod(shape[1:]) * tinynet.randn(*shape)
"""),
        ("for a matrix", """
def he_weights(shape):
    return math.sqrt(2 / 144) * tinynet.randn(*shape)
"""),
    ],
    "loss_and_gradient": [
        ("it is MINUS", loss("(right * log_probabilities).sum() / len(logits)")),
        ("it should be their mean", loss("-(right * log_probabilities).sum()")),
        ("the mean of -log(p[label])", loss("-log_probabilities.mean()")),
        ("not by the N images", loss("-(right * log_probabilities).mean()")),
        ("a softmax for each row", loss().replace("(1, keepdim=True)", "(0, keepdim=True)")),
        ("1 is to be subtracted at the right class", loss(gradient="log_probabilities.exp() / len(logits)")),
        ("the other way round", loss(gradient="(right - log_probabilities.exp()) / len(logits)")),
        ("divide by the number of images, the loss is a mean", loss(gradient="log_probabilities.exp() - right")),
        ("not by all numbers", loss(gradient="(log_probabilities.exp() - right) / logits.numel()")),
        ("subtract the row's largest", loss().replace(" - logits.amax(1, keepdim=True)", "")),
        ("subtract the row's largest", loss().replace("logits.amax(1, keepdim=True)", "logits.max()")),
        ("subtract the row's largest", loss("(-(right * log_probabilities).sum() / len(logits)).item()")
            .replace(" - logits.amax(1, keepdim=True)", "")),
        ("do not take log of a rounded 0", loss().replace(
            "shifted - shifted.exp().sum(1, keepdim=True).log()",
            "(shifted.exp() / shifted.exp().sum(1, keepdim=True)).log()")),
    ],
    "step": [
        ("AGAINST the gradient", STEP.replace("parameter - rate", "parameter + rate")),
        ("without a factor at the gradient", STEP.replace("+ gradient\n", "+ (1 - momentum) * gradient\n")),
        ("and is it returned",
         STEP.replace("buffer = momentum", "new = momentum").replace("rate * buffer", "rate * new")),
        ("come first in your tuple", STEP.replace("return parameter - rate * buffer, buffer",
                                                  "return buffer, parameter - rate * buffer")),
        ("the rate belongs to the step",
         STEP.replace("+ gradient\n", "+ rate * gradient\n").replace("rate * buffer", "buffer")),
        ("before the buffer", STEP.replace("gradient = gradient + decay * parameter", "pass")),
        ("with weight decay four steps are off", STEP.replace("gradient + decay", "gradient - decay")),
        ("return a tuple", STEP.replace("rate * buffer, buffer", "rate * buffer")),
        ("without momentum and decay", STEP.replace("rate * buffer, buffer", "buffer, buffer")),
    ],
    "train_on": [
        ("reset them in every step", LOOP.format(FORWARD, NOTE, BACKWARD, MOVE, "pass")),
        ("the loss does not move", LOOP.format(FORWARD, NOTE, BACKWARD, RESET, MOVE)),
        ("the loss does not move", LOOP.format(FORWARD, NOTE, RESET, BACKWARD, "pass")),
        ("append loss.item()", LOOP.format(FORWARD, "losses.append(loss)", RESET, BACKWARD, MOVE)),
        ("your list has 1 losses",
         LOOP.format(FORWARD, NOTE, RESET, BACKWARD, MOVE).replace("    return", "        return")),
        ("from before the first step", LOOP.format(
            FORWARD, RESET, BACKWARD, MOVE, "losses.append(cross_entropy(net(images), labels).item())")),
    ],
    "rate_at": [
        ("a wasted step", RATE.format(rise="step / warm_up", fall=FALL)),
        ("is the half before", RATE.format(rise=RISE, fall=FALL.removeprefix("0.5 * "))),
        ("does t start at 0 there", RATE.format(rise=RISE, fall="0.5 * (1 + math.cos(math.pi * step / steps))")),
        ("the steps 0 to 9", RATE.format(rise=RISE, fall=FALL).replace("step < warm_up", "step <= warm_up")),
        ("is it 1 + cos", RATE.format(rise=RISE, fall=FALL.replace("1 + math.cos", "1 - math.cos"))),
        ("π in the cosine", RATE.format(rise=RISE, fall=FALL.replace("math.pi * ", ""))),
        ("half way down", RATE.format(rise=RISE, fall="0.5 * (1 + math.cos(math.pi * (step - warm_up) / steps))")),
        ("should end at 1", RATE.format(rise="0.1", fall=FALL)),
    ],
}  # fmt: skip
