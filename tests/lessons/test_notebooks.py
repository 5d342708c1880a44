"""The committed notebooks: in step with their scripts, outputs without errors or warnings, pictures with texts."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from tests.lessons.build import synced
from tests.lessons.stored import each_lesson, notebook_of

LARGEST = 3_000_000  # bytes of one notebook


@each_lesson
def test_script_and_notebook_have_the_same_source(script: Path) -> None:
    notebook, expected = notebook_of(script), synced(script)
    assert notebook.metadata == expected.metadata
    for cell, other in zip(notebook.cells, expected.cells, strict=True):
        for key in ("id", "cell_type", "metadata", "source"):
            assert cell[key] == other[key], f"{cell.id}: run python tests/lessons/build.py {int(script.name[:2])}"


@each_lesson
def test_it_was_run_from_top_to_bottom(script: Path) -> None:
    code = [cell for cell in notebook_of(script).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert script.with_suffix(".ipynb").stat().st_size < LARGEST


@each_lesson
def test_no_output_is_an_error_or_a_warning(script: Path) -> None:
    for cell in notebook_of(script).cells:
        for output in cell.get("outputs", ()):
            assert output.output_type != "error", cell.id
            assert output.get("name") != "stderr", f"{cell.id}: {output.get('text')}"
            text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
            assert "Warning" not in text and "/home/" not in text and "/tmp/" not in text, f"{cell.id}: {text}"


@each_lesson
def test_nothing_was_attempted_or_predicted(script: Path) -> None:
    checks = [cell for cell in notebook_of(script).cells if "check" in cell.metadata.get("tags", ())]
    for cell in checks:
        assert "not attempted (a ... still stands in it)" in cell.outputs[0].text, cell.id


@each_lesson
def test_pictures_have_a_text_and_something_on_them(script: Path) -> None:
    pictures = [
        (cell.id, output) for cell in notebook_of(script).cells for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]  # fmt: skip
    assert pictures, "a lesson has at least one picture"
    for place, output in pictures:
        alt = output.metadata.get("image/png", {}).get("alt", "")
        assert 40 <= len(alt) <= 400 and output.data["text/plain"] == alt, place
        with Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))) as image:
            assert min(image.size) >= 100 and max(image.size) <= 2200, f"{place}: {image.size}"
            colours = image.convert("RGB").getcolors(1 << 24)
            assert colours is not None and len(colours) > 20, place


def test_there_is_a_lesson() -> None:
    from tests.lessons.build import scripts

    assert scripts(), pytest.fail("no lesson was found")
