"""What a classifier gets wrong: the confusion matrix and the wrong images themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure, SubFigure

from tinynet.plot import style

SHOWN = 24  # wrong images in the picture
MOST_COLUMNS = 6


def mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    title: str = "",
) -> Figure:
    """The confusion matrix and the wrongly classified images, the most confident mistakes first.

    Args:
        images: (N, C, H, W) or (N, H, W), any real values; the first channel is drawn, dark on white.
        labels: (N,) the true classes.
        probabilities: (N, K) what the model gives each class; its largest is the prediction.
        classes: K names.

    Raises:
        ValueError: lengths that do not agree.
    """
    images, labels, probabilities = np.asarray(images), np.asarray(labels), np.asarray(probabilities)
    if len(images) != len(labels) or probabilities.shape != (len(labels), len(classes)):
        raise ValueError(
            f"mistakes: {len(images)} images, {len(labels)} labels and probabilities {probabilities.shape} "
            f"for {len(classes)} classes do not agree"
        )
    predictions = probabilities.argmax(axis=1)
    with style.house_style():
        figure = style.new_figure(13.5, 6.6)
        figure.get_layout_engine().set(h_pad=0.08)  # type: ignore[union-attr, call-arg]
        panels: Any = figure.subfigures(1, 2, width_ratios=(1, 1.05), wspace=0.03)
        left, right = panels
        _draw_matrix(left, labels, predictions, classes)
        _draw_wrong_images(right, images, labels, probabilities, classes)
        if title:
            figure.suptitle(title, fontsize=12, color=style.MUTED, x=0.01, ha="left")
    return figure


def _draw_matrix(figure: SubFigure, labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str]) -> None:
    count = len(classes)
    matrix = np.zeros((count, count), np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    wrong = np.where(np.eye(count, dtype=bool), 0, matrix)
    axes = figure.subplots()
    # Dark is many: the diagonal stays grey, because next to it no mistake would be seen.
    shades = colormaps[style.MAP].reversed()
    colours = shades(0.05 + 0.85 * wrong / max(wrong.max(), 5))
    colours[wrong == 0] = (1, 1, 1, 1)
    colours[np.eye(count, dtype=bool)] = (0.93, 0.93, 0.93, 1)
    axes.imshow(colours)
    for row, column in zip(*np.nonzero(matrix)):
        brightness = colours[row, column, :3] @ (0.30, 0.59, 0.11)
        axes.text(column, row, matrix[row, column], ha="center", va="center", fontsize=9 if count > 10 else 10.5,
                  color=style.INK if brightness > 0.55 else "white",
                  fontweight="bold" if row != column else "normal")  # fmt: skip
    long_names = max(len(name) for name in classes) > 3
    axes.set_xticks(range(count), classes, rotation=45 if long_names else 0, ha="right" if long_names else "center")
    axes.set_yticks(range(count), classes)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(False)
    axes.grid(True, which="minor")
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlim(-0.52, count - 0.48)
    axes.set_ylim(count - 0.48, -0.52)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    total = len(labels)
    right = int(np.trace(matrix))
    axes.set_title(f"{right:,} of {total:,} right" + (f" ({right / total:.1%})" if total else ""))


def _draw_wrong_images(
    figure: SubFigure,
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
) -> None:
    predictions = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predictions != labels)
    if not wrong.size:
        text = f"No mistakes on {len(labels):,} images"
        figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=20, color=style.GREEN)
        return
    confidence = probabilities[wrong, predictions[wrong]]
    order = wrong[np.argsort(-confidence, kind="stable")][:SHOWN]
    heading = "the mistake" if wrong.size == 1 else f"all {wrong.size} mistakes"
    if wrong.size > SHOWN:
        heading = f"the {SHOWN} most confident of {wrong.size:,} mistakes"
    figure.suptitle(f"{heading[0].upper()}{heading[1:]}: true → predicted", fontsize=13, fontweight="bold")
    long_names = max(len(name) for name in classes) > 3
    columns = MOST_COLUMNS if len(order) > 16 else math.isqrt(len(order) - 1) + 1
    rows = -(-len(order) // columns)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, index in zip(grid.flat, order):
        picture = images[index] if images.ndim == 3 else images[index, 0]
        axes.imshow(picture, cmap="gray_r", interpolation="nearest")
        separator = "\n→ " if long_names else " → "
        text = f"{classes[labels[index]]}{separator}{classes[predictions[index]]}"
        axes.set_title(text, loc="center", fontsize=8.5 if long_names else 12, pad=4, color=style.VERMILION)
        axes.text(0.5, -0.04, f"{probabilities[index, predictions[index]]:.0%} sure", transform=axes.transAxes,
                  ha="center", va="top", fontsize=8.5, color=style.MUTED)  # fmt: skip
