"""Downloads of Canvas and Moodle and plain folders become nbgrader's layout; what is none of it is said, not used."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.assignments.toy import NAME, ONLY_VISIBLE, RIGHT, WRONG, make_course, notebook
from tinynet.cli import main
from tinynet.errors import DataError
from tinynet.grading import collecting
from tinynet.grading.collecting import collect


@pytest.fixture
def course(tmp_path: Path) -> Path:
    return make_course(tmp_path / "course")


def zipped(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def in_folder(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def submitted(course: Path) -> dict[str, bytes]:
    """The content of every file below submitted/, by its path."""
    root = course / "submitted"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


LAYOUTS = {
    "canvas": (
        {
            "doejane_12345_678901_01_toy.ipynb": notebook(RIGHT),
            "roejohn_LATE_12346_678902_01_toy-1.ipynb": notebook(WRONG),
            "roejohn_LATE_12346_678902_01_toy-2.ipynb": notebook(ONLY_VISIBLE),
            "roejohn_LATE_12346_678902_01_toy-10.ipynb": notebook(RIGHT),
        },
        ["doejane_12345", "roejohn_12346"],
    ),
    "moodle, folders": (
        {
            "Jane Doe_371_assignsubmission_file_/01_toy.ipynb": notebook(RIGHT),
            "Jane Doe_371_assignsubmission_onlinetext_/onlinetext.html": b"<p>Here it is</p>",
            "小明 李_372_assignsubmission_file/my answer (1).ipynb": notebook(RIGHT),
        },
        ["Jane_Doe_371", "小明_李_372"],
    ),
    "moodle, one level": (
        {
            "Jane Doe_371_assignsubmission_file_01_toy.ipynb": notebook(RIGHT),
            "Participant_372_assignsubmission_file_01_toy.ipynb": notebook(RIGHT),
        },
        ["Jane_Doe_371", "Participant_372"],
    ),
    "a folder for each": (
        {"jane/01_toy.ipynb": notebook(RIGHT), "joe, jr/homework/Untitled.ipynb": notebook(RIGHT, assignment=None)},
        ["jane", "joe_jr"],
    ),
    "around all a folder": (
        {"spring/jane/01_toy.ipynb": notebook(RIGHT), "spring/joe/01_toy.ipynb": notebook(RIGHT)},
        ["jane", "joe"],
    ),
    "one student": ({"spring/jane/01_toy.ipynb": notebook(RIGHT)}, ["jane"]),
    "nbgrader's": (
        {"jane/01_toy/01_toy.ipynb": notebook(RIGHT), "joe/01_toy/01_toy.ipynb": notebook(RIGHT)},
        ["jane", "joe"],
    ),
    "files by name": ({"jane.ipynb": notebook(RIGHT), "01_toy_joe.ipynb": notebook(RIGHT)}, ["jane", "joe"]),
}


@pytest.mark.parametrize("make", [zipped, in_folder])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout: str, make, course: Path, tmp_path: Path) -> None:
    files, students = LAYOUTS[layout]
    collection = collect(make(tmp_path / "download", files), course, NAME)
    assert collection.problems == [] and collection.written == students
    found = submitted(course)
    assert list(found) == [f"{student}/{NAME}/{NAME}.ipynb" for student in students]
    answers = {notebook(RIGHT), notebook(RIGHT, assignment=None)}
    assert set(found.values()) <= answers, "not the latest resubmission"


def test_again_is_as_before_and_newer_work_replaces(course: Path, tmp_path: Path) -> None:
    first = zipped(tmp_path / "1.zip", {"jane/a.ipynb": notebook(WRONG), "joe/a.ipynb": notebook(WRONG)})
    second = zipped(tmp_path / "2.zip", {"jane/a.ipynb": notebook(RIGHT), "joe/a.ipynb": notebook(WRONG)})
    collect(first, course, NAME)
    again = collect(second, course, NAME)
    assert again.written == ["jane"] and again.unchanged == ["joe"]
    assert submitted(course)[f"jane/{NAME}/{NAME}.ipynb"] == notebook(RIGHT)
    script = in_folder(tmp_path / "3", {"jane/answer.py": b"# a script", "joe/a.ipynb": notebook(WRONG)})
    assert collect(script, course, NAME).written == ["jane"]
    assert list(submitted(course)) == [f"jane/{NAME}/{NAME}.py", f"joe/{NAME}/{NAME}.ipynb"]


def test_the_notebook_made_for_the_assignment_counts(course: Path, tmp_path: Path) -> None:
    files = {
        "jane/01_toy.ipynb": notebook(WRONG, assignment=None),
        "jane/final.ipynb": notebook(RIGHT),
        "jane/other.ipynb": notebook(WRONG, assignment="02_other"),
        "jane/notes.py": b"",
        "jane/.ipynb_checkpoints/final-checkpoint.ipynb": notebook(WRONG),
        "__MACOSX/jane/._final.ipynb": b"\0\5",
    }
    assert collect(zipped(tmp_path / "d.zip", files), course, NAME).problems == []
    assert submitted(course) == {f"jane/{NAME}/{NAME}.ipynb": notebook(RIGHT)}


def test_problems_are_said_and_the_rest_is_collected(
    course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(collecting, "LARGEST", 10_000)
    files = {
        "ann/report.pdf": b"%PDF",
        "bob/01_toy.ipynb": notebook(RIGHT, assignment="02_other"),
        "cat/01_toy.ipynb": b" " * 10_001,
        "dan/01_toy.ipynb": b"{ damaged",
        "eve/01_toy.ipynb": notebook(RIGHT),
    }
    download = zipped(tmp_path / "d.zip", files)
    assert main(["assignment", "collect", NAME, str(download), "--course", str(course)]) == 1
    out = capsys.readouterr().out
    assert "2 new or changed, 0 as before" in out and out.count("not collected: ") == 3
    assert "ann handed in no notebook, only report.pdf" in out
    assert "bob handed in no 01_toy, only 01_toy.ipynb (made for 02_other)" in out
    assert "cat/01_toy.ipynb is larger than" in out
    assert list(submitted(course)) == [f"dan/{NAME}/{NAME}.ipynb", f"eve/{NAME}/{NAME}.ipynb"]


def test_nothing_leaves_the_folder(course: Path, tmp_path: Path) -> None:
    files = {"../../evil/01_toy.ipynb": notebook(RIGHT), "/etc/01_toy.ipynb": notebook(RIGHT),
             "..\\up/x.ipynb": notebook(RIGHT), "ok/01_toy.ipynb": notebook(RIGHT)}  # fmt: skip
    before = {path for path in tmp_path.rglob("*") if course not in path.parents}
    collect(zipped(tmp_path / "d.zip", files), course, NAME)
    assert {path for path in tmp_path.rglob("*") if course not in path.parents} - before == {tmp_path / "d.zip"}
    for student in (course / "submitted").iterdir():
        assert student.name.strip("._-") and "\\" not in student.name


def test_links_are_not_followed(course: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.ipynb"
    secret.write_bytes(notebook(RIGHT))
    folder = in_folder(tmp_path / "d", {"jane/01_toy.ipynb": notebook(RIGHT), "joe/readme.txt": b""})
    (folder / "joe" / "01_toy.ipynb").symlink_to(secret)
    assert collect(folder, course, NAME).written == ["jane"]


def test_mistakes(course: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("no zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        collect(tmp_path / "text", course, NAME)
    with pytest.raises(DataError, match="nothing was handed in"):
        collect(tmp_path / "empty", course, NAME)
    damaged = zipped(tmp_path / "d.zip", {"jane/a.ipynb": b"0" * 1000})
    damaged.write_bytes(damaged.read_bytes().replace(b"0" * 1000, b"0" * 999 + b"1"))
    assert "cannot be unpacked: Bad CRC-32" in collect(damaged, course, NAME).problems[0]
    for arguments, words in (
        (["collect", "05_none", "x", "--course", str(course)], "has no assignment 05_none; it has 01_toy"),
        (["collect", NAME, "x", "--course", str(tmp_path)], "has a folder source"),
        (["collect", NAME, str(tmp_path / "none"), "--course", str(course)], "neither a folder nor a zip"),
    ):
        assert main(["assignment", *arguments]) == 1
        assert words in capsys.readouterr().err
