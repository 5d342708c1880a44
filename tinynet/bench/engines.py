"""The engines that can do a work, each on the same weights and images. Runs in a worker process, one engine each."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinynet.bench import works
from tinynet.bench.works import ADDITIONS, CHANNELS_LAST, FUSED, ONNXRUNTIME, TINYNET, TRAINING, Side, Work
from tinynet.inspect import parity

LEARNING_RATE, MOMENTUM = 1e-4, 0.9


@dataclass
class Job:
    """A work made ready: `run` does it once, `result` gives arrays that all engines must agree on."""

    run: Callable[[], Any]
    result: Callable[[], list[np.ndarray]]


def use_threads(engine: str, threads: int) -> int:
    """Lets the engine of this process use so many threads; returns how many it does use."""
    if engine == TINYNET:
        import tinynet

        tinynet.set_num_threads(threads)
        return tinynet.get_num_threads()
    if engine == ONNXRUNTIME:
        return threads  # set when a session is made
    import torch

    torch.set_num_threads(threads)
    return torch.get_num_threads()


def prepare(side: Side, work: Work, threads: int, exported: str | None = None) -> Job:
    """Builds the model of a work for a side; `exported` is the ONNX file for ONNX Runtime."""
    if side.engine == ONNXRUNTIME:
        return _in_onnxruntime(work, threads, exported or "")
    library: Any = importlib.import_module(side.engine)
    if work.model == ADDITIONS:
        return _additions(library)
    model = build(side.engine, work)
    values = works.weights({name: tuple(value.shape) for name, value in model.state_dict().items()})
    model.load_state_dict({name: library.from_numpy(array) for name, array in values.items()})
    images = library.from_numpy(works.images(work))
    if side.variant == CHANNELS_LAST:
        model = model.to(memory_format=library.channels_last)
        images = images.to(memory_format=library.channels_last)
    if work.task == TRAINING:
        return _training(library, model, images, work)
    return _inference(library, model.eval(), images, side.variant == FUSED)


def build(engine: str, work: Work) -> Any:
    """The model of a work, made of tinynet or of torch."""
    from tinynet.models import fpn, registry, resnet

    if engine != TINYNET:
        from tinynet.inspect.torch_twin import torch_twin

        fpn, registry, resnet = (torch_twin(name) for name in ("fpn", "registry", "resnet"))
    if work.blocks:
        return resnet.ResNet(resnet.Bottleneck, [3, 4, work.blocks, 3])
    return parity.built(work.model, registry, fpn)


def _inference(library: Any, model: Any, images: Any, fused: bool) -> Job:
    call = library.fuse(model) if fused else model  # traced by the first run, whose memory counts

    def run() -> Any:
        with library.inference_mode():
            return call(images)

    def result() -> list[np.ndarray]:
        output = run()
        tensors = list(output.values()) if isinstance(output, dict) else [output]
        return [np.array(tensor.numpy()) for tensor in tensors]

    return Job(run, result)


def _training(library: Any, model: Any, images: Any, work: Work) -> Job:
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = library.optim.SGD(parameters, lr=LEARNING_RATE, momentum=MOMENTUM)
    classes = model.fc.out_features if hasattr(model, "fc") else 0
    labels = library.from_numpy(works.labels(work, classes)) if classes else None

    def run() -> Any:
        optimizer.zero_grad()
        output = model(images)
        if labels is None:
            loss = sum((level * level).mean() for level in output.values())
        else:
            loss = library.nn.functional.cross_entropy(output, labels)
        loss.backward()
        optimizer.step()
        return loss

    return Job(run, lambda: [np.array(run().detach().numpy())])


def _additions(library: Any) -> Job:
    x = library.from_numpy(np.linspace(0, 1, works.ELEMENTS, dtype=np.float32)).requires_grad_()
    ones = library.ones(works.ELEMENTS)

    def run() -> Any:
        y = x
        for _ in range(works.COUNT):
            y = y + x
        x.grad = None
        y.backward(ones)

    def result() -> list[np.ndarray]:
        run()
        return [np.array(x.grad.numpy())]

    return Job(run, result)


def _in_onnxruntime(work: Work, threads: int, path: str) -> Job:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: works.images(work)}

    def run() -> list[np.ndarray]:
        return session.run(None, feed)

    return Job(run, run)
