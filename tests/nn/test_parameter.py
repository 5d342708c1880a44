"""nn.Parameter."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import tinynet
from tinynet import nn


def test_a_parameter_is_a_leaf_that_requires_grad_and_shares_memory():
    data = tinynet.ones(2, 3)
    parameter = nn.Parameter(data)
    assert isinstance(parameter, tinynet.Tensor) and parameter.is_leaf and parameter.requires_grad
    assert np.shares_memory(parameter.detach().numpy(), data.numpy())
    assert not nn.Parameter(data, requires_grad=False).requires_grad
    assert type(parameter * 2) is tinynet.Tensor
    assert type(parameter.detach()) is tinynet.Tensor
    (parameter * 3).sum().backward()
    assert parameter.grad.tolist() == [[3.0] * 3] * 2


def test_repr():
    text = repr(nn.Parameter(tinynet.ones(2)))
    assert text == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies(duplicate):
    parameter = nn.Parameter(tinynet.ones(2, 3), requires_grad=False)
    first, second = duplicate([parameter, parameter])
    assert first is second and isinstance(first, nn.Parameter) and not first.requires_grad
    assert first.tolist() == parameter.tolist()
    assert not np.shares_memory(first.numpy(), parameter.numpy())


def test_wrong_data_is_refused():
    with pytest.raises(TypeError, match="list"):
        nn.Parameter([1.0, 2.0])
    with pytest.raises(TypeError):
        nn.Parameter(tinynet.arange(3))
    assert not nn.Parameter(tinynet.arange(3), requires_grad=False).requires_grad
