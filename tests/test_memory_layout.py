"""The memory order of activations is nobody's business: what a user can see of it is as in torch.

A stand-in for the compiled kernels, `ChannelsLast`, returns its input's values with the channels last in memory.
"""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

import tinynet
import tinynet.nn.functional as F
from tinynet import nn
from tinynet.kernels.layout import axis_order
from tinynet.tape import Operation
from tinynet.tensor import apply

torch = pytest.importorskip("torch")

SHAPE = (2, 3, 4, 5)
LAST = [0, 2, 3, 1]  # the axes in memory of an activation


def channels_last(array: np.ndarray) -> np.ndarray:
    out = np.empty((len(array), *array.shape[2:], array.shape[1]), array.dtype)
    out[...] = np.moveaxis(array, 1, -1)
    return np.moveaxis(out, -1, 1)


class ChannelsLast(Operation):
    """3 x, as a compiled kernel would return it, forward and backward."""

    name = "channels_last"

    @staticmethod
    def forward(ctx, x):
        return channels_last(3 * x)

    @staticmethod
    def backward(ctx, grad):
        return channels_last(3 * grad)


class Square(Operation):
    """Saves its input."""

    name = "square"

    @staticmethod
    def forward(ctx, x):
        ctx.save(input=x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * ctx.input * grad


def stand_in(x):
    return apply(ChannelsLast, x)


def numbers(shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def hidden(shape=SHAPE, requires_grad: bool = False):
    y = stand_in(tinynet.tensor(numbers(shape), requires_grad=requires_grad))
    assert axis_order(y._array) != list(range(len(shape))), "the test would show nothing"
    return y


def assert_contiguous(tensor) -> None:
    expected = torch.empty(tuple(tensor.shape))
    assert tensor.is_contiguous() and tensor.stride() == expected.stride()
    assert tensor.detach().numpy().flags.c_contiguous
    tensor.view(-1)


@pytest.mark.parametrize("shape", [SHAPE, (2, 3, 7), (2, 3, 2, 3, 4)])
def test_a_result_looks_contiguous(shape):
    assert hidden(shape).is_contiguous()
    assert hidden(shape).stride() == torch.empty(shape).stride()
    y = hidden(shape)
    np.testing.assert_array_equal(y.view(shape[0], -1).numpy(), 3 * numbers(shape).reshape(shape[0], -1))
    np.testing.assert_array_equal(y.numpy(), 3 * numbers(shape))
    assert_contiguous(y)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 1, 4, 5), (2, 3, 1, 1), (1, 3, 1, 4), (2, 3, 1, 5)])
def test_sizes_of_1(shape):
    y = stand_in(tinynet.tensor(numbers(shape)))
    expected = torch.from_numpy(numbers(shape)) * 3
    assert y.stride() == expected.stride() and y.is_contiguous()
    assert y.numpy().strides == expected.numpy().strides
    np.testing.assert_array_equal(y.view(-1).numpy(), expected.view(-1).numpy())


def test_no_images_at_all():
    y = stand_in(tinynet.zeros(0, 3, 4, 5))
    assert y.is_contiguous() and (y + 1).view(-1).numpy().shape == (0,)


@pytest.mark.parametrize("flatten", [lambda y: y.flatten(1), lambda y: y.squeeze(), lambda y: y.view(2, 3)])
def test_flattening_after_global_pooling_copies_nothing(flatten):
    y = stand_in(tinynet.tensor(numbers((2, 3, 1, 1))))
    before = y._array
    assert np.shares_memory(flatten(y)._array, before)


VIEWS = {
    "view": lambda y: y.view(2, -1),
    "reshape": lambda y: y.reshape(6, 20),
    "flatten": lambda y: y.flatten(),
    "permute": lambda y: y.permute(0, 2, 3, 1),
    "transpose": lambda y: y.transpose(1, 3),
    "slice": lambda y: y[:, 1:, ::2],
    "integer": lambda y: y[1],
    "expand": lambda y: y[:1].expand(2, 3, 4, 5),
    "unsqueeze": lambda y: y.unsqueeze(0),
    "split": lambda y: y.split(2, 1)[0],
    "chunk": lambda y: y.chunk(2, 2)[1],
    "unbind": lambda y: y.unbind(1)[2],
    "iteration": lambda y: list(y)[1],
    "narrow": lambda y: y.narrow(3, 1, 2),
    "detach": lambda y: y.detach(),
    "data": lambda y: y.data,
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_views_are_torchs_and_share_memory(view):
    y = hidden()
    theirs = torch.from_numpy(numbers()) * 3
    mine, expected = view(y), view(theirs)
    assert mine.stride() == expected.stride() and mine.is_contiguous() == expected.is_contiguous()
    np.testing.assert_array_equal(mine.numpy(), expected.numpy())
    if 0 not in mine.stride():  # an expanded view cannot be written to
        mine.add_(1)
        expected.add_(1)
    y.mul_(2)
    theirs.mul_(2)
    np.testing.assert_array_equal(y.numpy(), theirs.numpy())
    np.testing.assert_array_equal(mine.numpy(), expected.numpy())


@pytest.mark.parametrize("share", [lambda y: y.numpy(), lambda y: np.asarray(y), lambda y: y.numpy(force=True)])
def test_a_numpy_array_shares_the_memory(share):
    y = hidden()
    array = share(y)
    array[1, 2, 3, 4] = 77
    assert y[1, 2, 3, 4].item() == 77
    y.fill_(5)
    assert (array == 5).all() and y.data_ptr() == array.ctypes.data


@pytest.mark.parametrize("make", [tinynet.as_tensor, tinynet.Tensor, nn.Parameter])
def test_a_tensor_made_from_one_shares_the_memory(make):
    y = hidden()
    made = make(y)
    with tinynet.no_grad():
        made.fill_(4)
    assert (y.numpy() == 4).all()
    assert_contiguous(made)


def test_data_can_be_exchanged():
    y, z = hidden(), hidden()
    y.data = z
    z.fill_(8)
    assert (y.numpy() == 8).all()
    transposed = numbers().transpose(0, 2, 3, 1)
    y = hidden()
    y.data = tinynet.from_numpy(transposed)
    assert y.stride() == torch.from_numpy(transposed).stride()


def test_a_change_in_place_keeps_the_order_and_reaches_later_views():
    y = hidden()
    y += 1
    y[0] = 2
    y[:, 0].mul_(3)  # the first view
    expected = 3 * numbers() + 1
    expected[0] = 2
    expected[:, 0] *= 3
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-6)


KEEPING = {
    "add": lambda y: y + 1,
    "add a residual": lambda y: y + y * 2,
    "add contiguous": lambda y: y + tinynet.ones(*y.shape),
    "contiguous on the left": lambda y: tinynet.ones(*y.shape) + y,
    "mul by channels": lambda y: y * tinynet.ones(1, y.shape[1], 1, 1),
    "relu": lambda y: F.relu(y),
    "clamp": lambda y: y.clamp(0, 1),
    "exp": lambda y: y.exp(),
    "where": lambda y: tinynet.where(y > 0, y, y * 2),
    "compare": lambda y: y > 0,
    "not": lambda y: ~(y > 0),
    "and": lambda y: (y > 0) & (y < 1),
    "isnan": lambda y: y.isnan(),
    "floor_divide": lambda y: y // 2,
    "to float64": lambda y: y.double(),
    "clone": lambda y: y.clone(),
    "contiguous": lambda y: y.contiguous(),
    "cat": lambda y: tinynet.cat([y, y * 2], 1),
    "zeros_like": lambda y: tinynet.zeros_like(y),
    "ones_like": lambda y: tinynet.ones_like(y, dtype=tinynet.float64),
    "empty_like": lambda y: tinynet.empty_like(y).zero_(),
    "full_like": lambda y: tinynet.full_like(y, 3),
    "pad": lambda y: F.pad(y, (1, 2)),
    "pad channels": lambda y: F.pad(y, (0, 0, 0, 0, 2, 1)),
}
BIG = (2, 16, 12, 13)  # past the size from which a mixed sum is put into one order


@pytest.mark.parametrize("operation", KEEPING.values(), ids=KEEPING)
def test_the_order_survives_elementwise_operations(operation):
    y = hidden(BIG)
    result = operation(y)
    assert axis_order(result._array) == LAST, "the next kernel would have to move everything"
    assert axis_order(y._array) == LAST, "the operation has looked at its input"
    assert_contiguous(result)
    expected = operation(tinynet.tensor(3 * numbers(BIG)))
    np.testing.assert_array_equal(result.numpy(), expected.numpy())
    assert result.dtype == expected.dtype


REDUCING = {
    "sum": lambda y: y.sum((0, 2)),
    "mean": lambda y: y.mean(3),
    "mean of images": lambda y: y.mean((2, 3), keepdim=True),
    "amax": lambda y: y.amax((1,)),
    "max": lambda y: y.max(1).values,
    "argmax": lambda y: y.argmax(1),
    "var": lambda y: y.var(2),
    "any": lambda y: (y > 0).any(1),
    "sort": lambda y: y.sort(1).values,
    "topk": lambda y: y.topk(2, 1).indices,
    "cumsum": lambda y: y.cumsum(2),
    "softmax": lambda y: y.softmax(1),
    "flip": lambda y: y.flip(1),
    "gather": lambda y: y.argsort(1),
    "pick": lambda y: y[:, [2, 0]],
    "mask": lambda y: y[y > 0],
    "repeat": lambda y: y.repeat(1, 2, 1, 1),
    "matmul": lambda y: y @ y.mT,
}


@pytest.mark.parametrize("operation", REDUCING.values(), ids=REDUCING)
def test_whatever_comes_out_of_it_looks_contiguous(operation):
    result = operation(hidden())
    expected = operation(torch.from_numpy(3 * numbers()))
    assert_contiguous(result)
    np.testing.assert_allclose(result.numpy(), expected.numpy(), rtol=2e-6, atol=2e-6)


def test_picking_elements_does_not_move_the_rest():
    y = hidden()
    y[:, [0, 2]], y[y > 0]
    assert axis_order(y._array) == LAST


OPEN = {
    "add": lambda p: p + 1,
    "add to itself": lambda p: p + p * 2,
    "compare": lambda p: p > 0,
    "clone": lambda p: p.clone(),
    "double": lambda p: p.double(),
    "zeros_like": lambda p: p * 0,
}


@pytest.mark.parametrize("dims", [(0, 2, 3, 1), (0, 3, 1, 2), (3, 2, 1, 0)])
@pytest.mark.parametrize("operation", OPEN.values(), ids=OPEN)
def test_an_order_that_the_user_chose_stays_visible(operation, dims):
    mine = operation(tinynet.tensor(numbers()).permute(dims))
    theirs = operation(torch.from_numpy(numbers()).permute(dims))
    assert mine.stride() == theirs.stride() and not mine.is_contiguous()


@pytest.mark.parametrize("key", [np.s_[:, :2], np.s_[..., 1:4], np.s_[:, :, ::2, ::2]])
def test_a_kernel_on_a_part_of_a_tensor_gives_a_contiguous_result(key):
    assert_contiguous(stand_in(tinynet.tensor(numbers())[key]))
    assert_contiguous(stand_in(tinynet.tensor(numbers((2, 1, 4, 5))).expand(2, 3, 4, 5)))
    assert_contiguous(stand_in(tinynet.tensor(numbers()).transpose(2, 3)))


def test_a_kernel_on_an_openly_channels_last_input_is_openly_channels_last():
    x = numbers((2, 4, 5, 3))
    mine = stand_in(tinynet.tensor(x).permute(0, 3, 1, 2))
    weight = torch.ones(3, 1, 1, 1)
    theirs = torch.nn.functional.conv2d(torch.from_numpy(x).permute(0, 3, 1, 2), weight, groups=3)
    assert mine.stride() == theirs.stride() and not mine.is_contiguous() and not theirs.is_contiguous()


def test_gradients_look_contiguous():
    x = tinynet.tensor(numbers(), requires_grad=True)
    y = stand_in(x)
    y.retain_grad()
    seen = []
    y.register_hook(lambda grad: seen.append(grad))
    (stand_in(y) * tinynet.tensor(numbers())).sum().backward()
    for gradient in (x.grad, y.grad, seen[0]):
        assert_contiguous(gradient)
    np.testing.assert_allclose(x.grad.numpy(), 9 * numbers(), rtol=1e-6)
    before = x.grad.numpy()
    stand_in(x).backward(tinynet.ones(*SHAPE))
    assert np.shares_memory(x.grad.numpy(), before)  # the second backward adds to it in place
    np.testing.assert_allclose(before, 9 * numbers() + 3, rtol=1e-6)


def test_the_gradient_of_a_transposed_leaf_has_its_order_as_in_torch():
    strides = []
    for library in (tinynet, torch):
        leaf = library.ones(2, 3, 4, 5).permute(0, 3, 1, 2).requires_grad_()
        (leaf * 2).sum().backward()
        strides.append((leaf.grad.stride(), leaf.stride()))
    assert strides[0] == strides[1]


def test_autograd_grad_and_a_leaf_made_from_a_hidden_tensor():
    leaf = hidden().requires_grad_()
    (gradient,) = tinynet.autograd.grad(stand_in(leaf).sum(), [leaf])
    assert_contiguous(gradient)
    (stand_in(leaf) * 2).sum().backward()
    assert_contiguous(leaf.grad)
    np.testing.assert_array_equal(leaf.grad.numpy(), np.full(SHAPE, 6, np.float32))


@pytest.mark.parametrize("look", [lambda y: y.numpy(force=True), lambda y: y.detach(), lambda y: y.view(-1)])
def test_a_stale_value_is_noticed_also_after_somebody_looked(look):
    y = stand_in(tinynet.tensor(numbers(), requires_grad=True))
    z = apply(Square, y)
    look(y)
    y.detach().add_(1)
    with pytest.raises(RuntimeError, match=r"square: the value 'input' .* was modified"):
        z.sum().backward()


def test_looking_alone_changes_no_gradient():
    x = tinynet.tensor(numbers(), requires_grad=True)
    y = stand_in(x)
    z = apply(Square, y)
    y.detach(), z.numpy(force=True), y.stride()
    z.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 18 * numbers(), rtol=1e-6)


def test_a_recorded_change_in_place_and_views_of_it():
    gradients = []
    for library, operation in ((tinynet, stand_in), (torch, lambda x: x * 3)):
        x = library.tensor(numbers(), requires_grad=True)
        y = operation(x)
        y.mul_(2)
        y += operation(y)
        y[:, 1] = y[:, 0] * 2
        y.view(2, -1).detach()
        y.mul_(5)
        (y * y).sum().backward()
        gradients.append(x.grad.numpy())
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-5)


def test_copies_and_pickles():
    y = hidden()
    for copied in (copy.deepcopy(y), pickle.loads(pickle.dumps(y)), copy.copy(y).clone()):
        assert_contiguous(copied)
        np.testing.assert_array_equal(copied.numpy(), 3 * numbers())
        copied.zero_()
    assert np.abs(y.numpy()).max() > 0


def test_a_function_of_the_users_own():
    class Twice(tinynet.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            Twice.kept = x * 2
            return Twice.kept

        @staticmethod
        def backward(ctx, grad):
            return grad.view(-1).mul(2).view(grad.shape)

    class Same(Twice):
        @staticmethod
        def forward(ctx, x):
            return x

    x = tinynet.tensor(numbers(), requires_grad=True)
    y = Twice.apply(stand_in(x))
    with tinynet.no_grad():
        y.detach().fill_(1)
        assert (Twice.kept.numpy() == 1).all()  # what forward kept is what it returned
    z = stand_in(x)
    same = Same.apply(z)
    assert np.shares_memory(z.detach().numpy(), same.detach().numpy())
    stand_in(same).backward(tinynet.ones(*SHAPE))
    np.testing.assert_array_equal(x.grad.numpy(), np.full(SHAPE, 18, np.float32))


def test_modules_with_backward_hooks_share_memory_with_their_inputs():
    class Through(nn.Module):
        def forward(self, x):
            self.seen = x.detach()
            return stand_in(x)

    module = Through()
    gradients = []
    module.register_full_backward_hook(lambda _, grad_input, grad_output: gradients.extend(grad_input + grad_output))
    x = tinynet.tensor(numbers(), requires_grad=True)
    y = stand_in(x)
    out = module(y)
    assert np.shares_memory(module.seen.numpy(), y.detach().numpy())
    stand_in(out).sum().backward()
    for gradient in gradients:
        assert_contiguous(gradient)


def test_a_hook_may_change_the_gradient_it_sees():
    gradients = []
    for library, operation in ((tinynet, stand_in), (torch, lambda x: x * 3)):
        x = library.tensor(numbers(), requires_grad=True)
        y = operation(x)
        y.register_hook(_double)
        (operation(y) * library.tensor(numbers())).sum().backward()
        gradients.append(x.grad.numpy())
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-6)


def _double(grad) -> None:
    grad.view(-1).mul_(2)


@pytest.mark.parametrize("optimizer", [tinynet.optim.SGD, tinynet.optim.Adam])
def test_optimizers_take_any_order(optimizer):
    results = []
    for start in (tinynet.tensor(3 * numbers()).requires_grad_(), hidden().requires_grad_()):
        steps = optimizer([start], lr=0.1)
        for _ in range(2):
            steps.zero_grad(set_to_none=False)
            (stand_in(start) * start).sum().backward()
            steps.step()
            assert start._array.flags.c_contiguous  # or every step would run in mixed order
        results.append(start.detach().numpy())
        assert_contiguous(start)
    np.testing.assert_array_equal(*results)


def test_two_threads_that_look_at_once_share_one_memory():
    for _ in range(50):
        y = hidden((2, 16, 16, 16))
        together = threading.Barrier(2)
        arrays: list[np.ndarray] = []

        def look(y=y, together=together, arrays=arrays):
            together.wait()
            arrays.append(y.numpy())

        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert np.shares_memory(*arrays)


KERNELS = {
    "convolution": lambda x, t: t.conv2d(x, CONVOLUTION[t], padding=1),
    "batch norm": lambda x, t: t.batch_norm(x, None, None, training=True),
    "max pool": lambda x, t: t.max_pool2d(x, 2),
    "average pool": lambda x, t: t.avg_pool2d(x, 2),
    "adaptive pool": lambda x, t: t.adaptive_avg_pool2d(x, 2),
    "nearest": lambda x, t: t.interpolate(x, scale_factor=2),
    "bilinear": lambda x, t: t.interpolate(x, scale_factor=2, mode="bilinear"),
    "relu": lambda x, t: t.relu(t.conv2d(x, CONVOLUTION[t])),
    "dropout": lambda x, t: t.dropout(t.conv2d(x, CONVOLUTION[t]), 0.0),
}
CONVOLUTION = {F: tinynet.tensor(numbers((6, 3, 3, 3))), torch.nn.functional: torch.from_numpy(numbers((6, 3, 3, 3)))}


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_the_real_kernels(kernel, backend):
    x = numbers((2, 3, 8, 6))
    with tinynet.kernels.backend(backend):
        mine = kernel(tinynet.tensor(x), F)
    theirs = kernel(torch.from_numpy(x), torch.nn.functional)
    assert mine.stride() == theirs.stride() and mine.is_contiguous()
    np.testing.assert_allclose(mine.view(2, -1).numpy(), theirs.view(2, -1).numpy(), rtol=1e-4, atol=1e-5)
