"""Both graders give the reference full marks, the empty version none, and every wrong answer exactly what it earns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from tests.assignments import sources
from tests.assignments.both import EMPTY, GRADERS, REFERENCE, Graders, Verdict, notebook_name
from tests.assignments.wrong import Wrong

pytest.importorskip("nbgrader", reason="needs the teach extra")
each_assignment = pytest.mark.parametrize(("grader", "name"), list(product(GRADERS, sources.NAMES)))
NOTEBOOKS = [
    pytest.param(grader, name, index, id=f"{grader}-{name}-{index}")
    for grader, name in product(GRADERS, sources.NAMES)
    for index in range(len(sources.notebooks_of_wrong(name, grader)))
]
WRONG = [
    pytest.param(grader, name, index, wrong, id=f"{grader}-{name}-{wrong.solution}-{wrong.mistake}")
    for grader, name in product(GRADERS, sources.NAMES)
    for index, group in enumerate(sources.notebooks_of_wrong(name, grader))
    for wrong in group
]


@pytest.fixture(scope="session")
def graders(request: pytest.FixtureRequest) -> Iterator[Graders]:
    """Starts on everything that the chosen tests will ask for."""
    graders = Graders()
    for item in request.session.items:
        chosen = getattr(item, "callspec", None)
        if chosen is not None and {"grader", "name"} <= chosen.params.keys():
            graders.start(chosen.params["grader"], chosen.params["name"])
    yield graders
    graders.close()


@each_assignment
def test_the_reference_solution_has_full_marks(grader: str, name: str, graders: Graders) -> None:
    verdict = graders.verdicts(grader, name)[REFERENCE]
    assert verdict.problem is None
    assert verdict.points == sources.points(name), shown(verdict)
    seconds = [verdict.seconds for verdict in graders.verdicts(grader, name).values()]
    print(f"{grader}, {name}: {len(seconds)} notebooks, {sum(seconds):.1f} s, the slowest {max(seconds):.1f} s")


@each_assignment
def test_the_empty_version_has_none(grader: str, name: str, graders: Graders) -> None:
    verdict = graders.verdicts(grader, name)[EMPTY]
    assert verdict.points == dict.fromkeys(sources.points(name), 0.0), shown(verdict)
    words = "NotImplementedError" if grader == "nbgrader" else "not attempted"
    assert all(words in message for message in verdict.messages.values()), shown(verdict)


@pytest.mark.parametrize(("grader", "name", "index"), NOTEBOOKS)
def test_wrong_answers_cost_what_they_must_and_no_more(grader: str, name: str, index: int, graders: Graders) -> None:
    verdict = graders.verdicts(grader, name)[notebook_name(index)]
    group = sources.notebooks_of_wrong(name, grader)[index]
    lost = {test for wrong in group for test in wrong.loses}
    expected = {test: 0.0 if test in lost else score for test, score in sources.points(name).items()}
    assert verdict.problem is None
    assert verdict.points == expected, f"{[wrong.mistake for wrong in group]}\n{shown(verdict)}"


@pytest.mark.parametrize(("grader", "name", "index", "wrong"), WRONG)
def test_a_wrong_answer_is_told_what_is_wrong(
    grader: str, name: str, index: int, wrong: Wrong, graders: Graders
) -> None:
    messages = graders.verdicts(grader, name)[notebook_name(index)].messages
    told = [messages.get(test, "") for test in wrong.loses]
    assert any(wrong.says.lower() in message.lower() for message in told), f"{wrong.says!r} is not in: {told}"
    assert not any("not attempted" in message for message in told), told


def shown(verdict: Verdict) -> str:
    """What failed, for the assertion's message."""
    return "\n".join(f"{test}: {message}" for test, message in verdict.messages.items() if message)
