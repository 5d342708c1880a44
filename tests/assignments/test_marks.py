"""Scores find their rows in the CSV files of Canvas and Moodle, and nothing else in them changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinynet.cli import main
from tinynet.errors import DataError
from tinynet.grading.marks import fill_in

SCORES = "student,score,max_score\ndoejane_12345,17.5,20\nroejohn_2345,0.0,20\n"
EXPORTED = """assignment,duedate,timestamp,student_id,email,raw_score,late_submission_penalty,score,max_score
01_tape,,,doejane_12345,,3.0,0.0,3.0,20.0
02_convolution,,,doejane_12345,,17.5,0.0,17.5,20.0
02_convolution,,,roejohn_2345,,0.0,0.0,0.0,20.0
03_batch_norm,,,doejane_12345,,11.0,0.0,11.0,20.0
"""
CANVAS = """Student,ID,SIS User ID,SIS Login ID,Section,02 Convolution (991),03 Batch norm (992)
    Points Possible,,,,,20.00,20.00
"Doe, Jane",12345,s1,jane@x.edu,A,,11.0
"Roe, John",2345,s2,john@x.edu,A,,
"Poe, Ann",345,s3,ann@x.edu,A,5.0,
"""
MOODLE = """Identifier,"Full name",Grade,"Maximum Grade","Feedback comments"
"Participant 12345","Jane Doe",,20.00,"a ""quoted"" word"
"Participant 2345","John Roe",-,20.00,
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "scores.csv").write_text(SCORES)
    (tmp_path / "exported.csv").write_text(EXPORTED)
    (tmp_path / "canvas.csv").write_text(CANVAS)
    (tmp_path / "moodle.csv").write_text(MOODLE, encoding="utf-8-sig")
    return tmp_path


@pytest.mark.parametrize("scores", ["scores.csv", "exported.csv"])
def test_canvas(files: Path, scores: str) -> None:
    out = files / "out.csv"
    filled = fill_in(files / "canvas.csv", files / scores, out, "02_convolution")
    assert filled.column == "02 Convolution (991)" and filled.count == 2 and filled.missing == []
    marked = CANVAS.replace("jane@x.edu,A,,", "jane@x.edu,A,17.5,").replace("john@x.edu,A,,", "john@x.edu,A,0.0,")
    assert out.read_text() == marked


def test_moodle(files: Path) -> None:
    out = files / "out.csv"
    assert fill_in(files / "moodle.csv", files / "scores.csv", out, "02_convolution").column == "Grade"
    assert out.read_bytes().startswith(b"\xef\xbb\xbf")
    lines = out.read_text(encoding="utf-8-sig").splitlines()
    assert lines[1:] == ['Participant 12345,Jane Doe,17.5,20.00,"a ""quoted"" word"',
                         "Participant 2345,John Roe,0.0,20.00,"]  # fmt: skip


def test_names_and_semicolons(files: Path) -> None:
    (files / "scores.csv").write_text("student;score\njane;3,5\njoe;1\n")
    (files / "sheet.csv").write_text("Username;Mark\njane;\nann;\n")
    filled = fill_in(files / "sheet.csv", files / "scores.csv", files / "out.csv", "02_convolution", column="Mark")
    assert filled.missing == ["joe"] and (files / "out.csv").read_text() == "Username;Mark\njane;3,5\nann;\n"


def test_a_missing_row_is_said(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "scores.csv").write_text(SCORES + "poesue_777,20,20\n")
    arguments = ["--scores", str(files / "scores.csv"), "--out", str(files / "out.csv")]
    assert main(["assignment", "marks", "02_convolution", str(files / "canvas.csv"), *arguments]) == 1
    assert "2 marks in the column '02 Convolution (991)'\nno row for poesue_777" in capsys.readouterr().out


def test_mistakes(files: Path) -> None:
    sheet, scores, out = files / "canvas.csv", files / "scores.csv", files / "out.csv"
    with pytest.raises(DataError, match="0 columns one for 05_pyramid; name it with --column, one of: Student, ID"):
        fill_in(sheet, scores, out, "05_pyramid")
    with pytest.raises(DataError, match="0 columns 'Mark'"):
        fill_in(sheet, scores, out, "02_convolution", column="Mark")
    with pytest.raises(DataError, match=r"canvas.csv needs the columns student and score"):
        fill_in(sheet, sheet, out, "02_convolution")
    (files / "latin.csv").write_bytes("Müller".encode("latin-1"))
    with pytest.raises(DataError, match="no UTF-8 text"):
        fill_in(files / "latin.csv", scores, out, "02_convolution")
    assert not out.exists()
