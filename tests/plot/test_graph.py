"""Graphs as pictures: boxes apart, arrows downwards and past other boxes, and what they say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Text
from PIL import Image

import tinynet
from tinynet import models, nn, plot
from tinynet.inspect.graph import module_graph, tape_graph
from tinynet.plot.layout import GAP_X, GAP_Y, Layout, layout

Sizes = list[tuple[float, float]]
Edges = list[tuple[int, int]]


def random_graph(seed: int) -> tuple[Sizes, Edges]:
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 24))
    sizes = [(float(w), float(h)) for w, h in zip(random.uniform(0.3, 2, count), random.uniform(0.2, 0.8, count))]
    edges = {(int(random.integers(0, target)), target) for target in range(1, count) for _ in range(2) if target}
    return sizes, sorted(edges)


def boxes(sizes: Sizes, placed: Layout) -> np.ndarray:
    """left, top, right, bottom of each box."""
    centres, half = np.array(placed.centres), np.array(sizes) / 2
    return np.hstack([centres - half, centres + half])


def overlapping(rectangles: np.ndarray) -> list[tuple[int, int]]:
    pairs = []
    for a in range(len(rectangles)):
        for b in range(a):
            left, top = np.maximum(rectangles[a][:2], rectangles[b][:2])
            right, bottom = np.minimum(rectangles[a][2:], rectangles[b][2:])
            if left < right - 1e-6 and top < bottom - 1e-6:
                pairs.append((b, a))
    return pairs


def hidden_edges(sizes: Sizes, edges: Edges, placed: Layout) -> list[tuple[tuple[int, int], int]]:
    """Edges whose vertical or horizontal pieces cross a box, and that box."""
    found = []
    for edge, route in zip(edges, placed.routes):
        for (x0, y0), (x1, y1) in pairwise(route):
            if abs(x0 - x1) > 1e-6 and abs(y0 - y1) > 1e-6:
                continue  # a curve in the gap between two layers
            piece = np.array([min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)])
            for number, box in enumerate(boxes(sizes, placed)):
                if (piece[:2] < box[2:] - 1e-6).all() and (piece[2:] > box[:2] + 1e-6).all():
                    found.append((edge, number))
    return found


@pytest.mark.parametrize("seed", range(30))
def test_layout_of_random_graphs(seed: int) -> None:
    sizes, edges = random_graph(seed)
    placed = layout(sizes, edges)
    rectangles = boxes(sizes, placed)
    assert not overlapping(rectangles) and not hidden_edges(sizes, edges, placed)
    assert rectangles[:, :2].min() > -1e-6
    assert rectangles[:, 2].max() <= placed.width + 1e-6 and rectangles[:, 3].max() <= placed.height + 1e-6
    for (source, target), route in zip(edges, placed.routes):
        assert route[0] == pytest.approx((placed.centres[source][0], rectangles[source][3]))
        assert route[-1] == pytest.approx((placed.centres[target][0], rectangles[target][1]))
        if len({x for x, _ in route}) < 3 and rectangles[target][0] < rectangles[source][2]:
            assert route[0][1] < route[-1][1]  # downwards


def test_a_chain_is_straight_and_a_shortcut_runs_beside_it() -> None:
    sizes = [(1.0, 0.5)] * 6
    placed = layout(sizes, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 4)])
    x = [centre[0] for centre in placed.centres]
    assert x[1] == x[2] == x[3] and x[4] == x[5]
    beside = {point[0] for point in placed.routes[5][1:-1]}
    (bend,) = beside
    assert abs(bend - x[1]) >= 0.5 + GAP_X
    assert abs(x[0] - (x[1] + bend) / 2) < 1e-3  # the fork sits between its branches


def test_a_diamond_has_no_crossing() -> None:
    placed = layout([(1, 0.5)] * 6, [(0, 1), (0, 2), (1, 4), (2, 3), (3, 5), (4, 5)])
    x = [centre[0] for centre in placed.centres]
    assert (x[1] < x[2]) == (x[4] < x[3])


def test_tall_graphs_continue_in_columns() -> None:
    count = 60
    placed = layout([(1.0, 0.5)] * count, [(n, n + 1) for n in range(count - 1)])
    columns = sorted({round(x, 6) for x, _ in placed.centres})
    assert len(columns) > 2 and placed.height < 14 < count * (0.5 + GAP_Y)
    assert not overlapping(boxes([(1.0, 0.5)] * count, placed))
    assert layout([], []) == Layout([], [], 0.0, 0.0)


def test_a_cycle_is_refused() -> None:
    with pytest.raises(ValueError, match="cycle"):
        layout([(1, 1)] * 2, [(0, 1), (1, 0)])


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def written(figure, path: Path) -> np.ndarray:
    plot.save(figure, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def inside_the_picture(figure) -> bool:
    figure.canvas.draw()  # which places the legend
    renderer = figure.canvas.get_renderer()
    edge = figure.bbox
    drawn = [*figure.axes[0].texts, *figure.texts, *(text for legend in figure.legends for text in legend.texts)]
    extents = [text.get_window_extent(renderer) for text in drawn]
    return all(e.x0 >= edge.x0 and e.x1 <= edge.x1 and e.y0 >= edge.y0 and e.y1 <= edge.y1 for e in extents)


def test_bottleneck(tmp_path: Path) -> None:
    down = nn.Sequential(nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16))
    figure = plot.graph(models.Bottleneck(8, 4, downsample=down), (1, 8, 6, 6), title="A bottleneck")
    found = texts(figure)
    assert {"conv2", "downsample.0", "Conv2d 3×3, 4 → 4", "+", "A bottleneck", "normalisation"} <= set(found)
    assert found.count("relu") == 3
    assert len(figure.findobj(FancyArrowPatch)) == 14
    assert inside_the_picture(figure)
    pixels = written(figure, tmp_path / "b.png")
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_texts_fit_into_their_boxes() -> None:
    from matplotlib.patches import FancyBboxPatch

    figure = plot.graph(models.FeaturePyramidNetwork([256, 512, 1024], 256), {
        "c3": (1, 256, 12, 12), "c4": (1, 512, 6, 6), "c5": (1, 1024, 3, 3),
    })  # fmt: skip
    renderer = figure.canvas.get_renderer()
    frames = [patch.get_window_extent(renderer) for patch in figure.findobj(FancyBboxPatch)]
    checked = 0
    for text in figure.axes[0].texts:
        extent = text.get_window_extent(renderer)
        x, y = (extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2
        for frame in frames:
            if frame.x0 < x < frame.x1 and frame.y0 < y < frame.y1:
                checked += 1
                assert frame.x0 <= extent.x0 and extent.x1 <= frame.x1
    assert checked > 20 and inside_the_picture(figure)


def test_pyramid_of_three_levels() -> None:
    plan = module_graph(models.FeaturePyramidNetwork([4, 8, 16], 4), {
        "c3": (1, 4, 8, 8), "c4": (1, 8, 4, 4), "c5": (1, 16, 2, 2),
    })  # fmt: skip
    titles = [vertex.title for vertex in plan.vertices]
    assert titles.count("+") == 2 and titles.count("interpolate") == 2
    joins = [vertex for vertex in plan.vertices if vertex.title == "+"]
    for join in joins:
        before = {source.title for source, target in plan.edges if target is join}
        assert "interpolate" in before and len(before) == 2
    # the inner map propagates, not the smoothed one
    for vertex in (v for v in plan.vertices if v.title == "interpolate"):
        (source,) = (source for source, target in plan.edges if target is vertex)
        assert source.kind == "join" or any("inner_blocks.2" in group for group in source.groups)


def test_tape_of_a_loss() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    x = tinynet.ones(5, 4, requires_grad=True)
    loss = (model(x) - 1).abs().mean()
    plan = tape_graph(loss, model)
    titles = [vertex.title for vertex in plan.vertices]
    assert {"0.weight", "0.bias", "2.weight", "2.bias", "leaf"} <= set(titles)
    assert [t for t in titles if t in ("linear", "relu", "mean", "result")] == [
        "linear", "relu", "linear", "mean", "result",
    ]  # fmt: skip
    assert "2.bias" in texts(plot.graph(loss, model=model))
    assert "parameter" in texts(plot.graph(loss))
    loss.backward()
    with pytest.raises(ValueError, match="was freed by a backward pass"):
        plot.graph(loss)


def test_a_tensor_without_a_graph_and_a_model_without_a_size() -> None:
    with pytest.raises(ValueError, match="does not require grad"):
        plot.graph(tinynet.ones(2))
    with pytest.raises(ValueError, match="needs an input_size"):
        plot.graph(nn.ReLU())
    leaf = tinynet.ones(2, requires_grad=True)
    assert [vertex.title for vertex in tape_graph(leaf).vertices] == ["leaf", "result"]


def test_long_chains_of_operations() -> None:
    x = tinynet.ones(2, requires_grad=True)
    y = x
    for _ in range(300):
        y = y + 1
    assert len(tape_graph(y).vertices) == 302
