"""What happens in one forward pass: which module calls which, the operations of each, their sizes and geometry.

The pass runs in evaluation mode on a recording tape: hooks tell when a module begins and ends, the tape tells
how values flow in between, also through plain functions and additions that belong to no layer. What the tape
saved for gradients is dropped as soon as it has been looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinynet import Tensor, enable_grad, from_numpy, nn
from tinynet.errors import ShapeError
from tinynet.inspect.geometry import Geometry, cost_of, geometry_of, input_geometry
from tinynet.tape import Leaf, Node, edge_of

SEED = 0  # of the example images


@dataclass(eq=False)
class Input:
    """One tensor that the model was given."""

    label: str
    shape: tuple[int, ...]
    geometry: Geometry | None


@dataclass(eq=False)
class Step:
    """One operation: its torch name, the values it read, and what it made."""

    name: str
    call: Call
    sources: list[Input | Step]
    shape: tuple[int, ...]
    geometry: Geometry | None
    macs: int
    column_bytes: int


@dataclass
class Value:
    """One tensor among a call's results; `label` tells it from the others (empty if it is alone)."""

    label: str
    shape: tuple[int, ...]
    dtype: str
    source: Input | Step | None  # None: made where the tape does not look, under no_grad or of integers

    @property
    def geometry(self) -> Geometry | None:
        return None if self.source is None else self.source.geometry


@dataclass(eq=False)
class Call:
    """One call of a module; `steps` are the operations of its own forward, `children` the modules it called."""

    name: str
    module: nn.Module
    parent: Call | None
    repeated: bool  # whether the same module had been called before
    children: list[Call] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The module's path from the one that called it: ``conv1``, ``layer_blocks.0``."""
        return self.name if self.parent is None else self.name.removeprefix(f"{self.parent.name}.")

    @property
    def depth(self) -> int:
        """0 for the model, 1 for what it calls, and so on."""
        return 0 if self.parent is None else self.parent.depth + 1

    def all_steps(self) -> Iterator[Step]:
        """The operations of the call and of all the calls below it."""
        yield from self.steps
        for child in self.children:
            yield from child.all_steps()

    def walk(self) -> Iterator[Call]:
        """The call and all the calls below it, in the order of their beginning."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass
class Trace:
    """One recorded forward pass: the model's own call, the inputs, and every operation in the order of execution."""

    root: Call
    inputs: list[Input]
    steps: list[Step]


def trace(model: nn.Module, arguments: Sequence[Any]) -> Trace:
    """Calls ``model(*arguments)`` in evaluation mode and tells what happened.

    Arguments are tensors or dicts, lists and tuples of them. The model's training flags, running statistics
    and gradients are afterwards as before. Raises what the model raises.
    """
    recorder = _Recorder(model)
    with enable_grad(), _evaluation(model), recorder.listening():
        model(*recorder.followed(tuple(arguments)))
    recorder.steps.sort(key=lambda step: recorder.order[step])
    return Trace(recorder.root, recorder.inputs, recorder.steps)


def example_arguments(model: nn.Module, input_size: Any) -> tuple[Any, ...]:
    """Arguments for a call of `model`: noise of the sizes given, in the dtype of the model's parameters.

    A size is a tuple of integers, batch included; three integers are one image (C, H, W). A dict or list of
    sizes is one argument of that kind, a tuple of sizes are several arguments; a Tensor stands for itself.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    generator = np.random.default_rng(SEED)

    def made(size: Any) -> Any:
        if isinstance(size, Tensor):
            return size
        if isinstance(size, Mapping):
            return _like(size, ((key, made(value)) for key, value in size.items()))
        if _is_size(size):
            shape = (1, *size) if len(size) == 3 else tuple(size)
            noise = from_numpy(generator.standard_normal(shape, np.float32))
            return noise if dtype is None else noise.to(dtype)
        if isinstance(size, list):
            return [made(value) for value in size]
        raise ShapeError(f"input_size: expected sizes such as (1, 3, 224, 224) or tensors, got {size!r}")

    if isinstance(input_size, tuple) and input_size and not _is_size(input_size):
        return tuple(made(size) for size in input_size)
    return (made(input_size),)


def _is_size(value: Any) -> bool:
    is_sequence = isinstance(value, (tuple, list)) and len(value) > 0
    if not is_sequence or not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in value):
        return False
    if min(value) < 1:
        raise ShapeError(f"input_size: sizes must be at least 1, got {tuple(value)}")
    return True


def labelled(value: Any, kind: Any = Tensor, label: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors in a structure of dicts, lists and tuples, each with its place: ``['0']``, ``[1][0]``."""
    if isinstance(value, kind):
        yield label, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from labelled(item, kind, f"{label}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from labelled(item, kind, f"{label}[{index}]")


def replaced(value: Any, change: Callable[[Any], Any], kind: Any = Tensor) -> Any:
    """The same structure with `change` of every tensor."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, Mapping):
        return _like(value, ((key, replaced(item, change, kind)) for key, item in value.items()))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(replaced(item, change, kind) for item in value))
    if isinstance(value, (list, tuple)):
        return _like(value, (replaced(item, change, kind) for item in value))
    return value


def _like(container: Any, content: Iterator[Any]) -> Any:
    return type(container)(content)


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class _Recorder:
    """Keeps the stack of running calls, and gives each new node of the tape to the one that made it."""

    def __init__(self, model: nn.Module) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.model = model
        self.running: list[Call] = []
        self.called: set[nn.Module] = set()
        self.inputs: list[Input] = []
        self.steps: list[Step] = []
        self.order: dict[Step, int] = {}
        self.known: dict[Node, Input | Step] = {}

    def followed(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments with every floating tensor put on the tape as an `Input`."""
        found = [(label, tensor) for label, tensor in labelled(arguments) if tensor.is_floating_point()]
        geometries = input_geometry([tuple(tensor.shape) for _, tensor in found])
        waiting = iter(zip(found, geometries))

        def follow(tensor: Tensor) -> Tensor:
            if not tensor.is_floating_point():
                return tensor
            (label, _), geometry = next(waiting)
            # A copy that is no leaf: the model may change it in place, as it may any other tensor.
            tensor = tensor.detach().requires_grad_().clone()
            name = "input" if len(found) == 1 else f"input{label.removeprefix('[0]') if len(arguments) == 1 else label}"
            self.inputs.append(Input(name, tuple(tensor.shape), geometry))
            self.known[edge_of(tensor)[0]] = self.inputs[-1]
            return tensor

        return replaced(arguments, follow)

    @contextmanager
    def listening(self) -> Iterator[None]:
        with ExitStack() as stack:
            for module in self.names:
                handles = (
                    module.register_forward_pre_hook(self._begin, prepend=True, with_kwargs=True),
                    module.register_forward_hook(self._end),
                )
                for handle in handles:
                    stack.callback(handle.remove)
            yield

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        parent = self.running[-1] if self.running else None
        if parent is not None:  # what the caller computed from its own inputs on the way to this call
            self._explore(parent, [tensor for _, tensor in labelled((args, kwargs))])
        call = Call(self.names[module], module, parent, module in self.called)
        self.called.add(module)
        if parent is None:
            self.root = call
        else:
            parent.children.append(call)
        self.running.append(call)

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        call = self.running.pop()
        results = list(labelled(output))
        self._explore(call, [tensor for _, tensor in results])
        for label, tensor in results:
            edge = edge_of(tensor)
            source = None if edge is None else self.known.get(edge[0])
            call.outputs.append(Value(label, tuple(tensor.shape), str(tensor.dtype).rpartition(".")[2], source))

    def _explore(self, call: Call, tensors: list[Tensor]) -> None:
        """Makes a step of each node between `tensors` and what is already known."""
        found: set[Node] = set()
        stack = [edge[0] for edge in map(edge_of, tensors) if edge is not None]
        while stack:
            node = stack.pop()
            if node in found or node in self.known or isinstance(node, Leaf):
                continue
            found.add(node)
            stack += [edge[0] for edge in node.edges if edge is not None]
        for node in sorted(found, key=lambda node: node.sequence):
            self._add(call, node)

    def _add(self, call: Call, node: Node) -> None:
        parents = [edge[0] for edge in node.edges if edge is not None]
        sources = [self.known[parent] for parent in parents if parent in self.known]
        shape = tuple(node.outputs[0][0])
        geometry = geometry_of(node, [(source.shape, source.geometry) for source in sources], call.module)
        macs, column_bytes = cost_of(node)
        step = Step(node.name, call, sources, shape, geometry, macs, column_bytes)
        self.known[node] = step
        self.order[step] = node.sequence
        self.steps.append(step)
        call.steps.append(step)
        node.free()
