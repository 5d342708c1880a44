"""Every lesson has the same shape: goal, predictions, exercises with all their parts, recap, paper, what to read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.lessons.build import LESSONS
from tests.lessons.stored import Cell, cells_of, each_lesson, tagged

TAGS = {
    "goal", "predict", "exercise", "stub", "check", "hint", "solution", "make", "recap", "paper", "read", "varies",
    "slow",
}  # fmt: skip
PARTS = ["exercise", "stub", "check", "hint", "solution"]
HEADING = re.compile(r"^### Exercise (\d) · [^·\n]+ · ([1-5])/5 · (\d+) minutes$", re.MULTILINE)
FOLDED = re.compile(r"^<details><summary>[^<\n]+</summary>\n\n.+\n\n</details>", re.DOTALL)
READ = re.compile(r"^- `(tinynet/[\w/]+\.py)`, `([\w.]+)`: .+", re.MULTILINE)


def names_assigned(cell: Cell) -> list[str]:
    """The names of a prediction's cell, each of which must be given a `...`."""
    names = []
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.Assign) and len(statement.targets) == 1, cell
        assert isinstance(statement.value, ast.Constant) and statement.value.value is ..., cell
        names.append(ast.unparse(statement.targets[0]))
    return names


@each_lesson
def test_tags(script: Path) -> None:
    cells = cells_of(script)
    assert {tag for cell in cells for tag in cell.tags} <= TAGS
    for tag in ("goal", "make", "recap", "paper", "read"):
        found = [cell for cell in tagged(cells, tag) if cell.kind == "markdown"]
        assert len(found) == 1, f"one markdown cell is tagged {tag}, not {len(found)}"
    assert "goal" in cells[0].tags and "read" in cells[-1].tags
    order = [tag for cell in cells for tag in cell.tags if tag in ("make", "recap", "paper", "read")]
    assert list(dict.fromkeys(order)) == ["make", "recap", "paper", "read"]
    assert re.match(rf"# Lesson {int(script.name[:2])}: ", cells[0].source)
    assert re.search(r"\d+-\d+ minutes", cells[0].source)


@each_lesson
def test_predictions_come_before_what_they_are_about(script: Path) -> None:
    cells = cells_of(script)
    predictions = [index for index, cell in enumerate(cells) if "predict" in cell.tags and cell.kind == "code"]
    assert len(predictions) >= 3
    for index in predictions:
        assert "predict" in cells[index - 1].tags and cells[index - 1].kind == "markdown"
        answer = next(cell for cell in cells[index + 1 :] if cell.kind == "code")
        for name in names_assigned(cells[index]):
            revealed = re.compile(rf"lesson\.reveal\([^\n]+, {name}, ")
            assert revealed.search(answer.source), f"{answer.place} does not reveal {name}"


@each_lesson
def test_an_exercise_has_all_its_parts_in_order(script: Path) -> None:
    cells = cells_of(script)
    starts = [index for index, cell in enumerate(cells) if "exercise" in cell.tags]
    assert 3 <= len(starts) <= 5
    assert all(len(tagged(cells, part)) == len(starts) for part in PARTS)
    for number, start in enumerate(starts, start=1):
        parts = cells[start : start + len(PARTS)]
        assert [part.tags[0] for part in parts] == PARTS
        assert [part.kind for part in parts] == ["markdown", "code", "code", "markdown", "markdown"]
        heading = HEADING.match(parts[0].source)
        assert heading and int(heading[1]) == number and 5 <= int(heading[3]) <= 20, parts[0].source[:80]
        assert "..." in parts[1].source
        assert FOLDED.match(parts[3].source) and FOLDED.match(parts[4].source)
        assert parts[4].source.count("```python\n") == 1
        check_is_well_made(parts[2])


def check_is_well_made(cell: Cell) -> None:
    """A function `check` whose asserts all have a message, and one line that hands out answer or solution."""
    rule, line = ast.parse(cell.source).body
    assert isinstance(rule, ast.FunctionDef) and rule.name == "check", cell.place
    names = [argument.arg for argument in rule.args.args]
    assert ast.unparse(line) in {f"{left} = lesson.check(check, {', '.join(names)})"
                                 for left in (", ".join(names), f"({', '.join(names)})")}, cell.place  # fmt: skip
    asserts = [node for node in ast.walk(rule) if isinstance(node, ast.Assert)]
    assert asserts and all(node.msg is not None for node in asserts), f"{cell.place}: an assert without a message"


@each_lesson
def test_the_recap_asks_five_questions_and_folds_the_answers(script: Path) -> None:
    (recap,) = tagged(cells_of(script), "recap")
    questions, folded, answers = recap.source.partition("<details>")
    assert folded and answers.rstrip().endswith("</details>")
    for part in (questions, answers):
        assert re.findall(r"^(\d)\. ", part, re.MULTILINE) == list("12345")


@each_lesson
def test_the_paper_is_quoted(script: Path) -> None:
    (paper,) = tagged(cells_of(script), "paper")
    assert re.search(r"^> .+", paper.source, re.MULTILINE)


@each_lesson
def test_what_to_read_exists(script: Path) -> None:
    (read,) = tagged(cells_of(script), "read")
    lines = READ.findall(read.source)
    assert lines and len(lines) == len(re.findall(r"^- ", read.source, re.MULTILINE))
    for file, name in lines:
        path = LESSONS.parent / file
        assert path.exists(), file
        tree = ast.parse(path.read_text())
        for part in name.split("."):
            tree = next((node for node in ast.walk(tree) if getattr(node, "name", None) == part), None)
            assert tree is not None, f"{file} has no {name}"


def test_the_syllabus_links_to_every_lesson() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", (LESSONS / "README.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 15))
    linked = {found[1] for _, text in rows if (found := re.search(r"\]\(([^)]+)\)", text))}
    assert linked == {path.name for path in LESSONS.glob("[0-9][0-9]_*.ipynb")}
