"""One whole training step of a net large enough to keep every kernel busy: backends and threads compared."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tinynet import kernels, nn, optim
from tinynet.models import Bottleneck, CifarResNet


def step(dtype, seed: int = 0, smooth: bool = False) -> dict[str, np.ndarray]:
    """Parameters, gradients and running statistics after one step of SGD on 16 images of 24×24.

    With ``smooth`` tanh stands for ReLU, whose kink lets float32 rounding move gradients by percents.
    """
    tinynet.manual_seed(seed)
    model = CifarResNet(11, num_classes=7, block=Bottleneck, width=16, in_channels=3, shortcut="B").to(dtype)
    for module in list(model.modules()) if smooth else []:
        if hasattr(module, "relu"):
            module.relu = nn.Tanh()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    images = tinynet.randn(16, 3, 24, 24, dtype=dtype)
    labels = tinynet.randint(7, (16,))
    loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    found = {f"gradient of {name}": p.grad.numpy().copy() for name, p in model.named_parameters()}
    optimizer.step()
    found.update({name: value.numpy() for name, value in model.state_dict().items()})
    found["loss"] = loss.detach().numpy()
    return found


@pytest.mark.parametrize(
    ("dtype", "smooth", "tolerance"), [(tinynet.float64, False, 1e-12), (tinynet.float32, True, 1e-4)]
)
def test_numpy_and_numba_agree_to_rounding(dtype, smooth, tolerance):
    with kernels.backend("numpy"):
        expected = step(dtype, smooth=smooth)
    with kernels.backend("numba"):
        actual = step(dtype, smooth=smooth)
    for name, value in expected.items():
        scale = np.abs(value).max() or 1
        assert np.abs(actual[name] - value).max() <= tolerance * scale, name


@pytest.mark.skipif(tinynet.get_num_threads() < 2, reason="one core")
def test_one_and_two_threads_give_the_same_bits():
    usual = tinynet.get_num_threads()
    try:
        tinynet.set_num_threads(1)
        alone = step(tinynet.float32)
        tinynet.set_num_threads(2)
        together = step(tinynet.float32)
    finally:
        tinynet.set_num_threads(usual)
    for name, value in alone.items():
        assert value.tobytes() == together[name].tobytes(), name


def test_an_equal_step_is_repeated_to_the_bit_and_another_seed_differs():
    first, again, other = step(tinynet.float32), step(tinynet.float32), step(tinynet.float32, seed=1)
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    assert first["loss"].tobytes() != other["loss"].tobytes()
