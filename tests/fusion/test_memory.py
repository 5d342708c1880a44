"""Values that live at the same time never overlap, and the arena is smaller than all values together."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tinynet
from tests.fusion.nets import arrays_of, assert_same, image, net, randomised
from tests.fusion.test_chains import conv
from tinynet import models, nn
from tinynet.nn import functional as F


def wide(m, x):
    """Values with long and crossing lives, views among them."""
    a = m.a(x)
    b = F.relu(m.b(a))
    view = a.permute(0, 1, 3, 2)[:, :, 1:]
    c = m.a(b) + a
    d = F.max_pool2d(c, 2)
    e = m.b(F.interpolate(d, size=x.shape[-2:])) + b
    return {"e": e, "view": view * 2, "last": m.a(e + c), "flat": view.flatten(1)}


def test_values_alive_together_do_not_overlap() -> None:
    model = net(wide, a=conv(), b=conv())
    fused = tinynet.fuse(model, image(2, 3, 8, 8))
    assert_same(model, fused, image(2, 3, 8, 8, seed=1))
    buffers = fused.plan()._memory.buffers
    assert len(buffers) > 3
    for one, other in itertools.combinations(buffers, 2):
        together = one.first <= other.last and other.first <= one.last
        apart = one.offset + one.nbytes <= other.offset or other.offset + other.nbytes <= one.offset
        assert apart or not together
    assert all(storage.offset % 64 == 0 for storage in buffers)


def test_arena_is_small() -> None:
    plan = tinynet.fuse(models.resnet18().eval(), image(1, 3, 64, 64)).plan()
    largest, pooled = 4 * 64 * 32 * 32, 4 * 64 * 16 * 16
    assert plan.arena_bytes == largest + pooled  # the stem and what is pooled from it, as little as can be


def test_a_sum_takes_the_place_of_its_residual_only_if_nobody_else_reads_it() -> None:
    def offsets(forward) -> tuple[int | None, int | None]:
        plan = tinynet.fuse(net(forward, a=conv(), b=conv()), image(1, 3, 9, 9)).plan()
        (joined,) = (step for step in plan.steps if step.joins)
        return plan._memory.offset(joined.reads[1]), plan._memory.offset(joined.outputs[0])

    residual, sums = offsets(lambda m, x: (m.b(x) + F.max_pool2d(m.a(x), 3, 1, 1)).exp())
    assert residual == sums
    for forward in (
        lambda m, x: (lambda y: (m.b(y.view(*y.shape)) + y).exp())(m.a(x)),  # the convolution reads it
        lambda m, x: (lambda y: m.a((m.b(x) + y).exp()) * y)(F.max_pool2d(m.a(x), 3, 1, 1)),  # it is read later
        lambda m, x: (lambda y: (m.b(x) + y.view(*y.shape)).exp())(F.max_pool2d(m.a(x), 3, 1, 1)),  # it is a view
        lambda m, x: (m.b(F.relu(x)) + x).exp(),  # it is the caller's
    ):
        residual, sums = offsets(forward)
        assert residual is None or residual != sums


@pytest.mark.parametrize("make", [
    lambda: net(wide, a=conv(), b=conv()),
    lambda: randomised(models.resnet_fpn_backbone("resnet18")).eval(),
    lambda: net(lambda m, x: [x, x.view(-1), m.a(x), (y := F.relu(m.b(x))), y.clone(), y[:, 1:], y.permute(2, 0, 1, 3)],
                a=conv(), b=conv()),
    lambda: net(lambda m, x: [m.a(x)[:, 1:], m.b(m.a(m.b(m.a(m.b(m.a(x))))))], a=conv(), b=conv()),
])  # fmt: skip
def test_results_are_the_callers_own(make) -> None:
    """Two results alive at once, and each changed in place, with inputs kept as they were."""
    model = make()
    size = (1, 3, 64, 64) if "body" in dict(model.named_children()) else (1, 3, 8, 8)
    x, other = image(*size, seed=1), image(*size, seed=2)
    fused = tinynet.fuse(model, x)
    kept = arrays_of(fused(x))  # arrays_of copies; what comes next is looked at only when all calls are over
    first, second = fused(x), fused(other)
    before = arrays_of(fused(other))
    assert all(np.array_equal(a, b) for a, b in zip(arrays_of(first), kept))
    third = fused(x)
    outputs = list(third.values()) if isinstance(third, dict) else third
    for number, tensor in enumerate(outputs):  # numpy() would part them
        tensor.fill_(7 + number)
        assert all((later != 7 + number).any() for later in outputs[number + 1 :])
    assert all(np.array_equal(a, b) for a, b in zip(arrays_of(second), before))
    assert_same(model, fused, x)
    assert np.array_equal(x.numpy(), image(*size, seed=1).numpy())


def test_constants_among_the_results_are_copies() -> None:
    model = net(lambda m, x: (m.a(x), m.scale), a=conv())
    model.register_buffer("scale", tinynet.ones(3))
    fused = tinynet.fuse(model)
    fused(image(1, 3, 4, 4))[1].fill_(5)
    assert_same(model, fused, image(1, 3, 4, 4))


def test_what_ends_is_let_go() -> None:
    """A call leaves nothing behind but its arena: no input, no output, no result of an ordinary operation."""
    model = net(lambda m, x: tinynet.cat([m.a(x).exp(), x], 1).sin(), a=conv())
    fused = tinynet.fuse(model, image(1, 3, 8, 8))
    plan = fused.plan()
    assert [slot for slot in plan._idle[0] if slot is not None] and len(plan._idle) == 1
    for value, slot in plan._slots.items():
        assert (plan._idle[0][slot] is None) == (plan._memory.offset(value) is None)


def test_linear_layers_have_new_memory() -> None:
    fused = tinynet.fuse(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval(), image(2, 3))
    assert fused.plan().arena_bytes == 0
