"""What detectors cost: the order of the designs, and activations counted on paper."""

from __future__ import annotations

import tinynet
from tinynet.detecting.measuring import activations, measure
from tinynet.detection import build_detector
from tinynet.inspect.profile import MEGABYTE


def test_activations_are_the_layers_results() -> None:
    """The stem of a 64×64 image, three stages, one level: what is computed in place (ReLU) counts once."""
    model = build_detector("c4", ["a"], width=4, channels=8).eval()
    stem = 2 * 4 * 32 * 32 + 4 * 16 * 16  # convolution, norm; max pool
    total = stem
    side, inside = 16, 16
    for planes in (4, 8, 16):
        out = side if planes == 4 else side // 2
        total += 2 * planes * side**2 + 2 * planes * out**2 + 2 * 2 * 4 * planes * out**2 + 4 * planes * out**2
        side, inside = out, 4 * planes
    assert inside == 64
    total += 2 * 8 * side**2 + 2 * 2 * 8 * side**2 + 5 * side**2
    assert activations(model, tinynet.rand(1, 64, 64)) == 4 * total


def test_the_image_pyramid_is_dear() -> None:
    models = {name: build_detector(name, ["a"]) for name in ("c4", "fpn", "image-pyramid")}
    costs = measure(models, tinynet.rand(1, 128, 128), rounds=3)
    c4, fpn, pyramid = costs.values()
    assert list(costs) == list(models) and not models["fpn"].training
    assert pyramid.megabytes > 8 * fpn.megabytes > 8 * c4.megabytes
    assert pyramid.milliseconds > fpn.milliseconds > c4.milliseconds > 0
    assert fpn.parameters == 592_661 and abs(fpn.megabytes * MEGABYTE % 4) < 1e-6
