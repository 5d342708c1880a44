"""The exported graph computes what the model does, as ONNX Runtime sees it."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tinynet import models, nn
from tinynet.bench import engines, works
from tinynet.bench.works import Work
from tinynet.errors import TinynetError
from tinynet.inspect.compare import relative_error
from tinynet.nn import functional as F

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from tinynet.bench.onnx_graph import export  # noqa: E402


def outputs_of(model, images, path):
    export(model, images, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})


MODELS = {
    "basic": lambda: models.ResNet(models.BasicBlock, [1, 1, 1, 1], num_classes=7),
    "dilated, caffe's pool": lambda: models.ResNet(
        models.Bottleneck, [1, 1, 1, 1], pool_padding=0, pool_ceil_mode=True,
        replace_stride_with_dilation=[False, True, True],
    ),
    "groups": lambda: models.ResNet(models.Bottleneck, [1, 1, 1, 1], groups=32, width_per_group=4),
    "zero padding": lambda: models.CifarResNet(8),
    "pyramid": lambda: models.resnet_fpn_backbone("resnet18"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (2, 3, 75, 91)], ids=str)
def test_equal_to_tinynet(name, shape, tmp_path):
    model = MODELS[name]()
    values = works.weights({key: tuple(value.shape) for key, value in model.state_dict().items()})
    model.load_state_dict({key: tinynet.from_numpy(array) for key, array in values.items()})
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    with tinynet.no_grad():
        expected = model.eval()(tinynet.from_numpy(images))
    expected = list(expected.values()) if isinstance(expected, dict) else [expected]
    found = outputs_of(model, images, tmp_path / "model.onnx")
    assert len(found) == len(expected)
    for ours, theirs in zip(expected, found):
        assert ours.shape == theirs.shape and relative_error(theirs, ours.numpy()) < 1e-4


def test_what_cannot_be_written_is_named(tmp_path):
    class Odd(nn.Module):
        def __init__(self, function) -> None:
            super().__init__()
            self.function = function

        def forward(self, x):
            return self.function(x)

    images = np.ones((1, 3, 8, 8), np.float32)
    for function, named in (
        (tinynet.sigmoid, "sigmoid of the model"),
        (lambda x: F.max_pool2d(x, 2), "max_pool2d of the model is not a layer"),
        (lambda x: F.adaptive_avg_pool2d(x, 3), "only global pooling"),
    ):
        with pytest.raises(TinynetError, match=named):
            export(Odd(function), images, str(tmp_path / "odd.onnx"))
    assert not list(tmp_path.iterdir())


def test_the_engine_runs_it(tmp_path):
    work = Work("cifar_resnet20", batch=3, size=(20, 16))
    model = engines.build("tinynet", work)
    export(model, works.images(work), str(tmp_path / "model.onnx"))
    job = engines.prepare(works.Side("onnxruntime"), work, 1, str(tmp_path / "model.onnx"))
    assert [array.shape for array in job.result()] == [(3, 10)]
