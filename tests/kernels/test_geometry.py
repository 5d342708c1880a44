"""The formulas of sizes and source positions, against torch and against their definition."""

from __future__ import annotations

import numpy as np
import pytest

from tinynet.kernels import geometry


def test_output_size_counts_the_windows_that_fit():
    for size in range(1, 12):
        for kernel in range(1, 5):
            for stride in range(1, 4):
                for padding in range(3):
                    for dilation in range(1, 4):
                        reach = dilation * (kernel - 1)
                        starts = range(-padding, size + padding - reach, stride)
                        found = geometry.window_output_size(size, kernel, stride, padding, dilation)
                        assert max(found, 0) == len(starts)


def test_valid_outputs():
    for offset in range(-9, 9):
        for size in range(5):
            for stride in range(1, 4):
                inside = [o for o in range(6) if 0 <= o * stride + offset < size]
                start, stop = geometry.valid_outputs(offset, size, 6, stride)
                assert list(range(start, stop)) == inside


def test_adaptive_windows_cover_everything():
    windows = geometry.adaptive_windows(7, 3)
    assert windows.start.tolist() == [0, 2, 4] and windows.stop.tolist() == [3, 5, 7]
    for size in range(1, 20):
        for output in range(1, 25):
            windows = geometry.adaptive_windows(size, output)
            assert windows.start[0] == 0 and windows.stop[-1] == size
            assert (windows.start[1:] <= windows.stop[:-1]).all() and (windows.divisor > 0).all()


def test_nearest_is_not_integer_arithmetic():
    """Float32 arithmetic differs from i·in // out for 602 pairs of sizes."""
    different = sum(
        (geometry.nearest_indices(size, output, None, False) != np.arange(output) * size // output).any()
        for size in range(1, 130)
        for output in range(1, 260)
    )
    assert different == 602


@pytest.mark.torch
def test_ceil_mode_as_torch():
    torch = pytest.importorskip("torch")
    for size in range(1, 12):
        for kernel in range(1, 5):
            for stride in range(1, 5):
                for padding in range(kernel // 2 + 1):
                    if size + 2 * padding < kernel:
                        continue
                    y = torch.nn.functional.max_pool1d(torch.zeros(1, 1, size), kernel, stride, padding, ceil_mode=True)
                    assert geometry.window_output_size(size, kernel, stride, padding, 1, True) == y.shape[2]


def _reads(size, output_or_scale, **settings):
    """Where torch's resizing reads, forward and (as counts) backward."""
    torch = pytest.importorskip("torch")
    x = torch.arange(size, dtype=torch.float32).reshape(1, 1, 1, size).requires_grad_()
    y = torch.nn.functional.interpolate(x, **settings, **output_or_scale)
    counts = torch.autograd.grad(y.sum(), x)[0]
    return y.detach().numpy().ravel(), counts.numpy().ravel()


@pytest.mark.torch
def test_nearest_as_torch():
    for size in range(1, 130, 3):
        for output in {1, 2, 7, size, 2 * size - 1, 2 * size, 2 * size + 1, 3 * size, 5 * size // 3, 255}:
            if output < 1:
                continue
            forward, backward = _reads(size, {"size": (1, output)}, mode="nearest")
            mine = geometry.nearest_indices(size, output, None, False)
            np.testing.assert_array_equal(mine, forward)
            np.testing.assert_array_equal(np.bincount(mine, minlength=size), backward)


@pytest.mark.torch
def test_nearest_exact_as_torch():
    different = 0
    for size in range(1, 130, 2):
        for output in range(1, 260, 5):
            forward, backward = _reads(size, {"size": (1, output)}, mode="nearest-exact")
            mine = geometry.nearest_indices(size, output, None, True)
            np.testing.assert_array_equal(np.bincount(mine, minlength=size), backward)
            different += not np.array_equal(mine, forward)
    assert different <= 10  # torch's vectorised forward and its backward disagree for about 1 pair in 1,000


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest_by_scale_as_torch(mode):
    rng = np.random.default_rng(0)
    for _ in range(300):
        size, scale = int(rng.integers(1, 30)), float(rng.choice([rng.uniform(0.4, 3), rng.integers(4, 40) / 10]))
        if int(size * scale) < 1:
            continue
        forward, _ = _reads(size, {"scale_factor": (1, scale)}, mode=mode)
        mine = geometry.nearest_indices(size, len(forward), scale, mode == "nearest-exact")
        np.testing.assert_array_equal(mine, forward)
