"""Windows and receptive fields: every dot stands where the formulas say, and agrees with what a gradient sees."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from matplotlib.text import Text

import tinynet
from tinynet import nn, plot
from tinynet.plot import style


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


def read_pixels(axes) -> list[list[float]]:
    """The places of the dots, window by window."""
    return [(line.get_xdata() - 0.5).tolist() for line in map(_Line, axes.lines) if line.dots]


class _Line:
    def __init__(self, line) -> None:
        self.dots = line.get_marker() == "o"
        self.get_xdata = lambda: np.asarray(line.get_xdata(), np.float64)


def test_windows_with_everything() -> None:
    figure = plot.windows([(8, 3, 2, 1, 2), (8, 3, 2, 0, 1)], ["one", "two"], "a title")
    one, two = figure.axes
    assert read_pixels(one) == [[0, 2, 4], [2, 4, 6], [4, 6, 8]]  # counted from the padding's first pixel
    assert read_pixels(two) == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    assert {"one\n3 outputs", "two\n3 outputs", "a title"} <= set(texts(figure))
    colours = [tuple(patch.get_facecolor()) for patch in two.findobj(Rectangle)[:8]]
    assert colours[7] != colours[6] == colours[0]  # the last pixel is read by no window
    assert len({tuple(patch.get_facecolor()) for patch in one.findobj(Rectangle)[:10]}) == 3


@pytest.mark.parametrize("cases, titles", [([], ()), ([(7, 3, 1, 0, 1)], ["a", "b"]), ([(3, 5, 1, 0, 1)], ())])
def test_windows_refuse(cases: list, titles: tuple) -> None:
    with pytest.raises(ValueError, match="windows: "):
        plot.windows(cases, titles)


@pytest.mark.parametrize("layers", [
    [(3, 1, 1)], [(3, 1, 1)] * 3, [(3, 2, 1), (3, 2, 1), (3, 1, 1)], [(3, 1, 2), (3, 1, 4)], [(7, 2, 1), (3, 2, 2)],
    [(3, 1, 3), (3, 1, 3)],
])  # fmt: skip
def test_a_receptive_field_is_what_the_gradient_reaches(layers: list) -> None:
    net = nn.Sequential(*[
        nn.Conv2d(1, 1, kernel, stride=stride, padding=(kernel - 1) // 2 * dilation, dilation=dilation, bias=False)
        for kernel, stride, dilation in layers
    ])  # fmt: skip
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    x = tinynet.ones(1, 1, 65, 65, requires_grad=True)
    y = net(x)
    middle = y.shape[-1] // 2
    y[0, 0, middle, middle].backward()
    seen = np.flatnonzero(x.grad.numpy()[0, 0].any(axis=0))
    figure = plot.receptive_field(layers)
    inputs = next(line for line in figure.axes[0].lines if line.get_color() == style.BLUE)
    drawn = np.asarray(inputs.get_xdata())
    assert np.array_equal(drawn - drawn.min(), seen - seen.min()) and set(inputs.get_ydata()) == {0}
    assert f"sees {seen.max() - seen.min() + 1} pixels" in texts(figure)


def test_the_layers_are_named() -> None:
    assert {"input", "3×3", "5×5, stride 2", "3×3, dilation 4"} <= set(
        texts(plot.receptive_field([(3, 1, 1), (5, 2, 1), (3, 1, 4)]))
    )


@pytest.mark.parametrize("layers", [[], [(3, 0, 1)]])
def test_receptive_field_refuses(layers: list) -> None:
    with pytest.raises(ValueError, match="receptive_field: "):
        plot.receptive_field(layers)
