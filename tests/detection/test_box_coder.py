"""BoxCoder and BoxLinearCoder: the papers' formulas, there and back, gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tests.kernels.box_cases import random_boxes
from tests.ops.against_torch import compare
from tests.reference.cases import Input, normal
from tinynet.autograd import gradcheck
from tinynet.detection import BoxCoder, BoxLinearCoder

WEIGHTS = (1.0, 1.0, 1.0, 1.0)


def grown(rng, count, dtype=np.float32):
    return (random_boxes(rng, count, "random", np.float64) + [0, 0, 1, 1]).astype(dtype)


def decoded(lib, codes, boxes, weights):
    """k boxes per anchor: the centre moves by a share of the anchor, the sides grow by exp."""
    rows = []
    size = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + 0.5 * size
    for k in range(codes.shape[1] // 4):
        code = codes[:, 4 * k : 4 * k + 4]
        moved = lib.stack([code[:, i] / weights[i] for i in (0, 1)], 1) * size + centre
        factors = lib.stack([(code[:, i] / weights[i]).clamp(max=math.log(1000 / 16)).exp() for i in (2, 3)], 1)
        rows += [moved - 0.5 * (factors * size), moved + 0.5 * (factors * size)]
    return lib.cat(rows, 1)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [0, 1, 9])
def test_decode_against_torch(count, dtype):
    weights = (10.0, 5.0, 2.0, 1.5)

    def function(lib, F, codes, boxes):
        boxes = boxes.detach()
        if lib is tinynet:
            return BoxCoder(weights).decode_single(codes, boxes)
        return decoded(lib, codes, boxes, weights)

    boxes = Input((count, 4), lambda rng, shape: grown(rng, shape[0]), requires_grad=False)
    compare(function, normal(count, 8, scale=8.0), boxes, dtype=dtype)


def test_there_and_back():
    rng = np.random.default_rng(0)
    for number in range(100):
        count = int(rng.integers(0, 20))
        anchors, boxes = (tinynet.from_numpy(grown(rng, count, np.float64)) for _ in range(2))
        coder = BoxCoder(tuple(rng.uniform(0.5, 10, 4)))
        assert_close(coder.decode_single(coder.encode_single(boxes, anchors), anchors), boxes, f"case {number}", 1e-12)
        for normalize in (False, True):
            linear = BoxLinearCoder(normalize)
            assert_close(linear.decode(linear.encode(anchors, boxes), anchors), boxes, f"case {number}", 1e-12)


def test_offsets_by_hand():
    anchor = tinynet.tensor([[0.0, 0, 10, 20]])
    box = tinynet.tensor([[5.0, 10, 25, 20]])
    expected = [[1.0, 0.25, math.log(2), math.log(0.5)]]
    np.testing.assert_allclose(BoxCoder(WEIGHTS).encode_single(box, anchor).numpy(), expected, rtol=1e-6)
    weighted = BoxCoder((10.0, 10.0, 5.0, 5.0)).encode_single(box, anchor).numpy()
    np.testing.assert_allclose(weighted, np.array(expected) * [10, 10, 5, 5], rtol=1e-6)
    assert BoxLinearCoder(False).encode(anchor, box).tolist() == [[0, 0, 20, 10]]
    np.testing.assert_allclose(BoxLinearCoder().encode(anchor, box).numpy(), [[0, 0, 2, 0.5]])
    huge = BoxCoder(WEIGHTS).decode_single(tinynet.tensor([[0.0, 0, 99, 99]]), anchor)
    np.testing.assert_allclose((huge[0, 2:] - huge[0, :2]).numpy(), [625, 1250], rtol=1e-5)


def test_images_together():
    rng = np.random.default_rng(0)
    counts = (3, 0, 5)
    anchors = [tinynet.from_numpy(grown(rng, count)) for count in counts]
    boxes = [tinynet.from_numpy(grown(rng, count)) for count in counts]
    coder = BoxCoder(WEIGHTS)
    codes = coder.encode(boxes, anchors)
    assert [tuple(code.shape) for code in codes] == [(3, 4), (0, 4), (5, 4)]
    together = coder.decode(tinynet.cat(codes), anchors)
    assert together.shape == (8, 1, 4)
    assert_close(together[:, 0], tinynet.cat(boxes), tolerance=1e-5)
    assert coder.decode(tinynet.cat([*codes, *codes]).reshape(8, 8), anchors).shape == (8, 2, 4)
    assert coder.decode(tinynet.zeros(0, 4), [anchors[1]]).shape == (0, 4)


def test_differentiable():
    rng = np.random.default_rng(0)
    anchors, boxes = (tinynet.from_numpy(grown(rng, 3, np.float64)).requires_grad_() for _ in range(2))
    codes = tinynet.from_numpy(rng.standard_normal((3, 8))).requires_grad_()
    assert gradcheck(BoxCoder(WEIGHTS).decode_single, (codes, anchors))
    assert gradcheck(BoxCoder(WEIGHTS).encode_single, (boxes, anchors))
    for normalize in (False, True):
        assert gradcheck(BoxLinearCoder(normalize).decode, (codes[:, :4].detach().requires_grad_(), anchors))
        assert gradcheck(BoxLinearCoder(normalize).encode, (anchors, boxes))


def test_refused():
    coder, boxes = BoxCoder(WEIGHTS), tinynet.ones(3, 4)
    with pytest.raises(ValueError, match=r"four positive numbers, got \(1, 1, 0, 1\)"):
        BoxCoder((1, 1, 0, 1))
    with pytest.raises(ValueError, match="2 reference boxes for 3 proposals"):
        coder.encode_single(boxes[:2], boxes)
    with pytest.raises(ValueError, match="reference boxes of 1 images, proposals of 2"):
        coder.encode([boxes], [boxes, boxes])
    with pytest.raises(ValueError, match=r"3 boxes need offsets of shape \(3, 4·k\), got \(2, 4\)"):
        coder.decode_single(tinynet.zeros(2, 4), boxes)
    with pytest.raises(ValueError, match=r"offsets of shape \(2, 4\) are not a multiple of 4 for each of 3 boxes"):
        coder.decode(tinynet.zeros(2, 4), [boxes])
    with pytest.raises(TypeError, match="boxes must be a list of tensors, got Tensor"):
        coder.decode(tinynet.zeros(3, 4), boxes)
    with pytest.raises(ValueError, match=r"rel_codes of shape \(2, 4\) for boxes of shape \(3, 4\)"):
        BoxLinearCoder().decode(tinynet.zeros(2, 4), boxes)
