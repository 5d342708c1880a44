"""One lesson while it runs: what its notebook calls."""

from __future__ import annotations

import io
import json
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import tinynet
from tinynet.lesson import notebook_errors, notebooks
from tinynet.lesson.stubs import unfinished
from tinynet.plot import style
from tinynet.utils.atomic import atomic_write

FULL = "TINYNET_LESSONS_FULL"  # the folder for the results of a full run
CLOSE = 0.05  # a prediction within 5 % counts as right
SOLUTION_USED = "The cells below use the folded solution"


class Lesson:
    """The helper of one notebook.

    Args:
        number: of the lesson, from 1. The folded solutions are read from the installed copy of its notebook,
            so that they are found wherever the student's copy lies.

    Raises:
        DataError: there is no such lesson.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        path = notebooks.path_of(number)
        self.name = path.stem
        self._exercises = {
            name: exercise
            for exercise in notebooks.exercises(notebooks.cells(notebooks.read(path)))
            for name in exercise.names
        }
        self._passed: set[int] = set()
        self._given: dict[str, Any] = {}
        self._started = time.perf_counter()
        notebook_errors.shorten()

    @property
    def full(self) -> bool:
        """Whether this is the full setting, which `tinynet lessons --reproduce` runs."""
        return bool(os.environ.get(FULL))

    def reveal(self, what: str, guess: Any, actual: Any) -> None:
        """Prints a prediction beside the truth. Numbers within 5 % and equal other values are right."""
        truth = _plain(actual)
        if guess is ...:
            print(f"{what}: {_shown(truth)} (you made no prediction)")
        elif _agree(_plain(guess), truth):
            print(f"{what}: {_shown(truth)}, as you predicted")
        else:
            print(f"{what}: {_shown(truth)}; you predicted {_shown(_plain(guess))}")

    def check(self, rule: Callable[..., None], *answers: Any) -> Any:
        """Runs `rule`, a function of asserts, on the answers and prints what came out.

        Never raises because of an answer. Returns the answer (several: a tuple) if it passed, else what the
        folded solution defines, so that the cells below have something to work with. The parameters of
        `rule` are the answers' names.
        """
        names = rule.__code__.co_varnames[: rule.__code__.co_argcount]
        if len(names) != len(answers):
            raise TypeError(f"check: {rule.__name__} takes {', '.join(names)}, but {len(answers)} answers were given")
        exercise = self._exercise(names)
        title = f"Exercise {exercise.number} ({', '.join(names)})"
        if any(callable(answer) and answer is self._given.get(name) for name, answer in zip(names, answers)):
            print(f"{title}: not attempted. This is the folded solution; run the cell with your own answer first.")
        elif any(map(unfinished, answers)):
            print(f"{title}: not attempted (a ... still stands in it). {SOLUTION_USED}.")
        else:
            problem = _problem(rule, answers)
            if problem is None:
                self._passed.add(exercise.number)
                print(f"{title}: right.")
                return answers if len(answers) > 1 else answers[0]
            print(f"{title}: not yet. {problem}\n{SOLUTION_USED} until this check passes.")
        self._passed.discard(exercise.number)
        return self._solution(exercise, rule.__globals__)

    def progress(self) -> None:
        """Prints how many exercises are done."""
        numbers = sorted({exercise.number for exercise in self._exercises.values()})
        left = [str(number) for number in numbers if number not in self._passed]
        print(f"{len(self._passed)} of {len(numbers)} exercises done" + (f", open: {', '.join(left)}" if left else ""))

    def show(self, figure: Figure, alt: str) -> None:
        """Displays a figure with `alt`, the text for those who do not see it."""
        with style.house_style(), io.BytesIO() as file:
            figure.savefig(file, format="png")
            picture = file.getvalue()
        _display({"image/png": picture, "text/plain": alt}, {"image/png": {"alt": alt}})

    def say(self, markdown: str) -> None:
        """Displays prose whose numbers were computed."""
        _display({"text/markdown": markdown, "text/plain": markdown}, {})

    def store(self, results: dict[str, Any]) -> None:
        """In the full setting, writes the results to <folder>/<lesson>.json beside the command that made them.

        Does nothing in the quick setting. Raises TypeError for what JSON cannot hold.
        """
        if not self.full:
            return
        record = {
            "command": f"tinynet lessons --reproduce {self.number}",
            "tinynet": tinynet.__version__,
            "threads": tinynet.get_num_threads(),
            "seconds": round(time.perf_counter() - self._started),
            "results": results,
        }
        path = Path(os.environ[FULL]) / f"{self.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write((json.dumps(record, indent=1, default=_for_json) + "\n").encode())
        print(f"stored in {path}")

    def stored(self) -> dict[str, Any] | None:
        """What `store` wrote: the learner's own in ./results, else what came with the lesson, else None.

        A dict with "results", "command", "tinynet", "threads" and "seconds".
        """
        for folder in (Path("results"), notebooks.folder() / "results"):
            path = folder / f"{self.name}.json"
            if path.exists():
                return json.loads(path.read_text(encoding="utf-8"))
        return None

    def _exercise(self, names: tuple[str, ...]) -> notebooks.Exercise:
        exercise = self._exercises.get(names[0]) if names else None
        if exercise is None or exercise.names != names:
            raise LookupError(f"check: lesson {self.number} has no folded solution that defines {', '.join(names)}")
        return exercise

    def _solution(self, exercise: notebooks.Exercise, scope: dict[str, Any]) -> Any:
        """What the solution's code defines. Its functions see the notebook's names, and those as they are later."""
        defined: dict[str, Any] = {}
        exec(compile(exercise.solution, f"<solution of exercise {exercise.number}>", "exec"), scope, defined)
        self._given.update(defined)
        values = tuple(defined[name] for name in exercise.names)
        return values if len(values) > 1 else values[0]


def _problem(rule: Callable[..., None], answers: tuple[Any, ...]) -> str | None:
    """What is wrong with the answers in one or two sentences, or None."""
    try:
        rule(*answers)
    except AssertionError as error:
        return str(error) or f"This does not hold: {_line(error, rule)}"
    except Exception as error:
        return f"It stopped with {type(error).__name__}: {error} (at `{_line(error, rule)}`)"
    return None


def _line(error: Exception, rule: Callable[..., None]) -> str:
    """The innermost line of the notebook that was running."""
    mine = (frame for frame in traceback.walk_tb(error.__traceback__) if frame[0].f_globals is rule.__globals__)
    lines = traceback.StackSummary.extract(mine)
    return (lines[-1].line if lines else "") or "?"


def _display(data: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Shows data by MIME type in a notebook; elsewhere prints its text."""
    if notebook_errors.shell() is None:
        print(data["text/plain"])
        return
    from IPython.display import display

    display(data, raw=True, metadata=metadata)


def _plain(value: Any) -> Any:
    """A tensor, an array or a NumPy number as Python numbers."""
    if isinstance(value, tinynet.Tensor):
        value = value.detach().numpy()
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _for_json(value: Any) -> Any:
    plain = _plain(value)
    if plain is value:
        raise TypeError(f"store: JSON cannot hold a {type(value).__name__}")
    return plain


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(map(_shown, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _agree(guess: Any, truth: Any) -> bool:
    if isinstance(guess, str) and isinstance(truth, str):
        return guess.strip().lower() == truth.strip().lower()
    if isinstance(guess, (list, tuple)) and isinstance(truth, (list, tuple)):
        return len(guess) == len(truth) and all(map(_agree, guess, truth))
    if isinstance(guess, (int, float)) and isinstance(truth, (int, float)):
        return abs(guess - truth) <= CLOSE * abs(truth)
    return guess == truth
