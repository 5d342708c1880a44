"""What a detector finds: boxes on images beside the truth, precision against recall, accuracy by size and its price."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from tinynet.plot import style
from tinynet.plot.style import COLOURS, DASHES

BRIGHT = (style.ORANGE, style.SKY)  # under dark letters
MATCH_IOU = 0.5
Detections = Mapping[str, Any]
Values = float | Sequence[float]


def draw_boxes(
    image: Any,
    boxes: Any,
    labels: Any = None,
    scores: Any = None,
    *,
    classes: Sequence[str] = (),
    truth: Any = None,
    title: str = "",
) -> Figure:
    """One image with boxes, their classes by colour and their scores.

    Args:
        image: (C, H, W) or (H, W, C) with one or three channels, or (H, W); bytes, or floats in [0, 1].
        boxes: (n, 4), (x0, y0, x1, y1) in pixels of the image.
        labels: (n,) places in `classes`; without them all boxes have one colour.
        scores: (n,) in [0, 1], written at the boxes.
        truth: (m, 4), boxes drawn dotted and thin.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    found = _checked("draw_boxes", {"boxes": boxes, "labels": labels, "scores": scores})
    pixels = _displayed("draw_boxes", image)
    height, width = pixels.shape[:2]
    across = min(max(width / style.RESOLUTION, 7.0), 14.0)
    with style.house_style():
        figure = style.new_figure(across, min(across * height / width, 14.0) + 0.75)
        axes = figure.subplots()
        _show(axes, pixels)
        if truth is not None:
            _draw(axes, _checked("draw_boxes", {"boxes": truth}), colour="white", dashes=":", width=1.6)
        _draw(axes, found, classes=classes, size=9.0, width=2.0)
        heading = title or _counted(found["labels"], classes)
        figure.suptitle(heading, fontsize=12, color=style.MUTED, x=0.01, ha="left")
        _legend(figure, classes, [found["labels"]], [("annotated", style.MUTED, ":")] if truth is not None else [])
    return figure


def detections(
    images: Sequence[Any],
    predictions: Sequence[Detections],
    truths: Sequence[Detections],
    classes: Sequence[str],
    *,
    threshold: float = 0.5,
    title: str = "",
) -> Figure:
    """Detections beside the truth, one pair of panels for each image; what has no counterpart is dashed.

    A detection and an annotated box belong together if they have the same label and an intersection over union
    of at least 0.5; detections choose in the order of their scores, and each box is taken once.

    Args:
        images: as for `draw_boxes`.
        predictions: dicts with `boxes`, `labels` and `scores`, as detectors return them.
        truths: dicts with `boxes` and `labels`.
        threshold: detections with a lower score are not drawn.

    Raises:
        ValueError: no image, or lengths that do not agree.
    """
    if not len(images) == len(predictions) == len(truths) or not len(images):
        raise ValueError(
            f"detections: {len(images)} images, {len(predictions)} predictions and {len(truths)} truths; "
            "there must be one of each for every image, and at least one"
        )
    pictures = [_displayed("detections", image) for image in images]
    pairs = 1 if len(images) == 1 else 2 if len(images) <= 4 else 3
    rows = -(-len(images) // pairs)
    panel = 4.1 if pairs < 3 else 2.9
    tall = panel * max(picture.shape[0] / picture.shape[1] for picture in pictures) + 0.42
    with style.house_style():
        figure = style.new_figure(2 * pairs * panel, rows * min(tall, 2 * panel) + 0.75)
        figure.get_layout_engine().set(w_pad=0.06, h_pad=0.05)  # type: ignore[union-attr, call-arg]
        grid = figure.subplots(rows, 2 * pairs, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        shown = []
        for index, picture in enumerate(pictures):
            left, right = grid[index // pairs, 2 * (index % pairs) : 2 * (index % pairs) + 2]
            found = _checked("detections", predictions[index])
            found = {key: values[found["scores"] >= threshold] for key, values in found.items()}
            truth = _checked("detections", truths[index])
            right_ones, seen = _matched(found, truth)
            _show(left, picture)
            _show(right, picture)
            small = 8.0 if pairs < 3 else 6.5
            _draw(left, found, right_ones, classes=classes, size=small)
            _draw(right, truth, seen, classes=classes, size=small)
            left.set_title(f"found {len(right_ones)}, {(~right_ones).sum()} wrong", fontsize=9.5, pad=4)
            right.set_title(f"annotated {len(seen)}, {(~seen).sum()} missed", fontsize=9.5, pad=4)
            shown += [found["labels"], truth["labels"]]
        _legend(figure, classes, shown, [("no counterpart", style.MUTED, "--")])
        if title:
            figure.suptitle(title, fontsize=12, color=style.MUTED, x=0.01, ha="left")
    return figure


def precision_recall(curves: Mapping[str, tuple[Any, Any]], title: str = "") -> Figure:
    """Precision against recall, a line for each name.

    Args:
        curves: by name, which the legend shows, recall and precision, (n,) each, in the order of falling scores.

    Raises:
        ValueError: no curve, or recall and precision of different lengths.
    """
    if not curves:
        raise ValueError("precision_recall: there is no curve to draw")
    with style.house_style():
        figure = style.new_figure(6.8, 5.2)
        axes = figure.subplots()
        for place, (name, (recall, precision)) in enumerate(curves.items()):
            recall, precision = _array(recall), _array(precision)
            if recall.ndim != 1 or recall.shape != precision.shape:
                raise ValueError(f"precision_recall: {name} has recall {recall.shape} and precision {precision.shape}")
            axes.plot(recall, precision, color=COLOURS[place % len(COLOURS)], label=name,
                      linestyle=DASHES[place % len(DASHES)], clip_on=False)  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall: share of the objects that are found",
                 ylabel="precision: share of the detections that are right")  # fmt: skip
        axes.set_title(title or "Precision against recall")
        axes.legend(loc="lower left", frameon=True, framealpha=0.9, edgecolor="none", fontsize=9.5)
    return figure


def size_comparison(rows: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """Average precision by the size of the objects, beside what it costs: a row of bars for each design.

    Args:
        rows: each with `name`, `AP`, `AP_small`, `AP_medium`, `AP_large`, and, if known, `milliseconds` for an image
            and `megabytes` of activations. Each may be a number, or one for each seed: then the bar is their mean
            and a line spans them.

    Raises:
        ValueError: no row.
    """
    if not rows:
        raise ValueError("size_comparison: there is no row to draw")
    costs = [(key, text) for key, text in COSTS.items() if any(key in row for row in rows)]
    with style.house_style():
        figure = style.new_figure(7.2 + 2.9 * len(costs), 1.9 + 0.85 * len(rows))
        figure.get_layout_engine().set(wspace=0.05)  # type: ignore[union-attr, call-arg]
        panels = figure.subplots(1, 1 + len(costs), sharey=True, squeeze=False, width_ratios=[2.1] + [1.0] * len(costs))
        first, *others = panels[0]
        _draw_sizes(first, rows)
        for axes, (key, text) in zip(others, costs):
            _draw_cost(axes, rows, key, text)
        first.set_yticks(range(len(rows)), [row["name"] for row in rows])
        first.set_ylim(len(rows) - 0.45, -0.55)
        for axes in panels[0]:
            axes.grid(False, axis="y")
            axes.tick_params(axis="y", length=0)
        handles, names = first.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=4, frameon=False, fontsize=10)
        if title:
            figure.suptitle(title, fontsize=12, color=style.MUTED, x=0.01, ha="left")
    return figure


SIZES = (
    ("AP", "all objects", style.ORANGE),
    ("AP_small", "small", style.SKY),
    ("AP_medium", "medium", style.BLUE),
    ("AP_large", "large", "#003B5C"),
)
COSTS = {"milliseconds": "Time, ms an image", "megabytes": "Activations, MB"}


def _draw_sizes(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    thick = 0.2
    for place, (key, name, colour) in enumerate(SIZES):
        at = np.arange(len(rows)) + (place - 1.5) * thick
        means, spans = _means([row[key] for row in rows])
        axes.barh(at, means, thick * 0.92, color=colour, label=name)
        _draw_spans(axes, at, spans)
        for y, mean, (_, high) in zip(at, means, spans):
            axes.text(high + 0.012, y, f"{mean:.2f}", va="center", fontsize=8.5, color=style.MUTED)
    axes.set_xlim(0, 1)
    axes.set_title("AP by size")


def _draw_cost(axes: Axes, rows: Sequence[Mapping[str, Any]], key: str, title: str) -> None:
    known = [(place, row[key]) for place, row in enumerate(rows) if key in row]
    means, spans = _means([values for _, values in known])
    at = np.array([place for place, _ in known])
    smallest, largest = min(means), max(high for _, high in spans)
    if smallest > 0 and largest > 20 * smallest:
        axes.set_xscale("log")
        axes.set_xlim(smallest / 2, largest * 3)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        title += ", log scale"
    else:
        axes.set_xlim(0, 1.25 * largest or 1.0)
    axes.barh(at, means, 0.5, color="#8A8A8A")
    _draw_spans(axes, at, spans)
    for y, mean, (_, high) in zip(at, means, spans):
        number = f"{mean:#.3g}".rstrip(".")
        axes.annotate(number, (high, y), (4, 0), textcoords="offset points", va="center", fontsize=9.5)
    axes.set_title(title)


def _means(values: Sequence[Values]) -> tuple[list[float], list[tuple[float, float]]]:
    """Means over the seeds, and lowest and highest."""
    arrays = [np.atleast_1d(np.asarray(value, np.float64)) for value in values]
    return [float(array.mean()) for array in arrays], [(float(array.min()), float(array.max())) for array in arrays]


def _draw_spans(axes: Axes, places: Sequence[float] | np.ndarray, spans: Sequence[tuple[float, float]]) -> None:
    for y, (low, high) in zip(places, spans):
        if high > low:
            axes.plot([low, high], [y, y], color=style.INK, linewidth=1.4, solid_capstyle="butt",
                      path_effects=[patheffects.withStroke(linewidth=2.6, foreground="white")])  # fmt: skip


def _array(values: Any) -> np.ndarray:
    return values.detach().numpy() if hasattr(values, "detach") else np.asarray(values)


def _checked(function: str, given: Detections) -> dict[str, np.ndarray]:
    """Boxes (n, 4), labels (n,) and scores (n,), those that are missing as zeros (no scores: none)."""
    boxes = _array(given["boxes"]).reshape(-1, 4)
    labels = np.zeros(len(boxes), np.int64) if given.get("labels") is None else _array(given["labels"])
    scores = np.full(len(boxes), np.nan) if given.get("scores") is None else _array(given["scores"])
    if labels.shape != (len(boxes),) or scores.shape != (len(boxes),):
        raise ValueError(f"{function}: {len(boxes)} boxes, labels {labels.shape} and scores {scores.shape}")
    return {"boxes": boxes, "labels": labels, "scores": scores}


def _displayed(function: str, image: Any) -> np.ndarray:
    """(H, W, 3) bytes."""
    pixels = _array(image)
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[2] not in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ValueError(f"{function}: an image has one or three channels, got shape {pixels.shape}")
    if pixels.dtype.kind == "f":
        pixels = np.rint(255 * np.nan_to_num(pixels).clip(0, 1))
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.uint8)


def _show(axes: Axes, pixels: np.ndarray) -> None:
    height, width = pixels.shape[:2]
    axes.imshow(pixels, interpolation="nearest" if width < 300 else "antialiased", extent=(0, width, height, 0))
    axes.axis("off")


def _draw(
    axes: Axes,
    found: Mapping[str, np.ndarray],
    solid: np.ndarray | None = None,
    *,
    classes: Sequence[str] = (),
    colour: str = "",
    dashes: str = "--",
    width: float = 1.5,
    size: float = 7.0,
) -> None:
    """The boxes, dashed where `solid` is false, with their scores, and their names where colours do not suffice."""
    if solid is None:
        solid = np.full(len(found["boxes"]), not colour)
    halo = [patheffects.withStroke(linewidth=width + 1.4, foreground="black" if colour else "white", alpha=0.75)]
    for place, ((x0, y0, x1, y1), label) in enumerate(zip(found["boxes"].tolist(), found["labels"].tolist())):
        edge = colour or COLOURS[label % len(COLOURS)]
        line = "-" if solid[place] else dashes
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=edge, linewidth=width,
                                 linestyle=line, path_effects=halo, clip_on=False))  # fmt: skip
    named = len(classes) > len(COLOURS)
    tall = axes.get_ylim()[0]
    for (x0, y0, _, y1), label, score in zip(found["boxes"].tolist(), found["labels"].tolist(), found["scores"]):
        words = [_name(label, classes)] * named + [f"{score:.2f}".lstrip("0")] * (not math.isnan(score))
        if not words or colour:
            continue
        edge = COLOURS[label % len(COLOURS)]
        above = y0 > 0.07 * tall
        inside = not above and y1 - y0 > 0.15 * tall  # at the top; smaller boxes have it below
        corner = max(x0, 0.0), max(y0, 0.0) if above or inside else y1
        text = axes.annotate(" ".join(words), corner, (0.4, 1.4 if above else -1.4), textcoords="offset points",
                             va="bottom" if above else "top", ha="left", fontsize=size, annotation_clip=False,
                             color=style.INK if edge in BRIGHT else "white")  # fmt: skip
        text.set_bbox({"facecolor": edge, "edgecolor": "none", "boxstyle": "square,pad=0.12", "alpha": 0.85})


def _matched(found: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Which detections are right, and which annotated boxes were found."""
    from tinynet import from_numpy
    from tinynet.detection.boxes import box_iou  # here, so that other pictures do not load the detectors

    right, seen = np.zeros(len(found["boxes"]), bool), np.zeros(len(truth["boxes"]), bool)
    if not len(right) or not len(seen):
        return right, seen
    boxes, others = (from_numpy(np.ascontiguousarray(part["boxes"], np.float64)) for part in (found, truth))
    overlap = np.where(found["labels"][:, np.newaxis] == truth["labels"], box_iou(boxes, others).numpy(), 0.0)
    for index in np.argsort(-found["scores"], kind="stable"):
        best = int(np.argmax(np.where(seen, -1.0, overlap[index])))
        if not seen[best] and overlap[index, best] >= MATCH_IOU:
            right[index] = seen[best] = True
    return right, seen


def _counted(labels: np.ndarray, classes: Sequence[str]) -> str:
    numbers, counts = np.unique(labels, return_counts=True)
    named = [f"{_name(int(number), classes)}: {count}" for number, count in zip(numbers, counts)]
    return ", ".join(named) or "nothing found"


def _name(label: int, classes: Sequence[str]) -> str:
    return classes[label] if 0 <= label < len(classes) else f"class {label}" if classes else "object"


def _legend(
    figure: Figure, classes: Sequence[str], shown: Sequence[np.ndarray], others: Sequence[tuple[str, str, Any]]
) -> None:
    """The classes that occur, by their colours, and `others` as (text, colour, dashes), below the picture."""
    present = np.unique(np.concatenate([np.zeros(0, np.int64), *shown])).astype(int).tolist()
    if len(classes) > len(COLOURS):  # the names are at the boxes
        present = []
    entries = [(_name(label, classes), COLOURS[label % len(COLOURS)], "-") for label in present]
    handles = [Line2D([], [], color=colour, linestyle=dashes, label=text, linewidth=2.2)
               for text, colour, dashes in [*entries, *others]]  # fmt: skip
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), frameon=False)
