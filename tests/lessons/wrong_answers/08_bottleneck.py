"""Plausible wrong answers to the exercises of lesson 8, with words that the check must say."""

HEAD = '''
class Bottleneck(nn.Module):
    def __init__(self, in_channels, width, stride=1, downsample=None):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU()
        self.downsample = downsample
'''
BRANCH = '''
    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        branch = self.relu(self.bn1(self.conv1(x)))
        branch = self.relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
'''

WRONG = {
    "bill": [
        ("each pair of channels has 9 weights", '''
def bill(in_channels, out_channels, kernel, height, width, stride=1):
    parameters = in_channels * out_channels
    return parameters, parameters * height * width
'''),
        ("not only once", '''
def bill(in_channels, out_channels, kernel, height, width, stride=1):
    parameters = in_channels * out_channels * kernel**2
    return parameters, parameters
'''),
        ("are one MAC", '''
def bill(in_channels, out_channels, kernel, height, width, stride=1):
    parameters = in_channels * out_channels * kernel**2
    return parameters, 2 * parameters * height * width
'''),
        ("count positions of the output", '''
def bill(in_channels, out_channels, kernel, height, width, stride=1):
    parameters = in_channels * out_channels * kernel**2
    return parameters, parameters * height * width
'''),
        ("rounded up", '''
def bill(in_channels, out_channels, kernel, height, width, stride=1):
    parameters = in_channels * out_channels * kernel**2
    return parameters, parameters * (height // stride) * (width // stride)
'''),
        ("a pair (parameters, MACs)", '''
def bill(in_channels, out_channels, kernel, height, width, stride=1):
    return in_channels * out_channels * kernel**2
'''),
    ],
    "Bottleneck": [
        ("where is x added", HEAD + BRANCH + '''
        return self.relu(branch)
'''),
        ("the last step is ReLU", HEAD + BRANCH + '''
        return branch + shortcut
'''),
        ("add first", HEAD + BRANCH + '''
        return self.relu(self.relu(branch) + shortcut)
'''),
        ("ReLU after two", HEAD + '''
    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        branch = self.relu(self.conv3(self.relu(self.conv2(self.relu(self.conv1(x))))))
        return self.relu(branch + shortcut)
'''),
        ("is there a return", HEAD + BRANCH + '''
        self.relu(branch + shortcut)
'''),
        ("does the 3×3 have padding=1", HEAD.replace(", padding=1", "") + BRANCH + '''
        return self.relu(branch + shortcut)
'''),
        ("only the 3×3 gets it", HEAD.replace("width, 1, bias", "width, 1, stride=stride, bias", 1).replace(
            "3, stride=stride", "3") + BRANCH + '''
        return self.relu(branch + shortcut)
'''),
        ("say bias=False", HEAD.replace(", bias=False", "") + BRANCH + '''
        return self.relu(branch + shortcut)
'''),
        ("(out, in, rows, columns)", HEAD.replace("Conv2d(width, 4 * width", "Conv2d(width, width") + BRANCH + '''
        return self.relu(branch + shortcut)
'''),
    ],
    "zero_padding": [
        ("keep pixels, no means", '''
def zero_padding(x, out_channels, stride):
    half = (out_channels - x.shape[1]) // 2
    x = F.avg_pool2d(x, stride, stride, ceil_mode=True)
    return F.pad(x, (0, 0, 0, 0, half, half))
'''),
        ("belong in front", '''
def zero_padding(x, out_channels, stride):
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, out_channels - x.shape[1]))
'''),
        ("belong behind", '''
def zero_padding(x, out_channels, stride):
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, out_channels - x.shape[1], 0))
'''),
        ("2 belong in front and 2 behind", '''
def zero_padding(x, out_channels, stride):
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, out_channels // 2, out_channels // 2))
'''),
        ("not as pixels", '''
def zero_padding(x, out_channels, stride):
    half = (out_channels - x.shape[1]) // 2
    return F.pad(x[:, :, ::stride, ::stride], (half, half))
'''),
        ("gives 3×3 positions", '''
def zero_padding(x, out_channels, stride):
    half = (out_channels - x.shape[1]) // 2
    return F.pad(x, (0, 0, 0, 0, half, half))
'''),
        ("are the new channels zero", '''
def zero_padding(x, out_channels, stride):
    half = (out_channels - x.shape[1]) // 2
    x = x[:, :, ::stride, ::stride]
    return tinynet.cat([x[:, :half], x, x[:, :half]], 1)
'''),
    ],
    "make_shortcut": [
        ("even at 64 to 64 channels", '''
def make_shortcut(option, in_channels, out_channels, stride):
    if in_channels == out_channels and option != "C":
        return None
    if option == "A":
        return ZeroPadShortcut(in_channels, out_channels, stride)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
'''),
        ("even at stride 1", '''
def make_shortcut(option, in_channels, out_channels, stride):
    if stride == 1 and option != "C":
        return None
    if option == "A":
        return ZeroPadShortcut(in_channels, out_channels, stride)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
'''),
        ("so return None", '''
def make_shortcut(option, in_channels, out_channels, stride):
    if option == "A":
        return ZeroPadShortcut(in_channels, out_channels, stride)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
'''),
        ("option C has a projection everywhere", '''
def make_shortcut(option, in_channels, out_channels, stride):
    if stride == 1 and in_channels == out_channels:
        return None
    if option == "A":
        return ZeroPadShortcut(in_channels, out_channels, stride)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
'''),
        ("the stride?", '''
def make_shortcut(option, in_channels, out_channels, stride):
    if stride == 1 and in_channels == out_channels and option != "C":
        return None
    if option == "A":
        return ZeroPadShortcut(in_channels, out_channels, stride)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
'''),
        ("a module is expected", '''
def make_shortcut(option, in_channels, out_channels, stride):
    if stride == 1 and in_channels == out_channels and option != "C":
        return None
    if option == "A":
        return lambda x: zero_padding(x, out_channels, stride)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
'''),
        ("a batch norm follows", '''
def make_shortcut(option, in_channels, out_channels, stride):
    if stride == 1 and in_channels == out_channels and option != "C":
        return None
    if option == "A":
        return ZeroPadShortcut(in_channels, out_channels, stride)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False))
'''),
    ],
}
