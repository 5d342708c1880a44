"""roi_align over tensors: against a definition in torch with its gradient, gradcheck, and what is refused.

The thousand cases, all backends and the thread counts are in tests/kernels/test_boxes.py.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tests.kernels.box_cases import random_rois
from tests.ops.against_torch import compare
from tests.reference.cases import normal
from tinynet.autograd import gradcheck
from tinynet.detection import RoIAlign, roi_align


def sampled(torch, x, rois, bins, scale, ratio, aligned):
    """The mean of grid_sample over a bin's points; only for regions well inside of the map."""
    offset = 0.5 if aligned else 0.0
    height, width = x.shape[2:]
    regions = []
    for roi in rois:
        x1, y1, x2, y2 = roi[1:] * scale - offset
        columns = x1 + (torch.arange(bins * ratio, dtype=x.dtype) + 0.5) * (x2 - x1) / (bins * ratio)
        rows = y1 + (torch.arange(bins * ratio, dtype=x.dtype) + 0.5) * (y2 - y1) / (bins * ratio)
        from_minus_one_to_one = columns * 2 / (width - 1) - 1, rows * 2 / (height - 1) - 1
        grid = torch.stack(torch.meshgrid(*from_minus_one_to_one, indexing="xy"), -1)
        image = x[int(roi[0])][None]
        points = torch.nn.functional.grid_sample(image, grid[None], align_corners=True)
        regions.append(torch.nn.functional.avg_pool2d(points, ratio)[0])
    return torch.stack(regions)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [1, 2, 3])
@pytest.mark.parametrize("layout", ["contiguous", "strided", "transposed"])
def test_against_torch_sampling(dtype, aligned, ratio, layout):
    rois = np.array([[0, 4, 4, 20, 14], [1, 6, 3, 17, 12], [1, 2, 2, 26, 18]], dtype)

    def function(lib, F, x):
        if layout == "transposed":
            x = x.permute(0, 1, 3, 2)
        if lib is tinynet:
            return roi_align(x, tinynet.from_numpy(rois), 3, 0.5, ratio, aligned)
        return sampled(lib, x, lib.from_numpy(rois), 3, 0.5, ratio, aligned)

    size = (14, 10) if layout == "transposed" else (10, 14)
    inputs = normal(2, 4, *size)
    compare(function, inputs.lying("strided") if layout == "strided" else inputs, dtype=dtype)


def test_differentiable():
    rng = np.random.default_rng(0)
    x = tinynet.from_numpy(rng.standard_normal((2, 2, 5, 6))).requires_grad_()
    rois = tinynet.from_numpy(random_rois(rng, (2, 2, 5, 6), 4, 0.5))
    for aligned in (False, True):
        for ratio in (-1, 2):
            assert gradcheck(lambda a, g=aligned, r=ratio: roi_align(a, rois, (2, 3), 0.5, r, g), (x,))


def test_regions_per_image():
    x = tinynet.randn(3, 4, 9, 9, requires_grad=True)
    boxes = [tinynet.tensor([[0.0, 0, 8, 8], [2, 2, 5, 7]]), tinynet.zeros(0, 4), tinynet.tensor([[1.0, 1, 9, 4]])]
    index = tinynet.tensor([[0.0], [0], [2]])
    together = roi_align(x, tinynet.cat([index, tinynet.cat(boxes)], 1), 2, sampling_ratio=2)
    assert together.shape == (3, 4, 2, 2)
    assert_close(roi_align(x, boxes, 2, sampling_ratio=2), together)
    layer = RoIAlign((2, 2), 1.0, 2)
    assert_close(layer(x, boxes), together)
    assert repr(layer) == "RoIAlign(output_size=(2, 2), spatial_scale=1.0, sampling_ratio=2, aligned=False)"
    together.sum().backward()
    assert x.grad[1].abs().sum().item() == 0 and x.grad[0].sum().item() == pytest.approx(4 * 2 * 4, rel=1e-5)


def test_nothing():
    x = tinynet.randn(2, 3, 5, 5, requires_grad=True)
    y = roi_align(x, [tinynet.zeros(0, 4)] * 2, (3, 2))
    assert y.shape == (0, 3, 3, 2)
    y.sum().backward()
    assert x.grad.abs().sum().item() == 0
    assert roi_align(tinynet.zeros(0, 3, 5, 5), [], 2).shape == (0, 3, 2, 2)


def test_refused():
    x, roi = tinynet.zeros(2, 3, 5, 5), [[0.0, 0, 0, 4, 4]]
    for image in (2.0, -1.0, 0.5):
        with pytest.raises(IndexError, match=rf"box 0 belongs to image {image:g}, the batch has images 0..1"):
            roi_align(x, tinynet.tensor([[image, 0, 0, 4, 4]]), 2)
    with pytest.raises(ValueError, match=r"boxes must be \(K, 5\), the image's index before .* got shape \(1, 4\)"):
        roi_align(x, tinynet.zeros(1, 4), 2)
    with pytest.raises(ValueError, match=r"1 of 2 boxes are not finite, the first is box 1: \[0.0, 0.0, inf"):
        roi_align(x, tinynet.tensor([*roi, [0, 0, float("inf"), 4, 4]]), 2)
    with pytest.raises(ValueError, match="1 tensors of boxes for a batch of 2 images"):
        roi_align(x, [tinynet.zeros(1, 4)], 2)
    with pytest.raises(ValueError, match=r"boxes\[1\] must be \(N, 4\)"):
        roi_align(x, [tinynet.zeros(1, 4), tinynet.zeros(4)], 2)
    with pytest.raises(ValueError, match=r"the input must be \(N, C, H, W\), got shape \(3, 5, 5\)"):
        roi_align(x[0], tinynet.tensor(roi), 2)
    with pytest.raises(ValueError, match="output_size must be at least 1"):
        roi_align(x, tinynet.tensor(roi), (2, 0))
    with pytest.raises(ValueError, match="spatial_scale must be positive and finite, got -1"):
        roi_align(x, tinynet.tensor(roi), 2, spatial_scale=-1)
    with pytest.raises(TypeError, match=r"sampling_ratio must be an integer, got 1\.5"):
        roi_align(x, tinynet.tensor(roi), 2, sampling_ratio=1.5)
    with pytest.raises(TypeError, match="input is float32 but boxes is float64"):
        roi_align(x, tinynet.tensor(roi, dtype=tinynet.float64), 2)
    with pytest.raises(ValueError, match=r"1e\+09 samples along H are too many .* 500000000 per bin"):
        roi_align(x, tinynet.tensor([[0.0, 0, 0, 4, 1e9]]), 2)
