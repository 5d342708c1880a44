"""The designs by name: their levels, their sizes, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tinynet.detection import DESIGNS, build_detector

SCENES = {
    "image-pyramid": (157_973, (4, 8, 16)), "c4": (153_045, (16,)), "c5": (540_629, (32,)),
    "hierarchy": (615_172, (4, 8, 16, 32)), "fpn": (592_661, (4, 8, 16, 32)), "fpn-p2": (564_437, (4,)),
    "fpn-no-lateral": (578_133, (4, 8, 16, 32)), "fpn-no-top-down": (592_661, (4, 8, 16, 32)),
    "fpn-scaled-top-down": (592_661, (4, 8, 16, 32)), "fpn-bare-laterals": (592_533, (4, 8, 16, 32)),
    "hierarchy-shared-head": (555_541, (4, 8, 16, 32)),
}  # fmt: skip
BLOOD = {"layers": (1, 2, 2, 1), "levels": (3, 4, 5), "channels": 48, "scale": 4, "in_channels": 3}


@pytest.mark.parametrize("name", DESIGNS)
def test_parameters_and_strides_on_scenes(name: str) -> None:
    """Counts as the layers give them on paper; every parameter is used."""
    model = build_detector(name, ["digit"])
    assert (sum(p.numel() for p in model.parameters()), model.strides) == SCENES[name]
    outputs = model(tinynet.rand(2, 1, 64, 64))
    assert [output.grid for output in outputs] == [(64 // stride, 64 // stride) for stride in model.strides]
    sum(output.values.sum() for output in outputs).backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(("name", "strides"), [("fpn", (8, 16, 32)), ("image-pyramid", (8, 16)), ("fpn-p2", (8,))])
def test_levels_of_blood_cells(name: str, strides: tuple[int, ...]) -> None:
    model = build_detector(name, ["RBC", "WBC", "Platelets"], **BLOOD)
    assert model.strides == strides
    outputs = model([tinynet.rand(3, 120, 160)])
    assert [tuple(output.values.shape) for output in outputs] == [(1, 7, 128 // s, 160 // s) for s in strides]


def test_the_same_seed_draws_the_same_detector() -> None:
    states = []
    for seed in (3, 3, 4):
        tinynet.manual_seed(seed)
        state = build_detector("fpn", ["a"]).state_dict()
        states.append({name: value.numpy().tobytes() for name, value in state.items()})
    assert states[0] == states[1] != states[2]


def test_convolutions_before_a_norm_are_drawn_as_he_says() -> None:
    """Variance 2 / fan_out in the backbone; the output layer from N(0, .01²) with the prior as bias."""
    model = build_detector("fpn", ["a", "b"], width=32, channels=64)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    for name in ("pyramid.body.layer3.0.conv2.weight", "head.convolutions.0.1.weight"):
        assert abs(state[name].std() / np.sqrt(2 / (9 * len(state[name]))) - 1) < 0.03
    assert abs(state["head.predictors.0.weight"].std() / 0.01 - 1) < 0.05
    assert np.allclose(state["head.predictors.0.bias"], [-np.log(99)] * 2 + [0] * 4)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown design 'ssd'; there is image-pyramid, c4, c5, hierarchy, fpn, "):
        build_detector("ssd", ["a"])
    for levels in ((), (3, 2), (1, 2), (2, 2)):
        with pytest.raises(ValueError, match="levels must be some of 2 to 5, finest first, got"):
            build_detector("fpn", ["a"], levels=levels)
