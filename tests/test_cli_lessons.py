"""`tinynet lessons`: copies that replace nothing, the full setting, JupyterLab, and one line for every mistake."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lesson.small import make_lessons
from tinynet.cli import main
from tinynet.lesson import notebooks
from tinynet.lesson.lesson import FULL


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_lessons(tmp_path / "clone" / "lessons", monkeypatch)


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["lessons", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_copies_come_without_outputs(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["--no-open"], capsys)
    assert code == 0 and out == "copied to tinynet-lessons: 01_small.ipynb, README.md\n"
    original, copy = notebooks.read(source / "01_small.ipynb"), notebooks.read(Path("tinynet-lessons/01_small.ipynb"))
    assert notebooks.cells(copy) == notebooks.cells(original)
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in copy["cells"] if "outputs" in cell)


def test_nothing_of_the_learner_is_replaced(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = Path("mine")
    mine.mkdir()
    (mine / "01_small.ipynb").write_text("my answers")
    (mine / "README.md").symlink_to("nowhere")
    code, out, _ = run(["--no-open", "--to", "mine"], capsys)
    assert code == 0 and out == "kept as they are: 01_small.ipynb, README.md (delete one to get it anew)\n"
    assert (mine / "01_small.ipynb").read_text() == "my answers" and (mine / "README.md").is_symlink()


def test_the_lessons_themselves_are_not_copied(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (source / "01_small.ipynb").read_bytes()
    code, out, _ = run(["--no-open", "--to", str(source)], capsys)
    assert code == 0 and "nothing to copy" in out and (source / "01_small.ipynb").read_bytes() == before


def test_jupyterlab_is_opened_in_the_folder(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(subprocess, "call", lambda command: calls.append(command) or 0)
    assert run(["--to", "here"], capsys)[0] == 0
    assert calls == [[sys.executable, "-m", "jupyterlab", "here"]]


def test_without_jupyterlab(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, out, error = run([], capsys)
    assert code == 1 and "copied to" in out and error.count("\n") == 1
    assert "JupyterLab is missing" in error and ".[lessons]" in error


def test_the_full_setting_stores_its_results(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["--reproduce", "1"], capsys)  # in a clone: next to the lesson
    assert code == 0 and "01_small.ipynb in its full setting" in out
    record = json.loads((source / "results" / "01_small.json").read_text())
    assert record["results"] == {"full": True} and record["command"] == "tinynet lessons --reproduce 1"
    assert run(["--reproduce", "1", "--to", "mine"], capsys)[0] == 0
    assert json.loads(Path("mine/results/01_small.json").read_text())["results"] == {"full": True}
    assert FULL not in os.environ


def test_a_wheel_stores_results_below_the_working_directory(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(notebooks, "PACKAGED", source)
    monkeypatch.setattr(notebooks, "CHECKOUT", tmp_path / "elsewhere")
    assert run(["--reproduce", "1"], capsys)[0] == 0
    assert Path("results/01_small.json").exists() and not (source / "results").exists()


def test_mistakes(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in ((["--reproduce", "7"], "there is no lesson 7"), (["--reproduce", "0"], "at least 1"),
                             (["--no-open", "--to", "clone/lessons/README.md"], "README.md: ")):  # fmt: skip
        code, _, error = run(arguments, capsys)
        assert code == 1 and error.count("\n") == 1 and words in error
