"""Plausible wrong answers to assignment 4, the tests that they lose and words that the feedback must say."""

from tests.assignments.wrong import Wrong

BLOCK = """
class Bottleneck(nn.Module):
    def __init__(self, in_channels, width, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = shortcut

    def forward(self, x):
        branch = F.relu(self.bn1(self.conv1(x)))
        branch = F.relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        return F.relu(branch + self.downsample(x))
"""
PARAMETERS, IDENTITY, STRIDED, GRADIENT = (
    f"bottleneck-{test}" for test in ("parameters", "identity", "strided", "gradient")
)


def block(*changes: tuple[str, str]) -> str:
    """The right block with other code in some places."""
    code = BLOCK
    for right, wrong in changes:
        assert right in code
        code = code.replace(right, wrong)
    return code


WRONG = [
    # Task 1
    Wrong(
        "convolution_cost",
        "the kernel taken as a square of its height",
        loses=("convolution_cost-parameters", "convolution_cost-macs"),
        says="the kernel is not square",
        code='''
def convolution_cost(in_channels, out_channels, kernel_size, input_size, stride, padding):
    parameters = in_channels * out_channels * kernel_size[0] ** 2
    rows, columns = ((side + 2 * padding - kernel_size[0]) // stride + 1 for side in input_size)
    return parameters, parameters * rows * columns, (rows, columns)
'''),
    Wrong(
        "convolution_cost",
        "a bias counted",
        loses=("convolution_cost-parameters", "convolution_cost-macs"),
        says="there is no bias",
        code='''
def convolution_cost(in_channels, out_channels, kernel_size, input_size, stride, padding):
    parameters = out_channels * (in_channels * kernel_size[0] * kernel_size[1] + 1)
    rows, columns = ((side + 2 * padding - reach) // stride + 1 for side, reach in zip(input_size, kernel_size))
    return parameters, parameters * rows * columns, (rows, columns)
'''),
    Wrong(
        "convolution_cost",
        "MACs at the positions of the input",
        loses=("convolution_cost-macs",),
        says="you count the positions of the input",
        code='''
def convolution_cost(in_channels, out_channels, kernel_size, input_size, stride, padding):
    parameters = in_channels * out_channels * kernel_size[0] * kernel_size[1]
    rows, columns = ((side + 2 * padding - reach) // stride + 1 for side, reach in zip(input_size, kernel_size))
    return parameters, parameters * input_size[0] * input_size[1], (rows, columns)
'''),
    Wrong(
        "convolution_cost",
        "padding counted on one side",
        loses=("convolution_cost-macs",),
        says="padding on both sides",
        code='''
def convolution_cost(in_channels, out_channels, kernel_size, input_size, stride, padding):
    parameters = in_channels * out_channels * kernel_size[0] * kernel_size[1]
    rows, columns = ((side + padding - reach) // stride + 1 for side, reach in zip(input_size, kernel_size))
    return parameters, parameters * rows * columns, (rows, columns)
'''),
    Wrong(
        "convolution_cost",
        "multiplication and addition counted apart",
        loses=("convolution_cost-macs",),
        says="together are one MAC",
        code='''
def convolution_cost(in_channels, out_channels, kernel_size, input_size, stride, padding):
    parameters = in_channels * out_channels * kernel_size[0] * kernel_size[1]
    rows, columns = ((side + 2 * padding - reach) // stride + 1 for side, reach in zip(input_size, kernel_size))
    return parameters, 2 * parameters * rows * columns, (rows, columns)
'''),
    # Task 2
    Wrong(
        "bottleneck_cost",
        "the norms' parameters forgotten",
        loses=("bottleneck_cost-identity", "bottleneck_cost-projection"),
        says="the norms have some too",
        code='''
def bottleneck_cost(in_channels, width, input_size, stride, projection):
    before = input_size[0] * input_size[1]
    after = -(-input_size[0] // stride) * -(-input_size[1] // stride)
    parts = [(in_channels * width, before), (9 * width**2, after), (4 * width**2, after)]
    parts += [(4 * in_channels * width, after)] * projection
    return sum(weights for weights, _ in parts), sum(weights * positions for weights, positions in parts)
'''),
    Wrong(
        "bottleneck_cost",
        "running statistics counted as parameters",
        loses=("bottleneck_cost-identity", "bottleneck_cost-projection"),
        says="running mean and variance are not parameters",
        code='''
def bottleneck_cost(in_channels, width, input_size, stride, projection):
    before = input_size[0] * input_size[1]
    after = -(-input_size[0] // stride) * -(-input_size[1] // stride)
    parts = [(in_channels * width, before), (9 * width**2, after), (4 * width**2, after)]
    parts += [(4 * in_channels * width, after)] * projection
    norms = 4 * (6 * width + 4 * width * projection)
    return sum(weights for weights, _ in parts) + norms, sum(weights * positions for weights, positions in parts)
'''),
    Wrong(
        "bottleneck_cost",
        "the stride in the first 1×1",
        loses=("bottleneck_cost-projection",),
        says="the stride is in the 3×3",
        code='''
def bottleneck_cost(in_channels, width, input_size, stride, projection):
    after = -(-input_size[0] // stride) * -(-input_size[1] // stride)
    weights = in_channels * width + 13 * width**2 + 4 * in_channels * width * projection
    return weights + 2 * (6 * width + 4 * width * projection), weights * after
'''),
    Wrong(
        "bottleneck_cost",
        "the projection without its norm",
        loses=("bottleneck_cost-projection",),
        says="a norm follows the projection",
        code='''
def bottleneck_cost(in_channels, width, input_size, stride, projection):
    before = input_size[0] * input_size[1]
    after = -(-input_size[0] // stride) * -(-input_size[1] // stride)
    parts = [(in_channels * width, before), (9 * width**2, after), (4 * width**2, after)]
    parts += [(4 * in_channels * width, after)] * projection
    return sum(weights for weights, _ in parts) + 12 * width, sum(weights * positions for weights, positions in parts)
'''),
    Wrong(
        "bottleneck_cost",
        "the projection at all positions of the input",
        loses=("bottleneck_cost-projection",),
        says="the projection has the stride too",
        code='''
def bottleneck_cost(in_channels, width, input_size, stride, projection):
    before = input_size[0] * input_size[1]
    after = -(-input_size[0] // stride) * -(-input_size[1] // stride)
    parts = [(in_channels * width, before), (9 * width**2, after), (4 * width**2, after)]
    parts += [(4 * in_channels * width, before)] * projection
    norms = 2 * (6 * width + 4 * width * projection)
    return sum(weights for weights, _ in parts) + norms, sum(weights * positions for weights, positions in parts)
'''),
    # Task 3
    Wrong(
        "zero_padding",
        "half of the zero channels in front, as tinynet has it",
        loses=("zero_padding-values", "zero_padding-gradient"),
        says="half of the zero channels come in front",
        code='''
class ZeroPadding(nn.Module):
    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.stride, self.new = stride, out_channels - in_channels

    def forward(self, x):
        half = self.new // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.new - half))
'''),
    Wrong(
        "zero_padding",
        "all zero channels in front",
        loses=("zero_padding-values", "zero_padding-gradient"),
        says="they belong behind",
        code='''
class ZeroPadding(nn.Module):
    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.stride, self.new = stride, out_channels - in_channels

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new, 0))
'''),
    Wrong(
        "zero_padding",
        "means over the positions that are left out",
        loses=("zero_padding-values", "zero_padding-gradient"),
        says="you take means",
        code='''
class ZeroPadding(nn.Module):
    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.stride, self.new = stride, out_channels - in_channels

    def forward(self, x):
        return F.pad(F.avg_pool2d(x, self.stride, ceil_mode=True), (0, 0, 0, 0, 0, self.new))
'''),
    Wrong(
        "zero_padding",
        "the shortcut not strided",
        loses=("zero_padding-values", "zero_padding-gradient"),
        says="with stride 2 gives 2×3",
        code='''
class ZeroPadding(nn.Module):
    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.new = out_channels - in_channels

    def forward(self, x):
        return F.pad(x, (0, 0, 0, 0, 0, self.new))
'''),
    Wrong(
        "zero_padding",
        "the result off the tape",
        loses=("zero_padding-gradient",),
        says="does not require grad",
        code='''
class ZeroPadding(nn.Module):
    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.stride, self.new = stride, out_channels - in_channels

    def forward(self, x):
        kept = x.detach().numpy()[:, :, :: self.stride, :: self.stride]
        return tinynet.tensor(np.pad(kept, ((0, 0), (0, self.new), (0, 0), (0, 0))))
'''),
    # Task 4
    Wrong(
        "make_shortcut",
        "the identity wherever the channels stay",
        loses=("make_shortcut-identity", "make_shortcut-zeros", "make_shortcut-projection"),
        says="the size changes",
        code='''
def make_shortcut(in_channels, out_channels, stride, option):
    if in_channels == out_channels:
        return nn.Identity()
    if option == "A":
        return ZeroPadding(in_channels, out_channels, stride)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
    )
'''),
    Wrong(
        "make_shortcut",
        "None where the input fits",
        loses=("make_shortcut-identity", "finale"),
        says="None comes back",
        code='''
def make_shortcut(in_channels, out_channels, stride, option):
    if stride == 1 and in_channels == out_channels:
        return None
    if option == "A":
        return ZeroPadding(in_channels, out_channels, stride)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
    )
'''),
    Wrong(
        "make_shortcut",
        "the projection without a norm",
        loses=("make_shortcut-projection", "finale"),
        says="a batch norm follows the 1×1",
        code='''
def make_shortcut(in_channels, out_channels, stride, option):
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if option == "A":
        return ZeroPadding(in_channels, out_channels, stride)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False))
'''),
    Wrong(
        "make_shortcut",
        "the projection not strided",
        loses=("make_shortcut-projection", "finale"),
        says="the projection has the stride",
        code='''
def make_shortcut(in_channels, out_channels, stride, option):
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if option == "A":
        return ZeroPadding(in_channels, out_channels, stride)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
'''),
    Wrong(
        "make_shortcut",
        "the projection with a bias",
        loses=("make_shortcut-projection", "finale"),
        says="bias=False",
        code='''
def make_shortcut(in_channels, out_channels, stride, option):
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if option == "A":
        return ZeroPadding(in_channels, out_channels, stride)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=stride), nn.BatchNorm2d(out_channels))
'''),
    Wrong(
        "make_shortcut",
        "option A not strided",
        loses=("make_shortcut-zeros",),
        says="the stride?",
        code='''
def make_shortcut(in_channels, out_channels, stride, option):
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if option == "A":
        return ZeroPadding(in_channels, out_channels, 1)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
    )
'''),
    # Task 5
    Wrong(
        "bottleneck",
        "ReLU before the addition",
        loses=(IDENTITY, STRIDED, GRADIENT, "finale"),
        says="ReLU before the addition",
        code=block(
            ("branch = self.bn3(self.conv3(branch))", "branch = F.relu(self.bn3(self.conv3(branch)))"),
        ),
    ),
    Wrong(
        "bottleneck",
        "no ReLU after the addition",
        loses=(IDENTITY, STRIDED, GRADIENT, "finale"),
        says="the last step is ReLU",
        code=block(
            ("return F.relu(branch + self.downsample(x))", "return branch + self.downsample(x)"),
        ),
    ),
    Wrong(
        "bottleneck",
        "the stride in the first 1×1",
        loses=(STRIDED, "finale"),
        says="the stride is in conv1",
        code=block(
            ("in_channels, width, 1, bias", "in_channels, width, 1, stride=stride, bias"), ("3, stride=stride", "3"),
        ),
    ),
    Wrong(
        "bottleneck",
        "the stride in the last 1×1",
        loses=(STRIDED,),
        says="the stride is in conv3",
        code=block(
            ("4 * width, 1, bias", "4 * width, 1, stride=stride, bias"), ("3, stride=stride", "3"),
        ),
    ),
    Wrong(
        "bottleneck",
        "the second ReLU forgotten",
        loses=(IDENTITY, STRIDED, GRADIENT, "finale"),
        says="ReLU after the second norm is missing",
        code=block(
            ("branch = F.relu(self.bn2(self.conv2(branch)))", "branch = self.bn2(self.conv2(branch))"),
        ),
    ),
    Wrong(
        "bottleneck",
        "convolutions with a bias",
        loses=(PARAMETERS, IDENTITY, STRIDED, "finale"),
        says="bias=False",
        code=block(
            (", bias=False", ""),
        ),
    ),
    Wrong(
        "bottleneck",
        "the input added in place of the shortcut",
        loses=(STRIDED, "finale"),
        says="do not broadcast",
        code=block(
            ("branch + self.downsample(x)", "branch + x"),
        ),
    ),
    # Task 6
    Wrong(
        "make_stage",
        "every block strided",
        loses=("make_stage-blocks", "make_stage-shortcuts", "finale"),
        says="only the first one has it",
        code='''
def make_stage(block, shortcut, in_channels, width, blocks, stride):
    stage = []
    for number in range(blocks):
        channels = in_channels if number == 0 else 4 * width
        stage.append(block(channels, width, stride, shortcut(channels, 4 * width, stride)))
    return nn.Sequential(*stage)
'''),
    Wrong(
        "make_stage",
        "all blocks on the channels that come in",
        loses=("make_stage-blocks", "make_stage-shortcuts", "finale"),
        says="the first one gives 4 * 4 = 16",
        code='''
def make_stage(block, shortcut, in_channels, width, blocks, stride):
    stage = []
    for number in range(blocks):
        step = stride if number == 0 else 1
        stage.append(block(in_channels, width, step, shortcut(in_channels, 4 * width, step)))
    return nn.Sequential(*stage)
'''),
    Wrong(
        "make_stage",
        "one block used again and again",
        loses=("make_stage-blocks", "make_stage-shortcuts", "finale"),
        says="one set of weights",
        code='''
def make_stage(block, shortcut, in_channels, width, blocks, stride):
    first = block(in_channels, width, stride, shortcut(in_channels, 4 * width, stride))
    if blocks == 1:
        return nn.Sequential(first)
    other = block(4 * width, width, 1, shortcut(4 * width, 4 * width, 1))
    return nn.Sequential(first, *[other] * (blocks - 1))
'''),
    Wrong(
        "make_stage",
        "the shortcut without the stride",
        loses=("make_stage-shortcuts", "finale"),
        says="both ends must fit",
        code='''
def make_stage(block, shortcut, in_channels, width, blocks, stride):
    stage = []
    for number in range(blocks):
        channels, step = (in_channels, stride) if number == 0 else (4 * width, 1)
        stage.append(block(channels, width, step, shortcut(channels, 4 * width, 1)))
    return nn.Sequential(*stage)
'''),
    Wrong(
        "make_stage",
        "the shortcut to the narrow channels",
        loses=("make_stage-shortcuts", "finale"),
        says="leads to 4 channels",
        code='''
def make_stage(block, shortcut, in_channels, width, blocks, stride):
    stage = []
    for number in range(blocks):
        channels, step = (in_channels, stride) if number == 0 else (4 * width, 1)
        stage.append(block(channels, width, step, shortcut(channels, width, step)))
    return nn.Sequential(*stage)
'''),
]  # fmt: skip
