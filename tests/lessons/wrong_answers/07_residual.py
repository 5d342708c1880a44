"""Plausible wrong answers to the exercises of lesson 7, with words that the check must say."""

KERNEL = """
def identity_kernel(channels):
    kernel = tinynet.zeros(channels, channels, 3, 3)
    {fill}
    return kernel
"""

PARTS = '''
class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, residual):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.residual = residual
        self.downsample = None
        if residual and (stride != 1 or inputs != outputs):
            projection = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x):
        branch = {first}
        branch = {second}
        short = x if self.downsample is None else self.downsample(x)
        if self.residual:
            branch = {added}
        return {result}
'''


def block(first="self.relu(self.bn1(self.conv1(x)))", second="self.bn2(self.conv2(branch))", added="branch + short",
          result="self.relu(branch)"):  # fmt: skip
    return PARTS.format(first=first, second=second, added=added, result=result)


PLAN = """
def plan(depth):
    blocks, inputs = [], 8
    for outputs, stride in {stages}:
        for index in range({count}):
            blocks.append((inputs, outputs, {stride}))
            inputs = {inputs}
    return blocks
"""


def plan(stages="((8, 1), (16, 2), (32, 2))", count="(depth - 2) // 6", stride="stride if index == 0 else 1",
         inputs="outputs"):  # fmt: skip
    return PLAN.format(stages=stages, count=count, stride=stride, inputs=inputs)


NORMS = """
def gradient_by_layer(net, images, labels):
    net.zero_grad()
    cross_entropy(net(images), labels).backward()
    return [{value} for part in net.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)]
"""


def norms(value="norm(part.weight.grad)"):
    return NORMS.format(value=value)


WRONG = {
    "identity_kernel": [
        ("should see input channel c only", KERNEL.format(fill="kernel[:, :, 1, 1] = 1.0")),
        ("only the middle one", KERNEL.format(fill="kernel[tinynet.arange(channels), tinynet.arange(channels)] = 1.0")),
        ("only the middle (1, 1)", KERNEL.format(
            fill="kernel[tinynet.arange(channels), tinynet.arange(channels), 0, 0] = 1.0")),
        ("is there a 1 from each channel", KERNEL.format(fill="kernel[0, 0, 1, 1] = 1.0")),
        ("so the output is 0", KERNEL.format(fill="pass")),
        ("the weight has shape", "def identity_kernel(channels):\n    return tinynet.ones(channels, 1, 3, 3)\n"),
    ],
    "what_is_left": [
        ("the sign is reversed", "def what_is_left(H):\n    return lambda x: x - H(x)\n"),
        ("that is H itself", "def what_is_left(H):\n    return H\n"),
        ("x is added here AND by the block", "def what_is_left(H):\n    return lambda x: H(x) + x\n"),
        ("does it use its own x", "def what_is_left(H):\n    known = tinynet.tensor([1.0, 2.0, 3.0])\n"
            "    return lambda x: H(x) - (known if x.shape == known.shape else 0 * x)\n"),
        ("a return inside of F", "def what_is_left(H):\n    def F(x):\n        H(x) - x\n    return F\n"),
        ("a function is expected", "def what_is_left(H):\n    return H(tinynet.ones(3)) - 1\n"),
    ],
    "Block": [
        ("the addition is missing", block(added="branch")),
        ("not before it",
         block(added="self.relu(branch) + short", result="branch if self.residual else branch.relu()")),
        ("F(x) may be negative", block(added="self.relu(branch) + short")),
        ("the last ReLU is missing", block(result="branch")),
        ("the ReLU between the convolutions is missing", block(first="self.bn1(self.conv1(x))")),
        ("conv1, bn1, relu, conv2, bn2", block(second="self.conv2(branch)")),
        ("conv1, bn1, relu, conv2, bn2", block(second="self.bn1(self.conv2(branch))")),
        ("stride=2, residual=True): the addition is missing",
         block(added="branch + (x if self.downsample is None else 0)")),
        ("the plain block has no shortcut", block().replace(
            "if self.residual:\n            branch", "if branch.shape == short.shape:\n            branch")),
    ],
    "plan": [
        ("yours has 27", plan(count="9")),
        ("is their number computed from the depth", plan(count="3")),
        ("yours has 10", plan(count="(depth - 2) // 6 + (outputs == 8)")),
        ("only the first block of the second", plan(stages="((8, 2), (16, 2), (32, 2))")),
        ("only the first block of the second", plan(stride="stride")),
        ("the outputs of the one before", plan(inputs="inputs")),
        ("three times 8, 16, 32", plan(stages="((16, 1), (32, 2), (64, 2))")),
    ],
    "gradient_by_layer": [
        ("two 1×1 convolutions of the shortcuts", norms().replace(" and part.kernel_size == (3, 3)", "")),
        ("were old gradients still there", norms().replace("    net.zero_grad()\n", "")),
        ("not of their gradients", norms("norm(part.weight)")),
        ("the first convolution comes first", norms().replace("(3, 3)]", "(3, 3)][::-1]")),
        ("plain numbers are expected", norms("part.weight.grad")),
        ("evaluation mode", norms().replace("    net.zero_grad()", "    net.eval()\n    net.zero_grad()")),
        ("your numbers are off", norms("part.weight.grad.abs().sum().item()")),
    ],
}  # fmt: skip
