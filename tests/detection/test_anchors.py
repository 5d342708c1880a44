"""Anchors and points: the figures of torchvision's RetinaNet and FCOS, and grids by their definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tinynet
from tinynet.detection import AnchorGenerator, ImageList, anchor_points

RETINANET = ((32, 40, 50), (64, 80, 101), (128, 161, 203), (256, 322, 406), (512, 645, 812))
RATIOS = (0.5, 1.0, 2.0)


def images(height, width, count=1):
    return ImageList(tinynet.zeros(count, 3, height, width), [(height, width)] * count)


def maps(grids, count=1, dtype=tinynet.float32):
    return [tinynet.zeros(count, 2, *grid, dtype=dtype) for grid in grids]


def test_retinanet_at_800_by_1088():
    """P6's stride is (61, 64) and P7's (114, 120): the padded size divided by the map, not a power of 2."""
    grids = [(100, 136), (50, 68), (25, 34), (13, 17), (7, 9)]
    generator = AnchorGenerator(RETINANET, (RATIOS,) * 5)
    (anchors,) = generator(images(800, 1088), maps(grids))
    assert anchors.shape == (163_206, 4) and anchors.dtype == tinynet.float32
    assert generator.num_anchors_per_location() == [9] * 5
    last = anchors[-7 * 9 * 9 :].numpy().reshape(7, 9, 9, 4)
    centres = (last[..., :2] + last[..., 2:]) / 2
    assert (centres[3, 5] == [5 * 120, 3 * 114]).all()
    assert list(generator.state_dict()) == []


def test_cell_anchors_by_definition():
    """Half sides are rounded half to even: 5/2 to 2, 7/2 to 4."""
    generator = AnchorGenerator(((5, 7, 32), (50,)), ((1.0,), (0.5, 2.0)))
    first, second = (anchors.tolist() for anchors in generator.cell_anchors)
    assert first == [[-2, -2, 2, 2], [-4, -4, 4, 4], [-16, -16, 16, 16]]
    assert second == [[-35, -18, 35, 18], [-18, -35, 18, 35]]


@pytest.mark.parametrize("dtype", [tinynet.float32, tinynet.float64])
def test_grid_by_definition(dtype):
    rng = np.random.default_rng(0)
    for _ in range(20):
        height, width = (int(n) for n in rng.integers(32, 100, 2))
        grids = [(-(-height // stride), -(-width // stride)) for stride in (8, 16)]
        generator = AnchorGenerator(((8, 11), (16, 30)), RATIOS)
        found = generator(images(height, width, 3), maps(grids, 3, dtype))
        assert len(found) == 3 and all(anchors.dtype == dtype for anchors in found)
        expected = []
        for (rows, columns), cell in zip(grids, generator.cell_anchors):
            for row, column, anchor in itertools.product(range(rows), range(columns), cell.tolist()):
                x, y = column * (width // columns), row * (height // rows)
                expected.append([x + anchor[0], y + anchor[1], x + anchor[2], y + anchor[3]])
        for anchors in found:
            assert anchors.tolist() == expected


def test_flat_sizes_are_one_per_level():
    generator = AnchorGenerator((8, 16, 32), (1.0,))
    assert generator.num_anchors_per_location() == [1, 1, 1]
    assert generator.sizes == ((8,), (16,), (32,))


def test_points():
    first, second = anchor_points([(2, 3), (1, 2)], [8, 16])
    assert first.tolist() == [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8]]
    assert second.tolist() == [[0, 0], [16, 0]]
    assert anchor_points([(1, 2)], [8], offset=0.5)[0].tolist() == [[4, 4], [12, 4]]
    generator = AnchorGenerator((8, 16), (1.0,))
    (anchors,) = generator(images(16, 32), maps([(2, 4), (1, 2)]))
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert centres.tolist() == tinynet.cat(anchor_points([(2, 4), (1, 2)], [8, 16])).tolist()


def test_refused():
    with pytest.raises(ValueError, match="sizes are for 2 levels, aspect_ratios for 3"):
        AnchorGenerator(((8,), (16,)), (RATIOS,) * 3)
    with pytest.raises(ValueError, match=r"sizes of level 1 must be positive, got \(-4,\)"):
        AnchorGenerator((8, -4), RATIOS)
    with pytest.raises(ValueError, match=r"aspect_ratios of level 0 must be positive, got \(\)"):
        AnchorGenerator(((8,),), ((),))
    with pytest.raises(ValueError, match=r"made for 2 levels \(one entry of sizes each\), got 1 feature maps"):
        AnchorGenerator((8, 16), RATIOS)(images(16, 16), maps([(2, 2)]))
    with pytest.raises(ValueError, match="2 levels but 1 strides"):
        anchor_points([(2, 2), (1, 1)], [8])


def test_image_list():
    batch = ImageList(tinynet.zeros(2, 3, 8, 8), [(7, 8), (8, 5)])
    double = batch.to(tinynet.float64)
    assert double.tensors.dtype == tinynet.float64 and double.image_sizes == batch.image_sizes
