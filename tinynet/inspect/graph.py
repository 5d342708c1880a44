"""The graph of a model or of a recorded tape as plain data, for mermaid and matplotlib to draw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tinynet import Tensor, nn
from tinynet.inspect.describe import by, describe
from tinynet.inspect.trace import Call, Input, Step, Trace, example_arguments, trace
from tinynet.tape import Leaf, Node, edge_of

READABLE = 60  # boxes in one picture
JOINS = {"add": "+", "sub": "−", "mul": "×", "div": "÷"}

# What a box stands for, which decides its colour.
KINDS = (
    ("convolution", ("conv", "linear", "matmul")),
    ("normalisation", ("norm", "batch_norm", "group_norm")),
    ("activation", ("relu", "hardtanh", "sigmoid", "tanh", "softmax", "log_softmax", "dropout")),
    ("resampling", ("pool", "interpolate", "upsample", "unfold", "fold")),
    ("join", ("add", "sub", "mul", "div", "cat")),
)

# The house's palette (Okabe and Ito), lightened so that dark text stays readable on it.
COLOURS = {
    "input": "#EFEFEF", "output": "#EFEFEF", "parameter": "#EFEFEF", "block": "#FFFFFF", "other": "#FFFFFF",
    "convolution": "#BFDBEB", "normalisation": "#F1DDE9", "activation": "#BFE6DB", "resampling": "#F9E7BF",
    "join": "#F5D6BF",
}  # fmt: skip


@dataclass(eq=False)
class Vertex:
    """One box: a layer, an operation, an input or a result.

    `kind` is one of "input", "output", "block" (a module drawn as one), "parameter", "other" and the names in KINDS.
    `groups` are the modules around it, outermost first.
    """

    title: str
    details: tuple[str, ...]
    kind: str
    groups: tuple[str, ...] = ()


@dataclass
class Graph:
    """Vertices in the order of execution, and the edges (source, target) between them."""

    vertices: list[Vertex] = field(default_factory=list)
    edges: list[tuple[Vertex, Vertex]] = field(default_factory=list)


def module_graph(model: nn.Module, input_size: Any, depth: int | None = None) -> Graph:
    """Layers and operations of one forward pass, modules below `depth` levels drawn as one box.

    `input_size` as in `summary`. Without `depth` as many levels as fit into a readable picture.
    """
    traced = trace(model, example_arguments(model, input_size))
    if depth is not None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1 (what the model calls itself), got {depth}")
        return _Builder(traced, depth).build()
    deepest = max(call.depth for call in traced.root.walk())
    graph = _Builder(traced, 1).build()
    for levels in range(2, deepest + 1):
        finer = _Builder(traced, levels).build()
        if len(finer.vertices) > READABLE:
            break
        graph = finer
    return graph


def tape_graph(result: Tensor, model: nn.Module | None = None) -> Graph:
    """What a backward pass from `result` would go through: recorded operations, and the leaves where gradients end.

    With `model` its parameters are called by their names. Raises ValueError if nothing was recorded or the
    graph was freed by a backward pass.
    """
    start = edge_of(result)
    if start is None:
        raise ValueError("this tensor has no recorded graph: it does not require grad")
    if start[0].freed:
        raise ValueError(f"the graph of this tensor ({start[0].name}) was freed by a backward pass; draw it before")
    names = {} if model is None else {id(parameter): name for name, parameter in model.named_parameters()}
    nodes = _reachable(start[0])
    vertices = {node: _tape_vertex(node, names) for node in nodes}
    edges = [
        (vertices[edge[0]], vertices[node]) for node in nodes for edge in dict.fromkeys(node.edges) if edge is not None
    ]
    end = Vertex("result", (by(result.shape),), "output")
    return Graph([*vertices.values(), end], [*_unique(edges), (vertices[start[0]], end)])


def _reachable(start: Node) -> list[Node]:
    """`start` and all that it was made from, oldest first, a leaf just before its first use."""
    found, stack = {start}, [start]
    while stack:
        for edge in stack.pop().edges:
            if edge is not None and edge[0] not in found:
                found.add(edge[0])
                stack.append(edge[0])
    ordered: dict[Node, None] = {}
    for node in sorted((node for node in found if not isinstance(node, Leaf)), key=lambda node: node.sequence):
        ordered.update((edge[0], None) for edge in node.edges if edge is not None and isinstance(edge[0], Leaf))
        ordered[node] = None
    return list(ordered) or [start]


def _tape_vertex(node: Node, names: dict[int, str]) -> Vertex:
    shape = by(node.outputs[0][0])
    if not isinstance(node, Leaf):
        return Vertex(JOINS.get(node.name, node.name), (shape,), kind_of(node.name))
    tensor = node.tensor()
    kind = "parameter" if isinstance(tensor, nn.Parameter) else "input"
    return Vertex(names.get(id(tensor), "leaf" if kind == "input" else "parameter"), (shape,), kind)


def kind_of(name: str) -> str:
    """The kind of an operation or layer by its name: "conv2d" and "Conv2d" are both a convolution."""
    lowered = name.lower()
    for kind, words in KINDS:
        if any(word in lowered if len(word) > 3 or word == "norm" else lowered == word for word in words):
            return kind
    return "other"


def _unique(edges: Iterable[tuple[Vertex, Vertex]]) -> list[tuple[Vertex, Vertex]]:
    return list(dict.fromkeys(edges))


class _Builder:
    """Turns a trace into boxes: calls too deep or without calls of their own become one, other operations stay."""

    def __init__(self, traced: Trace, depth: int) -> None:
        self.traced = traced
        self.depth = depth
        self.boxes: dict[Call | Step | Input, Vertex] = {}

    def build(self) -> Graph:
        edges = []
        for item in self.traced.inputs:
            self.boxes[item] = Vertex(item.label, (by(item.shape),), "input")
        for step in self.traced.steps:
            target = self._box(step)
            edges += [(source, target) for source in map(self._box, step.sources) if source is not target]
        ends = []
        for value in self.traced.root.outputs:
            if value.source is not None:
                ends.append(Vertex(f"output{value.label}", (by(value.shape),), "output"))
                edges.append((self._box(value.source), ends[-1]))
        return Graph([*self.boxes.values(), *ends], _unique(edges))

    def _box(self, item: Input | Step) -> Vertex:
        if isinstance(item, Input):
            return self.boxes[item]
        owner = self._owner(item)
        if owner not in self.boxes:
            self.boxes[owner] = self._call_box(owner) if isinstance(owner, Call) else self._step_box(owner)
        return self.boxes[owner]

    def _owner(self, step: Step) -> Call | Step:
        """The outermost call around the step that is drawn as one box, or the step itself."""
        for call in reversed(list(_lineage(step.call))):
            if call.parent is not None and (call.depth >= self.depth or not call.children):
                return call
        return step

    def _call_box(self, call: Call) -> Vertex:
        name = type(call.module).__name__
        kind = "block" if call.children else kind_of(name)
        settings = f"{name} {describe(call.module)}".strip()
        return Vertex(call.label, (settings, *_shapes(call)), kind, _groups(call.parent))

    def _step_box(self, step: Step) -> Vertex:
        title = JOINS.get(step.name, step.name)
        return Vertex(title, (by(step.shape),), kind_of(step.name), _groups(step.call))


def _shapes(call: Call) -> tuple[str, ...]:
    return tuple(f"{value.label} {by(value.shape)}".strip() for value in call.outputs)


def _lineage(call: Call | None) -> Iterable[Call]:
    while call is not None:
        yield call
        call = call.parent


def _groups(call: Call | None) -> tuple[str, ...]:
    """The labels of the calls around a box, without the model itself."""
    return tuple(
        f"{around.label} {type(around.module).__name__}" for around in reversed(list(_lineage(call))) if around.parent
    )
