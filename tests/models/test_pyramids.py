"""The four designs of the FPN paper's Figure 1, its ablations, and the Gaussian image pyramid."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tinynet import models, nn
from tinynet.errors import DtypeError, ShapeError
from tinynet.models import (
    FPN,
    BasicBlock,
    FeatureMaps,
    FeaturizedImagePyramid,
    PyramidalFeatureHierarchy,
    ResNet,
    SingleFeatureMap,
    image_pyramid,
)


def body(levels: list[str] | None = None) -> FeatureMaps:
    return FeatureMaps(ResNet(BasicBlock, [1, 1, 1, 1], norm_layer=nn.GroupNorm), levels)


DESIGNS = {
    "image pyramid": (lambda: FeaturizedImagePyramid(body()), {"C5 of x2": 16, "C5 of x1": 32, "C5 of x1/2": 64}),
    "C4": (lambda: SingleFeatureMap(body(["C4"])), {"C4": 16}),
    "C5": (lambda: SingleFeatureMap(body()), {"C5": 32}),
    "hierarchy": (lambda: PyramidalFeatureHierarchy(body()), {"C2": 4, "C3": 8, "C4": 16, "C5": 32}),
    "FPN": (lambda: FPN(body(), 8), {"P2": 4, "P3": 8, "P4": 16, "P5": 32}),
    "no lateral": (lambda: FPN(body(), 8, lateral=False), {"P2": 4, "P3": 8, "P4": 16, "P5": 32}),
    "no top-down": (lambda: FPN(body(), 8, top_down=False), {"P2": 4, "P3": 8, "P4": 16, "P5": 32}),
    "finest only": (lambda: FPN(body(), 8, finest_only=True), {"P2": 4}),
    "P4 and P5, norm": (lambda: FPN(body(["C4", "C5"]), 8, norm_layer=nn.BatchNorm2d), {"P4": 16, "P5": 32}),
}  # fmt: skip


@pytest.mark.parametrize("size", [(64, 64), (75, 91)])
@pytest.mark.parametrize("name", DESIGNS)
def test_levels_strides_and_gradients(name: str, size: tuple[int, int]) -> None:
    """A map of stride s has ceil(size / s) cells; every level sends a gradient to the first layer and the image."""
    build, strides = DESIGNS[name]
    design = build()
    image = tinynet.randn(2, 3, *size, requires_grad=True)
    levels = design(image)
    assert {level.name: level.stride for level in levels} == strides
    assert sorted(strides.values()) == [level.stride for level in levels], "finest first"
    for level in levels:
        assert level.features.shape[-2:] == tuple(math.ceil(side / level.stride) for side in size)
        assert level.features.shape[0] == 2
        if isinstance(design, FPN):
            assert level.features.shape[1] == 8
    for name, stride, features in levels:
        image.grad = None
        design.zero_grad()
        (features * tinynet.randn(*features.shape)).sum().backward(retain_graph=True)
        for grad in (image.grad, design.body["conv1"].weight.grad):
            assert np.isfinite(grad.numpy()).all() and grad.numpy().any(), (name, stride)


@pytest.mark.parametrize("name", DESIGNS)
def test_every_parameter_is_used(name: str) -> None:
    """What an ablation takes away is not there either: no parameter is left without a gradient."""
    design = DESIGNS[name][0]()
    levels = design(tinynet.randn(2, 3, 64, 64))
    sum((level.features * tinynet.randn(*level.features.shape)).sum() for level in levels).backward()
    unused = [key for key, parameter in design.named_parameters() if parameter.grad is None]
    assert unused == []


def test_fpn_is_the_feature_pyramid_network() -> None:
    maps = body()
    design = FPN(maps, 8)
    image = tinynet.randn(1, 3, 75, 91)
    expected = models.FeaturePyramidNetwork([64, 128, 256, 512], 8)
    expected.load_state_dict(design.fpn.state_dict())
    for level, features in zip(design(image), expected(maps(image)).values()):
        assert np.array_equal(level.features.detach().numpy(), features.detach().numpy())


def changed_levels(design: FPN, stage: str) -> list[str]:
    """The levels that change when the backbone's map `stage` does."""
    image = tinynet.zeros(1, 3, 64, 64)
    before = [level.features.detach().numpy() for level in design(image)]
    # the last layer of a stage would change the deeper ones too: only its map, after the fact
    design.body.register_forward_hook(lambda module, args, maps: {**maps, stage: maps[stage] + 1})
    after = design(image)
    return [level.name for level, old in zip(after, before) if not np.array_equal(level.features.detach().numpy(), old)]


@pytest.mark.parametrize(
    ("options", "stage", "levels"),
    [
        ({}, "C2", ["P2"]),
        ({}, "C4", ["P2", "P3", "P4"]),
        ({}, "C5", ["P2", "P3", "P4", "P5"]),
        ({"lateral": False}, "C2", []),
        ({"lateral": False}, "C5", ["P2", "P3", "P4", "P5"]),
        ({"top_down": False}, "C4", ["P4"]),
        ({"top_down": False}, "C5", ["P5"]),
        ({"finest_only": True}, "C2", ["P2"]),
        ({"finest_only": True}, "C5", ["P2"]),
    ],
)
def test_who_hears_of_what(options: dict, stage: str, levels: list[str]) -> None:
    assert changed_levels(FPN(body(), 8, **options), stage) == levels


def test_finest_only_is_the_full_pyramids_finest_level() -> None:
    maps = body()
    full, finest = FPN(maps, 8), FPN(maps, 8, finest_only=True)
    finest.load_state_dict(full.state_dict(), strict=False)
    image = tinynet.randn(1, 3, 64, 64)
    assert np.array_equal(full(image)[0].features.detach().numpy(), finest(image)[0].features.detach().numpy())


def test_the_net_sees_every_copy_of_the_image() -> None:
    maps = body()
    image = tinynet.randn(1, 3, 64, 64)
    levels = FeaturizedImagePyramid(maps, down=0, up=1)(image)
    for level, copy in zip(levels, image_pyramid(image, down=0, up=1)):
        assert np.array_equal(level.features.detach().numpy(), maps(copy.features)["C5"].detach().numpy())


def test_one_copy_of_the_image_pyramid_alone() -> None:
    design = FeaturizedImagePyramid(body(), down=1, up=1)
    image = tinynet.randn(1, 3, 64, 64)
    for number, level in enumerate(design(image)):
        (alone,) = design(image, number)
        assert (alone.name, alone.stride) == (level.name, level.stride)
        assert np.array_equal(alone.features.detach().numpy(), level.features.detach().numpy())


def test_a_scaled_top_down_pathway() -> None:
    """P4 sees half of what P5 brings, P3 half of that again."""
    maps = body(["C4", "C5"])
    image = tinynet.randn(1, 3, 64, 64)
    design = FPN(maps, 8, top_down_scale=0.5)
    inner, outer = design.fpn.inner_blocks, design.fpn.layer_blocks
    c4, c5 = maps(image).values()
    coarser = nn.functional.interpolate(inner[1](c5), size=c4.shape[-2:], mode="nearest")
    assert_close(design(image)[0].features, outer[0](inner[0](c4) + 0.5 * coarser))


def test_laterals_without_norm() -> None:
    """Their convolutions have a bias then; the 3×3 keep their norms."""
    design = FPN(body(), 8, norm_layer=nn.BatchNorm2d, lateral_norm=False)
    assert [[type(layer).__name__ for layer in block] for block in design.fpn.inner_blocks] == [["Conv2d"]] * 4
    assert all(block[0].bias is not None for block in design.fpn.inner_blocks)
    assert [[type(layer).__name__ for layer in block] for block in design.fpn.layer_blocks] == [
        ["Conv2d", "BatchNorm2d"]
    ] * 4


def test_nothing_left_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is left"):
        FPN(body(), lateral=False, top_down=False)
    for without in ({"lateral": False}, {"top_down": False}):
        with pytest.raises(ValueError, match=r"top_down_scale=0.5 weighs two maps"):
            FPN(body(), top_down_scale=0.5, **without)


# --- the image pyramid ----------------------------------------------------------------------------------------------


def image(rows: np.ndarray) -> tinynet.Tensor:
    return tinynet.from_numpy(np.ascontiguousarray(rows, np.float32))[None, None]


def test_names_sizes_and_strides() -> None:
    levels = image_pyramid(tinynet.rand(2, 3, 75, 90), down=3, up=2)
    assert [(level.name, level.stride) for level in levels] == [
        ("x4", 0.25), ("x2", 0.5), ("x1", 1), ("x1/2", 2), ("x1/4", 4), ("x1/8", 8),
    ]  # fmt: skip
    sizes = [(300, 360), (150, 180), (75, 90), (38, 45), (19, 23), (10, 12)]
    assert [tuple(level.features.shape) for level in levels] == [(2, 3, *size) for size in sizes]


@pytest.mark.parametrize("size", [(16, 16), (15, 17), (2, 2), (3, 5)])
@pytest.mark.parametrize("pattern", ["checkerboard", "rows", "columns"])
def test_the_finest_detail_becomes_gray(pattern: str, size: tuple[int, int]) -> None:
    """At the highest frequency every second pixel alone would be all white or all black; borders included."""
    row, column = np.indices(size)
    stripes = {"checkerboard": row + column, "rows": row, "columns": column}[pattern] % 2
    assert np.ptp(stripes[::2, ::2]) == 0
    smaller = image_pyramid(image(stripes), down=1, up=0)[-1].features
    assert_close(smaller, np.full_like(smaller.numpy(), 0.5), tolerance=1e-6)


def test_flat_images_and_ramps_stay() -> None:
    """The filter's weights sum to 1 and are symmetric: constants pass everywhere, ramps away from the border."""
    flat = image_pyramid(image(np.full((9, 14), 0.7)), down=2, up=1)
    for level in flat:
        assert_close(level.features, np.full_like(level.features.numpy(), 0.7), level.name, tolerance=1e-6)
    ramp = image_pyramid(image(np.add.outer(3 * np.arange(20.0), np.arange(20.0))), down=1, up=0)[-1].features
    expected = np.add.outer(6 * np.arange(10.0), 2 * np.arange(10.0))
    assert_close(ramp[0, 0, 1:-1, 1:-1], expected[1:-1, 1:-1].astype(np.float32), tolerance=1e-6)


def test_response_to_one_pixel() -> None:
    """The binomial filter itself, at every second position."""
    values = np.zeros((13, 13))
    values[6, 6] = 256
    smaller = image_pyramid(image(values), down=1, up=0)[-1].features.numpy()[0, 0]
    assert np.array_equal(smaller[2:5, 2:5], np.outer([1, 6, 1], [1, 6, 1]))
    assert smaller.sum() == 64


def test_brightness_is_kept_by_natural_images() -> None:
    """Samples and channels do not mix, and the mean of a smooth image stays."""
    smooth = tinynet.rand(2, 3, 8, 8)
    smooth = nn.functional.interpolate(smooth, size=(64, 64), mode="bilinear")
    for level in image_pyramid(smooth, down=3, up=1):
        means = level.features.numpy().mean(axis=(2, 3))
        assert np.allclose(means, smooth.numpy().mean(axis=(2, 3)), atol=0.03)


def test_the_image_gets_its_gradient() -> None:
    photo = tinynet.rand(1, 2, 5, 7, dtype=tinynet.float64, requires_grad=True)

    def pyramid(x):
        return tuple(level.features for level in image_pyramid(x, down=2, up=1))

    assert tinynet.autograd.gradcheck(pyramid, (photo,))


def test_images_that_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(N, C, H, W\), got \[3, 8, 8\]"):
        image_pyramid(tinynet.rand(3, 8, 8))
    with pytest.raises(ShapeError, match="7×20 cannot be halved 3 times: it needs 8 pixels"):
        image_pyramid(tinynet.rand(1, 3, 7, 20), down=3)
    with pytest.raises(DtypeError, match="uint8"):
        image_pyramid(tinynet.zeros(1, 3, 8, 8, dtype=tinynet.uint8))
    with pytest.raises(ValueError, match="down=-1, up=1"):
        image_pyramid(tinynet.rand(1, 3, 8, 8), down=-1)


def test_every_copy_of_an_image_pyramid_may_have_norms_of_its_own() -> None:
    """Training on one copy moves that copy's running statistics alone; weights are shared."""
    maps = FeatureMaps(ResNet(BasicBlock, [1, 1, 1, 1]))
    design = FeaturizedImagePyramid(maps, down=1, up=1, own_norms=True)
    shared = sum(p.numel() for p in FeatureMaps(ResNet(BasicBlock, [1, 1, 1, 1])).parameters())
    norms = sum(p.numel() for name, p in maps.named_parameters() if ".norms.1." in name)
    assert sum(p.numel() for p in design.parameters()) == shared + 2 * norms
    before = {key: value.clone() for key, value in design.state_dict().items() if "running" in key}
    design(tinynet.randn(2, 3, 64, 64), only=2)
    changed = {key.split(".norms.")[1][0] for key, value in design.state_dict().items()
               if "running" in key and not np.array_equal(value.numpy(), before[key].numpy())}  # fmt: skip
    assert changed == {"2"}
