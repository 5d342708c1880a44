"""The pictures: drawn, written whole, readable in the extremes, and without a trace in matplotlib's settings."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from tinynet import plot

CLASSES = [str(digit) for digit in range(10)]


def history(epochs: int, **changes: float) -> list[dict[str, float]]:
    rows = []
    for epoch in range(1, epochs + 1):
        value = 0.9**epoch
        rows.append({"epoch": epoch, "loss": 2 * value, "accuracy": 1 - value, "held_out_loss": 2.2 * value,
                     "held_out_accuracy": 1 - value, "learning_rate": 0.1, "seconds": 1.0, **changes})  # fmt: skip
    return rows


def answers(wrong: int, count: int = 80, classes: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(wrong)
    labels = np.arange(count) % classes
    probabilities = np.full((count, classes), 0.1 / classes, np.float32)
    predicted = labels.copy()
    predicted[:wrong] = (labels[:wrong] + 1) % classes
    probabilities[np.arange(count), predicted] += 0.5 + 0.4 * rng.random(count)
    return rng.random((count, 1, 16, 16)), labels, probabilities


def texts(figure) -> str:
    from matplotlib.text import Text

    return " ".join(text.get_text() for text in figure.findobj(Text))


def written(figure, path: Path) -> np.ndarray:
    plot.save(figure, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("epochs", [1, 2, 20, 300])
def test_curves(epochs: int, tmp_path: Path) -> None:
    figure = plot.curves(history(epochs), "a title")
    loss, accuracy = figure.axes
    assert [len(line.get_xdata()) for axes in (loss, accuracy) for line in axes.lines] == [epochs] * 4
    assert loss.get_yscale() == "log"
    assert f"held out  {1 - 0.9**epochs:.1%}" in texts(figure) and "a title" in texts(figure)
    pixels = written(figure, tmp_path / "curves.png")
    assert pixels.shape[0] > 300 and pixels.shape[1] > 900 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_curves_of_a_loss_that_reached_zero(tmp_path: Path) -> None:
    figure = plot.curves(history(3, loss=0.0, accuracy=1.0, held_out_accuracy=1.0))
    assert figure.axes[0].get_yscale() == "linear"
    written(figure, tmp_path / "curves.png")


def test_curves_need_an_epoch() -> None:
    with pytest.raises(ValueError, match="no epoch"):
        plot.curves([])
    with pytest.raises(ValueError, match="no epoch"):
        plot.detection_curves([])


@pytest.mark.parametrize("epochs", [1, 4, 60])
def test_detection_curves(epochs: int, tmp_path: Path) -> None:
    """AP is drawn at the epochs where it was measured."""
    rows = [{"epoch": epoch, "loss": 3 / epoch, "classification": 1 / epoch, "box": 2 / epoch,
             "AP": epoch / 100 if epoch % 2 == 0 else np.nan, "AP50": epoch / 80 if epoch % 2 == 0 else np.nan}
            for epoch in range(1, epochs + 1)]  # fmt: skip
    figure = plot.detection_curves(rows, "a title")
    assert [len(line.get_xdata()) for axes in figure.axes for line in axes.lines] == [epochs] * 3 + [epochs // 2] * 2
    assert figure.axes[0].get_yscale() == "log" and "a title" in texts(figure)
    assert f"both  {3 / epochs:.3g}" in texts(figure)
    assert epochs < 2 or f"AP  {epochs / 100:.3f}" in texts(figure)
    pixels = written(figure, tmp_path / "curves.png")
    assert pixels.shape[0] > 300 and pixels.shape[1] > 900 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize("wrong", [0, 1, 17, 79])
def test_mistakes(wrong: int, tmp_path: Path) -> None:
    images, labels, probabilities = answers(wrong)
    figure = plot.mistakes(images, labels, probabilities, CLASSES, "a title")
    text = texts(figure)
    assert f"{80 - wrong} of 80 right" in text
    expected = {0: "No mistakes on 80 images", 1: "The mistake", 17: "All 17 mistakes"}
    assert expected.get(wrong, f"The 24 most confident of {wrong} mistakes") in text
    assert text.count("% sure") == min(wrong, 24)
    pixels = written(figure, tmp_path / "mistakes.png")
    assert pixels.shape[0] > 600 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_the_most_confident_mistake_comes_first_with_its_classes() -> None:
    images, labels, probabilities = answers(3)
    probabilities[1] = 0
    probabilities[1, 7] = 1.0
    figure = plot.mistakes(images, labels, probabilities, CLASSES)
    titles = [axes.get_title() for sub in figure.subfigs[1:] for axes in sub.axes if axes.get_title()]
    assert titles[0] == "1 → 7" and len(titles) == 3


def test_long_names_empty_sets_and_two_classes(tmp_path: Path) -> None:
    images, labels, probabilities = answers(30, classes=2)
    written(plot.mistakes(images[:, 0], labels, probabilities, ["Ankle boot", "T-shirt/top"]), tmp_path / "a.png")
    empty = plot.mistakes(images[:0], labels[:0], probabilities[:0], ["a", "b"])
    assert "0 of 0 right" in texts(empty)
    written(empty, tmp_path / "b.png")


def test_lengths_must_agree() -> None:
    images, labels, probabilities = answers(3)
    with pytest.raises(ValueError, match="79 images, 80 labels"):
        plot.mistakes(images[:79], labels, probabilities, CLASSES)


def test_matplotlib_is_left_as_it_was(tmp_path: Path) -> None:
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    written(plot.curves(history(3)), tmp_path / "c.png")
    images, labels, probabilities = answers(3)
    written(plot.mistakes(images, labels, probabilities, CLASSES), tmp_path / "m.png")
    assert dict(matplotlib.rcParams) == before
    assert not pyplot.get_fignums()


def test_a_full_disk_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        plot.save(plot.curves(history(2)), path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
