"""Plausible wrong answers to the exercises of lesson 9, with words that the check must say."""

NET = '''
class ResNet(nn.Module):
    def __init__(self, blocks, num_classes=1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = make_stage(64, 64, blocks[0], 1)
        self.layer2 = make_stage(256, 128, blocks[1], 2)
        self.layer3 = make_stage(512, 256, blocks[2], 2)
        self.layer4 = make_stage(1024, 512, blocks[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2048, num_classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))
'''

WRONG = {
    "make_stage": [
        ("only the first one halves the map", '''
def make_stage(in_channels, width, blocks, stride):
    stage = [Bottleneck(in_channels, width, stride, projection(in_channels, 4 * width, stride))]
    for _ in range(blocks - 1):
        stage.append(Bottleneck(4 * width, width, stride))
    return nn.Sequential(*stage)
'''),
        ("a bottleneck gives 4 · width", '''
def make_stage(in_channels, width, blocks, stride):
    stage = [Bottleneck(in_channels, width, stride, projection(in_channels, 4 * width, stride))]
    for _ in range(blocks - 1):
        stage.append(Bottleneck(width, width))
    return nn.Sequential(*stage)
'''),
        ("the first block has no projection", '''
def make_stage(in_channels, width, blocks, stride):
    stage = [Bottleneck(in_channels, width, stride)]
    for _ in range(blocks - 1):
        stage.append(Bottleneck(4 * width, width))
    return nn.Sequential(*stage)
'''),
        ("share their weights", '''
def make_stage(in_channels, width, blocks, stride):
    first = Bottleneck(in_channels, width, stride, projection(in_channels, 4 * width, stride))
    return nn.Sequential(first, *[Bottleneck(4 * width, width)] * (blocks - 1))
'''),
        ("is option C", '''
def make_stage(in_channels, width, blocks, stride):
    stage = [Bottleneck(in_channels, width, stride, projection(in_channels, 4 * width, stride))]
    for _ in range(blocks - 1):
        stage.append(Bottleneck(4 * width, width, 1, projection(4 * width, 4 * width, 1)))
    return nn.Sequential(*stage)
'''),
        ("too (conv2_x)", '''
def make_stage(in_channels, width, blocks, stride):
    shortcut = projection(in_channels, 4 * width, stride) if stride > 1 else None
    stage = [Bottleneck(in_channels, width, stride, shortcut)]
    for _ in range(blocks - 1):
        stage.append(Bottleneck(4 * width, width))
    return nn.Sequential(*stage)
'''),
        ("your projection gives", '''
def make_stage(in_channels, width, blocks, stride):
    stage = [Bottleneck(in_channels, width, stride, projection(in_channels, 4 * width, 1))]
    for _ in range(blocks - 1):
        stage.append(Bottleneck(4 * width, width))
    return nn.Sequential(*stage)
'''),
        ("should give 3 bottlenecks", '''
def make_stage(in_channels, width, blocks, stride):
    stage = [Bottleneck(in_channels, width, stride, projection(in_channels, 4 * width, stride))]
    for _ in range(blocks):
        stage.append(Bottleneck(4 * width, width))
    return nn.Sequential(*stage)
'''),
    ],
    "ResNet": [
        ("your forward never calls a layer", NET.replace("self.maxpool(self.relu(self.bn1(self.conv1(x))))",
                                                         "self.relu(self.bn1(self.conv1(x)))")),
        ("strides 1, 2, 2, 2", NET.replace("blocks[0], 1)", "blocks[0], 2)")),
        ("tensors are too many", NET.replace("padding=3, bias=False", "padding=3")),
        ("first differs at", NET.replace("stride=2, padding=1)", "stride=2, padding=0, ceil_mode=True)")),
        ("first differs at", NET.replace("padding=3", "padding=0")),
        ("a projection or a block?", NET.replace("blocks[1]", "blocks[0]")),
        ("all used", NET.replace("make_stage(64, 64, blocks[0], 1)", "make_stage(64, 64, 1, 1)")),
        ("it should be (7, 2048)", NET.replace("nn.Linear(2048, num_classes)", "nn.Linear(512, num_classes)")),
    ],
    "copy_weights": [
        ("they are buffers", '''
def copy_weights(net, state):
    own = dict(net.named_parameters())
    with tinynet.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])
    return [], []
'''),
        ("= only renames it", '''
def copy_weights(net, state):
    own = net.state_dict()
    for name in own:
        if name in state:
            own[name] = state[name]
    return [name for name in own if name not in state], [name for name in state if name not in own]
'''),
        ("the net's weights are as before", '''
def copy_weights(net, state):
    own = net.state_dict()
    with tinynet.no_grad():
        for name in own:
            if name in state:
                state[name].copy_(own[name])
    return [name for name in own if name not in state], [name for name in state if name not in own]
'''),
        ("the other way", '''
def copy_weights(net, state):
    own = net.state_dict()
    with tinynet.no_grad():
        for name, tensor in own.items():
            if name in state:
                tensor.copy_(state[name])
    return [name for name in state if name not in own], [name for name in own if name not in state]
'''),
        ("a pair of lists", '''
def copy_weights(net, state):
    with tinynet.no_grad():
        for name, tensor in net.state_dict().items():
            if name in state:
                tensor.copy_(state[name])
'''),
        ("so missing is ['3.bias']", '''
def copy_weights(net, state):
    own = net.state_dict()
    with tinynet.no_grad():
        for name, tensor in own.items():
            if name in state:
                tensor.copy_(state[name])
    return [], [name for name in state if name not in own]
'''),
    ],
    "diagnosis": [
        ("still agrees", '''
def diagnosis():
    return "conv1", "stride"
'''),
        ("because its input does", '''
def diagnosis():
    return "fc", "bias"
'''),
        ("copy a name from the report", '''
def diagnosis():
    return "layer9", "stride"
'''),
        ("that has changed", '''
def diagnosis():
    layer = compare(suspect, net, small).first_divergence.name
    return layer, "momentum" if ".bn" in layer else "stride"
'''),
        ("two texts are expected", '''
def diagnosis():
    return compare(suspect, net, small).first_divergence.name
'''),
    ],
}
