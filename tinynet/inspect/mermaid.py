"""A model's graph as mermaid text, which JupyterLab, GitHub and many editors draw."""

from __future__ import annotations

from typing import Any

from tinynet import nn
from tinynet.inspect.graph import COLOURS, Graph, Vertex, module_graph

SHAPES = {"input": '(["{}"])', "output": '(["{}"])', "join": '(("{}"))'}
BOX = '["{}"]'
ESCAPES = str.maketrans({"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "`": "#96;", "+": "#43;", "*": "#42;"})


class Mermaid(str):
    """Mermaid text; as the last value of a notebook cell it is drawn."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return f"```mermaid\n{self}\n```"


def to_mermaid(model: nn.Module, input_size: Any, depth: int | None = None) -> Mermaid:
    """The layers and operations of one forward pass as a mermaid flowchart.

    Args:
        input_size: a size or an example input, as in `summary`.
        depth: modules below this level are drawn as one box; by default as many levels as stay readable.
    """
    return graph_to_mermaid(module_graph(model, input_size, depth))


def graph_to_mermaid(graph: Graph) -> Mermaid:
    """The text of a graph: boxes, nested in the modules that they belong to, then arrows and colours."""
    names = {vertex: f"n{index}" for index, vertex in enumerate(graph.vertices)}
    lines = ["flowchart TD"]
    lines += _boxes(graph.vertices, names, 0, [0])
    lines += [f"    {names[source]} --> {names[target]}" for source, target in graph.edges]
    for kind in sorted({vertex.kind for vertex in graph.vertices}):
        members = ",".join(names[vertex] for vertex in graph.vertices if vertex.kind == kind)
        lines.append(f"    classDef {kind} fill:{COLOURS[kind]},stroke:#6B6B6B,color:#222222")
        lines.append(f"    class {members} {kind}")
    return Mermaid("\n".join(lines))


def _boxes(vertices: list[Vertex], names: dict[Vertex, str], level: int, count: list[int]) -> list[str]:
    """The boxes at one level of nesting; those that share the next group go into a subgraph."""
    indent = "    " * (level + 1)
    lines: list[str] = []
    grouped: dict[str, list[Vertex]] = {}
    for vertex in vertices:
        if len(vertex.groups) <= level:
            shape = SHAPES.get(vertex.kind, BOX)
            lines.append(f"{indent}{names[vertex]}{shape.format(_label(vertex))}")
        else:
            grouped.setdefault(vertex.groups[level], []).append(vertex)
    for group, members in grouped.items():
        count[0] += 1
        lines.append(f'{indent}subgraph g{count[0]}["{_escaped(group)}"]')
        lines += _boxes(members, names, level + 1, count)
        lines.append(f"{indent}end")
    return lines


def _label(vertex: Vertex) -> str:
    if vertex.kind == "join":
        return _escaped(vertex.title)
    return "<br/>".join(_escaped(text) for text in (vertex.title, *vertex.details))


def _escaped(text: str) -> str:
    """Text that mermaid shows as it is: in labels it reads names of characters (#..;) and markdown lists."""
    return text.translate(ESCAPES)
