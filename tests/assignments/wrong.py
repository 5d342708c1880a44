"""The form of the files in wrong_answers/."""

from __future__ import annotations

from typing import NamedTuple


class Wrong(NamedTuple):
    """A plausible wrong answer to one task.

    Attributes:
        solution: the grade_id of the solution cell that `code` replaces.
        mistake: what is wrong, in a few words.
        loses: the grade_ids of all test cells that must fail, and no others.
        says: words that the feedback of at least one of them must contain.
        code: the whole cell.
    """

    solution: str
    mistake: str
    loses: tuple[str, ...]
    says: str
    code: str


def changed(code: str, old: str, new: str) -> str:
    """The right code with one mistake in it."""
    assert code.count(old) == 1, old
    return code.replace(old, new)
