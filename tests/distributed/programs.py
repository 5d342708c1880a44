"""What the ranks of the tests run."""

from __future__ import annotations

import hashlib

import numpy as np

import tinynet
from tinynet import distributed as dist
from tinynet import nn, optim
from tinynet.nn import functional as F
from tinynet.nn.parallel import DistributedDataParallel

BATCH = 64


class Net(nn.Module):
    """Two convolutions with batch norm and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: tinynet.Tensor) -> tinynet.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


def batch(step: int, dtype: type = np.float64) -> tuple[tinynet.Tensor, tinynet.Tensor]:
    """The whole batch of a step, the same on every rank."""
    rng = np.random.default_rng(step)
    labels = rng.integers(0, 4, BATCH)
    images = rng.standard_normal((BATCH, 1, 8, 8)) + labels.reshape(-1, 1, 1, 1)
    return tinynet.from_numpy(images.astype(dtype)), tinynet.from_numpy(labels)


def trained(steps: int = 20, sync: bool = True, dtype: type = np.float64, order: np.ndarray | None = None) -> nn.Module:
    """The net after some steps of SGD, each rank on its part of every batch of 64."""
    tinynet.manual_seed(dist.get_rank())  # the wrapper has to make the ranks equal
    net: nn.Module = Net() if dtype is np.float32 else Net().double()
    if dist.get_rank() == 0:
        tinynet.manual_seed(0)
    if sync:
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    parallel = DistributedDataParallel(net, bucket_cap_mb=0.001)
    optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    size = BATCH // dist.get_world_size()
    mine = slice(size * dist.get_rank(), size * (dist.get_rank() + 1))
    for step in range(steps):
        images, labels = batch(step, dtype)
        if order is not None:
            images, labels = images[order], labels[order]
        optimizer.zero_grad()
        F.cross_entropy(parallel(images[mine]), labels[mine]).backward()
        optimizer.step()
    return net


def values(net: nn.Module) -> list[float]:
    """All parameters and running statistics, one after the other."""
    return [float(v) for tensor in net.state_dict().values() for v in tensor.numpy().reshape(-1)]


def digest(net: nn.Module) -> str:
    """Of the bits of the state."""
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in net.state_dict().values())).hexdigest()
