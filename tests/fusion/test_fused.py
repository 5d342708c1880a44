"""What users of `tinynet.fuse` meet: shapes, threads, copies, refusals, and what a plan looks like."""

from __future__ import annotations

import copy
import pickle
import threading
from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import tinynet
from tests.fusion.nets import assert_same, image, net, randomised, titles
from tests.fusion.test_chains import conv
from tinynet import kernels, models, nn
from tinynet.errors import DtypeError, GraphError
from tinynet.fusion import FusedModel
from tinynet.fusion.fused import PLANS
from tinynet.nn import functional as F

Pair = namedtuple("Pair", "first second")


def small() -> nn.Module:
    return randomised(models.get_model("cifar_resnet20", num_classes=4)).eval()


def simple(forward=lambda m, x: F.relu(m.norm(m.a(x)))) -> nn.Module:
    return net(forward, a=conv(), norm=nn.BatchNorm2d(3))


# --- calls -----------------------------------------------------------------------------------------------------


def test_traced_at_the_first_call_or_with_an_example() -> None:
    model, x = simple(), image(1, 3, 5, 6)
    assert "no plan yet" in repr(tinynet.fuse(model))
    with pytest.raises(GraphError, match="nothing was traced yet"):
        tinynet.fuse(model).plan()
    fused = tinynet.fuse(model, example_input=x)
    plan = fused.plan()
    assert_same(model, fused, x)
    assert fused.plan() is plan is fused.plan(x)


def test_a_plan_for_every_shape_and_packed_weights_for_all() -> None:
    model = small()
    fused = tinynet.fuse(model)
    sizes = [(1, 3, 32, 32), (2, 3, 17, 9), (0, 3, 8, 8), (1, 3, 32, 32), (5, 3, 8, 8)]
    for size in sizes:
        assert_same(model, fused, image(*size))
    assert len(fused._plans) == 4
    assert len(fused._packed) == 19
    for side in range(8, 8 + PLANS + 1):
        assert_same(model, fused, image(1, 3, side, side))
    assert len(fused._plans) == PLANS


def test_inputs_of_any_layout() -> None:
    model = simple()
    fused = tinynet.fuse(model)
    x = image(2, 6, 7, 3)
    assert_same(model, fused, x.permute(0, 3, 1, 2))
    assert_same(model, fused, image(2, 6, 12, 7)[:, 1:4, ::2])
    assert_same(model, fused, image(1, 3, 1, 7).expand(2, 3, 6, 7))
    assert len(fused._plans) == 1


def test_structures_of_arguments_and_results() -> None:
    def forward(m, images, *, sizes=(2, 2), extra=None):
        y = m.a(images["x"]) + images["more"][0]
        pooled = F.adaptive_avg_pool2d(y, sizes)
        return OrderedDict(y=y, nested=[(pooled,), Pair(y, None)], label="maps", same=y, shape=y.shape), extra

    model = simple(forward)
    fused = tinynet.fuse(model)
    images = {"x": image(1, 3, 6, 5), "more": (image(1, 3, 6, 5, seed=1),)}
    output = assert_same(model, fused, images)
    assert type(output[0]) is OrderedDict and type(output[0]["nested"][1]) is Pair
    assert output[0]["same"] is output[0]["y"]
    assert_same(model, fused, images, sizes=(3, 1))
    assert_same(model, fused, images, sizes=(1, 4))
    assert_same(model, fused, images, sizes=(3, 1), extra=1.5)
    assert len(fused._plans) == 4


def test_one_tensor_given_twice_is_not_taken_for_two() -> None:
    model = simple(lambda m, x, y: m.a(x) - y)
    fused = tinynet.fuse(model)
    x = image(1, 3, 5, 5)
    assert_same(model, fused, x, x)
    assert_same(model, fused, x, image(1, 3, 5, 5, seed=1))


def test_integers_and_values_made_from_nothing() -> None:
    def forward(m, x, index):
        place = tinynet.arange(x.shape[-1], dtype=x.dtype) / x.shape[-1]
        padded = x.new_zeros(x.shape[0], 3, x.shape[2], x.shape[3])
        padded[:, :2] = x[:, 1:]
        return m.a(padded + place)[:, :, 1:].detach().flatten(2).gather(2, index) + index

    model = simple(forward)
    fused = tinynet.fuse(model)
    index = tinynet.from_numpy(np.random.default_rng(0).integers(0, 20, (2, 3, 9)))
    assert_same(model, fused, image(2, 3, 5, 6), index)
    assert_same(model, fused, image(2, 3, 5, 6, seed=1), index.flip(2))


def test_changes_in_place_make_new_values() -> None:
    def forward(m, x):
        y = m.a(x)
        before = y.clone()
        y[:, 0] = 1
        y *= 2
        z = y.detach()
        y.relu_().clamp_(max=1.5)
        x.add_(1)
        return before, y, z, m.a(x), F.hardtanh(x, inplace=True)

    model = simple(forward)
    fused = tinynet.fuse(model)
    for seed in (0, 1):
        x = image(2, 3, 5, 6, seed=seed)
        with tinynet.no_grad():
            expected = model(x.clone())
        for one, other in zip(fused(x), expected):
            assert np.allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)
        assert np.array_equal(x.numpy(), image(2, 3, 5, 6, seed=seed).numpy())


class Doubled(tinynet.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2


class Elsewhere(tinynet.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return tinynet.from_numpy(np.cbrt(x.numpy()))


def test_functions_over_operations_are_traced() -> None:
    model = simple(lambda m, x: Doubled.apply(m.a(x)))
    fused = tinynet.fuse(model)
    assert_same(model, fused, image(1, 3, 5, 5))
    assert titles(fused) == ["convolution 3x3 + norm"]


def test_a_fused_model_inside_of_another() -> None:
    inner = simple()
    outer = net(lambda m, x: F.relu(m.inner(x) + x), inner=tinynet.fuse(inner))
    fused = tinynet.fuse(outer)
    x = image(1, 3, 5, 5)
    assert_same(net(lambda m, x: F.relu(m.inner(x) + x), inner=inner), fused, x)
    assert titles(fused) == ["convolution 3x3 + norm + relu", "join + relu"]
    assert_same(inner, tinynet.fuse(tinynet.fuse(inner)), x)


def test_nan_and_infinity_pass() -> None:
    model = simple()
    fused = tinynet.fuse(model, image(1, 3, 5, 5))
    x = image(1, 3, 5, 5)
    x[0, 1, 2, 2] = float("nan")
    with tinynet.no_grad():
        assert np.array_equal(np.isnan(fused(x).numpy()), np.isnan(model(x).numpy()))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_other_backends_and_own_kernels(backend: str) -> None:
    model, x = small(), image(1, 3, 9, 9)
    fused = tinynet.fuse(model, x)
    with kernels.backend(backend):
        assert_same(model, fused, x)

    def im2col(x, kernel, stride, padding, dilation):
        with kernels.backend("numpy"):
            return kernels.registry._kernels["im2col"].implementations["numpy"](x, kernel, stride, padding, dilation)

    with kernels.override(im2col=im2col) as report:
        assert_same(model, fused, x)
    assert report.calls["im2col"] == 2 * 19
    with kernels.override(relu=lambda x: np.maximum(x, 0)) as report:  # one that a plan would have no use for
        assert_same(model, fused, x)
    assert report.calls["relu"] == 2 * 19


# --- threads ---------------------------------------------------------------------------------------------------


def test_threads_do_not_meet() -> None:
    model = small()
    fused = tinynet.fuse(model)
    inputs = [image(2, 3, 16 + 4 * (seed % 2), 16, seed=seed) for seed in range(6)]
    with tinynet.no_grad():
        expected = [model(x).numpy() for x in inputs]
    wrong: list[float] = []
    ready = threading.Barrier(len(inputs))

    def work(x: tinynet.Tensor, right: np.ndarray) -> None:
        ready.wait()
        for _ in range(15):
            error = np.abs(fused(x).numpy() - right).max()
            if error > 1e-5 * np.abs(right).max():
                wrong.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(inputs, expected)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(fused._plans) == 2


def test_a_call_within_a_call_has_memory_of_its_own() -> None:
    """What two threads do at the same time, without the luck of two threads."""
    model = small()
    x, other = image(1, 3, 16, 16), image(1, 3, 16, 16, seed=1)
    fused = tinynet.fuse(model, x)
    plan = fused.plan()
    middle = len(plan._program) // 2
    function = plan._program[middle].function
    inner = []

    def interrupted(*arrays):
        if not inner:
            inner.append(None)
            inner[0] = fused(other)
        return function(*arrays)

    plan._program[middle] = plan._program[middle]._replace(function=interrupted)
    outer = fused(x)
    plan._program[middle] = plan._program[middle]._replace(function=function)
    assert np.array_equal(outer.numpy(), fused(x).numpy())
    assert np.array_equal(inner[0].numpy(), fused(other).numpy())


def test_memory_of_a_failed_call_is_used_again() -> None:
    fused = tinynet.fuse(small(), image(1, 3, 16, 16))
    plan = fused.plan()
    right = fused(image(1, 3, 16, 16)).numpy()
    function = plan._program[3].function
    plan._program[3] = plan._program[3]._replace(function=lambda *arrays: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fused(image(1, 3, 16, 16))
    plan._program[3] = plan._program[3]._replace(function=function)
    assert len(plan._idle) == 1
    assert np.array_equal(fused(image(1, 3, 16, 16)).numpy(), right)


# --- the copy --------------------------------------------------------------------------------------------------


def test_model_and_copy_are_independent() -> None:
    model, x = small(), image(1, 3, 16, 16)
    state = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    fused = tinynet.fuse(model, x)
    before = fused(x).numpy()
    assert all(np.array_equal(tensor.numpy(), state[name]) for name, tensor in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    with tinynet.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()
    assert np.array_equal(fused(x).numpy(), before)
    assert not np.array_equal(fused(image(2, 3, 16, 16)).numpy(), model(image(2, 3, 16, 16)).detach().numpy())


def test_constants_are_copied_too() -> None:
    constant, x = image(1, 1, 1, 6), image(1, 3, 5, 6)
    fused = tinynet.fuse(simple(lambda m, x: m.a(x) * constant), x)
    before = fused(x).numpy()
    constant.zero_()
    assert np.array_equal(fused(x).numpy(), before)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda fused: pickle.loads(pickle.dumps(fused))])
def test_deepcopy_and_pickle(copied) -> None:
    model, x = small(), image(1, 3, 16, 16)
    again = copied(tinynet.fuse(model, x))
    assert isinstance(again, FusedModel) and not again._plans
    assert_same(model, again, x)


def test_it_is_a_module_without_parameters() -> None:
    fused = tinynet.fuse(small())
    assert isinstance(fused, nn.Module) and not fused.training
    assert not list(fused.parameters()) and not fused.state_dict()
    assert fused.eval() is fused and fused.to("cpu") is fused
    with pytest.raises(GraphError, match="cannot be trained"):
        fused.train()
    with pytest.raises(DtypeError, match="keeps its dtype"):
        fused.double()


def test_no_gradient() -> None:
    model, x = small(), image(1, 3, 8, 8).requires_grad_()
    fused = tinynet.fuse(model)
    with pytest.raises(GraphError, match="inference"):
        fused(x)
    with tinynet.no_grad():
        assert not fused(x).requires_grad
    assert not fused(x.detach()).requires_grad


# --- refusals --------------------------------------------------------------------------------------------------


def test_training_mode_is_refused() -> None:
    model = small()
    model.layer2[0].bn1.train()
    with pytest.raises(GraphError, match=r"'layer2\.0\.bn1' \(BatchNorm2d\) is in training mode"):
        tinynet.fuse(model)
    with pytest.raises(GraphError, match=r"model\.eval\(\)"):
        tinynet.fuse(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(TypeError, match=r"expected an nn\.Module"):
        tinynet.fuse(lambda x: x)


def counting(m, x):
    m.calls.add_(1)
    return m.a(x) * m.calls


def stale(m, x):
    y = m.a(x)
    view = y[:, :1]
    y.mul_(2)
    return view + 1


def remembering(m, x):
    before = m.memory.clone()
    m.memory.copy_(x)
    return m.a(before + x)


def failing(m, x):
    if x.numpy()[0, 0, 0, 0] != image(2, 3, 5, 6).numpy()[0, 0, 0, 0]:
        raise ValueError("no such image")
    return m.a(x)


REFUSED = {
    "a branch": (lambda m, x: m.a(x) if x.sum() > 3 else m.norm(x), "conv2d ran in one|batch_norm ran in one"),
    "a number": (lambda m, x: m.a(x) * x.mean().item(), "mul read another constant"),
    "a comparison": (lambda m, x: m.a(x) * (x > 0).float(), "read another constant"),
    "a mask": (lambda m, x: m.a(x)[x > 0], "settings|made"),
    "an index": (lambda m, x: m.a(x)[:, x.mean(dim=(0, 2, 3)).argmax()], "settings"),
    "random numbers": (lambda m, x: m.a(x + tinynet.randn(*x.shape)), "read another constant"),
    "NumPy": (lambda m, x: m.a(x) + tinynet.from_numpy(np.sin(x.numpy())), "read another constant"),
    "a plain result": (lambda m, x: (m.a(x), x.max().item()), "plain values"),
    "a failure": (failing, "depends on the numbers: ValueError: no such image"),
    "a count": (counting, "read another constant"),
    "a memory": (remembering, "read another constant"),
    "dropout": (lambda m, x: m.a(F.dropout(x)), "dropout is active"),
    "training": (lambda m, x: F.batch_norm(x, m.norm.running_mean, m.norm.running_var, training=True),
                 "running statistics"),
    "a stale view": (stale, "shares memory with one that the model changed"),
    "a function": (lambda m, x: Elsewhere.apply(m.a(x)), "autograd.Function Elsewhere"),
    "another type": (lambda m, x: {1, 2}, "output holds a set"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_traced_is_explained(name: str) -> None:
    forward, message = REFUSED[name]
    model = simple(forward)
    model.register_buffer("calls", tinynet.zeros(1))
    model.register_buffer("memory", tinynet.zeros(2, 3, 5, 6))
    fused = tinynet.fuse(model)
    with pytest.raises((GraphError, TypeError), match=message):
        fused(image(2, 3, 5, 6))
    assert not fused._plans
    assert not model.calls.numpy().any() and not model.memory.numpy().any()


def test_arguments_of_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="the call holds a ndarray"):
        tinynet.fuse(simple())(np.zeros((1, 3, 4, 4), np.float32))


def test_errors_of_the_model_are_its_own() -> None:
    with pytest.raises(ValueError, match="channels"):
        tinynet.fuse(simple())(image(1, 4, 5, 5))


def test_changed_memory_is_noticed() -> None:
    """What no operation shows: NumPy writes into a tensor's memory."""

    def forward(m, x):
        y = m.a(x)
        y.numpy()[...] += 1
        return F.relu(y)

    with pytest.raises(GraphError, match="differs from the model's"):
        tinynet.fuse(simple(forward))(image(1, 3, 5, 5))


# --- what it looks like ----------------------------------------------------------------------------------------


def test_plan_is_readable() -> None:
    model = models.resnet18(num_classes=5).eval()
    fused = tinynet.fuse(model, image(1, 3, 64, 64))
    text = str(fused.plan())
    lines = text.splitlines()
    assert lines[0] == fused.plan().title and lines[0] in repr(fused) and "ResNet" in repr(fused)
    assert "24 steps, 20 convolutions, 8 joins and 17 ReLUs" in lines[0]
    assert lines[1].split() == ["step", "does", "weights", "reads", "makes", "kept", "at"]
    assert len(lines) == 2 + 24 + 1 and lines[-1] == "returns 24"
    assert "convolution 3x3 + norm + join + relu" in lines[5] and "layer1.0.conv2" in lines[5] and "3 + 2" in lines[5]
    assert "a view" in text and "new memory" in lines[-2] and "arena + 0 KiB" in lines[2]
