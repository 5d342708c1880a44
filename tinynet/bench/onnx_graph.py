"""A model as an ONNX graph, written from its trace, for ONNX Runtime to run. Needs the package `onnx`.

What the layers of `tinynet.models` do is known here; any other operation is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinynet
from tinynet import nn
from tinynet.errors import TinynetError
from tinynet.inspect.trace import Input, Step, trace
from tinynet.models.frozen_batch_norm import FrozenBatchNorm2d
from tinynet.models.resnet import ZeroPadShortcut

OPSET = 17
IR_VERSION = 8  # which every ONNX Runtime since 1.12 reads


def export(model: nn.Module, images: np.ndarray, path: str) -> None:
    """Writes `model` in evaluation mode, for images of this shape.

    Raises TinynetError for an operation that has no counterpart here.
    """
    import onnx

    graph = _Writer(model, images).graph()
    opset = onnx.helper.make_opsetid("", OPSET)
    exported = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="tinynet")
    onnx.checker.check_model(exported)
    onnx.save(exported, path)


class _Writer:
    """Collects nodes and constants while it follows a trace."""

    def __init__(self, model: nn.Module, images: np.ndarray) -> None:
        from onnx import helper, numpy_helper

        self.helper = helper
        self.as_tensor = numpy_helper.from_array
        self.images = images
        self.traced = trace(model, (tinynet.from_numpy(images),))
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.names: dict[Input | Step, str] = {self.traced.inputs[0]: "images"}

    def graph(self) -> Any:
        for number, step in enumerate(self.traced.steps):
            self.names[step] = f"{number}.{step.name}"
            self._follow(step)
        value = self.helper.make_tensor_value_info
        outputs = []
        for result in self.traced.root.outputs:
            if result.source is None:
                raise TinynetError(f"onnx: the trace does not tell where the output {result.label} comes from")
            outputs.append(value(self.names[result.source], 1, result.shape))
        images = value("images", 1, self.images.shape)
        return self.helper.make_graph(self.nodes, "tinynet", [images], outputs, list(self.constants.values()))

    def _follow(self, step: Step) -> None:
        module = step.call.module
        if isinstance(module, FrozenBatchNorm2d):  # several operations in tinynet, one here
            if step is step.call.steps[-1]:
                self._normalise(step, step.call.steps[0].sources[0], module)
            return
        writer = _WRITERS.get(step.name)
        if writer is None:
            raise TinynetError(f"onnx: there is no way yet to write {step.name} of {step.call.name or 'the model'}")
        writer(self, step, module)

    def _emit(self, step: Step, kind: str, *inputs: str, source: Input | Step | None = None, **attributes: Any) -> None:
        first = self.names[source or step.sources[0]]
        node = self.helper.make_node(kind, [first, *inputs], [self.names[step]], name=self.names[step], **attributes)
        self.nodes.append(node)

    def _constant(self, name: str, value: Any) -> str:
        array = value.detach().numpy() if isinstance(value, tinynet.Tensor) else np.asarray(value)
        self.constants.setdefault(name, self.as_tensor(np.ascontiguousarray(array), name))
        return name

    def _own(self, step: Step, *names: str) -> list[str]:
        """Parameters and buffers of the layer that made the step; missing ones are left out."""
        layer = step.call
        found = [(name, getattr(layer.module, name)) for name in names]
        return [self._constant(f"{layer.name}.{name}", value) for name, value in found if value is not None]

    def _refuse_unless(self, step: Step, module: nn.Module, *kinds: type[nn.Module]) -> None:
        if not isinstance(module, kinds):
            raise TinynetError(
                f"onnx: {step.name} of {step.call.name or 'the model'} is not a layer of its own "
                f"({kinds[0].__name__}), so its settings are unknown"
            )

    def _conv2d(self, step: Step, module: Any) -> None:
        self._refuse_unless(step, module, nn.Conv2d)
        pads = [*module.padding, *module.padding]
        self._emit(
            step, "Conv", *self._own(step, "weight", "bias"), kernel_shape=list(module.kernel_size),
            strides=list(module.stride), pads=pads, dilations=list(module.dilation), group=module.groups,
        )  # fmt: skip

    def _batch_norm(self, step: Step, module: Any) -> None:
        self._refuse_unless(step, module, nn.BatchNorm2d)
        self._normalise(step, step.sources[0], module)

    def _normalise(self, step: Step, source: Input | Step, module: Any) -> None:
        arrays = self._own(step, "weight", "bias", "running_mean", "running_var")
        self._emit(step, "BatchNormalization", *arrays, source=source, epsilon=module.eps)

    def _relu(self, step: Step, module: Any) -> None:
        self._emit(step, "Relu")

    def _sum(self, step: Step, module: Any) -> None:
        self._emit(step, "Add", self.names[step.sources[1]])

    def _max_pool2d(self, step: Step, module: Any) -> None:
        self._refuse_unless(step, module, nn.MaxPool2d)
        kernel, stride, padding, dilation = (
            _pair(getattr(module, name)) for name in ("kernel_size", "stride", "padding", "dilation")
        )
        self._emit(
            step, "MaxPool", kernel_shape=kernel, strides=stride, pads=[*padding, *padding], dilations=dilation,
            ceil_mode=int(module.ceil_mode),
        )  # fmt: skip

    def _avg_pool2d(self, step: Step, module: Any) -> None:
        self._refuse_unless(step, module, ZeroPadShortcut)  # every stride-th pixel
        self._emit(step, "AveragePool", kernel_shape=[1, 1], strides=_pair(module.stride))

    def _adaptive_avg_pool2d(self, step: Step, module: Any) -> None:
        if step.shape[2:] != (1, 1):
            raise TinynetError(f"onnx: adaptive_avg_pool2d to {step.shape[2:]}: only global pooling can be written")
        self._emit(step, "GlobalAveragePool")

    def _reshape(self, step: Step, module: Any) -> None:
        self._emit(step, "Reshape", self._constant(f"{self.names[step]}.shape", np.array(step.shape, np.int64)))

    def _linear(self, step: Step, module: Any) -> None:
        self._refuse_unless(step, module, nn.Linear)
        self._emit(step, "Gemm", *self._own(step, "weight", "bias"), transB=1)

    def _interpolate(self, step: Step, module: Any) -> None:
        sizes = self._constant(f"{self.names[step]}.sizes", np.array(step.shape, np.int64))
        self._emit(
            step, "Resize", "", "", sizes, mode="nearest", coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )  # fmt: skip

    def _getitem(self, step: Step, module: Any) -> None:
        """x[:, :, ::a, ::b]: the steps are how much coarser the result's grid is."""
        source, own = step.sources[0].geometry, step.geometry
        if source is None or own is None:
            raise TinynetError(f"onnx: getitem of {step.call.name or 'the model'} is not of an image")
        steps = [int(fine and coarse / fine) for fine, coarse in zip(source.stride, own.stride)]
        integers = {"starts": [0, 0], "ends": [2**31 - 1] * 2, "axes": [2, 3], "steps": steps}
        named = [self._constant(f"{self.names[step]}.{n}", np.array(v, np.int64)) for n, v in integers.items()]
        self._emit(step, "Slice", *named)

    def _pad(self, step: Step, module: Any) -> None:
        self._refuse_unless(step, module, ZeroPadShortcut)
        pads = np.array([0, module.before, 0, 0, 0, module.after, 0, 0], np.int64)
        self._emit(step, "Pad", self._constant(f"{self.names[step]}.pads", pads))


_WRITERS: dict[str, Callable[[_Writer, Step, Any], None]] = {
    "conv2d": _Writer._conv2d, "batch_norm": _Writer._batch_norm, "relu": _Writer._relu, "add": _Writer._sum,
    "max_pool2d": _Writer._max_pool2d, "adaptive_avg_pool2d": _Writer._adaptive_avg_pool2d,
    "avg_pool2d": _Writer._avg_pool2d,
    "reshape": _Writer._reshape, "linear": _Writer._linear, "interpolate": _Writer._interpolate,
    "getitem": _Writer._getitem, "pad": _Writer._pad,
}  # fmt: skip


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)
