"""A batch norm over all ranks is one over their batches together; here ranks are threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import tinynet
from tinynet import kernels, nn
from tinynet.errors import ShapeError
from tinynet.nn import functional as F
from tinynet.ops.normalization import BatchNorm
from tinynet.tensor import apply

TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}


class Threads:
    """What BatchNorm needs of ranks."""

    def __init__(self, count: int) -> None:
        self.places: list[np.ndarray | None] = [None] * count
        self.barrier = threading.Barrier(count, timeout=30)
        self.mine = threading.local()

    def gather(self, array: np.ndarray) -> np.ndarray:
        self.places[self.mine.rank] = array
        self.barrier.wait()
        everyone = np.stack([each for each in self.places if each is not None])
        self.barrier.wait()
        return everyone


def on_threads(parts, cotangents, weight, bias, running, backend):
    """Output, gradients of input, weight and bias and the running statistics of each rank."""
    ranks, results = Threads(len(parts)), [None] * len(parts)
    errors: list[BaseException] = []

    def work(rank: int) -> None:
        ranks.mine.rank = rank
        try:
            with kernels.backend(backend):
                leaves = [tinynet.from_numpy(array.copy()).requires_grad_() for array in (parts[rank], weight, bias)]
                own = [array.copy() for array in running]
                y = apply(BatchNorm, *leaves, running_mean=own[0], running_var=own[1], training=True, momentum=0.1,
                          eps=1e-5, ranks=ranks)  # fmt: skip
                y.backward(tinynet.from_numpy(cotangents[rank]))
                results[rank] = [y.detach().numpy(), *[leaf.grad.numpy() for leaf in leaves], *own]
        except BaseException as error:
            errors.append(error)
            ranks.barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise next((error for error in errors if not isinstance(error, threading.BrokenBarrierError)), errors[0])
    return results


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backend", ["loops", "numpy", "numba"])
@pytest.mark.parametrize("sizes", [(3, 2), (1, 4, 2), (5, 0)], ids=str)
def test_it_is_the_batch_norm_of_all(sizes, backend, dtype):
    rng = np.random.default_rng(3)
    x, cotangent = (rng.standard_normal((sum(sizes), 3, 4, 5)).astype(dtype) for _ in range(2))
    x += 100  # a mean far from zero: sums of squares would cancel
    weight, bias = rng.standard_normal(3).astype(dtype), rng.standard_normal(3).astype(dtype)
    running = [rng.standard_normal(3).astype(dtype), rng.uniform(1, 2, 3).astype(dtype)]
    ends = np.cumsum(sizes)[:-1]
    results = on_threads(np.split(x, ends), np.split(cotangent, ends), weight, bias, running, backend)

    leaves = [tinynet.from_numpy(array).requires_grad_() for array in (x, weight, bias)]
    statistics = [tinynet.from_numpy(array.copy()) for array in running]
    with kernels.backend(backend):
        expected = F.batch_norm(leaves[0], *statistics, *leaves[1:], training=True)
        expected.backward(tinynet.from_numpy(cotangent))
    close = dict(rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * 10)
    np.testing.assert_allclose(np.concatenate([each[0] for each in results]), expected.detach().numpy(), **close)
    np.testing.assert_allclose(np.concatenate([each[1] for each in results]), leaves[0].grad.numpy(), **close)
    for place, leaf in ((2, leaves[1]), (3, leaves[2])):  # each rank has its part of these
        np.testing.assert_allclose(sum(each[place] for each in results), leaf.grad.numpy(), **close)
    for each in results:
        np.testing.assert_allclose(each[4], statistics[0].numpy(), **close)
        np.testing.assert_allclose(each[5], statistics[1].numpy(), **close)
        assert all(array.dtype == dtype for array in each)


def test_one_value_per_channel_is_counted_over_all_ranks():
    arrays = [np.ones((1, 2)), np.zeros((1, 2))]
    ones = np.ones(2)
    assert len(on_threads(arrays, arrays, ones, ones, [ones, ones], "numpy")) == 2
    with pytest.raises(ShapeError, match="more than 1 value per channel"):
        on_threads([np.ones((1, 2)), np.ones((0, 2))], arrays, ones, ones, [ones, ones], "numpy")


def test_converting_keeps_parameters_buffers_and_names():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, momentum=None), nn.ModuleList([nn.BatchNorm1d(3)]))
    net[2].eval()
    before = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    after = {**dict(converted.named_parameters()), **dict(converted.named_buffers())}
    assert converted is net and list(before) == list(after) and all(after[name] is before[name] for name in before)
    assert isinstance(net[1], nn.SyncBatchNorm) and net[1].momentum is None and net[1].training
    assert isinstance(net[2][0], nn.SyncBatchNorm) and not net[2][0].training
    assert nn.SyncBatchNorm.convert_sync_batchnorm(net)[1] is net[1]


def test_without_other_ranks_it_is_a_batch_norm():
    tinynet.manual_seed(0)
    x = tinynet.randn(4, 3, 2, 2)
    sync, plain = nn.SyncBatchNorm(3), nn.BatchNorm2d(3)
    assert sync(x).equal(plain(x)) and sync.running_var.equal(plain.running_var)
    sync.load_state_dict(plain.state_dict())
    assert sync.eval()(x).equal(plain.eval()(x)) and sync(x[:, :, 0]).shape == (4, 3, 2)
    with pytest.raises(ShapeError, match="at least 2D"):
        sync(x[0, 0, 0])
    with pytest.raises(NotImplementedError, match="one process group"):
        nn.SyncBatchNorm(3, process_group="another")


@pytest.mark.torch
def test_torch_s_constructor_and_names():
    torch = pytest.importorskip("torch")
    theirs, ours = torch.nn.SyncBatchNorm(3, 1e-4, 0.2, False), nn.SyncBatchNorm(3, 1e-4, 0.2, False)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    assert (theirs.eps, theirs.momentum, theirs.affine) == (ours.eps, ours.momentum, ours.affine)
