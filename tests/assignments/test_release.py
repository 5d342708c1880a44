"""The students' version: the same bytes when made again, nothing secret in it, nothing but it handed out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest

from tests.assignments import sources
from tests.assignments.toy import ASSIGNMENTS, NAME, SOURCE, make_course
from tinynet.cli import main

pytest.importorskip("nbgrader", reason="needs the teach extra")
STUB = ["# YOUR CODE HERE", "raise NotImplementedError()"]
each_assignment = pytest.mark.parametrize("name", sources.NAMES)


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the course in which all students' versions were made again."""
    course = tmp_path_factory.mktemp("course")
    for name in ("source", "nbgrader_config.py"):
        (shutil.copytree if name == "source" else shutil.copy)(ASSIGNMENTS / name, course / name)
    assert main(["assignment", "generate", "--course", str(course)]) == 0
    return course


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_course(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def toy(toys: Path) -> Path:
    """The course with the toy, nothing generated; its gradebook stays, because making one takes seconds."""
    (toys / "source" / NAME / f"{NAME}.py").write_text(SOURCE)
    shutil.rmtree(toys / "release", ignore_errors=True)
    return toys


def released(name: str) -> Path:
    return ASSIGNMENTS / "release" / name / f"{name}.ipynb"


def secret_lines(text: str) -> list[str]:
    return [line.strip() for found in sources.SECRET.finditer(text) for line in found[2].splitlines() if line.strip()]


@each_assignment
def test_made_again_it_is_the_same(name: str, regenerated: Path) -> None:
    again = (regenerated / "release" / name / f"{name}.ipynb").read_bytes()
    assert again == released(name).read_bytes(), f"run `tinynet assignment generate {name}`"


@each_assignment
def test_students_get_the_public_lines_and_nothing_else(name: str) -> None:
    """Cell by cell: the source without what stands between the marks, with nbgrader's stub in place of solutions."""
    notebook = json.loads(released(name).read_text(encoding="utf-8"))
    assert len(notebook["cells"]) == len(sources.cells(name))
    for cell, source in zip(notebook["cells"], sources.cells(name)):
        text = "".join(cell["source"])
        assert cell.get("outputs", []) == [] and "BEGIN" not in text and "HIDDEN" not in text
        if source.code:
            public = [line for line in sources.SECRET.sub("", source.text).splitlines() if line.strip()]
            assert [line for line in text.splitlines() if line.strip() and line.strip() not in STUB] == public
    assert set(notebook["metadata"]["tinynet"]) <= {"assignment", "allowed", "refused"}


@each_assignment
def test_no_two_lines_of_a_secret_are_public(name: str) -> None:
    """A line such as `return x` may stand elsewhere too; two in a row may not, whether in text or in given code."""
    text = released(name).read_text(encoding="utf-8")
    public = [line.strip() for cell in json.loads(text)["cells"] for line in "".join(cell["source"]).splitlines()]
    pairs = set(pairwise(public))
    for cell in sources.cells(name):
        secret = secret_lines(cell.text)
        assert not pairs & set(pairwise(secret)), (name, cell.grading["grade_id"])


@each_assignment
def test_cells_are_fixed_and_locked(name: str) -> None:
    notebook = json.loads(released(name).read_text(encoding="utf-8"))
    identifiers = [cell["id"] for cell in notebook["cells"]]
    assert len(identifiers) == len(set(identifiers))
    for cell in notebook["cells"]:
        grading = cell["metadata"].get("nbgrader", {})
        if grading.get("locked"):
            assert cell["metadata"]["editable"] is False and cell["metadata"]["deletable"] is False


def test_the_zip_for_students(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "student.zip"
    assert main(["assignment", "release", "--out", str(out), "--course", str(ASSIGNMENTS)]) == 0
    first = out.read_bytes()
    assert main(["assignment", "release", "--out", str(out), "--course", str(ASSIGNMENTS)]) == 0
    assert out.read_bytes() == first
    with zipfile.ZipFile(out) as archive:
        files = {name.removeprefix("tinynet-assignments/"): archive.read(name) for name in archive.namelist()}
    assert files.keys() == {"README.md", *(f"{name}.ipynb" for name in sources.NAMES)}
    for name in sources.NAMES:
        assert files[f"{name}.ipynb"] == released(name).read_bytes()
    assert b"tinynet assignment validate" in files["README.md"]
    arguments = ["--out", str(out), "--course", str(ASSIGNMENTS)]
    assert main(["assignment", "release", sources.NAMES[0], *arguments]) == 0
    with zipfile.ZipFile(out) as archive:
        assert len(archive.namelist()) == 2


def test_the_zip_for_gradescope(toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "autograder.zip"
    assert main(["assignment", "release", "--gradescope", NAME, "--out", str(out), "--course", str(toy)]) == 0
    with zipfile.ZipFile(out) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "zip")
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
    assert {"setup.sh", "run_autograder", "grade.sh", f"{NAME}/{NAME}.py", "package/pyproject.toml",
            "package/tinynet/grading/scoring.py", "package/tinynet/py.typed"} <= names  # fmt: skip
    assert not any(name.startswith(("package/lessons", "package/tests")) or ".ipynb" in name for name in names)
    for script in ("setup.sh", "run_autograder", "grade.sh"):
        assert modes[script] == 0o755
        subprocess.run(["bash", "-n", str(tmp_path / "zip" / script)], check=True)
    assert f"/autograder/source/{NAME}" in (tmp_path / "zip" / "grade.sh").read_text()


def test_what_generate_says(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["assignment", "generate", NAME, "--course", str(toy)]
    path = toy / "release" / NAME / f"{NAME}.ipynb"
    assert main(arguments) == 0 and capsys.readouterr().out == f"{path}  written\n"
    before = path.stat().st_mtime_ns
    assert main(arguments) == 0 and capsys.readouterr().out == f"{path}  as before\n"
    assert path.stat().st_mtime_ns == before
    assert {item.name for item in toy.iterdir()} == {"source", "release", "gradebook.db", "nbgrader_config.py"}
    assert {item.name for item in (toy / "source" / NAME).iterdir()} == {f"{NAME}.py"}


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("### END SOLUTION", "", "no end solution statement found"),
        ("HIDDEN TESTS\n", "HIDDEN TEST\n", "'BEGIN HIDDEN TEST' is left in the students' version"),
        ('"double-shape"', '"double-value"', "two cells with the grade_id double-value"),
    ],
)
def test_a_source_with_a_mistake(
    before: str, after: str, words: str, toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (toy / "source" / NAME / f"{NAME}.py").write_text(SOURCE.replace(before, after))
    assert main(["assignment", "generate", "--course", str(toy)]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (toy / "release").exists()
    assert main(["assignment", "release", "--out", str(toy / "s.zip"), "--course", str(toy)]) == 1
    assert "run `tinynet assignment generate 01_toy` first" in capsys.readouterr().err


def test_the_wheel_has_no_assignments(tmp_path: Path) -> None:
    root = ASSIGNMENTS.parents[1]
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(root)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        text = {name: archive.read(name) for name in names}
    assert "tinynet/grading/assignments.py" in names
    assert not any("/assignments/" in name or "nbgrader_config" in name for name in names)
    for name in sources.NAMES:
        assert not any(Path(file).stem == name and "lesson" in file for file in names)
    marked = [name for name, content in text.items() if b"### BEGIN HIDDEN TESTS\n" in content]
    assert marked == []
