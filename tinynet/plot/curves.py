"""How a training went: loss and accuracy, or average precision, over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from tinynet.plot import style


def curves(history: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """Loss (logarithmic) and accuracy over the epochs, one row of `history` per epoch.

    A row has `epoch`, `loss`, `accuracy`, `held_out_loss` and `held_out_accuracy` (accuracies in [0, 1]).

    Raises:
        ValueError: an empty history.
    """
    if not history:
        raise ValueError("curves: the history has no epoch to draw")
    with style.house_style():
        figure = style.new_figure(10.5, 4.2)
        loss, accuracy = figure.subplots(1, 2)
        _draw(loss, history, "loss", "held_out_loss", "{:.3g}")
        _draw(accuracy, history, "accuracy", "held_out_accuracy", "{:.1%}")
        _finish_loss(loss, history)
        _finish_accuracy(accuracy, history)
        if title:
            figure.suptitle(title, fontsize=12, color=style.MUTED, x=0.01, ha="left")
    return figure


def detection_curves(history: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """The losses of a detector (logarithmic) and its average precision over the epochs, one row of `history` each.

    A row has `epoch`, `loss`, `classification`, `box`, and `AP` and `AP50` in [0, 1], NaN where they were not measured.

    Raises:
        ValueError: an empty history.
    """
    if not history:
        raise ValueError("detection_curves: the history has no epoch to draw")
    losses = {"loss": ("both", style.INK, "-"), "classification": ("classification", style.ORANGE, "--"),
              "box": ("box", style.VERMILION, ":")}  # fmt: skip
    precisions = {"AP50": ("AP50", style.SKY, "--"), "AP": ("AP", style.BLUE, "-")}
    with style.house_style():
        figure = style.new_figure(10.5, 4.2)
        left, right = figure.subplots(1, 2)
        for axes, lines, number in ((left, losses, "{:.3g}"), (right, precisions, "{:.3f}")):
            for key, (name, colour, dashes) in lines.items():
                known = [(row["epoch"], row[key]) for row in history if not math.isnan(row[key])]
                _draw_line(axes, known, name, colour, dashes, number)
            _set_epochs(axes, [row["epoch"] for row in history])
        left.set_title("Loss in training")
        if all(row[key] > 0 for row in history for key in losses):
            _set_logarithmic(left)
        left.legend(loc="upper right", frameon=False)
        right.set_title("Average precision, held out")
        right.set_ylim(0, 1.03)
        right.legend(loc="lower right", frameon=False)
        if title:
            figure.suptitle(title, fontsize=12, color=style.MUTED, x=0.01, ha="left")
    return figure


def _draw(axes: Axes, history: Sequence[Mapping[str, float]], training: str, held_out: str, number: str) -> None:
    lines = ((training, "training", style.ORANGE, "--"), (held_out, "held out", style.BLUE, "-"))
    for key, name, colour, dashes in lines:
        _draw_line(axes, [(row["epoch"], row[key]) for row in history], name, colour, dashes, number)
    _set_epochs(axes, [row["epoch"] for row in history])


def _draw_line(
    axes: Axes, points: Sequence[tuple[float, float]], name: str, colour: str, dashes: str, number: str
) -> None:
    """Its last value stands in the legend."""
    epochs, values = [epoch for epoch, _ in points], [value for _, value in points]
    marker = "o" if len(points) <= 40 else None
    label = f"{name}  {number.format(values[-1])}" if values else name
    axes.plot(epochs, values, color=colour, linestyle=dashes, marker=marker, markersize=4, label=label)


def _set_epochs(axes: Axes, epochs: Sequence[float]) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)


def _finish_loss(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    axes.set_title("Loss")
    if all(row["loss"] > 0 and row["held_out_loss"] > 0 for row in history):
        _set_logarithmic(axes)
    axes.legend(loc="upper right", frameon=False)


def _set_logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _finish_accuracy(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    axes.set_title("Accuracy")
    lowest = min(min(row["accuracy"], row["held_out_accuracy"]) for row in history)
    below = max(0.0, lowest - 0.05 * (1 - lowest) - 0.005)
    axes.set_ylim(below, 1 + 0.03 * (1 - below))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=None))
    axes.legend(loc="lower right", frameon=False)
