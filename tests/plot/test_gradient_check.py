"""Pictures of finite differences: what is drawn where, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from tinynet import plot


def texts(figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)}


def test_step_sizes() -> None:
    steps = 10.0 ** -np.arange(6)
    errors = {"one-sided": steps, "two-sided": [1, 0, np.nan, 1e-6, 1e-8, np.inf]}
    figure = plot.step_sizes(steps, errors, [(2, 1e-2, 1e-4), (-1, 1e-3, 1e-5), (3, 1e-2, 1e-4)], "a title")
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log") and axes.xaxis_inverted()
    first, second, square, inverse, _ = axes.lines
    assert first.get_ydata().tolist() == steps.tolist()
    assert np.isfinite(second.get_ydata()).tolist() == [True, False, False, True, True, False]
    for line, exponent in ((square, 2), (inverse, -1)):
        slopes = np.diff(np.log10(line.get_ydata())) / np.diff(np.log10(line.get_xdata()))
        assert slopes == pytest.approx([exponent])
    assert np.sqrt(np.prod(square.get_ydata())) == pytest.approx(1e-4)  # its middle is where it was asked for
    assert {"one-sided", "two-sided", "∝ step²", "∝ 1 / step", "∝ step^3", "a title"} <= texts(figure)


@pytest.mark.parametrize("errors", [{}, {"a": [1.0, 2.0]}])
def test_step_sizes_refuse(errors: dict) -> None:
    with pytest.raises(ValueError, match="curves of 3 errors"):
        plot.step_sizes([1e-1, 1e-2, 1e-3], errors)


def test_agreement_shows_backward_upwards_and_a_colour_for_each_column() -> None:
    numeric = np.arange(6.0).reshape(3, 2)
    figure = plot.agreement({"sign": (-numeric, numeric), "one number": (2.0, 3.0), "long": ([1] * 9, [1] * 9)})
    sign, one, long = figure.axes
    diagonal, *columns = sign.lines
    assert np.array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert [line.get_xdata().tolist() for line in columns] == [[0, 2, 4], [1, 3, 5]]
    assert [line.get_ydata().tolist() for line in columns] == [[0, -2, -4], [-1, -3, -5]]
    assert len({(to_hex(line.get_color()), line.get_marker()) for line in columns}) == 2
    assert (one.lines[1].get_xdata().tolist(), one.lines[1].get_ydata().tolist()) == ([3], [2])
    assert len(long.lines) == 2 and {"sign", "one number", "finite difference", "backward"} <= texts(figure)
    assert sign.get_xlim() == sign.get_ylim() and sign.get_xlim()[1] > 5


def test_agreement_refuses() -> None:
    with pytest.raises(ValueError, match="no gradient"):
        plot.agreement({})
    with pytest.raises(ValueError, match=r"'x' has gradients of shapes \(2,\) and \(3,\)"):
        plot.agreement({"x": ([1, 2], [1, 2, 3])})
