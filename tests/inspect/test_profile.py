"""`tinynet.profile()`: time and memory go to the layer that they belong to, and nothing is left behind."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinynet
from tinynet import models, nn
from tinynet.autograd import Function
from tinynet.inspect import summary

PAUSE = 0.04


class SlowBackward(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        time.sleep(PAUSE)
        return grad


class Slow(nn.Module):
    def __init__(self, forward: float = 0.0, backward: bool = False) -> None:
        super().__init__()
        self.pause, self.backward = forward, backward

    def forward(self, x):
        time.sleep(self.pause)
        return SlowBackward.apply(x) if self.backward else x * 2


class Outer(nn.Module):
    """Own work before, between and after the layers that it calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Slow(PAUSE)
        self.second = Slow(0.0, backward=True)

    def forward(self, x):
        time.sleep(PAUSE)
        return SlowBackward.apply(self.second(SlowBackward.apply(self.first(x))))


def layer(report, name):
    (found,) = [each for each in report.layers if each.name == name]
    return found


def test_time_goes_to_the_layer_that_takes_it():
    model = Outer()
    x = tinynet.ones(3, requires_grad=True)
    with tinynet.profile() as report:
        model(x).sum().backward()
        time.sleep(PAUSE)
    outer, first, second = (layer(report, name) for name in ("Outer", "first", "second"))
    slack = 0.9 * PAUSE  # less than one pause more
    assert PAUSE <= outer.own_forward < PAUSE + slack and PAUSE <= first.own_forward < PAUSE + slack
    assert second.own_forward < slack and first.own_backward < slack
    assert PAUSE <= second.own_backward < PAUSE + slack
    assert 2 * PAUSE <= outer.own_backward < 2 * PAUSE + slack  # before and after the second layer
    assert outer.forward == pytest.approx(outer.own_forward + first.own_forward + second.own_forward)
    assert outer.backward == pytest.approx(outer.own_backward + first.own_backward + second.own_backward)
    assert report.seconds >= outer.forward + outer.backward + PAUSE
    assert [each.depth for each in report.layers] == [0, 1, 1] and report.slowest(1) == [outer]


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "no_grad"])
def test_multiply_adds_are_those_of_the_summary(recorded):
    model = models.CifarResNet(8)
    with tinynet.profile(model) as report, tinynet.set_grad_enabled(recorded):
        output = model(tinynet.randn(2, 3, 16, 16))
    table = summary(model, (2, 3, 16, 16))
    assert sum(each.own_macs for each in report.layers) == table.macs
    first = layer(report, "conv1")
    assert first.own_macs == 2 * 16 * 16 * 16 * 27 and first.forward_gflops > 0
    assert first.backward_gflops is None and output.requires_grad is recorded
    # of the first convolution only the weight's gradient is wanted
    expected = 2 * table.macs - first.own_macs if recorded else 0
    assert sum(each.own_backward_macs for each in report.layers) == expected
    assert layer(report, "relu").forward_gflops is None


def test_memory_is_counted_once():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1), nn.ReLU())
    x = tinynet.randn(2, 3, 8, 8)
    with tinynet.profile() as report:
        model(x).sum().backward()
    each = [layer(report, str(number)) for number in range(4)]
    size = 2 * 8 * 8 * 4  # of one channel
    assert [part.output for part in each] == [4 * size, 0, 2 * size, 2 * size]
    assert each[0].saved == x.nbytes  # its own input; not its weight
    assert each[1].saved == 4 * size and each[2].saved == 0  # the second's input is what ReLU kept
    assert each[3].saved == 2 * size
    root = layer(report, "Sequential")
    assert root.own_output == 0 and root.output == 8 * size and root.saved == x.nbytes + 6 * size


def test_calls_add_up_and_names_are_paths():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Sequential(nn.Linear(3, 3))

        def forward(self, x):
            return self.part(self.part(x))

    first, second = Twice(), Twice()
    x = tinynet.randn(1, 3)
    with tinynet.profile() as report:
        first(x)
        first(x)
        second(x)
        first.part(x)  # from outside
    names = [(each.name, each.calls) for each in report.layers]
    one = [("part", 4), ("part.0", 4)]
    assert names == [("Twice", 2), *one, ("Twice #2", 1), ("part", 2), ("part.0", 2), ("part", 1), ("part.0", 1)]
    assert "Twice #2" in str(report) and "Linear 3 → 3" in report.table() and "Linear" not in report.table(depth=0)


def test_nothing_changes_and_nothing_is_left_behind():
    model = models.CifarResNet(8)
    images = tinynet.randn(2, 3, 16, 16)

    def gradients():
        model.zero_grad()
        loss = model(images).square().sum()
        loss.backward()
        return [loss.detach().numpy().tobytes(), *(p.grad.numpy().tobytes() for p in model.parameters())]

    state = {name: value.clone() for name, value in model.state_dict().items()}
    expected = gradients()
    model.load_state_dict(state)
    with tinynet.profile():
        assert gradients() == expected
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())


def test_after_an_error_nothing_is_left_behind_either():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(4, 4))
    with pytest.raises(ValueError), tinynet.profile():
        model(tinynet.ones(1, 3))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with tinynet.profile() as report:
        with pytest.raises(ValueError):
            model(tinynet.ones(1, 3))
        model[0](tinynet.ones(1, 3))
    assert model[0](tinynet.ones(1, 3)).shape == (1, 3) and report.seconds > 0


def test_backward_outside_of_the_block_is_not_counted():
    model = Slow(backward=True)
    with tinynet.profile() as report:
        loss = model(tinynet.ones(2, requires_grad=True)).sum()
    loss.backward()
    assert layer(report, "Slow").backward == 0


def test_blocks_inside_of_each_other_both_count():
    model = Slow(backward=True)
    with tinynet.profile() as whole:
        model(tinynet.ones(2))
        with tinynet.profile() as part:
            model(tinynet.ones(2, requires_grad=True)).sum().backward()
    assert layer(whole, "Slow").calls == 2 and layer(part, "Slow").calls == 1
    assert min(layer(whole, "Slow").backward, layer(part, "Slow").backward) >= PAUSE


def test_another_thread_is_not_counted():
    model = Slow()
    with tinynet.profile() as report:
        thread = threading.Thread(target=model, args=(tinynet.ones(2),))
        thread.start()
        thread.join()
    assert report.layers == [] and "no module was called" in str(report)


def test_chosen_models():
    seen, other = nn.Linear(2, 2), nn.Linear(2, 2)
    with tinynet.profile(seen) as report:
        other(seen(tinynet.ones(1, 2)))
    assert [each.module for each in report.layers] == [seen]
    with pytest.raises(TypeError, match="expected modules, got str"):
        tinynet.profile("model")
    block = tinynet.profile()
    with block, pytest.raises(RuntimeError, match="running already"):
        block.__enter__()


def test_a_long_run_keeps_nothing_alive():
    model = nn.ReLU()
    with tinynet.profile() as report:
        for _ in range(20):
            model(tinynet.ones(1 << 20, requires_grad=True)).sum().backward()
        import tracemalloc

        tracemalloc.start()
        for _ in range(20):
            model(tinynet.ones(1 << 20, requires_grad=True)).sum().backward()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert held < 1 << 20
    assert layer(report, "ReLU").output == 40 * (4 << 20)


def test_the_picture(tmp_path: Path):
    model = models.CifarResNet(8)
    with tinynet.profile() as report:
        model(tinynet.randn(2, 3, 16, 16)).sum().backward()
    report.plot(tmp_path / "profile.png", count=10)
    with Image.open(tmp_path / "profile.png") as image:
        assert image.format == "PNG" and len(np.unique(np.asarray(image.convert("L")))) > 20
    with tinynet.profile() as report:
        pass
    with pytest.raises(ValueError, match="nothing to draw"):
        report.plot(tmp_path / "empty.png")
    assert not (tmp_path / "empty.png").exists()
