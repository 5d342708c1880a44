"""nn.utils: clipping and vectors of parameters, against torch's."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tests.nn.models import image
from tinynet import nn
from tinynet.errors import ShapeError

SHAPES = [(3, 4), (5,), (), (2, 0)]


def with_gradients(lib, scale=1.0, dtype="float32"):
    parameters = [lib.nn.Parameter(lib.from_numpy(image(*s, dtype=dtype) if s else np.ones(s, dtype))) for s in SHAPES]
    for seed, parameter in enumerate(parameters):
        shape = tuple(parameter.shape)
        parameter.grad = lib.from_numpy(np.asarray(image(*shape, seed=seed + 1) * scale, dtype).reshape(shape))
    return [*parameters, lib.nn.Parameter(lib.ones(2))]  # the last has no gradient


@pytest.mark.torch
@pytest.mark.parametrize("norm_type", [2.0, 1, math.inf, 3])
@pytest.mark.parametrize("max_norm", [0.5, 1000.0, 0.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clip_grad_norm(torch, norm_type, max_norm, dtype):
    if norm_type == math.inf:
        SHAPED = slice(0, 3)  # torch has no maximum of an empty gradient
    else:
        SHAPED = slice(None)
    ours, theirs = with_gradients(tinynet, dtype=dtype)[SHAPED], with_gradients(torch, dtype=dtype)[SHAPED]
    total = nn.utils.clip_grad_norm_(ours, max_norm, norm_type)
    assert_close(total, torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type), tolerance=1e-6)
    for mine, reference in zip(ours, theirs):
        if reference.grad is not None:
            assert_close(mine.grad, reference.grad, tolerance=1e-6)


@pytest.mark.torch
def test_clip_grad_norm_of_gradients_as_small_as_torchs_epsilon(torch):
    ours, theirs = with_gradients(tinynet, scale=1e-6), with_gradients(torch, scale=1e-6)
    for lib, parameters in ((tinynet, ours), (torch, theirs)):
        lib.nn.utils.clip_grad_norm_(parameters, 1e-6)
    for mine, reference in zip(ours[:-1], theirs[:-1]):
        assert_close(mine.grad, reference.grad, tolerance=1e-5)


def test_clip_grad_norm_of_one_tensor_of_none_and_of_nan():
    one = with_gradients(tinynet)[0]
    before = np.linalg.norm(one.grad.numpy())
    memory = one.grad
    assert nn.utils.clip_grad_norm_(one, 0.1).item() == pytest.approx(before, rel=1e-6)
    assert np.linalg.norm(memory.numpy()) == pytest.approx(0.1, rel=1e-4)
    assert nn.utils.clip_grad_norm_([], 1.0).item() == 0
    assert nn.utils.clip_grad_norm_(iter([nn.Parameter(tinynet.ones(1))]), 1.0).item() == 0
    for bad in (math.nan, math.inf):
        one.grad = tinynet.full((3, 4), bad)
        with pytest.raises(RuntimeError, match="non-finite"):
            nn.utils.clip_grad_norm_([one], 1.0, error_if_nonfinite=True)
        assert not np.isfinite(nn.utils.clip_grad_norm_([one], 1.0).item())


@pytest.mark.torch
def test_clip_grad_value(torch):
    ours, theirs = with_gradients(tinynet), with_gradients(torch)
    nn.utils.clip_grad_value_(iter(ours), 0.3)
    torch.nn.utils.clip_grad_value_(iter(theirs), 0.3)
    for mine, reference in zip(ours[:-1], theirs[:-1]):
        assert np.array_equal(mine.grad.numpy(), reference.grad.numpy())


def test_parameters_to_vector_and_back():
    layer = nn.Linear(3, 2)
    vector = nn.utils.parameters_to_vector(layer.parameters())
    assert vector.tolist() == [*layer.weight.reshape(-1).tolist(), *layer.bias.tolist()]
    (vector * tinynet.arange(8).float()).sum().backward()
    assert layer.weight.grad.tolist() == [[0, 1, 2], [3, 4, 5]] and layer.bias.grad.tolist() == [6, 7]
    version = layer.weight._version
    nn.utils.vector_to_parameters(tinynet.arange(8).float(), layer.parameters())
    assert layer.weight.tolist() == [[0, 1, 2], [3, 4, 5]] and layer.bias.tolist() == [6, 7]
    assert layer.weight._version > version and layer.weight.requires_grad and layer.weight.is_leaf
    with pytest.raises(ShapeError, match=r"8 values.*\[7\]"):
        nn.utils.vector_to_parameters(tinynet.zeros(7), layer.parameters())
    with pytest.raises(TypeError, match="list"):
        nn.utils.vector_to_parameters([0.0] * 8, layer.parameters())
