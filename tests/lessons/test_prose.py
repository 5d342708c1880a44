"""Numbers that were measured stand in outputs, where a cell has computed them, not in prose that grows stale."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lessons.stored import cells_of, each_lesson

UNITS = r"(?:ms|µs|s|seconds|kB|MB|GB|kMAC|MMAC|GMAC|MACs?|G?M?FLOPs?|GFLOP/s|FLOP)"
MEASURED = re.compile(
    r"(?<![\w.,-])(?:"
    r"\d+\.\d+"  # a decimal
    r"|\d{1,3}(?:,\d{3})+"  # thousands
    r"|\d+(?:\.\d+)? ?%"
    rf"|\d+ {UNITS}\b"
    r"|\d+ times (?:as|faster|slower|more|less|larger|smaller)"
    r")"
)
EXEMPT = re.compile(
    r"```.*?```"  # code
    r"|`[^`\n]*`"
    r"|\$\$.*?\$\$|\$[^$\n]+\$"  # formulas
    r"|^> .*?$"  # what a paper says
    r"|\[[^\]\n]*\]\([^)\n]*\)"  # links
    r"|(?:Figure|Section|Equation|Table|Python|arXiv:?) ?\d[\d.]*",
    re.DOTALL | re.MULTILINE,
)


def measured(markdown: str) -> list[str]:
    return [found[0] for found in MEASURED.finditer(EXEMPT.sub(" ", markdown))]


@each_lesson
def test_prose_has_no_measured_numbers(script: Path) -> None:
    for cell in cells_of(script):
        if cell.kind == "markdown" and "goal" not in cell.tags:
            assert not measured(cell.source), f"{cell.place}: {measured(cell.source)} should be computed (lesson.say)"


@each_lesson
def test_lines_are_readable_and_plain(script: Path) -> None:
    for cell in cells_of(script):
        assert "—" not in cell.source and " – " not in cell.source, cell.place
        assert all(len(line) <= 120 for line in cell.source.splitlines()), cell.place


@pytest.mark.parametrize("text, found", [
    ("accuracy of 98.3 %", ["98.3"]), ("it took 12 ms and 3 s", ["12 ms", "3 s"]), ("25,557,032 parameters", None),
    ("3 times faster", None), ("about 12 %", ["12 %"]), ("a 3×3 kernel, 56 layers, stride 2, 1 or 2 of 5", []),
    ("`lr=0.05`, $\\beta = 0.9$", []), ("> an error of 3.57 %", []), ("see Section 3.2", []), ("10 minutes", []),
    ("ResNet-50, 2 samples, 3 steps", []),
])  # fmt: skip
def test_the_rule(text: str, found: list[str] | None) -> None:
    assert (measured(text) == found) if found is not None else len(measured(text)) == 1
