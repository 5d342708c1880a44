"""After `tinynet warmup` nothing has to be compiled any more."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.processes import output_of
from tinynet.bench.warmup import CALLS, all_kernels
from tinynet.kernels import launch, registry

pytestmark = pytest.mark.skipif(launch.numba_problem() is not None, reason="needs numba")

# Warms up an empty cache, then runs the real models and prints what was compiled for them.
AFTERWARDS = """
import tinynet
from tinynet import bench, models
from tinynet.kernels import cache

done = bench.warmup()
before = {path.name for path in cache.folder().glob("*.bin")}
images = tinynet.randn(1, 3, 224, 224)
for model in (models.resnet50(), models.resnet_fpn_backbone("resnet50", trainable_layers=5)):
    output = model(images)
    levels = output.values() if isinstance(output, dict) else [output]
    sum((level * level).mean() for level in levels).backward()
    with tinynet.no_grad():
        model.eval()(images)
        tinynet.fuse(model, images)(images)
cifar = models.cifar_resnet20()
optimizer = tinynet.optim.SGD(cifar.parameters(), lr=0.1, momentum=0.9)
tinynet.nn.functional.cross_entropy(cifar(tinynet.randn(128, 3, 32, 32)), tinynet.zeros(128).long()).backward()
optimizer.step()
new = sorted({path.name for path in cache.folder().glob("*.bin")} - before)
again = bench.warmup()
print(len(done.compiled) > 10, new, len(again.compiled))
"""


def test_every_kernel_has_its_calls():
    assert set(CALLS) == set(all_kernels()), "give the new kernel its calls in bench/warmup.py"


@pytest.mark.parametrize("name", CALLS)
def test_calls_fit_the_kernel(name):
    random = np.random.default_rng(0)
    all_kernels()
    kernel = registry.kernel_named(name)
    calls = CALLS[name](lambda *shape: random.standard_normal(shape).astype(np.float32))
    assert calls and all(len(arguments) == len(kernel.parameters) for arguments in calls)


@pytest.mark.slow
def test_nothing_is_compiled_afterwards(tmp_path):
    assert output_of(AFTERWARDS, TINYNET_CACHE_DIR=str(tmp_path), TINYNET_QUIET="1").strip() == "True [] 0"
