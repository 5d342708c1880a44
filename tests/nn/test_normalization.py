"""Batch norm as a layer: running statistics over several steps, modes, versions."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tests.nn.models import image
from tinynet import nn
from tinynet.errors import ShapeError


def batches(count=4):
    return [image(3 + i, 4, 5, 2 + i, seed=i, dtype="float64") * (i + 1) + i for i in range(count)]


@pytest.mark.torch
@pytest.mark.parametrize(
    "settings", [{}, {"momentum": None}, {"momentum": 0.5, "affine": False}, {"momentum": 0.0}, {"momentum": 1.0}]
)
def test_running_statistics_over_several_steps_and_modes(torch, settings):
    ours, theirs = nn.BatchNorm2d(4, **settings).double(), torch.nn.BatchNorm2d(4, **settings).double()
    for step, batch in enumerate(batches()):
        for mode in (True, False) if step % 2 else (False, True):
            ours.train(mode)
            theirs.train(mode)
            assert_close(ours(tinynet.from_numpy(batch)), theirs(torch.from_numpy(batch)), f"step {step}")
            for name, buffer in theirs.named_buffers():
                assert_close(ours.get_buffer(name), buffer, name)
    ours.reset_running_stats()
    assert ours.running_mean.abs().max().item() == 0 and ours.num_batches_tracked.item() == 0
    assert (ours.running_var.numpy() == 1).all()


def test_statistics_are_updated_in_place_and_counted_as_changes():
    norm = nn.BatchNorm2d(4)
    mean, memory, version = norm.running_mean, norm.running_mean.numpy(), norm.running_mean._version
    norm(tinynet.from_numpy(image(2, 4, 3, 3) + 1))
    assert norm.running_mean is mean and np.shares_memory(mean.numpy(), memory) and mean._version > version
    assert abs(memory.mean() - 0.1) < 0.05
    assert norm.num_batches_tracked.shape == () and norm.num_batches_tracked.dtype == tinynet.int64


def test_statistics_that_move_on_before_the_backward_pass_do_not_change_it():
    gradients = []
    for moves_on in (False, True):
        norm = nn.BatchNorm2d(4).eval()
        x = tinynet.from_numpy(image(2, 4, 3, 3)).requires_grad_()
        y = norm(x)
        if moves_on:
            norm.train()(x.detach() * 3)
        y.sum().backward()
        gradients.append(x.grad.numpy())
    assert np.array_equal(*gradients)


def test_evaluation_before_any_training_is_defined():
    norm = nn.BatchNorm2d(4, eps=0.0).eval()
    x = image(2, 4, 3, 3)
    assert np.allclose(norm(tinynet.from_numpy(x)).detach().numpy(), x, atol=1e-6)
    assert norm.num_batches_tracked.item() == 0


def test_without_statistics_evaluation_uses_the_batch():
    norm = nn.BatchNorm1d(4, track_running_stats=False).eval()
    y = norm(tinynet.from_numpy(image(50, 4) * 7 + 3)).detach().numpy()
    assert np.allclose(y.mean(0), 0, atol=1e-5) and np.allclose(y.std(0), 1, atol=1e-3)
    assert list(norm.state_dict()) == ["weight", "bias"] and norm.running_mean is None


@pytest.mark.parametrize("frozen", ["one value per channel", "dimensions", "channels"])
def test_a_refused_batch_changes_nothing(frozen):
    norm = nn.BatchNorm1d(4) if frozen == "one value per channel" else nn.BatchNorm2d(4)
    x = {"one value per channel": (1, 4), "dimensions": (2, 4, 3), "channels": (2, 5, 3, 3)}[frozen]
    with pytest.raises(ShapeError, match="4" if frozen == "channels" else "1|4D"):
        norm(tinynet.from_numpy(image(*x)))
    assert norm.num_batches_tracked.item() == 0
    assert (norm.running_mean.numpy() == 0).all() and (norm.running_var.numpy() == 1).all()


def test_a_constant_channel_has_finite_gradients_and_nan_spreads_as_in_torch():
    norm = nn.BatchNorm2d(2)
    x = tinynet.full((2, 2, 3, 3), 5.0).requires_grad_()
    (norm(x) ** 2).sum().backward()
    assert np.isfinite(x.grad.numpy()).all()
    broken = np.ones((2, 2, 3, 3), np.float32)
    broken[0, 1, 0, 0] = np.nan
    y = norm(tinynet.from_numpy(broken)).detach().numpy()
    assert np.isnan(y[:, 1]).all() and np.isfinite(y[:, 0]).all()
    assert np.isnan(norm.running_mean.numpy()).tolist() == [False, True]
