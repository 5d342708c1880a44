"""Boxes stay on their objects: a box is painted in a colour of its own, moved, and found again within a pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinynet
from tinynet.data import box_transforms as bt
from tinynet.data.detection import make_target

SIZES = st.tuples(st.integers(1, 70), st.integers(1, 70))
EVERY = [
    bt.RandomHorizontalFlip(0.5),
    bt.RandomVerticalFlip(0.5),
    bt.RandomCrop((20, 30)),
    bt.RandomScale((0.6, 1.6)),
    bt.RandomColour(),
    bt.DropCrowds(),
    bt.Letterbox((48, 64)),
    bt.Compose([bt.RandomScale(), bt.RandomHorizontalFlip(), bt.RandomCrop((40, 40)), bt.Letterbox((32, 32))]),
]


@st.composite
def painted(draw, smallest: int = 1):
    """An image (1, H, W) of zeros with ones in a box of whole pixels, borders included."""
    height, width = draw(SIZES)
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    image = np.zeros((1, height, width), np.float32)
    image[:, y0:y1, x0:x1] = 1
    return image, make_target([(x0, y0, x1, y1)], [4], 9)


def ink(image: np.ndarray) -> np.ndarray | None:
    """The box of what is bright, with edges between pixels placed by how bright they are."""
    plane = image[0]
    rows, columns = plane.max(axis=1), plane.max(axis=0)
    if plane.max() < 0.25:
        return None
    edges = []
    for profile in (columns, rows):
        bright = np.flatnonzero(profile > 0.25 * plane.max())
        edges.append((bright[0], bright[-1] + 1))
    (x0, x1), (y0, y1) = edges
    return np.array([x0, y0, x1, y1], np.float64)


def check(image: np.ndarray, target: dict, tolerance: float) -> None:
    assert target["boxes"].shape == (len(target["labels"]), 4) and target["boxes"].dtype == np.float32
    assert target["area"].shape == target["iscrowd"].shape == target["labels"].shape
    assert target["area"].dtype == np.float32 and target["labels"].dtype == np.int64
    height, width = image.shape[1:]
    for x0, y0, x1, y1 in target["boxes"]:
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    if len(target["boxes"]):
        assert target["labels"].tolist() == [4]
        assert np.abs(ink(image) - target["boxes"][0]).max() <= tolerance


@settings(max_examples=60, deadline=None)
@given(painted(), st.integers(0, 99))
def test_flips(sample, seed: int) -> None:
    tinynet.manual_seed(seed)
    image, target = sample
    for flip in (bt.RandomHorizontalFlip(), bt.RandomVerticalFlip()):
        image, target = flip(image, target)
        assert len(target["boxes"]) == 1
        check(image, target, 0)


@settings(max_examples=80, deadline=None)
@given(painted(), SIZES, st.integers(0, 99))
def test_crop(sample, size, seed: int) -> None:
    tinynet.manual_seed(seed)
    image, target = sample
    cut, moved = bt.RandomCrop(size, smallest=1)(image, target)
    assert cut.shape == (1, min(size[0], image.shape[1]), min(size[1], image.shape[2]))
    check(cut, moved, 0)
    if cut.shape == image.shape:
        assert np.array_equal(moved["boxes"], target["boxes"])


@settings(max_examples=150, deadline=None)
@given(painted(), st.floats(0.4, 2.5), st.integers(0, 99))
def test_scale(sample, factor: float, seed: int) -> None:
    tinynet.manual_seed(seed)
    image, target = sample
    scaled, moved = bt.RandomScale((factor, factor), smallest=1.5)(image, target)
    assert scaled.shape == image.shape
    # Enlarged, an edge between two pixels is spread over `factor` pixels.
    check(scaled, moved, max(1.0, 0.75 * factor + 0.26))


@settings(max_examples=150, deadline=None)
@given(painted(), SIZES, st.booleans())
def test_letterbox(sample, size, enlarge: bool) -> None:
    image, target = sample
    box = bt.Letterbox(size, enlarge=enlarge)
    fitted, moved = box(image, target)
    assert fitted.shape == (1, *size)
    mapping = box.mapping(*image.shape[1:])
    forward = mapping.forward(target["boxes"])
    back = mapping.inverse(forward)
    assert np.allclose(back, target["boxes"], atol=1e-3)
    height, width = image.shape[1:]
    inner = (round(mapping.scale_y * height), round(mapping.scale_x * width))
    grows = enlarge or height > size[0] or width > size[1]
    assert inner == (height, width) if not grows else inner[0] == size[0] or inner[1] == size[1]
    assert not fitted[:, inner[0] :].any() and not fitted[:, :, inner[1] :].any()
    assert np.allclose(moved["boxes"], forward.clip(0, [size[1], size[0]] * 2), atol=1e-3)
    sides = moved["boxes"][0, 2:] - moved["boxes"][0, :2]
    if sides.min() >= 1.5:  # a thinner box is fainter than its surroundings
        check(fitted, moved, max(1.0, 0.75 * max(mapping[:2]) + 0.26))


def test_letterbox_keeps_the_aspect_and_pads_below_and_right() -> None:
    image = np.ones((3, 240, 320), np.float32)
    box = bt.Letterbox((256, 320), fill=(0.7, 0.6, 0.5))
    fitted, _ = box(image, make_target([], [], 0))
    assert fitted.shape == (3, 256, 320) and (fitted[:, :240] == 1).all()
    assert np.array_equal(fitted[:, 250, 3], np.float32([0.7, 0.6, 0.5]))
    assert box.mapping(480, 640)[:2] == (0.5, 0.5)
    assert bt.Letterbox((256, 320), enlarge=False).mapping(100, 100)[:2] == (1, 1)
    outside = box.mapping(480, 640).inverse(np.float32([[-5, 10, 400, 256]]))
    assert np.array_equal(outside, np.float32([[0, 20, 640, 480]]))


@pytest.mark.parametrize("transform", EVERY, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 50), (3, 45, 2), (1, 33, 47)])
def test_images_of_nothing_and_tiny_ones(transform, shape) -> None:
    image = np.full(shape, 0.5, np.float32)
    empty = make_target([], [], 3)
    for _ in range(20):
        result, target = transform(image, empty)
        assert target["boxes"].shape == (0, 4) and target["boxes"].dtype == np.float32
        assert target["labels"].shape == target["area"].shape == target["iscrowd"].shape == (0,)
        assert target["image_id"] == 3 and result.ndim == 3 and result.dtype == np.float32 and result.size


@pytest.mark.parametrize("transform", EVERY, ids=lambda t: type(t).__name__)
def test_seeded_pure_and_of_the_same_dtype(transform) -> None:
    rng = np.random.default_rng(0)
    image = rng.random((3, 50, 60), np.float32)
    target = make_target([(0, 0, 60, 50), (5, 6, 20, 30), (40, 30, 60, 50)], [0, 1, 2], 5, iscrowd=[0, 1, 0])
    kept = {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in target.items()}
    before = image.copy()
    results = []
    for _ in range(2):
        tinynet.manual_seed(11)
        results.append([transform(image, target) for _ in range(4)])
    for (first, one), (second, two) in zip(*results):
        assert np.array_equal(first, second) and first.dtype == np.float32
        assert all(np.array_equal(one[key], two[key]) for key in one)
    assert np.array_equal(image, before)
    assert all(np.array_equal(target[key], kept[key]) for key in kept)


def test_an_own_generator_leaves_the_default_one_alone() -> None:
    state = tinynet.get_rng_state().numpy().copy()
    generator = tinynet.Generator().manual_seed(1)
    image, target = np.zeros((3, 9, 9), np.float32), make_target([(0, 0, 9, 9)], [0], 0)
    for kind in (bt.RandomScale, bt.RandomColour, bt.RandomHorizontalFlip, bt.RandomVerticalFlip):
        kind(generator=generator)(image, target)
    bt.RandomCrop((5, 5), generator=generator)(image, target)
    assert np.array_equal(tinynet.get_rng_state().numpy(), state)


def test_every_place_and_side_is_drawn() -> None:
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    target = make_target([], [], 0)
    corners = {float(bt.RandomCrop((2, 2))(image, target)[0][0, 0, 0]) for _ in range(300)}
    assert corners == {0, 1, 2, 4, 5, 6}
    ones = np.ones((1, 10, 10), np.float32)
    tops = set()
    for _ in range(300):
        small, _ = bt.RandomScale((0.5, 0.5))(ones, target)
        assert small.sum() == 25
        tops.add(tuple(np.argwhere(small[0])[0]))
    assert tops == {(y, x) for y in range(6) for x in range(6)}
    flips = [bt.RandomHorizontalFlip(0.25)(image, target)[0][0, 0, 0] == 3 for _ in range(2000)]
    assert 0.2 < np.mean(flips) < 0.3


def test_scales_are_even_in_their_logarithm() -> None:
    image, target = np.ones((1, 64, 64), np.float32), make_target([(24, 24, 40, 40)], [0], 0)
    sides = []
    for _ in range(600):
        _, moved = bt.RandomScale((0.5, 1.0), smallest=1)(image, target)
        sides.append(np.log2(moved["boxes"][0, 2:] - moved["boxes"][0, :2]).mean() - 4)
    assert np.mean(sides) == pytest.approx(-0.5, abs=0.04) and min(sides) < -0.95 and max(sides) > -0.05


def test_boxes_whose_centre_leaves_are_dropped_and_the_others_clipped() -> None:
    target = make_target([(-8, 0, 10, 10), (-12, 0, 10, 10), (95, 0, 103, 50), (0, 0, 3.9, 50)], [0, 1, 2, 3], 0)
    for shift in ((-110, 0), (110, 0), (0, -60), (0, 110)):
        assert len(bt._moved(target, (1.0, 1.0), shift, (100, 100), 0.0)["boxes"]) == 0
    halves = make_target([(90, 90, 108, 100), (90, 90, 100, 111), (-9, 5, 10, 9), (1, -12, 9, 10)], [0, 1, 2, 3], 0)
    assert bt._moved(halves, (1.0, 1.0), (0, 0), (100, 100), 0.0)["labels"].tolist() == [0, 2]
    moved = bt._moved(target, (1.0, 1.0), (0, 0), (100, 100), 4.0)
    assert moved["labels"].tolist() == [0, 2] and moved["boxes"].tolist() == [[0, 0, 10, 10], [95, 0, 100, 50]]
    assert moved["area"].tolist() == [100, 250]


def test_the_area_of_an_outline_shrinks_with_its_box() -> None:
    target = make_target([(0, 0, 20, 20)], [0], 0, area=[100])
    moved = bt._moved(target, (0.5, 2.0), (-5, 0), (100, 100), 1.0)
    assert moved["boxes"].tolist() == [[0, 0, 5, 40]] and moved["area"].tolist() == [50]


def test_colour_changes_are_what_they_say() -> None:
    rng = np.random.default_rng(1)
    image = 0.3 + 0.3 * rng.random((3, 20, 20), np.float32)
    target = make_target([(1, 2, 9, 9)], [0], 0)
    fixed = bt.RandomColour((1.25, 1.25), (0.9, 0.9), (1.02, 1.02))
    result, same = fixed(image, target)
    expected = ((image - image.mean()) * 1.25 + image.mean()) * 0.9 * 1.02
    assert np.allclose(result, expected, atol=1e-6) and np.array_equal(same["boxes"], target["boxes"])
    bright, _ = bt.RandomColour((1, 1), (3, 3), (1, 1))(image, target)
    assert bright.max() == 1
    gains = []
    for _ in range(200):
        result, _ = bt.RandomColour((1, 1), (1, 1), (0.96, 1.04))(image, target)
        gain = result / image
        assert np.allclose(gain, gain[:, :1, :1], rtol=1e-4)
        gains.append(gain[:, 0, 0])
    gains = np.array(gains)
    assert gains.min() >= 0.9599 and gains.max() <= 1.0401 and abs(np.corrcoef(gains.T)[0, 1]) < 0.3


def test_crowds_are_dropped() -> None:
    target = make_target([(0, 0, 9, 9), (1, 1, 5, 5)], [0, 1], 0, iscrowd=[1, 0])
    _, left = bt.DropCrowds()(np.zeros((1, 9, 9), np.float32), target)
    assert left["labels"].tolist() == [1] and left["boxes"].shape == (1, 4)


@pytest.mark.parametrize("image", [np.zeros((9, 9)), np.zeros((1, 9, 9), np.uint8), np.zeros((1, 0, 9))])
def test_other_images_are_refused(image) -> None:
    with pytest.raises(ValueError, match=r"\(C, H, W\)"):
        bt.RandomScale()(image, make_target([], [], 0))


def test_settings_are_checked() -> None:
    for wrong in (lambda: bt.RandomScale((0, 1)), lambda: bt.RandomColour(contrast=(2, 1)),
                  lambda: bt.RandomCrop((0, 4)), lambda: bt.Letterbox((4, -1))):  # fmt: skip
        with pytest.raises(ValueError, match="positive"):
            wrong()
