"""Every model of the registry, pyramids and detector-like heads: fused equals eager."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import tinynet
from tests.fusion.nets import ERROR, assert_same, image, net, randomised, titles
from tinynet import models, nn
from tinynet.fusion.steps import Convolution
from tinynet.nn import functional as F

NORMAL = np.random.default_rng(0).standard_normal(1 << 16).astype(np.float32)


@pytest.fixture(autouse=True)
def quick_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights from a small store: millions of new ones would take longer than all the rest."""

    def fill(tensor: tinynet.Tensor, *args: object, **kwargs: object) -> tinynet.Tensor:
        fan = max(1, tensor[0].numel())
        with tinynet.no_grad():
            tensor.copy_(tinynet.from_numpy(np.resize(NORMAL, tensor.numel()) * np.float32((2 / fan) ** 0.5)).reshape(
                *tensor.shape))  # fmt: skip
        return tensor

    for name in ("kaiming_normal_", "kaiming_uniform_"):
        monkeypatch.setattr(tinynet.nn.init, name, fill)


@pytest.mark.parametrize("name", models.list_models())
def test_every_model(name: str) -> None:
    model = randomised(models.get_model(name)).eval()
    fused = tinynet.fuse(model)
    side = 33 if "cifar" in name else 64
    assert_same(model, fused, image(1, 3, side, side))
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    plan = fused.plan()
    assert plan.count(Convolution) == convolutions
    others = [title for title in titles(fused) if not title.startswith("convolution")]
    assert {title.split()[0] for title in others} <= {"max", "average", "reshape", "linear", "getitem", "pad"}
    ends = 0 if name.startswith("plain") else sum(type(m).__name__ in ("BasicBlock", "Bottleneck")
                                                  for m in model.modules())  # fmt: skip
    assert sum(step.joins for step in plan.steps) == ends


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "cifar_resnet20", "plain_resnet18"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 3, 75, 91), (1, 3, 47, 33), (0, 3, 64, 64)])
def test_odd_sizes_batches_and_float64(name: str, dtype: str, shape: tuple[int, ...]) -> None:
    model = randomised(models.get_model(name, num_classes=7)).to(getattr(tinynet, dtype)).eval()
    assert_same(model, tinynet.fuse(model), image(*shape, dtype=dtype))


@pytest.mark.parametrize("dtype", ERROR)
def test_feature_pyramid(dtype: str) -> None:
    model = randomised(models.resnet_fpn_backbone("resnet18")).to(getattr(tinynet, dtype)).eval()
    fused = tinynet.fuse(model)
    output = assert_same(model, fused, image(2, 3, 75, 91, dtype=dtype))
    assert type(output) is OrderedDict and list(output) == ["0", "1", "2", "3", "pool"]
    assert sum(step.joins for step in fused.plan().steps) == 8 + 3  # blocks, and laterals with what comes from above
    assert [title for title in titles(fused) if title.startswith("upsample")] == [
        "upsample to 5x6", "upsample to 10x12", "upsample to 19x23"
    ]  # fmt: skip


def test_the_other_pyramids_and_feature_maps() -> None:
    for model in (
        models.get_model("resnet18", features_only=True),
        models.resnet_fpn_backbone("resnet18", extra_blocks=models.LastLevelP6P7(256, 256), returned_layers=[2, 3, 4]),
    ):
        assert_same(randomised(model).eval(), tinynet.fuse(model), image(1, 3, 65, 70))


def test_heads_shared_by_all_levels_of_a_pyramid() -> None:
    """RetinaNet's way: one tower over every level, permuted, flattened and joined."""

    def forward(m, x):
        scores, boxes = [], []
        for features in m.backbone(x).values():
            for kind, found in (("classes", scores), ("boxes", boxes)):
                y = getattr(m, kind)(m.tower(features))
                n, _, h, w = y.shape
                y = y.view(n, 2, -1, h, w).permute(0, 3, 4, 1, 2)
                found.append(y.reshape(n, h * w * 2, -1))
        return {"scores": tinynet.cat(scores, 1).sigmoid(), "boxes": [tinynet.cat(boxes, dim=1)], "levels": 5}

    tower = nn.Sequential(nn.Conv2d(256, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(inplace=True))
    model = net(
        forward, backbone=models.resnet_fpn_backbone("resnet18"), tower=tower,
        classes=nn.Conv2d(16, 2 * 3, 3, padding=1), boxes=nn.Conv2d(16, 2 * 4, 1),
    )  # fmt: skip
    fused = tinynet.fuse(model)
    output = assert_same(model, fused, image(2, 3, 65, 71))
    assert output["levels"] == 5
    assert fused.plan().count(Convolution) == 20 + 8 + 5 * 4
    assert len(fused._packed) <= 20 + 8 + 3  # equal weights are packed once, not once per level


def test_torchvision_style_source_with_functions() -> None:
    """The same net written with functions, +=, flatten and in-place methods."""

    def forward(m, x):
        x = F.max_pool2d(F.relu(m.norm1(m.conv1(x)), inplace=True), 3, 2, 1)
        y = m.norm2(m.conv2(x)).relu_()
        y = m.norm3(m.conv3(y))
        y += x
        y = tinynet.relu(y)
        z = F.avg_pool2d(y, 2, ceil_mode=True)
        y = tinynet.cat([F.interpolate(z, size=y.shape[-2:], mode="bilinear", align_corners=False), y], dim=1)
        return m.fc(tinynet.flatten(F.adaptive_avg_pool2d(y, (2, 1)), 1))

    norms = {f"norm{i}": nn.BatchNorm2d(8) for i in (1, 2, 3)}
    model = net(
        forward, conv1=nn.Conv2d(3, 8, 7, 2, 3, bias=False), conv2=nn.Conv2d(8, 8, 3, padding=2, dilation=2),
        conv3=nn.Conv2d(8, 8, 3, 1, 1), fc=nn.Linear(32, 5), **norms,
    )  # fmt: skip
    fused = tinynet.fuse(model)
    assert_same(model, fused, image(3, 3, 31, 29))
    assert titles(fused) == [
        "convolution 7x7/2 + norm + relu", "max pool to 8x8", "convolution 3x3 dilation 2 + norm + relu",
        "convolution 3x3 + norm + join + relu", "average pool to 4x4", "upsample to 8x8", "cat", "average pool to 2x1",
        "reshape", "linear",
    ]  # fmt: skip
