"""Reading assignments and strangers' files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.grading import small
from tinynet.errors import DataError
from tinynet.grading import notebooks

KINDS = ["text", "given", "solution", "test", "test", "solution", "test"]


def test_a_script_and_its_notebook_have_the_same_cells(tmp_path: Path) -> None:
    script = notebooks.read(small.make_assignment(tmp_path / "a") / "small.py")
    notebook = notebooks.read(small.make_assignment(tmp_path / "b", ("numpy",)) / "small.ipynb")
    assert script.cells == notebook.cells and [cell.kind for cell in script.cells] == KINDS
    assert [cell.points for cell in script.cells if cell.kind == "test"] == [2, 1, 3]
    assert notebook.metadata["tinynet"] == {"allowed": ["numpy"], "refused": []}
    assert script.cells[2].grade_id == "scale" and script.cells[2].source.startswith("def scale(x, factor=2.0):")
    assert script.cells[2].source.endswith("### END SOLUTION")


def test_the_header_holds_what_is_allowed(tmp_path: Path) -> None:
    pytest.importorskip("jupytext")
    path = tmp_path / "a.py"
    header = "# ---\n# jupyter:\n#   tinynet: {allowed: [numpy, math], refused: [tinynet.kernels]}\n# ---\n\n"
    path.write_text(header + small.SOURCE)
    read = notebooks.read(path)
    assert read.metadata["tinynet"] == {"allowed": ["numpy", "math"], "refused": ["tinynet.kernels"]}
    assert [cell.kind for cell in read.cells] == KINDS


def test_it_reads_as_jupytext_does(tmp_path: Path) -> None:
    jupytext = pytest.importorskip("jupytext")
    theirs = jupytext.reads(small.SOURCE, fmt="py:percent").cells
    path = tmp_path / "a.py"
    path.write_text(small.SOURCE)
    ours = notebooks.read(path).cells
    assert [cell.source for cell in ours if cell.kind != "text"] == [c.source for c in theirs if c.cell_type == "code"]


def test_hidden_tests_can_be_taken_out() -> None:
    source = "a = 1\n### BEGIN HIDDEN TESTS\nsecret\n### END HIDDEN TESTS\nb = 2\n"
    assert notebooks.without_hidden_tests(source) == "a = 1\nb = 2\n"


BAD = {
    "empty.ipynb": (b"", "is empty"),
    "blank.py": (b" \n\n", "is empty"),
    "text.ipynb": (b"hello", "is no notebook"),
    "list.ipynb": (b"[]", "no list of cells"),
    "deep.ipynb": (b"[" * 200_000, "is no notebook"),
    "old.ipynb": (b'{"worksheets": []}', "old notebook format"),
    "cells.ipynb": (b'{"cells": [3]}', "cell 1 has no source"),
    "source.ipynb": (b'{"cells": [{"source": [3]}]}', "cell 1 has no source"),
    "latin.py": ("x = 'é'".encode("latin-1"), "is not text in UTF-8 (byte 0xe9 at position 5)"),
    "picture.ipynb": (b"\x89PNG\r\n\x1a\n" + bytes(99), "is not text in UTF-8"),
    "notes.txt": (b"x = 1", "neither a notebook (.ipynb) nor a script (.py)"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_notebook(tmp_path: Path, name: str) -> None:
    content, words = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        notebooks.read(path)
    assert words in str(caught.value) and name in str(caught.value)


def test_metadata_of_any_kind_is_survived(tmp_path: Path) -> None:
    metadata = [None, 3, {"nbgrader": 3}, {"nbgrader": {"grade_id": [1], "solution": True}},
                {"nbgrader": {"grade": True, "points": "many"}}]  # fmt: skip
    cells = [{"cell_type": "code", "source": "x", "metadata": m} for m in metadata]
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": []}))
    read = notebooks.read(path)
    assert [cell.kind for cell in read.cells] == ["given", "given", "given", "solution", "test"]
    assert all(cell.grade_id is None and cell.points == 0 for cell in read.cells) and read.metadata == {}
    (tmp_path / "a.py").write_text("# %% nbgrader={not json\nx = 1\n# %% nbgrader=[1]\n")
    assert [cell.kind for cell in notebooks.read(tmp_path / "a.py").cells] == ["given", "given"]


def test_links_pipes_and_huge_files_are_not_read(tmp_path: Path) -> None:
    link = tmp_path / "link.ipynb"
    link.symlink_to("/etc/passwd")
    with pytest.raises(DataError, match=r"symbolic link \(to /etc/passwd\)"):
        notebooks.read(link)
    os.mkfifo(tmp_path / "pipe.ipynb")
    with pytest.raises(DataError, match="not a regular file"):
        notebooks.read(tmp_path / "pipe.ipynb")
    with open(tmp_path / "huge.ipynb", "wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(DataError, match="has 100 MB; a submission may have 20 MB"):
        notebooks.read(tmp_path / "huge.ipynb")
    with pytest.raises(FileNotFoundError):
        notebooks.read(tmp_path / "none.ipynb")


def test_an_assignment_is_found_by_name_folder_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = small.make_assignment(tmp_path / "source") / "small.py"
    monkeypatch.chdir(tmp_path)
    for given in ("small", "source/small", file, file.parent):
        assert notebooks.find(given).resolve() == file
    with pytest.raises(DataError, match="there is no assignment 'large'"):
        notebooks.find("large")
