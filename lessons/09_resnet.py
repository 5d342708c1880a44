# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["goal"]
# # Lesson 9: ResNet-50 and ResNet-101
#
# **Goal.** You assemble the net that a decade of computer vision was built on, from your own blocks, and prove that it
# is the one: name by name, shape by shape, number by number. You load weights from a file and know what is in such a
# file. When two nets that should be equal are not, you find the layer to blame. And you see where the time goes.
#
# **Time:** 45-60 minutes, of which the computer needs less than one.
#
# **You need:** the bottleneck and its bill (lesson 8), batch norm and its running statistics (lesson 5).
#
# **New in tinynet:** `tinynet.models.ResNet`, `tinynet.models.resnet50`, `tinynet.inspect.compare`, `tinynet.load`,
# `tinynet.fuse`, `tinynet.checkpoint.find_weights`, `tinynet.data.imagenet_classes`,
# `tinynet.data.imagenet.resize_short_side`, `tinynet.data.imagenet.centre_crop`, `tinynet.data.imagenet.normalised`,
# `tinynet.errors.CheckpointError`, `tinynet.errors.DataError`, `tinynet.errors.TinynetError`,
# `tinynet.utils.cache.user_cache`, `tinynet.inspect.parity.Case`, `tinynet.inspect.parity.parity`,
# `tinynet.nn.MaxPool2d`

# %%
import os
import pickle
import pickletools
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

import tinynet
from tinynet import models, nn, plot
from tinynet.checkpoint import find_weights
from tinynet.data import imagenet, imagenet_classes
from tinynet.errors import CheckpointError, DataError, TinynetError
from tinynet.inspect import compare, summary
from tinynet.inspect.parity import Case, parity
from tinynet.lesson import Lesson, relative_error
from tinynet.utils.cache import user_cache

tinynet.manual_seed(0)
lesson = Lesson(9)

# %% [markdown]
# ## 1. A net on one page
#
# Table 1 of the paper describes five nets. Here are two of its columns. An image of 224×224 comes in; a bracket is a
# bottleneck, and $\times 3$ says how many of them follow each other.
#
# | stage | output | 50 layers | 101 layers |
# |---|---|---|---|
# | conv1 | 112×112 | 7×7, 64, stride 2 | the same |
# | conv2_x | 56×56 | 3×3 max pool, stride 2, then [1×1, 64; 3×3, 64; 1×1, 256] $\times 3$ | $\times 3$ |
# | conv3_x | 28×28 | [1×1, 128; 3×3, 128; 1×1, 512] $\times 4$ | $\times 4$ |
# | conv4_x | 14×14 | [1×1, 256; 3×3, 256; 1×1, 1024] $\times 6$ | **?** |
# | conv5_x | 7×7 | [1×1, 512; 3×3, 512; 1×1, 2048] $\times 3$ | $\times 3$ |
# | | 1×1 | average pool, linear layer to 1000 classes, softmax | the same |
#
# Five stages. From conv3_x on, each stage has maps half as high and wide as the one before, and twice the channels.
# The two nets differ in one thing: the number of blocks in conv4_x. The paper counts the layers with weights on the way
# through the branches; poolings and shortcuts do not count.

# %% [markdown] tags=["predict"]
# **Predict.** Count the 50 layers. And how many bottlenecks must conv4_x have in the net with 101 layers?

# %% tags=["predict"]
layers_of_50 = ...  # 1 for conv1, then ...; does it come out as 50?
blocks_in_conv4 = ...  # for 101 layers


# %%
def layers(blocks):
    """conv1, three convolutions in each bottleneck, and the linear layer."""
    return 1 + 3 * sum(blocks) + 1


lesson.reveal("layers", layers_of_50, layers([3, 4, 6, 3]))
fitting = [number for number in range(1, 50) if layers([3, 4, number, 3]) == 101]
lesson.reveal("blocks in conv4_x", blocks_in_conv4, fitting[0])

# %% [markdown]
# Here is the bottleneck, as you wrote it in lesson 8. Paste your own over it if you like.

# %%
class Bottleneck(nn.Module):
    """1×1 to `width` channels, 3×3 with the stride, 1×1 to 4 · `width` channels, and the shortcut."""

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

    def forward(self, x):
        branch = self.relu(self.bn1(self.conv1(x)))
        branch = self.relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(branch + shortcut)


def projection(in_channels, out_channels, stride):
    """The shortcut where the shape changes: option B of lesson 8."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
    )


# %% [markdown] tags=["exercise"]
# ### Exercise 1 · A stage · 2/5 · 10 minutes
#
# Chain `blocks` bottlenecks of this `width` into an `nn.Sequential`. The **first** one takes `in_channels`, has the
# `stride`, and gets a projection. The others take what a bottleneck gives, keep the size, and need no projection. (In
# each of ResNet's stages the first block changes the channels, also in conv2_x, where the stride is 1.)

# %% tags=["stub"]
def make_stage(in_channels, width, blocks, stride):
    """An nn.Sequential of bottlenecks that turns in_channels into 4 · width channels."""
    return ...


# %% tags=["check"]
def check(make_stage):
    stage = make_stage(8, 4, 3, 2)
    kind = type(stage).__name__
    assert isinstance(stage, nn.Sequential), f"an nn.Sequential is expected, not a {kind}: nn.Sequential(*blocks)"
    count = len(stage)
    assert count == 3, f"blocks=3 should give 3 bottlenecks, yours has {count}"
    different = len({id(block) for block in stage})
    assert different == 3, "your blocks are one and the same module several times: they would share their weights"
    strides = [block.conv2.stride[0] for block in stage]
    assert strides == [2, 1, 1], f"stride=2 gives your blocks the strides {strides}: only the first one halves the map"
    inputs = [block.conv1.weight.shape[1] for block in stage]
    assert inputs == [8, 16, 16], f"your blocks take {inputs} channels, not [8, 16, 16]: a bottleneck gives 4 · width"
    shortcuts = [block.downsample is not None for block in stage]
    assert shortcuts[0], "the first block has no projection: 8 channels cannot be added to 16"
    block, x = stage[0], tinynet.randn(2, 8, 7, 7)
    side = tuple(block.downsample(x).shape)
    assert side == (2, 16, 4, 4), f"your projection gives {side}, the branch (2, 16, 4, 4): 4 · width, and the stride"
    assert not any(shortcuts[1:]), "a projection in the later blocks is option C: there the input itself can be added"
    shape = tuple(stage(x).shape)
    assert shape == (2, 16, 4, 4), f"(2, 8, 7, 7) becomes {shape}, not (2, 16, 4, 4)"
    first = make_stage(64, 64, 1, 1)[0]
    assert first.downsample is not None, "with stride 1 and 64 to 256 channels a projection is needed, too (conv2_x)"


make_stage = lesson.check(check, make_stage)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Start a list with `Bottleneck(in_channels, width, stride, projection(in_channels, 4 * width, stride))`. Append
# `Bottleneck(4 * width, width)` as often as needed, a new one each time.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def make_stage(in_channels, width, blocks, stride):
#     """An nn.Sequential of bottlenecks that turns in_channels into 4 · width channels."""
#     stage = [Bottleneck(in_channels, width, stride, projection(in_channels, 4 * width, stride))]
#     for _ in range(blocks - 1):
#         stage.append(Bottleneck(4 * width, width))
#     return nn.Sequential(*stage)
# ```
#
# </details>

# %% [markdown]
# ## 2. The net
#
# The rest is short. Before the blocks there is the **stem**: a 7×7 convolution of stride 2 and a 3×3 max pooling of
# stride 2, so that the blocks need not work on large maps. After them, **global average pooling** turns each channel
# into one number: its mean over all positions. It has no parameters, and it makes the net take images of any size.

# %% [markdown] tags=["exercise"]
# ### Exercise 2 · ResNet · 3/5 · 15 minutes
#
# Put it together for any four numbers of `blocks`: stem, four stages of width 64, 128, 256 and 512, global average
# pooling, linear layer. The names are torchvision's: conv1, bn1, relu, maxpool, layer1 to layer4, avgpool, fc. Mind
# that conv2_x (here `layer1`) has stride 1, because the pooling has halved the maps already, and that the average
# pooling leaves maps of 1×1, which the linear layer wants without their two last axes: `.flatten(1)`.

# %% tags=["stub"]
class ResNet(nn.Module):
    """Table 1 of the paper for bottlenecks: images (N, 3, H, W) → logits (N, num_classes)."""

    def __init__(self, blocks, num_classes=1000):
        super().__init__()
        self.conv1 = ...  # 7×7, 3 to 64 channels, stride 2, padding 3, no bias
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = ...  # 3×3, stride 2, padding 1
        self.layer1 = ...  # conv2_x
        self.layer2 = ...
        self.layer3 = ...
        self.layer4 = ...
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = ...

    def forward(self, x):
        return ...


# %% tags=["check"]
def check(ResNet):
    mine = ResNet([2, 1, 1, 1], num_classes=7).eval()
    reference = models.ResNet(models.Bottleneck, [2, 1, 1, 1], num_classes=7).eval()
    own, wanted = mine.state_dict(), reference.state_dict()
    missing = [name for name in wanted if name not in own]
    added = [name for name in own if name not in wanted]
    reason = "are blocks[0] to blocks[3] all used?"
    assert not missing, f"{len(missing)} tensors are missing, the first is {missing[0]}: {reason}"
    assert not added, f"{len(added)} tensors are too many, the first is {added[0]}: a bias, a projection or a block?"
    for name, tensor in wanted.items():
        given, shape = tuple(own[name].shape), tuple(tensor.shape)
        assert given == shape, f"{name} has shape {given}, it should be {shape}"
    mine.load_state_dict(wanted)
    photo = tinynet.randn(1, 3, 64, 96)
    maps, sides = tinynet.zeros(1, 64, 8, 8), []
    with tinynet.no_grad():
        for stage in (mine.layer1, mine.layer2, mine.layer3, mine.layer4):
            maps = stage(maps)
            sides.append(maps.shape[-1])
    assert sides == [8, 4, 2, 1], f"maps of 8×8 have {sides} rows after the stages, not 8, 4, 2, 1: strides 1, 2, 2, 2"
    shape = tuple(mine(photo).shape)
    assert shape == (1, 7), f"one image and 7 classes give logits of shape {shape}, not (1, 7): flatten(1) before fc?"
    found = compare(mine, reference, photo)
    lost = [line for line in found.missing if "in the reference" in line]
    assert not lost, f"your forward never calls a layer: {lost[0]}"
    different = found.first_divergence
    assert different is None, f"with the same weights your net first differs at {different}"


ResNet = lesson.check(check, ResNet)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `self.layer1 = make_stage(64, 64, blocks[0], 1)`. It gives 256 channels, so `layer2` takes 256, has width 128 and
# stride 2, and so on. The last stage gives 2048. In `forward`: `x = self.maxpool(self.relu(self.bn1(self.conv1(x))))`,
# then the four stages one after the other.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# class ResNet(nn.Module):
#     """Table 1 of the paper for bottlenecks: images (N, 3, H, W) → logits (N, num_classes)."""
#
#     def __init__(self, blocks, num_classes=1000):
#         super().__init__()
#         self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
#         self.bn1 = nn.BatchNorm2d(64)
#         self.relu = nn.ReLU()
#         self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
#         self.layer1 = make_stage(64, 64, blocks[0], 1)
#         self.layer2 = make_stage(256, 128, blocks[1], 2)
#         self.layer3 = make_stage(512, 256, blocks[2], 2)
#         self.layer4 = make_stage(1024, 512, blocks[3], 2)
#         self.avgpool = nn.AdaptiveAvgPool2d(1)
#         self.fc = nn.Linear(2048, num_classes)
#
#     def forward(self, x):
#         x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
#         x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
#         return self.fc(self.avgpool(x).flatten(1))
# ```
#
# </details>

# %% [markdown]
# ## 3. Is it the one?
#
# Now for real, with 3, 4, 6 and 3 blocks. We write down what the table says, parameter by parameter, and hold your net
# against it, and against tinynet's own ResNet-50, which has torchvision's names.

# %%
def from_the_table(blocks):
    """The name and shape of every parameter that Table 1 asks for (each convolution with its norm)."""
    shapes = {}

    def convolution(conv, norm, *shape):
        shapes[f"{conv}.weight"] = shape
        shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = shape[:1]

    convolution("conv1", "bn1", 64, 3, 7, 7)
    channels = 64
    for stage, (width, count) in enumerate(zip((64, 128, 256, 512), blocks), start=1):
        for block in range(count):
            place = f"layer{stage}.{block}"
            convolution(f"{place}.conv1", f"{place}.bn1", width, channels, 1, 1)
            convolution(f"{place}.conv2", f"{place}.bn2", width, width, 3, 3)
            convolution(f"{place}.conv3", f"{place}.bn3", 4 * width, width, 1, 1)
            if block == 0:
                convolution(f"{place}.downsample.0", f"{place}.downsample.1", 4 * width, channels, 1, 1)
            channels = 4 * width
    shapes |= {"fc.weight": (1000, 2048), "fc.bias": (1000,)}
    return shapes


def shapes_of(net):
    return {name: tuple(parameter.shape) for name, parameter in net.named_parameters()}


net = ResNet([3, 4, 6, 3])
reference = models.resnet50()
print("equal to the table:     ", shapes_of(net) == from_the_table([3, 4, 6, 3]))
print("equal to tinynet.models:", shapes_of(net) == shapes_of(reference))
print(f"{len(shapes_of(net))} parameters by name, {sum(p.numel() for p in net.parameters()):,} numbers")

# %% [markdown] tags=["predict"]
# **Predict.** Which of `layer1` to `layer4` has the most parameters? And which needs the most MACs? (A block of the
# next stage has twice the channels, on maps of a quarter of the area. Try it with the bill of lesson 8.)

# %% tags=["predict"]
most_parameters = ...  # "layer1", "layer2", "layer3" or "layer4"
most_macs = ...  # the same

# %%
table = summary(net, (1, 3, 224, 224), depth=1)
stages = {row.name: row for row in table.rows if row.name.startswith("layer")}
lesson.reveal("most parameters", most_parameters, max(stages, key=lambda name: stages[name].parameters))
lesson.reveal("most MACs", most_macs, max(stages, key=lambda name: stages[name].macs))
print(table)
lesson.show(
    plot.bars(
        {name: {"parameters": 100 * row.parameters / table.parameters, "MACs": 100 * row.macs / table.macs}
         for name, row in stages.items()},
        unit="percent of ResNet-50", title="Where ResNet-50 is large, and where it works",
    ),
    "Bars by stage. Parameters grow from stage to stage, more than half are in layer4; the MACs are spread over all "
    "four stages, with the most in layer3.",
)

# %% [markdown]
# A block of the next stage has **four times** the parameters (twice the channels on both sides), and is used on **a
# quarter** of the positions. So each *block* costs the same in every stage; layer3 leads in MACs because it has the
# most blocks. That is also why the paper put the many new blocks of the deeper nets there.
#
# Look at the last column of the table: the **field** is how many pixels across one number of the map sees (lesson 3).
# At the end of layer4 it is far more than the 224 pixels that the photo has. And the stride: one cell of layer4 stands
# for 32×32 pixels. Keep both in mind for lesson 10.

# %% [markdown] tags=["predict"]
# **Predict.** ResNet-101 is ResNet-50 with 17 more blocks in layer3. How many parameters does one such block have, to
# two digits? (1024 to 256 by 1×1, 3×3 on 256, 256 to 1024 by 1×1.)

# %% tags=["predict"]
block_of_layer3 = ...  # parameters of one block

# %%
deep = ResNet([3, 4, 23, 3])
numbers = {name: sum(p.numel() for p in model.parameters()) for name, model in (("50", net), ("101", deep))}
lesson.reveal("parameters of one block", block_of_layer3, (numbers["101"] - numbers["50"]) // 17)
print("ResNet-101 equal to the table:", shapes_of(deep) == from_the_table([3, 4, 23, 3]))
lesson.say(
    f"ResNet-101 has **{numbers['101']:,}** parameters, ResNet-50 has **{numbers['50']:,}**. The difference is 17 "
    "equal blocks and nothing else."
)
del deep

# %% [markdown]
# ## 4. Weights from a file
#
# Your net has the right shape and knows nothing. Others have trained it, on more than a million photos for days, and
# have published what came out: a **checkpoint**, a file with the tensors of `state_dict()` under their names. Because
# you took the same names, it fits.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 · Copy the weights · 3/5 · 10 minutes
#
# `state` is what a file holds: tensors by name. Copy each of them into the tensor of `net` with the same name, with
# `tensor.copy_(other)`, inside of `tinynet.no_grad()`. What `net.state_dict()` gives are the net's own tensors, not
# copies: **everything that a net remembers**. Return two lists: the names that the net has and the file has not
# (missing), and those that the file has and the net has not (unexpected).

# %% tags=["stub"]
def copy_weights(net, state):
    """Fills the net from state. Returns (missing, unexpected), two lists of names."""
    return ...


# %% tags=["check"]
def check(copy_weights):
    def pair():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))

    trained, net = pair(), pair()
    trained(tinynet.randn(64, 3, 5, 5) * 3 + 2)
    state = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    given = copy_weights(net, state)
    two = isinstance(given, tuple) and len(given) == 2
    assert two, f"a pair of lists (missing, unexpected) is expected, not {given!r}"
    assert list(map(list, given)) == [[], []], f"all names fit here, so both lists are empty; yours are {given}"
    weight = relative_error(net[0].weight, trained[0].weight.detach())
    assert weight == 0, "the net's weights are as before: tensor.copy_(...) writes into the tensor, = only renames it"
    variance = relative_error(net[1].running_var, trained[1].running_var)
    assert variance == 0, "the running statistics were not copied: they are buffers, no parameters; use state_dict()"
    counted = net[1].num_batches_tracked.item()
    assert counted == 1, f"num_batches_tracked is {counted}, the file says 1: copy everything in state_dict()"
    images = tinynet.randn(2, 3, 5, 5)
    error = relative_error(net.eval()(images).detach(), trained.eval()(images).detach())
    assert error == 0, f"the outputs differ by {error:.0e}, though all weights should be equal"
    del state["3.bias"]
    state["4.weight"] = tinynet.zeros(2)
    missing, unexpected = copy_weights(pair(), state)
    assert list(missing) != ["4.weight"], "missing is what the net has and the file has not; you have it the other way"
    assert list(missing) == ["3.bias"], f"the file lacks 3.bias, so missing is ['3.bias'], not {list(missing)}"
    assert list(unexpected) == ["4.weight"], f"only the file has 4.weight: unexpected is {list(unexpected)}"


copy_weights = lesson.check(check, copy_weights)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `own = net.state_dict()` gives the net's tensors by name. Loop over `own.items()`: if the name is in `state`, copy,
# else note it as missing. What is unexpected you find with a second, short loop over `state`.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def copy_weights(net, state):
#     """Fills the net from state. Returns (missing, unexpected), two lists of names."""
#     own = net.state_dict()
#     missing = [name for name in own if name not in state]
#     unexpected = [name for name in state if name not in own]
#     with tinynet.no_grad():
#         for name, tensor in own.items():
#             if name in state:
#                 tensor.copy_(state[name])
#     return missing, unexpected
# ```
#
# </details>

# %% [markdown]
# (One trap is left: `copy_` broadcasts, so a tensor of a single number would fit everywhere. tinynet's
# `load_state_dict` compares the shapes, too, and changes nothing unless everything fits.)
#
# ### What is in a .pth file?
#
# torch's files are zip archives. The numbers lie in them as raw bytes, and one entry, `data.pkl`, says what they are.
# It is a **pickle**: a little program for a stack machine, with opcodes such as "push this number" and "call this
# function". Few people have ever written one by hand. It takes some thirty lines, and afterwards there is no magic
# left:

# %%
def opcodes(value):
    """The opcodes that push a value: a truth value, a whole number, a text or a tuple."""
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return b"J" + value.to_bytes(4, "little")
    if isinstance(value, str):
        return b"X" + len(value).to_bytes(4, "little") + value.encode()
    return b"(" + b"".join(map(opcodes, value)) + b"t"


def function(module, name):
    """The opcode that looks up a function."""
    return f"c{module}\n{name}\n".encode()


def write_torch_file(state, path):
    """Writes tensors by name as torch.save(state, path) does."""
    empty_dict = function("collections", "OrderedDict") + b")R"  # R calls the function
    program, content = b"\x80\x02" + empty_dict + b"(", {}
    for key, (name, tensor) in enumerate(state.items()):
        array = tensor.detach().numpy().copy()
        kind = "LongStorage" if array.dtype == np.int64 else "FloatStorage"
        strides = tuple(stride // array.itemsize for stride in array.strides)
        storage = b"(" + opcodes("storage") + function("torch", kind) + opcodes(str(key)) + opcodes("cpu")
        storage += opcodes(array.size) + b"tQ"  # Q: the entry data/<key> of the archive
        program += opcodes(name) + function("torch._utils", "_rebuild_tensor_v2")
        program += b"(" + storage + opcodes(0) + opcodes(array.shape) + opcodes(strides)
        program += opcodes(False) + empty_dict + b"tR"
        content[f"archive/data/{key}"] = array.tobytes()
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", program + b"u.")  # u: put all pairs into the dict
        file.writestr("archive/byteorder", "little")
        for name, data in content.items():
            file.writestr(name, data)


temporary = tempfile.TemporaryDirectory(prefix="lesson-9-")  # gone when the kernel ends
folder = Path(temporary.name)
write_torch_file({"weight": tinynet.tensor([[1.0, 2.0], [3.0, 4.0]]), "steps": tinynet.tensor(7)}, folder / "tiny.pth")
with zipfile.ZipFile(folder / "tiny.pth") as file:
    print("entries:       ", ", ".join(file.namelist()))
    program = file.read("archive/data.pkl")
called = {argument for opcode, argument, _ in pickletools.genops(program) if opcode.name == "GLOBAL"}
print("functions named:", ", ".join(sorted(called)))
print("tinynet reads:  ", dict(tinynet.load(folder / "tiny.pth")))

# %% [markdown]
# The file **names functions to call**. Nothing forces it to name harmless ones. Here is a file that is no weights at
# all:

# %%
trap = b"\x80\x02" + function("builtins", "print") + b"(" + opcodes("I ran while you were loading!") + b"tR."
pickle.loads(trap)
with zipfile.ZipFile(folder / "trap.pth", "w") as file:
    file.writestr("archive/data.pkl", trap)
try:
    tinynet.load(folder / "trap.pth")
except CheckpointError as error:
    print("CheckpointError:", str(error).replace(str(folder), "..."))

# %% [markdown]
# It could have named `os.system`. So never unpickle a file from the internet with Python's own `pickle`. tinynet (and
# today's torch) follow the opcodes themselves, and let pass only the few functions that tensors need.
#
# ### The published weights
#
# torchvision publishes a file for ResNet-50. With `download = True` the next cell fetches it, once, with a progress
# bar; the name of the file holds the beginning of its SHA-256, which is checked. If it is in your cache already, or in
# `$TINYNET_DATA/weights`, it is used as it is. **Without it the lesson goes on:** then you write a file of the same
# format, with random numbers in it, and load that. All steps stay the same. Only the net knows nothing, and you will
# see how that looks.

# %% tags=["varies"]
download = False  # True: fetch the file (98 MB) if it is not there
published = "resnet50-0676ba61.pth"

places = [user_cache("weights"), Path(os.environ.get("TINYNET_DATA", "."), "weights")]
weights, trained = folder / "resnet50-random.pth", False
if download or any((place / published).is_file() for place in places):
    try:
        weights, trained = find_weights("IMAGENET1K_V1", "resnet50"), True
    except (CheckpointError, DataError) as error:
        print(error)
if not trained:
    numbers = np.random.default_rng(0)
    state = models.resnet50().state_dict()
    for name, tensor in state.items():  # running statistics as if it had seen something
        if name.endswith("running_var"):
            tensor.copy_(tinynet.tensor(numbers.uniform(0.5, 1.5, tuple(tensor.shape))))
        elif name.endswith("running_mean"):
            tensor.copy_(tinynet.tensor(numbers.uniform(-0.1, 0.1, tuple(tensor.shape))))
    write_torch_file(state, weights)

state = tinynet.load(weights)
missing, unexpected = copy_weights(net, state)
reference.load_state_dict(state)
print(f"{weights.name}: {len(state)} tensors, {weights.stat().st_size / 1e6:.0f} MB")
print(f"missing: {missing}, unexpected: {unexpected}")

# %% [markdown] tags=["predict"]
# **Predict.** Your net, with these weights, looks at two photos that come with scikit-learn: a Chinese temple, and a
# flower. Does it take them for the same thing? (The line above tells you which weights it has.)

# %% tags=["predict"]
same_answer = ...  # True or False

# %% tags=["varies"]
net.eval()
photos = []
for name in ("china.jpg", "flower.jpg"):
    photo = imagenet.resize_short_side(Image.fromarray(load_sample_image(name)), 256)
    photos.append(imagenet.centre_crop(photo, 224))
images = tinynet.cat([imagenet.normalised(photo) for photo in photos])  # (2, 3, 224, 224), mean and deviation removed
with tinynet.no_grad():
    logits = net(images)
    probabilities = nn.Softmax(1)(logits).numpy()
best = np.argsort(-probabilities, axis=1)[:, :5]
lesson.reveal("the same answer for both", same_answer, bool(best[0, 0] == best[1, 0]))
title = "ResNet-50, weights of torchvision" if trained else "ResNet-50 with RANDOM weights: sure, and wrong"
for photo, places, chances in zip(photos, best, probabilities):
    names = [imagenet_classes()[place] for place in places]
    photo = photo.resize((112, 112))
    alt = f"A photo beside the five classes that the net finds most probable: {', '.join(names)}. {title}."
    lesson.show(plot.classification(photo, names, chances[places], title), alt)
alike = np.corrcoef(logits.numpy())[0, 1]
lesson.say(f"Correlation of the two photos' logits over the thousand classes: **{alike:.4f}**.")

# %% [markdown]
# With trained weights the two photos have little in common. With random weights the net is **just as sure, and gives
# nearly the same numbers for everything**: in an untrained deep net the photo's own part in the result drowns in what
# all photos share. A probability close to 1 only says that one logit is much larger than the others. It is no proof of
# knowledge.
#
# ## 5. Trust, layer by layer
#
# Your net and tinynet's own have the same weights now. Do they compute the same? `compare` runs both, listens to every
# layer, and tells where they **first** differ.

# %%
small = images[:1, :, 80:144, 80:144]  # 64×64 pixels are enough for that
report = compare(net, reference.eval(), small)
print("\n".join(report.conclusion))

# %% [markdown]
# That is how tinynet itself is tested, against torch: with `tinynet parity resnet50` on the command line, or with the
# same in Python. (It needs torch, which you may not have.)

# %% tags=["varies", "slow"]
try:
    print("\n".join(parity(Case("resnet50", gradients=False)).conclusion))
except TinynetError as error:
    print(error)

# %% [markdown]
# Now a trap that is hard to see. There are two versions of this net. In the paper the stride of a
# bottleneck sits in its first 1×1; torchvision has it in the 3×3, as you do. **Same names, same shapes: the weights of
# one load into the other without a word.**

# %% [markdown] tags=["predict"]
# **Predict.** We load your weights into the paper's version. In which layer do the two first differ? (Names as in
# `layer1.0.conv1`: stage, block, layer.)

# %% tags=["predict"]
first_different = ...  # "layer?.?.?"

# %%
paper = models.resnet50(stride_in_1x1=True).eval()
print("missing and unexpected:", copy_weights(paper, state))
report = compare(paper, net, small)
lesson.reveal("first difference", first_different, report.first_divergence.name)
print("\n".join(report.conclusion))
with tinynet.no_grad():
    wrong = paper(images)
print(f"logits of the two photos: relative error {relative_error(wrong, logits):.2f}")

# %% [markdown]
# In layer1 the stride is 1 in both versions; `layer2.0.conv1` is the first layer that halves the maps in one of them
# and not in the other. Nothing crashes. All results are a little different from what they should be, and no error
# message ever says so. A comparison layer by layer finds it in a second.
#
# Now you are the detective. The next cell makes a copy of your net and changes **one setting of one layer**, which
# chance picks. All weights are equal, and all shapes.

# %%
suspect = models.resnet50().eval()
suspect.load_state_dict(net.state_dict())
secret = np.random.default_rng(2015)
candidates = [name for name, module in suspect.named_modules() if name.endswith(("bn1", "bn2", "bn3", "conv2"))]
chosen = suspect.get_submodule(candidates[secret.integers(len(candidates))])
if isinstance(chosen, nn.BatchNorm2d):
    chosen.eps = 0.1
else:
    chosen.dilation = chosen.padding = (2, 2)

# %% [markdown] tags=["exercise"]
# ### Exercise 4 · Find the fault · 2/5 · 10 minutes
#
# Which layer of `suspect` was changed, and which of its settings? Open a cell of your own and use
# `print(compare(suspect, net, small))`: a tick marks what agrees, a cross what differs. Then look at that layer in both
# nets, for `layer1.0.conv1` with `print(suspect.get_submodule("layer1.0.conv1"))`. Return two texts: the layer's name,
# and one of "eps", "momentum", "stride", "dilation" or "bias".

# %% tags=["stub"]
def diagnosis():
    """The name of the layer that was changed, and its setting: such as "layer1.0.conv1", "stride"."""
    return ...


# %% tags=["check"]
def check(diagnosis):
    given = diagnosis()
    pair = isinstance(given, tuple) and len(given) == 2
    assert pair, f"two texts are expected, a layer and a setting, not {given!r}"
    faulty_layer, setting = given
    rows = compare(suspect, net, small).rows
    names = [row.name for row in rows]
    assert faulty_layer in names, f"there is no layer {faulty_layer!r}: copy a name from the report"
    first = next(row for row in rows if not row.agrees)
    place, wanted = names.index(faulty_layer), names.index(first.name)
    assert place >= wanted, f"{faulty_layer} still agrees: look for the first line with a cross"
    assert place <= wanted, f"{faulty_layer} differs because its input does: look for the first line with a cross"
    both = f"it is {suspect.get_submodule(faulty_layer)}, yours is {net.get_submodule(faulty_layer)}"
    changed = "eps" if isinstance(chosen, nn.BatchNorm2d) else "dilation"
    assert setting == changed, f"the layer is right, but it is not {setting} that has changed: {both}"


diagnosis = lesson.check(check, diagnosis)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The first cross is the culprit: its input and its weights agree, its output does not. Then print that layer of
# `suspect` and of `net`, and compare the settings word by word.
#
# </details>

# %% [markdown] tags=["solution"]
# <details><summary>Solution</summary>
#
# ```python
# def diagnosis():
#     """The name of the layer that was changed, and its setting: such as "layer1.0.conv1", "stride"."""
#     layer = compare(suspect, net, small).first_divergence.name
#     return layer, "eps" if ".bn" in layer else "dilation"
# ```
#
# `first_divergence` is the row that you were looking for; what kind of layer it is tells the setting.
#
# </details>

# %% [markdown]
# ## 6. Where the time goes
#
# Two of three convolutions in ResNet-50 see one pixel only. Do they get two thirds of the time? The profiler of lesson
# 8 books the time of every layer; we add up by kind.

# %% [markdown] tags=["predict"]
# **Predict.** One photo, forward only. How many percent of the time go into the convolutions? (The rest is batch norm,
# ReLU, the sums, pooling.)

# %% tags=["predict"]
percent_of_convolutions = ...  # your guess

# %% tags=["varies"]
def kind_of(module):
    """What a layer is called in the picture."""
    if isinstance(module, nn.Conv2d):
        return f"convolution {module.kernel_size[0]}×{module.kernel_size[0]}"
    known = {nn.BatchNorm2d: "batch norm", nn.ReLU: "ReLU", nn.Linear: "linear"}
    known |= {Bottleneck: "sums with the shortcut"}
    return known.get(type(module), "rest")


with tinynet.no_grad():
    net(images[:1])
    with tinynet.profile() as profiled:
        net(images[:1])
shares = {}
for layer in profiled.layers:
    share = shares.setdefault(kind_of(layer.module), {"time": 0.0, "MACs": 0.0})
    share["time"] += 100 * layer.own_forward / profiled.seconds
    share["MACs"] += 100 * layer.own_macs / table.macs
spent = sum(share["time"] for kind, share in shares.items() if kind.startswith("convolution"))
lesson.reveal("percent in convolutions", percent_of_convolutions, spent)
lesson.show(
    plot.bars(dict(sorted(shares.items(), key=lambda item: -item[1]["time"])), unit="percent",
              title="ResNet-50, one photo: time beside work"),
    "Bars of time and of MACs by kind of layer: the 1×1 and 3×3 convolutions take most of both; norms, ReLU and sums "
    "have no MACs and take time all the same.",
)

# %% [markdown]
# The 1×1s are two thirds of the convolutions and take about half of the work, since a 3×3 has nine times as many
# weights for each pair of channels. Look at the bars without work, too. Norms, ReLU and sums do next to nothing for
# each number, but fetch every map from memory and put it back. In a trained net that can be saved: the norm has become
# a fixed factor and offset, which can be multiplied into the weights of the convolution before it, and ReLU and the sum
# can be done while its result is still at hand (lesson 4). `tinynet.fuse` does so:

# %% tags=["varies"]
def fastest(model, image, runs=5):
    """Milliseconds of the fastest of a few passes."""
    times = []
    with tinynet.no_grad():
        for _ in range(runs + 1):
            started = time.perf_counter()
            model(image)
            times.append(1e3 * (time.perf_counter() - started))
    return min(times[1:])


fused = tinynet.fuse(net, images[:1])
with tinynet.no_grad():
    error = relative_error(fused(images[:1]), logits[:1])
lesson.say(
    f"As it is: **{fastest(net, images[:1]):.0f} ms**. Fused: **{fastest(fused, images[:1]):.0f} ms**, "
    f"with a relative difference of {error:.0e}."
)

# %% [markdown] tags=["make"]
# ## Make: the rest of the family
#
# Table 1 has a row of 3, 8, 36 and 3 bottlenecks. Which depth is that, and how many parameters does it have? (First
# with pencil and `from_the_table`, without building it.) Then a harder one: ResNet-34 has basic blocks (lesson 7), 3,
# 4, 6 and 3 of them, and stages that give `width` channels, not four times as many. What has to change in `make_stage`
# and `ResNet`? Compare with `models.resnet34()`.

# %%
shapes = from_the_table([3, 4, 6, 3])
print(f"by the table alone: {sum(int(np.prod(shape)) for shape in shapes.values()):,} parameters")

# %%
lesson.progress()

# %% [markdown] tags=["recap"]
# ## Recap
#
# Say the answers aloud before you unfold them.
#
# 1. What are the five stages, and in what do ResNet-50 and ResNet-101 differ?
# 2. Why does layer4 have most of the parameters, and yet not most of the MACs?
# 3. What is in a checkpoint besides the parameters, and what happens if you forget it?
# 4. Why can loading a file be dangerous, and what does tinynet do about it?
# 5. Two nets have the same names, shapes and weights, and different outputs. How do you find the reason?
#
# <details><summary>Answers</summary>
#
# 1. The stem (conv1 and pooling) and four stages of bottlenecks, conv2_x to conv5_x; only in the number of blocks of
#    conv4_x, 6 or 23.
# 2. Its channels are the most, and parameters grow with their square; but its maps are the smallest.
# 3. The buffers: running means and variances. Without them the net normalises with the wrong statistics.
# 4. A pickle names functions to call. tinynet follows its opcodes and allows only those that tensors need.
# 5. Compare layer by layer; the first one that differs has the wrong setting, or its caller does.
#
# </details>

# %% [markdown] tags=["paper"]
# ## The paper's sentence
#
# > "We construct 101-layer and 152-layer ResNets by using more 3-layer blocks (Table 1). Remarkably, although the depth
# > is significantly increased, the 152-layer ResNet (11.3 billion FLOPs) still has lower complexity than VGG-16/19 nets
# > (15.3/19.6 billion FLOPs)."
#
# Kaiming He, Xiangyu Zhang, Shaoqing Ren and Jian Sun, *Deep Residual Learning for Image Recognition*, 2015,
# Section 4.1. You have constructed one of them by using more 3-layer blocks. (What the paper calls FLOPs are our MACs.
# Its numbers are a little lower than ours: it has the stride in the 1×1.)

# %% [markdown] tags=["read"]
# ## Read on, in tinynet
#
# - `tinynet/models/resnet.py`, `ResNet`: your class, for all members of the family
# - `tinynet/checkpoint/torch_files/unpickler.py`, `Unpickler`: opcodes followed without running anything
# - `tinynet/inspect/compare.py`, `match`: two records side by side, and the reason of the first difference
# - `tinynet/fusion/fold.py`, `folded`: the norm inside of the convolution
#
# Lesson 10 asks what is wrong with all of this as soon as the objects in a picture have different sizes.
