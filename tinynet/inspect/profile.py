"""Where the time and the memory of a forward and backward pass go, layer by layer.

While a `profile` block runs, ordinary hooks on the modules tell when a layer begins and ends, and each node that a
layer left on the tape carries its operation in a wrapper that books the time of its backward on the layer. Nothing
else is touched: without a block there is no hook and no wrapper, so nothing costs time.
"""

from __future__ import annotations

import gc
import math
import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from tinynet import nn
from tinynet.inspect.describe import describe
from tinynet.inspect.geometry import cost_of
from tinynet.inspect.trace import labelled
from tinynet.tape import Leaf, Node, Operation, edge_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    "layer", "calls", "forward ms", "own", "backward ms", "own", "share", "GFLOP/s", "backward", "output", "saved",
)  # fmt: skip
MEGABYTE = 1 << 20


@dataclass(eq=False)
class Layer:
    """One module as its caller called it; several calls add up. Times are in seconds, memory in bytes.

    Attributes:
        name: the module's path in its model (``layer1.0.conv1``), or the model's class.
        own_forward, own_backward: without the time of the layers that it called.
        own_output: bytes of the result's arrays that no earlier layer had made.
        own_saved: bytes that the tape keeps for backward, of arrays that are neither parameters nor kept already.
        own_macs, own_backward_macs: multiply-adds of its convolutions and products in each direction.
    """

    name: str
    module: nn.Module
    parent: Layer | None = None
    calls: int = 0
    own_forward: float = 0.0
    own_backward: float = 0.0
    own_output: int = 0
    own_saved: int = 0
    own_macs: int = 0
    own_backward_macs: int = 0
    children: dict[nn.Module, Layer] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        """0 for a model, 1 for what it calls, and so on."""
        return 0 if self.parent is None else self.parent.depth + 1

    @property
    def forward(self) -> float:
        """Seconds in forward, with the layers that it called."""
        return sum(layer.own_forward for layer in self.walk())

    @property
    def backward(self) -> float:
        """Seconds in the backward of its operations, with the layers that it called."""
        return sum(layer.own_backward for layer in self.walk())

    @property
    def output(self) -> int:
        """Bytes of the results, with the layers that it called."""
        return sum(layer.own_output for layer in self.walk())

    @property
    def saved(self) -> int:
        """Bytes kept for backward, with the layers that it called."""
        return sum(layer.own_saved for layer in self.walk())

    @property
    def forward_gflops(self) -> float | None:
        """Achieved GFLOP/s (two per multiply-add of the definition) of its own operations; None without any."""
        return _gflops(self.own_macs, self.own_forward)

    @property
    def backward_gflops(self) -> float | None:
        """The same of its backward: the gradients that were wanted, one product each."""
        return _gflops(self.own_backward_macs, self.own_backward)

    def walk(self) -> Iterator[Layer]:
        """The layer and all below it, in the order of their first call."""
        yield self
        for child in self.children.values():
            yield from child.walk()


class Report:
    """What a `profile` block found. Printed it is a table; `plot` draws it.

    Attributes:
        models: the outermost modules that ran, each the root of a tree of layers.
        seconds: how long the block ran, without what profiling itself took.
        overhead: seconds that profiling itself took.
    """

    def __init__(self) -> None:
        self.models: dict[nn.Module, Layer] = {}
        self.seconds = 0.0
        self.overhead = 0.0

    @property
    def layers(self) -> list[Layer]:
        """All layers, in the order of their first call."""
        return [layer for model in self.models.values() for layer in model.walk()]

    def slowest(self, count: int = 5) -> list[Layer]:
        """The layers with the most time of their own, forward and backward together."""
        return sorted(self.layers, key=lambda layer: -(layer.own_forward + layer.own_backward))[:count]

    def table(self, depth: int | None = None) -> str:
        """The table down to `depth` levels below the models (all by default).

        A row's times and memory include the rows indented below it; "own" leaves those out. GFLOP/s are of
        forward and backward.
        """
        rows = [layer for layer in self.layers if depth is None or layer.depth <= depth]
        if not rows:
            return "profile: no module was called in the block"
        lines = [COLUMNS, *(self._cells(layer) for layer in rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
        text = [
            "  ".join(cell.rjust(width) if column else cell.ljust(width)
                      for column, (cell, width) in enumerate(zip(line, widths))).rstrip()
            for line in lines
        ]  # fmt: skip
        rule = "─" * max(map(len, text))
        return "\n".join([text[0], rule, *text[1:], rule, *self.totals])

    @property
    def totals(self) -> list[str]:
        """The lines below the table."""
        forward = sum(model.forward for model in self.models.values())
        backward = sum(model.backward for model in self.models.values())
        rest = max(0.0, self.seconds - forward - backward)
        slowest = ", ".join(
            f"{layer.name} {self.share(layer.own_forward + layer.own_backward)}" for layer in self.slowest(3)
        )
        return [
            f"time     {_ms(self.seconds)} ms: forward {_ms(forward)}, backward {_ms(backward)}, "
            f"outside of all layers {_ms(rest)}; profiling took another {_ms(self.overhead)}",
            f"memory   results {_mb(sum(model.output for model in self.models.values()))} MB, "
            f"kept for backward {_mb(sum(model.saved for model in self.models.values()))} MB",
            f"slowest  {slowest}",
        ]

    def share(self, seconds: float) -> str:
        """`seconds` as a percentage of the block."""
        return f"{seconds / self.seconds:.1%}" if self.seconds else ""

    def plot(self, path: str | os.PathLike[str], count: int = 24) -> Figure:
        """Draws time and memory of the `count` slowest layers and writes a PNG. Returns the matplotlib figure.

        Raises ValueError if no module was called in the block, OSError if `path` cannot be written.
        """
        from tinynet import plot  # matplotlib takes its time

        if not self.models:
            raise ValueError("profile: no module was called in the block, so there is nothing to draw")
        figure = _draw(self, count)
        plot.save(figure, path)
        return figure

    def _cells(self, layer: Layer) -> tuple[str, ...]:
        kind = type(layer.module).__name__
        label = layer.name if layer.name.partition(" ")[0] == kind else f"{layer.name} {kind}"
        outer = bool(layer.children)
        forward, backward = layer.forward, layer.backward
        return (
            "  " * layer.depth + f"{label} {describe(layer.module)}".rstrip(),
            str(layer.calls),
            _ms(forward),
            _ms(layer.own_forward) if outer else "",
            _ms(backward) if backward else "",
            _ms(layer.own_backward) if outer and backward else "",
            self.share(forward + backward),
            _rate(layer.forward_gflops),
            _rate(layer.backward_gflops),
            f"{_mb(layer.output)} MB" if layer.output else "",
            f"{_mb(layer.saved)} MB" if layer.saved else "",
        )

    def __str__(self) -> str:
        return self.table()

    __repr__ = __str__


class profile:
    """``with tinynet.profile() as report: model(x).sum().backward()``, then ``print(report)`` or ``report.plot(path)``.

    Every module alive when the block begins is watched, or only `models` and what they hold. Modules made inside
    the block are not, nor is what other Python threads run. Backward time is counted for operations that ran in
    forward inside the block. Work between layers (losses, optimizers) is "outside of all layers".
    """

    def __init__(self, *models: nn.Module) -> None:
        for model in models:
            if not isinstance(model, nn.Module):
                raise TypeError(f"profile: expected modules, got {type(model).__name__}")
        self._chosen = models
        self._handles: list[Any] = []
        self.running = False

    def __enter__(self) -> Report:
        if self.running:
            raise RuntimeError("profile: this block is running already; make another profile()")
        modules = _modules(self._chosen) if self._chosen else _all_modules()
        self.report = Report()
        self._names = _paths(modules)
        self._parameters = {id(_owner(p._array)) for module in modules for p in module.parameters(recurse=False)}
        self._thread = threading.get_ident()
        self._stack: list[_Frame] = []
        self._results, self._kept = _Seen(), _Seen()
        self._first = _next_number()
        for module in modules:
            self._handles.append(module.register_forward_pre_hook(self._begin, prepend=True, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._end))
        self.running = True
        self._started = perf_counter()
        return self.report

    def __exit__(self, *_: object) -> None:
        self.report.seconds = perf_counter() - self._started - self.report.overhead
        self.running = False
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._names, self._stack, self._parameters = {}, [], set()

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        entered = perf_counter()
        parent = self._stack[-1].layer if self._stack else None
        siblings = self.report.models if parent is None else parent.children
        layer = siblings.get(module)
        if layer is None:
            layer = siblings[module] = Layer(self._name(module, siblings.values()), module, parent)
        if parent is not None:  # what the caller computed on the way to this call is the caller's
            self._claim(parent, [tensor for _, tensor in labelled((args, kwargs))], self._stack[-1].first)
        self._stack.append(_Frame(layer, _next_number()))
        now = perf_counter()
        self.report.overhead += now - entered
        self._stack[-1].started = now - self.report.overhead  # a clock that stands still in these hooks

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        entered = perf_counter()
        while self._stack and self._stack[-1].layer.module is not module:
            self._stack.pop()  # its forward raised, and somebody caught it
        if self._stack:
            frame = self._stack.pop()
            seconds = entered - self.report.overhead - frame.started
            layer = frame.layer
            layer.calls += 1
            layer.own_forward += seconds - frame.below
            if self._stack:
                self._stack[-1].below += seconds
            tensors = [tensor for _, tensor in labelled(output)]
            layer.own_output += sum(self._results.bytes_of(tensor._array) for tensor in tensors)
            if not self._claim(layer, tensors, frame.first):
                layer.own_macs += _macs_of(module, args, tensors)
        self.report.overhead += perf_counter() - entered

    def _name(self, module: nn.Module, siblings: Iterable[Layer]) -> str:
        """Its path; a second model of the same class is called ``ResNet #2``."""
        name = self._names.get(module, type(module).__name__)
        same = sum(type(layer.module) is type(module) for layer in siblings) if name == type(module).__name__ else 0
        return f"{name} #{same + 1}" if same else name

    def _claim(self, layer: Layer, tensors: Iterable[Any], first: int) -> int:
        """Gives the nodes since `first` below `tensors` that nobody has yet to `layer`; returns how many."""
        found = 0
        stack = [edge[0] for edge in map(edge_of, tensors) if edge is not None]
        while stack:
            node = stack.pop()
            if isinstance(node, Leaf) or node.sequence < max(first, self._first) or node.freed or self._has(node):
                continue
            found += 1
            macs, _ = cost_of(node)
            layer.own_macs += macs
            layer.own_backward_macs += macs * sum(node.needs_input_grad[:2])
            layer.own_saved += sum(
                self._kept.bytes_of(array) for array in _arrays(node.saved) if id(_owner(array)) not in self._parameters
            )
            node.operation = _Timed(node.operation, layer, self)
            stack += [edge[0] for edge in node.edges if edge is not None]
        return found

    def _has(self, node: Node) -> bool:
        operation = node.operation
        while isinstance(operation, _Timed):
            if operation.profile is self:
                return True
            operation = operation.operation
        return False


@dataclass(eq=False)
class _Frame:
    """A running call: its layer, the number of the first node that it can have made, and its clock."""

    layer: Layer
    first: int
    started: float = 0.0
    below: float = 0.0  # seconds in the calls that it made


class _Timed:
    """An operation of the tape that books the time of its backward on a layer while the profile runs."""

    def __init__(self, operation: Any, layer: Layer, profile: profile) -> None:
        self.operation = operation
        self.layer = layer
        self.profile = profile

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copy and pickle ask before there is an operation
            raise AttributeError(name)
        return getattr(self.operation, name)

    def backward(self, ctx: Any, *grads: Any) -> Any:
        started = perf_counter()
        try:
            return self.operation.backward(ctx, *grads)
        finally:
            if self.profile.running:
                self.layer.own_backward += perf_counter() - started


class _Seen:
    """Arrays already counted, told apart by who owns the memory; they are not kept alive."""

    def __init__(self) -> None:
        self.owners: dict[int, weakref.ref[Any]] = {}

    def bytes_of(self, array: np.ndarray) -> int:
        """The bytes of `array` if its memory is new, else 0."""
        owner = _owner(array)
        known = self.owners.get(id(owner))
        if known is not None and known() is owner:
            return 0
        self.owners[id(owner)] = weakref.ref(owner)
        return array.nbytes


def _owner(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _arrays(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _arrays(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _arrays(item)


def _modules(models: Iterable[nn.Module]) -> list[nn.Module]:
    """The models and what they hold, each once."""
    return list({module: None for model in models for module in model.modules()})


def _all_modules() -> list[nn.Module]:
    return [found for found in gc.get_objects() if issubclass(type(found), nn.Module) and "_modules" in found.__dict__]


def _paths(modules: list[nn.Module]) -> dict[nn.Module, str]:
    """Each module's path in the outermost module that holds it; outermost ones are called by their class."""
    inner = {child for module in modules for child in module._modules.values() if child is not None}
    names: dict[nn.Module, str] = {}
    for module in modules:
        if module not in inner:
            for path, part in module.named_modules():
                names.setdefault(part, path or type(module).__name__)
    return names


def _next_number() -> int:
    """A number of the tape: nodes made before have smaller ones, those made after larger ones."""
    return Node(Operation, ()).sequence


def _macs_of(module: nn.Module, args: Any, results: list[Any]) -> int:
    """Multiply-adds of a call that left nothing on the tape."""
    if isinstance(module, nn.Conv2d):
        return results[0].numel() * math.prod(module.weight.shape[1:])
    if isinstance(module, nn.ConvTranspose2d):
        return sum(tensor.numel() for _, tensor in labelled(args[:1])) * math.prod(module.weight.shape[1:])
    if isinstance(module, nn.Linear):
        return results[0].numel() * module.in_features
    return 0


def _gflops(macs: int, seconds: float) -> float | None:
    return 2e-9 * macs / seconds if macs and seconds else None


def _rate(gflops: float | None) -> str:
    return "" if gflops is None else f"{gflops:.1f}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}"


def _mb(size: int) -> str:
    return f"{size / MEGABYTE:.1f}"


def _draw(report: Report, count: int) -> Figure:
    from tinynet.plot import style

    slowest = set(report.slowest(count))
    layers = [layer for layer in report.layers if layer in slowest]
    names = [layer.name for layer in layers]
    with style.house_style():
        figure = style.new_figure(11, 2.3 + 0.27 * len(layers))
        time, memory = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        _bars(time, names, [
            ("forward", [1e3 * layer.own_forward for layer in layers], style.BLUE),
            ("backward", [1e3 * layer.own_backward for layer in layers], style.ORANGE),
        ])  # fmt: skip
        _bars(memory, names, [
            ("results", [layer.own_output / MEGABYTE for layer in layers], style.GREEN),
            ("kept for backward", [layer.own_saved / MEGABYTE for layer in layers], style.PURPLE),
        ], stacked=False)  # fmt: skip
        time.set_title("Own time")
        time.set_xlabel("milliseconds")
        memory.set_title("Memory")
        memory.set_xlabel("MB")
        figure.legend(loc="outside lower center", ncols=4, frameon=False)
        shown = sum(layer.own_forward + layer.own_backward for layer in layers)
        which = f"{len(layers)} slowest of {len(report.layers)} layers" if len(layers) < len(report.layers) else "all"
        figure.suptitle(
            f"{', '.join(model.name for model in report.models.values())}, {which}: {1e3 * shown:.1f} of "
            f"{1e3 * report.seconds:.1f} ms", fontsize=12, color=style.MUTED, x=0.01, ha="left",
        )  # fmt: skip
    return figure


def _bars(axes: Any, names: list[str], series: list[tuple[str, list[float], str]], stacked: bool = True) -> None:
    """Horizontal bars, the first layer on top; series end to end, or side by side."""
    places = np.arange(len(names), dtype=float)
    height = 0.74 if stacked else 0.37
    before = np.zeros(len(names))
    for number, (label, values, colour) in enumerate(series):
        if not any(values):
            continue
        offset = 0.0 if stacked else (number - 0.5) * height
        axes.barh(places + offset, values, height, left=before if stacked else 0.0, color=colour, label=label)
        before = before + values
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
