"""Scores and feedback: what is in them, and that nothing in them acts."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path

from tinynet.grading.report import (
    feedback_html,
    feedback_markdown,
    gradescope,
    scores_csv,
    write_feedback,
    write_scores,
)
from tinynet.grading.scoring import Result, TestResult
from tinynet.grading.submissions import Submission

ANNA = Submission("anna", None)
MESSAGE = "case: im2col\nexpected: 1.5 at index (0,)\ngot: -1.5 at index (0,)\nlikely cause: wrong sign"
RESULT = Result((TestResult("relu", 2, 2), TestResult("im2col", 0.0, 1.5, MESSAGE)), None, ("a note",), "printed", 7)
EVIL = "</pre><script>alert(1)</script>```\n# heading\n\x1b[31m"
HOSTILE = Result((TestResult("relu", 0, 2, EVIL),), EVIL, (EVIL,), EVIL, 7)


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data):
        self.text += data


def test_scores_have_a_column_per_test() -> None:
    failed = Result((), "is empty")
    rows = list(csv.DictReader(io.StringIO(scores_csv([(ANNA, RESULT), (Submission("bert", None), failed)]))))
    assert rows[0] == {"student": "anna", "score": "2", "max_score": "3.5", "relu": "2", "im2col": "0", "problem": ""}
    assert rows[1]["student"] == "bert" and rows[1]["relu"] == "" and rows[1]["problem"] == "is empty"


def test_no_cell_is_a_formula() -> None:
    names = ["=cmd()", "+1", "-1", "@x", "\t=1", " =1", '"=1', "a,b\nc"]
    graded = [(Submission(name, None), Result((), name)) for name in names]
    rows = list(csv.reader(io.StringIO(scores_csv(graded))))[1:]
    for row in rows:
        assert all(cell.lstrip()[:1] not in ("=", "+", "-", "@") for cell in row)
    assert rows[0][0] == "'=cmd()" and rows[7][-1] == "a,b\nc"


def test_the_page_shows_everything() -> None:
    page = Tags(feedback_html("02_conv", ANNA, RESULT))
    for text in ("02_conv: anna", "(2 of 3.5 points)", "✓ relu", "✗ im2col", "0 / 1.5", "likely cause", "wrong sign",
                 "-1.5 at index (0,)", "a note", "printed"):  # fmt: skip
        assert text in page.text


def test_nothing_of_a_submission_acts_on_the_page() -> None:
    for result in (HOSTILE, Result(HOSTILE.tests, None, HOSTILE.notes, EVIL)):
        text = feedback_html("02_conv", Submission("<script>x", None), result)
        page = Tags(text)
        assert "script" not in page.tags and "h1" in page.tags and page.tags.count("style") == 1
        assert "alert(1)" in page.text and "default-src 'none'" in text


def test_markdown_keeps_a_submission_inside_its_fences() -> None:
    text = feedback_markdown("02_conv", Submission("[x](http://y)`<b>", None), HOSTILE)
    assert text.startswith("# 02_conv: \\[x\\]\\(http://y\\)\\`\\<b\\>")
    inside, fence, headings = False, "", []
    for line in text.splitlines():
        if line.startswith("```") and (not inside or line == fence):
            inside, fence = not inside, line.removesuffix("text")
        elif not inside and line.startswith("#"):
            headings.append(line)
    assert not inside and "# heading" not in headings
    plain = feedback_markdown("02_conv", ANNA, RESULT)
    assert "| im2col | 0 | 1.5 |" in plain and MESSAGE in plain and "**2 of 3.5 points**" in plain


def test_gradescope_reads_its_fields() -> None:
    found = gradescope(RESULT)
    assert found["score"] == 2 and found["output"] == "a note"
    assert found["tests"][1] == {
        "name": "im2col", "score": 0.0, "max_score": 1.5, "status": "failed",
        "output": MESSAGE, "output_format": "text",
    }  # fmt: skip
    assert found["tests"][0]["status"] == "passed"


def test_files_are_written_whole(tmp_path: Path) -> None:
    write_feedback(tmp_path / "anna", "02_conv", ANNA, Result((), "lone \ud800 half"))
    write_scores(tmp_path / "scores.csv", [(ANNA, RESULT)])
    written = sorted(path.name for path in (tmp_path / "anna").iterdir())
    assert written == ["feedback.html", "feedback.md", "results.json"]
    assert json.loads((tmp_path / "anna" / "results.json").read_text())["score"] == 0
    assert (tmp_path / "scores.csv").read_bytes().startswith(b"\xef\xbb\xbfstudent,")
