"""`tinynet grade`: a class graded, again, interrupted, and in half a class's hour."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.grading import small
from tests.grading.test_hostile import ALLOWED, ATTACKS
from tests.test_cli import hear_ctrl_c
from tinynet.cli import main
from tinynet.grading.sandbox import SandboxError


@pytest.fixture(autouse=True)
def contained() -> None:
    small.contained()


@pytest.fixture
def course(tmp_path: Path) -> Path:
    small.make_assignment(tmp_path / "source")
    small.hand_in(tmp_path / "submissions" / "anna.ipynb")
    small.hand_in(tmp_path / "submissions" / "bert" / "small.ipynb", small.STUB)
    (tmp_path / "submissions" / "carl.ipynb").write_text("")
    return tmp_path


def grade(course: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["grade", str(course / "source" / "small"), str(course / "submissions"), "--out",
                 str(course / "out"), *options])  # fmt: skip
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def scores(course: Path) -> dict[str, dict[str, str]]:
    with open(course / "out" / "scores.csv", encoding="utf-8-sig", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def test_a_class_is_graded(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = grade(course, capsys, "--jobs", "2", "--seed", "5")
    assert code == 0 and err == ""
    assert "assignment  small: 6 points in 3 tests; 3 submissions" in out and "seed        5" in out
    assert "protection  " in out and "problem     carl: carl.ipynb is empty (0 bytes)" in out
    assert "graded      3 in " in out and ": 1 full, 1 with a problem, median 0 of 6" in out
    assert scores(course)["anna"] == {"student": "anna", "score": "6", "max_score": "6", "scale-values": "2",
                                      "scale-twice": "1", "total-values": "3", "problem": ""}  # fmt: skip
    assert scores(course)["bert"]["score"] == "0"
    assert "not attempted" in (course / "out" / "bert" / "feedback.html").read_text()
    assert json.loads((course / "out" / "anna" / "results.json").read_text())["score"] == 6
    assert json.loads((course / "out" / "run.json").read_text())["seed"] == 5


def test_only_what_changed_is_graded_again(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grade(course, capsys)
    before = {path: path.stat().st_mtime_ns for path in (course / "out").glob("*/feedback.html")}
    _, out, _ = grade(course, capsys)
    assert ", 2 of them before" in out or ", 3 of them before" in out
    small.hand_in(course / "submissions" / "bert" / "small.ipynb")
    _, out, _ = grade(course, capsys)
    assert ": 2 full" in out and scores(course)["bert"]["score"] == "6"
    after = {path: path.stat().st_mtime_ns for path in before}
    changed = {path.parent.name for path in before if before[path] != after[path]}
    assert "bert" in changed and "anna" not in changed
    source = course / "source" / "small" / "small.py"
    source.write_text(source.read_text().replace('"points": 2', '"points": 4'))
    _, out, _ = grade(course, capsys)
    assert "of them before" not in out and scores(course)["anna"]["score"] == "8"


def test_one_file_gives_gradescopes_result(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = course / "submissions" / "anna.ipynb"
    assert main(["grade", str(course / "source" / "small"), str(file), "--out", str(course / "one")]) == 0
    assert json.loads((course / "one" / "results.json").read_text())["score"] == 6


def test_results_do_not_go_among_the_submissions(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = course / "submissions"
    arguments = ["grade", str(course / "source" / "small"), str(folder), "--out", str(folder / "out")]
    assert main(arguments) == 1 and "lies in the folder of submissions" in capsys.readouterr().err
    assert not (folder / "out").exists()


@pytest.mark.parametrize("arguments, says", [
    (["nothing", "."], "there is no assignment 'nothing'"),
    (["small", "nowhere"], "no such file or folder of submissions"),
    (["small", "empty"], "holds no submissions"),
])  # fmt: skip
def test_mistakes_are_one_line(
    course: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(course / "source")
    (course / "source" / "empty").mkdir()
    assert main(["grade", *arguments, "--out", str(course / "out")]) == 1
    captured = capsys.readouterr()
    assert says in captured.err and captured.err.count("\n") == 1


def test_less_protection_than_asked_for_is_refused(
    course: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tinynet.grading import sandbox

    def refuse(level: str, hidden: tuple) -> None:
        raise SandboxError("not permitted")

    monkeypatch.setattr(sandbox, "_tried", refuse)
    code, _, err = grade(course, capsys, "--protection", "namespaces")
    assert code == 1 and "protection 'namespaces' is not to be had here: not permitted" in err
    assert not (course / "out" / "scores.csv").exists()


def test_ctrl_c_ends_at_once_and_the_next_run_goes_on(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = "import time\ndef scale(x, factor=2.0):\n    time.sleep(60)\n"
    small.hand_in(course / "submissions" / "dora.ipynb", scale=slow)
    command = [sys.executable, "-m", "tinynet", "grade", "source/small", "submissions", "--out", "out"]
    command += ["--timeout", "60"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    grader = subprocess.Popen(
        command, cwd=course, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=hear_ctrl_c
    )
    deadline = time.monotonic() + 60
    while not (course / "out" / "carl" / "grading.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    started = time.monotonic()
    grader.send_signal(signal.SIGINT)
    _, err = grader.communicate()
    assert time.monotonic() - started < 3 and grader.returncode == 130
    assert err.decode() == "tinynet: interrupted: 3 of 4 are graded; the same command goes on from there\n"
    assert not (course / "out" / "scores.csv").exists()
    small.hand_in(course / "submissions" / "dora.ipynb")
    _, out, _ = grade(course, capsys, "--timeout", "60")
    assert "of them before" in out and scores(course)["dora"]["score"] == "6"


@pytest.mark.slow
def test_thirty_submissions_take_less_than_three_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small.make_assignment(tmp_path / "source", ALLOWED)
    place = tmp_path / "submissions"
    for number in range(10):
        small.hand_in(place / f"right{number}.ipynb")
        small.hand_in(place / f"wrong{number}.ipynb", scale="def scale(x, factor=2.0):\n    return x + factor\n")
    for number in range(5):
        small.hand_in(place / f"empty{number}.ipynb", small.STUB)
    for name in ("loop", "memory", "fork_bomb", "disk", "segfault"):
        small.hand_in(place / f"hostile_{name}.ipynb", scale=ATTACKS[name].code)
    started = time.monotonic()
    code, out, _ = grade(tmp_path, capsys, "--jobs", "2")
    seconds = time.monotonic() - started
    found = {name: float(row["score"]) for name, row in scores(tmp_path).items()}
    assert code == 0 and seconds < 180 and "30 submissions" in out
    expected = {"right": 6.0, "wrong": 3.0, "empty": 0.0, "hosti": 3.0}
    assert {name: score for name, score in found.items() if score != expected[name[:5]]} == {}
