"""Feature maps and classes as pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from tinynet import plot


def texts(figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(Text) if text.get_text())


def maps(prefix: str, height: int = 64, width: int = 96) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        f"{prefix}{level}": random.standard_normal((6, height // 2**level, width // 2**level)).astype(np.float32)
        for level in range(2, 6)
    }


def photo(height: int = 64, width: int = 96) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(64, 96), (96, 32)])
def test_features(size: tuple[int, int], tmp_path: Path) -> None:
    rows = (maps("C", *size), maps("P", *size))
    figure = plot.features(photo(*size), rows, "a title", ("NOT TRAINED",))
    text = texts(figure)
    assert all(f"{name}  " in text for row in rows for name in row)
    assert f"C3  {size[0] // 8}×{size[1] // 8}, stride 8" in text and "a title" in text and "NOT TRAINED" in text
    plot.save(figure, tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as image:
        assert image.format == "PNG" and image.width > 1000
        assert len(np.unique(np.asarray(image.convert("L")))) > 50


def test_large_maps_are_the_root_mean_square_and_small_ones_vary_most() -> None:
    values = np.zeros((7, 4, 4), np.float32)
    values[1], values[5] = 3.0, 4.0
    values[2, 0, 0], values[3, 1, 1], values[4, 2, 2], values[6, 3, 3] = 9.0, 8.0, 7.0, 6.0
    figure = plot.features(photo(), ({"C2": values},))
    images = [axes.images[0].get_array() for axes in figure.findobj(lambda a: hasattr(a, "images") and a.images)]
    large = next(image for image in images if image.shape == (4, 4))
    assert large[0, 1] == pytest.approx(np.sqrt((9 + 16) / 7)) and large[0, 0] == pytest.approx(np.sqrt((25 + 81) / 7))
    found = texts(figure).split(" | ")
    assert {"2", "3", "4", "6"} <= set(found) and not {"1", "5", "0"} & set(found)


def test_constant_and_broken_maps_are_drawn_too(tmp_path: Path) -> None:
    odd = {"C2": np.zeros((1, 3, 3)), "C3": np.full((2, 1, 1), np.nan), "C4": np.full((5, 2, 2), np.inf)}
    with np.errstate(all="ignore"):
        plot.save(plot.features(photo(), (odd,)), tmp_path / "f.png")


def test_wrong_maps() -> None:
    with pytest.raises(ValueError, match=r"map C2 must have shape \(C, h, w\), got \(3, 3\)"):
        plot.features(photo(), ({"C2": np.zeros((3, 3))},))
    with pytest.raises(ValueError, match="no map"):
        plot.features(photo(), ())


def test_classification(tmp_path: Path) -> None:
    names = ["tench", "a very long name of a class that needs two lines", "c", "d", "e"]
    figure = plot.classification(photo(), names, [0.6, 0.2, 0.1, 0.05, 0.0], "a title")
    bars = figure.axes[1]
    assert [patch.get_width() for patch in bars.patches] == [0.6, 0.2, 0.1, 0.05, 0.0]
    assert bars.get_ylim()[0] > bars.get_ylim()[1]  # the most probable on top
    labels = [label.get_text().replace("\n", " ") for label in bars.get_yticklabels()]
    assert labels == names and "60.0%" in texts(figure)
    plot.save(figure, tmp_path / "c.png")
    for probabilities in ([1.0], [1e-9]):
        plot.save(plot.classification(photo(), ["x"], probabilities), tmp_path / "c.png")


def test_classification_needs_names_for_all() -> None:
    with pytest.raises(ValueError, match="2 names need as many"):
        plot.classification(photo(), ["a", "b"], [1.0])
    with pytest.raises(ValueError):
        plot.classification(photo(), [], [])
