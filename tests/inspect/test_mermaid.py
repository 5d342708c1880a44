"""Mermaid text: boxes, nesting and arrows that belong to the model, and nothing that mermaid would misread."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from tinynet import models, nn
from tinynet.inspect import to_mermaid

NODE = re.compile(r'(n\d+)(?:\(\["(.*)"\]\)|\(\("(.*)"\)\)|\["(.*)"\])')
EDGE = re.compile(r"(n\d+) --> (n\d+)")
SUBGRAPH = re.compile(r'subgraph g\d+\["(.*)"\]')
OTHER = re.compile(r"end|classDef \w+ fill:#\w{6},stroke:#\w{6},color:#\w{6}|class (n\d+,)*n\d+ \w+")
LABEL = re.compile(r"(?:[^\"<>#`+*]|<br/>|#\w+;)*")


def parsed(text: str) -> tuple[dict[str, str], list[tuple[str, str]], dict[str, tuple[str, ...]]]:
    """Labels by node, arrows between labels, and the subgraphs around each node; every line must be understood."""
    first, *lines = text.splitlines()
    assert first == "flowchart TD"
    labels: dict[str, str] = {}
    groups: dict[str, tuple[str, ...]] = {}
    edges, stack = [], []
    for line in map(str.strip, lines):
        if found := NODE.fullmatch(line):
            label = next(part for part in found.groups()[1:] if part is not None)
            assert LABEL.fullmatch(label), label
            labels[found[1]] = label
            groups[found[1]] = tuple(stack)
        elif found := SUBGRAPH.fullmatch(line):
            assert LABEL.fullmatch(found[1])
            stack.append(found[1])
        elif found := EDGE.fullmatch(line):
            edges.append((found[1], found[2]))
        else:
            assert OTHER.fullmatch(line), line
            if line == "end":
                stack.pop()
    assert not stack
    return labels, edges, groups


def test_bottleneck() -> None:
    block = models.Bottleneck(8, 2)
    labels, edges, _ = parsed(to_mermaid(block, (1, 8, 6, 6)))
    names = {node: label.partition("<br/>")[0] for node, label in labels.items()}
    chain = ["input", "conv1", "bn1", "relu", "conv2", "bn2", "relu", "conv3", "bn3", "#43;", "relu", "output"]
    assert list(names.values()) == chain
    order = list(labels)
    straight = list(pairwise(order))
    assert sorted(edges) == sorted([*straight, (order[0], order[9])])
    assert labels[order[4]] == "conv2<br/>Conv2d 3×3, 2 → 2<br/>1×2×6×6"


def test_depth_and_groups() -> None:
    model = models.cifar_resnet20()
    labels, edges, groups = parsed(to_mermaid(model, (1, 3, 16, 16), depth=1))
    assert any(label.startswith("layer2<br/>Sequential") for label in labels.values()) and len(edges) == len(labels) - 1
    assert set(groups.values()) == {()}
    labels, _, groups = parsed(to_mermaid(model, (1, 3, 16, 16), depth=9))
    assert sum(label == "#43;" for label in labels.values()) == 9
    assert ("layer3 Sequential", "2 BasicBlock") in groups.values()
    automatic, _, _ = parsed(to_mermaid(model, (1, 3, 16, 16)))
    assert 10 < len(automatic) <= 60


def test_several_inputs_and_outputs() -> None:
    fpn = models.FeaturePyramidNetwork([4, 8, 16], 4)
    sizes = {"c3": (1, 4, 8, 8), "c4": (1, 8, 4, 4), "c5": (1, 16, 2, 2)}
    labels, edges, _ = parsed(to_mermaid(fpn, sizes, depth=1))
    starts = [label for node, label in labels.items() if not any(target == node for _, target in edges)]
    ends = [label for node, label in labels.items() if not any(source == node for source, _ in edges)]
    assert [label.partition("<br/>")[0] for label in starts] == [f"input['{name}']" for name in sizes]
    assert [label.partition("<br/>")[0] for label in ends] == [f"output['{name}']" for name in sizes]
    assert sum(label == "#43;" for label in labels.values()) == 2


def test_names_that_mermaid_would_misread() -> None:
    class Odd(nn.Module):
        def forward(self, x):
            return {'"end" #1; <b>`*`': x + 1}

    labels, _, _ = parsed(to_mermaid(Odd(), (1, 2)))
    assert list(labels.values())[-1] == "output['#quot;end#quot; #35;1; #lt;b#gt;#96;#42;#96;']<br/>1×2"


def test_in_a_notebook() -> None:
    text = to_mermaid(nn.ReLU(), (1, 2))
    assert text._repr_markdown_() == f"```mermaid\n{text}\n```"


def test_depth_below_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        to_mermaid(nn.ReLU(), (1, 2), depth=0)
