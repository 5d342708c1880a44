"""Two ranks of 32 images are one of 64; gradients travel while backward runs; buckets are torch's."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tests.distributed.launching import needs_mpi, run
from tinynet import distributed as dist
from tinynet import nn
from tinynet.errors import GraphError
from tinynet.nn.parallel import DistributedDataParallel
from tinynet.nn.parallel.reducer import bucket_plan

TRAINED = """
    net = programs.trained(sync={sync}, dtype=np.{dtype})
    report(values=programs.values(net), bits=programs.digest(net))
"""


def distance(actual: list[float], expected: list[float]) -> float:
    """The largest difference, relative to each value (and to 1e-6 where a value is nearly zero)."""
    actual_values, expected_values = np.array(actual), np.array(expected)
    return float((abs(actual_values - expected_values) / np.maximum(abs(expected_values), 1e-6)).max())


@pytest.fixture(scope="module")
def one_rank() -> list[float]:
    return run(0, TRAINED.format(sync=False, dtype="float64"))[0]["values"]


@needs_mpi
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_several_ranks_with_synchronised_norms_are_one(ranks, one_rank):
    everyone = run(ranks, TRAINED.format(sync=True, dtype="float64"))
    assert distance(everyone[0]["values"], one_rank) < 1e-9
    assert len({each["bits"] for each in everyone}) == 1


@needs_mpi
def test_without_synchronised_norms_they_differ_as_documented(one_rank):
    """Each rank normalises by the statistics of its own 32 images, which is another function."""
    everyone = run(2, TRAINED.format(sync=False, dtype="float64"))
    difference = np.abs(np.array(everyone[0]["values"]) - np.array(one_rank))
    assert 1e-2 < difference.max() < 1


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 3])
def test_the_same_ranks_give_the_same_bits(ranks):
    first, second = (run(ranks, TRAINED.format(sync=True, dtype="float32")) for _ in range(2))
    assert len({each["bits"] for each in first + second}) == 1


@needs_mpi
def test_gradients_travel_while_backward_runs():
    """The last layer's bucket is on its way before backward has reached the first layer."""
    everyone = run(2, """
        from tinynet.nn.parallel import DistributedDataParallel
        net = programs.Net()
        ddp = DistributedDataParallel(net, bucket_cap_mb=1e-4)
        log = []
        send = ddp.reducer.group.start_all_reduce
        def start_all_reduce(array, op="SUM"):
            log.append(f"send {array.size}")
            return send(array, op)
        ddp.reducer.group.start_all_reduce = start_all_reduce
        images, labels = programs.batch(0, np.float32)
        net.conv1.register_forward_hook(lambda m, a, out: out.register_hook(lambda g: log.append("conv1")) and None)
        nn.functional.cross_entropy(ddp(images), labels).backward()
        report(log=log, buckets=[bucket.names for bucket in ddp.reducer.buckets])
    """)
    for each in everyone:
        assert each["buckets"][0] == ["fc.bias", "fc.weight"] and each["buckets"][-1][-1] == "conv1.weight"
        assert each["log"].index("conv1") == len(each["buckets"]) - 1 == 2  # all but the bucket of conv1.weight
        assert each["log"][0] == "send 36" and each["log"][-1].startswith("send")


@needs_mpi
def test_accumulating_without_sync_averages_the_sum_once():
    everyone = run(2, """
        from tinynet.nn.parallel import DistributedDataParallel
        layer = nn.Linear(2, 1, bias=False).double()
        nn.init.ones_(layer.weight)
        ddp = DistributedDataParallel(layer)
        x = tinynet.tensor([[1.0, 2.0]]).double() * (rank + 1)
        with ddp.no_sync():
            ddp(x).sum().backward()
        alone = layer.weight.grad.tolist()
        ddp(10 * x).sum().backward()
        same = layer.weight.grad
        ddp(x).sum().backward()                 # on top of what is averaged already
        (grad,) = tinynet.autograd.grad(ddp(x).sum(), layer.weight)
        report(alone=alone, together=layer.weight.grad.tolist(), same=same is layer.weight.grad, grad=grad.tolist())
    """)
    for rank, each in enumerate(everyone):
        assert each["alone"] == [[1.0 + rank, 2.0 + 2 * rank]] == each["grad"]  # autograd.grad is this rank's
        assert each["together"] == [[16.5 + 1.5, 33.0 + 3.0]] and each["same"]


@needs_mpi
def test_parameters_that_a_rank_did_not_use():
    everyone = run(2, """
        from tinynet.nn.parallel import DistributedDataParallel
        net = nn.ModuleDict({"a": nn.Linear(1, 1, bias=False), "b": nn.Linear(1, 1, bias=False),
                             "never": nn.Linear(1, 1, bias=False)})
        x = tinynet.ones(1, 1)
        strict = DistributedDataParallel(net)
        try:
            net["a"](x).sum().backward()
        except RuntimeError as error:
            message = str(error)
        net.zero_grad()
        for p in net.parameters():
            p._leaf = None                      # without the first wrapper's hooks
        DistributedDataParallel(net, find_unused_parameters=True)
        net["b" if rank else "a"](x * 4).sum().backward()
        report(message=message, grads=[None if p.grad is None else p.grad.item() for p in net.parameters()])
    """)
    for each in everyone:
        assert "no gradient of never.weight, b.weight" in each["message"]
        assert each["grads"] == [2.0, 2.0, None]


@needs_mpi
def test_the_first_rank_s_buffers_come_before_each_forward_pass():
    everyone = run(2, """
        from tinynet.nn.parallel import DistributedDataParallel
        norm = nn.BatchNorm1d(2)
        ddp = DistributedDataParallel(norm)
        before = [key for key in ddp.state_dict()]
        ddp(tinynet.randn(4, 2) + rank)
        norm.eval()
        ddp(tinynet.randn(4, 2))
        report(keys=before, mean=norm.running_mean.tolist(), ddp=type(ddp.module).__name__)
    """)
    assert everyone[0]["mean"] == everyone[1]["mean"] and everyone[0]["ddp"] == "BatchNorm1d"
    assert everyone[0]["keys"][0] == "module.weight"  # torch's prefix


@needs_mpi
def test_different_models_are_an_error_on_every_rank():
    everyone = run(2, """
        from tinynet.nn.parallel import DistributedDataParallel
        try:
            DistributedDataParallel(nn.Linear(2 + rank, 1))
        except RuntimeError as error:
            report(message=str(error))
    """)
    assert "rank 0 and rank 1 have different models: weight [1, 2]" in everyone[0]["message"]
    assert "rank 1 and rank 0" in everyone[1]["message"]


def test_one_rank_alone_needs_a_group_too():
    layer = nn.Linear(2, 1)
    with pytest.raises(ValueError, match="has not been initialized"):
        DistributedDataParallel(layer)
    dist.init_process_group()
    try:
        ddp = DistributedDataParallel(layer)
        ddp(tinynet.ones(1, 2)).sum().backward()
        assert layer.weight.grad.tolist() == [[1.0, 1.0]]
        with pytest.raises(GraphError, match="no parameter"):
            DistributedDataParallel(nn.ReLU())
        with pytest.raises(ValueError, match="bucket_cap_mb must be positive"):
            DistributedDataParallel(layer, bucket_cap_mb=0)
    finally:
        dist.destroy_process_group()


def test_a_bucket_is_closed_when_it_is_full():
    assert bucket_plan([4, 4, 4, 8, 20, 1], ["a"] * 6, [4, 10]) == [[0], [1, 2, 3], [4], [5]]
    assert bucket_plan([4, 4, 4, 4], ["a", "b", "a", "b"], [8]) == [[0, 2], [1, 3]]


@pytest.mark.torch
def test_buckets_are_torch_s():
    torch = pytest.importorskip("torch")
    from torch.distributed import _compute_bucket_assignment_by_size

    rng = np.random.default_rng(0)
    for _ in range(20):
        sizes = rng.integers(1, 400, rng.integers(1, 30)).tolist()
        kinds = rng.choice(["float32", "float64"], len(sizes)).tolist()
        tensors = [torch.zeros(size, dtype=getattr(torch, kind)) for size, kind in zip(sizes, kinds)]
        expected, _ = _compute_bucket_assignment_by_size(tensors, [500, 2000])
        size_bytes = [size * (4 if kind == "float32" else 8) for size, kind in zip(sizes, kinds)]
        assert bucket_plan(size_bytes, kinds, [500, 2000]) == expected
