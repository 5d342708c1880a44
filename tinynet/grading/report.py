"""What teachers and students get: scores.csv, a page of feedback per student, Gradescope's results.json.

Everything that comes from a submission is text here: escaped in HTML, fenced in Markdown, harmless in a spreadsheet.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinynet.grading.scoring import Result, TestResult
from tinynet.grading.submissions import Submission
from tinynet.utils.atomic import atomic_write

Graded = tuple[Submission, Result]

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h1 span { font-weight: normal; }
section { border-left: .4rem solid #0072b2; padding: .1rem 1rem; margin: 1rem 0; background: #8881; }
section.lost { border-color: #d55e00; }
h2 { font-size: 1.05rem; margin: .5rem 0; display: flex; justify-content: space-between; gap: 1rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .9rem; margin: .5rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: .5rem 0; }
dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; }
"""
_FIELDS = re.compile(r"^(case|expected|got|differs|likely cause|in the test): (.*)$")


def write_feedback(folder: Path, assignment: str, submission: Submission, result: Result) -> None:
    """feedback.html, feedback.md and results.json of one student."""
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / "feedback.html", feedback_html(assignment, submission, result))
    _replace(folder / "feedback.md", feedback_markdown(assignment, submission, result))
    _replace(folder / "results.json", json.dumps(gradescope(result), indent=1) + "\n")


def write_scores(path: Path, graded: Sequence[Graded]) -> None:
    """One row per student: score, largest score, one column per test, and the problem where there was one."""
    _replace(path, scores_csv(graded), "utf-8-sig")  # the mark tells Excel that names are not Latin-1


def _replace(path: Path, text: str, encoding: str = "utf-8") -> None:
    with atomic_write(path) as file:
        file.write(text.encode(encoding, "replace"))


def scores_csv(graded: Sequence[Graded]) -> str:
    """The scores as CSV text."""
    names = list(dict.fromkeys(test.grade_id for _, result in graded for test in result.tests))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["student", "score", "max_score", *names, "problem"])
    for submission, result in graded:
        points = {test.grade_id: number(test.points) for test in result.tests}
        row = [number(result.score), number(result.max_score), *(points.get(name, "") for name in names)]
        writer.writerow([_harmless(submission.shown), *row, _harmless(result.problem or "")])
    return file.getvalue()


def _harmless(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") or text[:1] in ("\t", "\r") else text


def number(value: float) -> str:
    """Points without a needless .0"""
    return f"{value:.10g}"


def gradescope(result: Result) -> dict[str, Any]:
    """The object that Gradescope reads from results.json."""
    about = [result.problem or "", *result.notes]
    return {
        "score": result.score,
        "output": "\n".join(filter(None, about)),
        "output_format": "text",
        "tests": [
            {
                "name": test.grade_id, "score": test.points, "max_score": test.max_points,
                "status": "passed" if test.points == test.max_points else "failed",
                "output": test.message, "output_format": "text",
            }
            for test in result.tests
        ],
    }  # fmt: skip


def feedback_html(assignment: str, submission: Submission, result: Result) -> str:
    """One page that needs nothing else, and runs no script."""
    title = html.escape(f"{assignment}: {submission.shown}")
    score = f"{number(result.score)} of {number(result.max_score)} points"
    parts = [f"<h1>{title} <span>({score})</span></h1>"]
    if result.problem:
        parts.append(f'<section class="lost"><h2>Not graded</h2><p>{html.escape(result.problem)}</p></section>')
    else:
        parts += [_section(test) for test in result.tests]
    notes = [*([submission.note] if submission.note else []), *result.notes]
    if notes:
        listed = "".join(f"<li><pre>{html.escape(note)}</pre></li>" for note in notes)
        parts.append(f"<h2>Notes</h2><ul>{listed}</ul>")
    if result.output.strip():
        printed = html.escape(result.output)
        parts.append(f"<details><summary>What the code printed</summary><pre>{printed}</pre></details>")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body>\n{chr(10).join(parts)}\n</body></html>\n"
    )


def _section(test: TestResult) -> str:
    won = test.points == test.max_points
    points = f"{number(test.points)} / {number(test.max_points)}"
    head = f"<h2><span>{'✓' if won else '✗'} {html.escape(test.grade_id)}</span><span>{points}</span></h2>"
    body = "".join(_html_of(label, text) for label, text in _parts(test.message)).replace("</dl><dl>", "")
    return f'<section class="{"won" if won else "lost"}">{head}{body}</section>'


def _parts(message: str) -> list[tuple[str, str]]:
    """A message as labelled lines ("expected", ...) and other text (label "")."""
    parts: list[tuple[str, str]] = []
    for line in message.splitlines():
        labelled = _FIELDS.match(line)
        if labelled:
            parts.append((labelled[1], labelled[2]))
        elif parts and parts[-1][0] == "":
            parts[-1] = ("", f"{parts[-1][1]}\n{line}")
        else:
            parts.append(("", line))
    return parts


def _html_of(label: str, text: str) -> str:
    if label:
        return f"<dl><dt>{label}</dt><dd>{html.escape(text)}</dd></dl>"
    return f"<pre>{html.escape(text)}</pre>"


def feedback_markdown(assignment: str, submission: Submission, result: Result) -> str:
    """The same as Markdown."""
    score = f"{number(result.score)} of {number(result.max_score)} points"
    lines = [f"# {assignment}: {_escaped(submission.shown)}", "", f"**{score}**", ""]
    if result.problem:
        lines += ["Not graded:", "", *_fenced(result.problem)]
    else:
        lines += ["| test | points | of |", "| --- | --- | --- |"]
        lines += [f"| {t.grade_id} | {number(t.points)} | {number(t.max_points)} |" for t in result.tests] + [""]
        for test in result.tests:
            if test.message:
                lines += [f"## {test.grade_id}", "", *_fenced(test.message)]
    for title, text in (("Notes", "\n".join([submission.note, *result.notes]).strip()), ("Printed", result.output)):
        if text.strip():
            lines += [f"## {title}", "", *_fenced(text)]
    return "\n".join(lines).rstrip() + "\n"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&-])", r"\\\1", text)


def _fenced(text: str) -> list[str]:
    """A block of code with a fence that the text cannot close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", text, fence, ""]
