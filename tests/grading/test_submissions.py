"""Whose file is whose, in each layout, with odd names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tinynet.errors import DataError
from tinynet.grading.submissions import Submission, collect


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return folder


def listed(folder: Path) -> dict[str, str | None]:
    found, _ = collect(folder, "02_conv")
    return {s.student: None if s.path is None else str(s.path.relative_to(folder)) for s in found}


def test_every_layout(tmp_path: Path) -> None:
    folder = make(
        tmp_path, "anna.ipynb", "bert.py", "carl/02_conv.ipynb", "dora/02_conv.py", "emil/02_conv/02_conv.ipynb",
        "emil/01_tape/01_tape.ipynb", "fred/answer.ipynb", ".hidden/02_conv.py", "__pycache__/x.py", "list.csv",
    )  # fmt: skip
    assert listed(folder) == {
        "anna": "anna.ipynb", "bert": "bert.py", "carl": "carl/02_conv.ipynb", "dora": "dora/02_conv.py",
        "emil": "emil/02_conv/02_conv.ipynb", "fred": "fred/answer.ipynb",
    }  # fmt: skip
    found, others = collect(folder, "02_conv")
    assert others == ["list.csv"] and [s.note for s in found if s.note] == [
        "answer.ipynb was graded, as there is no 02_conv.ipynb"
    ]


def test_nbgraders_course_folder(tmp_path: Path) -> None:
    make(tmp_path, "submitted/anna/02_conv/02_conv.ipynb", "submitted/anna/02_conv/timestamp.txt", "source/x/x.ipynb")
    assert listed(tmp_path) == {"anna": "submitted/anna/02_conv/02_conv.ipynb"}


def test_one_file(tmp_path: Path) -> None:
    make(tmp_path, "anna.ipynb")
    assert collect(tmp_path / "anna.ipynb", "02_conv")[0] == [Submission("anna", tmp_path / "anna.ipynb")]


def test_the_notebook_goes_before_the_script(tmp_path: Path) -> None:
    make(tmp_path, "anna.py", "anna.ipynb", "bert/02_conv.py", "bert/02_conv.ipynb")
    assert listed(tmp_path) == {"anna": "anna.ipynb", "bert": "bert/02_conv.ipynb"}
    assert collect(tmp_path, "02_conv")[1] == ["anna.py"]


def test_what_is_missing_or_linked_is_said(tmp_path: Path) -> None:
    make(tmp_path, "anna/notes.txt", "bert/a.py", "bert/b.py", "x/02_conv.py")
    (tmp_path / "carl").mkdir()
    (tmp_path / "dora").symlink_to(tmp_path / "x")
    (tmp_path / "emil").mkdir()
    (tmp_path / "emil" / "02_conv").symlink_to(tmp_path / "x")
    problems = {s.student: s.problem for s in collect(tmp_path, "02_conv")[0]}
    assert problems["anna"] == "nothing handed in: no 02_conv.ipynb or 02_conv.py (there: notes.txt)"
    assert "(there: a.py, b.py)" in problems["bert"] and "the folder is empty" in problems["carl"]
    assert problems["dora"] == "dora is a symbolic link; links are not followed"
    assert "nothing handed in" in problems["emil"] and problems["x"] == ""


def test_nothing_to_grade(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        collect(tmp_path / "none", "02_conv")
    with pytest.raises(DataError, match="holds no submissions"):
        collect(tmp_path, "02_conv")


@pytest.mark.parametrize("name", ["=cmd()", "..", "a b", "<script>", "x" * 200, "línea", "a\nb", "-", "b\udcff"])
def test_odd_names_give_harmless_folders(name: str) -> None:
    submission = Submission(name, None)
    folder = submission.folder
    assert folder not in ("", ".", "..") and not set(folder) & set("/\\\n<>=\0") and len(os.fsencode(folder)) < 255
    assert submission.shown.isprintable()
    assert folder != Submission(name + "_", None).folder
    assert Submission("a_b", None).folder == "a_b" != Submission("a b", None).folder
