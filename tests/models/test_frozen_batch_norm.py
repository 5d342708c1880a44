"""FrozenBatchNorm2d: the formula, buffers only, files of ordinary batch norms."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tinynet import nn
from tinynet.models import CifarResNet, FrozenBatchNorm2d


def lively(eps: float = 1e-5) -> tuple[FrozenBatchNorm2d, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    frozen = FrozenBatchNorm2d(3, eps=eps).double()
    values = {name: rng.uniform(0.5, 2, 3) for name in ("weight", "bias", "running_mean", "running_var")}
    frozen.load_state_dict(values)
    return frozen, values


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("eps", [1e-5, 0.5, 0.0])
def test_formula_and_gradient(eps: float, training: bool) -> None:
    """s = w / sqrt(var + eps); x·s + (b - mean·s); dx = s. The same in both modes, and eps may be 0."""
    frozen, values = lively(eps)
    frozen.train(training)
    x = tinynet.randn(2, 3, 4, 5, dtype=tinynet.float64, requires_grad=True)
    w, b, mean, var = (values[name].reshape(1, 3, 1, 1) for name in ("weight", "bias", "running_mean", "running_var"))
    scale = w / np.sqrt(var + eps)
    y = frozen(x)
    assert_close(y, x.detach().numpy() * scale + (b - mean * scale), tolerance=1e-14)
    cotangent = tinynet.randn(2, 3, 4, 5, dtype=tinynet.float64)
    y.backward(cotangent)
    assert_close(x.grad, cotangent.numpy() * scale, tolerance=1e-14)
    for name, value in values.items():
        assert np.array_equal(getattr(frozen, name).numpy(), value), "statistics must not move"


def test_equals_batch_norm_in_evaluation_mode() -> None:
    frozen, values = lively()
    ordinary = nn.BatchNorm2d(3).double().eval()
    ordinary.load_state_dict(values | {"num_batches_tracked": np.array(7)})
    x = tinynet.randn(2, 3, 4, 5, dtype=tinynet.float64)
    assert_close(frozen(x), ordinary(x), tolerance=1e-13)


def test_only_buffers_and_float32() -> None:
    frozen = FrozenBatchNorm2d(3)
    assert list(frozen.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    assert not list(frozen.parameters())
    assert repr(frozen) == "FrozenBatchNorm2d(3, eps=1e-05)"
    assert frozen(tinynet.randn(1, 3, 2, 2)).dtype == tinynet.float32


def test_loads_files_of_an_ordinary_batch_norm() -> None:
    """num_batches_tracked is dropped, strictly loaded, at any depth; the file's dict stays as it was."""
    tinynet.manual_seed(3)
    ordinary = CifarResNet(8, width=2)
    state = ordinary.state_dict()
    frozen = CifarResNet(8, width=2, norm_layer=FrozenBatchNorm2d)
    frozen.load_state_dict(state)
    assert [key for key in state if "num_batches" in key] and not [k for k in frozen.state_dict() if "num_batches" in k]
    x = tinynet.randn(2, 3, 8, 8)
    assert_close(frozen(x), ordinary.eval()(x), tolerance=1e-5)
    del state["bn1.running_var"]
    with pytest.raises(RuntimeError, match=r'Missing.*"bn1.running_var"'):
        frozen.load_state_dict(state)
