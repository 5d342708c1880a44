"""The conversation with a submission: its cells run in a sandbox, its functions are called from here by proxies."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinynet.grading import messages
from tinynet.grading.sandbox import Ended, Limits, Sandbox

UNDEFINED = re.compile(r"name '(\w+)' is not defined")
STARTING = 60.0  # seconds for Python and its modules to start on a busy machine, and for compiling the cells


@dataclass(frozen=True)
class Piece:
    """A cell to run in the sandbox: ours (`given`) or the submission's; `name` is its grade_id or made up."""

    name: str
    given: bool
    source: str


class SubmissionError(RuntimeError):
    """Raised by a proxy: what the submission's function raised, or why there is no answer from it."""


class NotAttempted(SubmissionError, NotImplementedError):
    """The function still is its stub."""


class Session:
    """One submission's cells in sandboxes: a new one takes over, without the guilty cell or call, if one ends.

    `start()` makes a sandbox. `limits.seconds` is for all of the submission's own work together; making a sandbox
    and the tests' work do not count. Use as a context manager.
    """

    def __init__(
        self, pieces: Sequence[Piece], homes: Mapping[str, str], start: Callable[[], Sandbox], limits: Limits,
        rules: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.pieces = pieces
        self.problems: dict[str, str] = {}  # by the cell's name
        self._printed = ""
        self._homes = homes  # the cell that each function is to be defined in
        self._start = start
        self._limits = limits
        self._rules = rules
        self._left = limits.seconds
        self._sandbox: Sandbox | None = None
        self._lethal: set[str] = set()  # cells that ended a sandbox
        self._hopeless: dict[str, str] = {}  # functions that did not answer in time

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    @property
    def output(self) -> str:
        """The beginning of what the cells printed."""
        most = self._limits.output
        return self._printed[:most] + ("\n… (more was printed)" if len(self._printed) >= most else "")

    def call(self, function: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """What the submission's function returns. Raises SubmissionError; TypeError for arguments of ours."""
        if function in self._hopeless:
            raise SubmissionError(f"{function}: {self._hopeless[function]} (so it is not called again)")
        sandbox = self._ready()
        try:
            reply, value = self._timed(sandbox, {"do": "call", "function": function}, (args, named))
        except Ended as ended:
            self._drop()
            if ended.out_of_time:
                self._hopeless[function] = str(ended)
            raise SubmissionError(f"{function}: {ended}") from None
        except messages.Unsendable as error:
            raise TypeError(f"{function} was called with {error}, which does not cross to the sandbox") from None
        if reply.get("missing"):
            raise self._missing(function)
        if "error" in reply:
            raise self._cause_elsewhere(reply["error"]) or _raised(function, reply["error"])
        return value

    def _missing(self, name: str) -> SubmissionError:
        """Why the submission lacks what one of its cells is to define."""
        cell = self._homes.get(name, "")
        reason = self.problems.get(cell) or f"defines no {name!r}"
        if reason.startswith("raised NotImplementedError"):
            return NotAttempted(f"not attempted: the cell {cell!r} raises NotImplementedError")
        return SubmissionError(f"the cell {cell!r} {reason}")

    def _cause_elsewhere(self, error: Any) -> SubmissionError | None:
        """For a name that is not defined because another cell failed: what is wrong with that one."""
        text = str(error.get("text")) if isinstance(error, dict) and error.get("type") == "NameError" else ""
        found = UNDEFINED.match(text)
        return self._missing(found[1]) if found and self._homes.get(found[1]) in self.problems else None

    def _timed(self, sandbox: Sandbox, fields: dict[str, Any], value: Any = None) -> tuple[dict[str, Any], Any]:
        """Asks the submission, on its own time."""
        started, left = time.monotonic(), self._left
        try:
            return sandbox.ask(fields, value, min(self._limits.call_seconds, left))
        except Ended as ended:
            if ended.out_of_time and left < self._limits.call_seconds:
                all_of_it = f"the {self._limits.seconds:.3g} s for everything"
                raise Ended(f"no answer when {all_of_it} were used up", out_of_time=True) from None
            raise
        finally:
            self._left -= time.monotonic() - started

    def _drop(self) -> None:
        if self._sandbox is not None:
            self._sandbox.close()
            self._printed += self._sandbox.output
            self._sandbox = None

    def _ready(self) -> Sandbox:
        """A sandbox in which all cells have run, but for those that end it."""
        while True:
            if self._left <= 0:
                raise SubmissionError(f"the {self._limits.seconds:.3g} s for the whole submission are used up")
            if self._sandbox is not None:
                return self._sandbox
            self._sandbox = self._start()
            try:
                self._load(self._sandbox)
            except Ended as ended:
                self._drop()
                raise SubmissionError(f"the cells could not be read: {ended}") from None

    def _load(self, sandbox: Sandbox) -> None:
        cells = [{"name": piece.name, "given": piece.given, "source": piece.source} for piece in self.pieces]
        reply, _ = sandbox.ask({"do": "load", "cells": cells, **self._rules}, seconds=STARTING)
        refused = {int(number): str(text) for number, text in dict(reply.get("problems", {})).items()}
        for number, piece in enumerate(self.pieces):
            if number in refused:
                self.problems[piece.name] = refused[number]
            elif piece.name not in self._lethal and not self._run(sandbox, number, piece):
                return

    def _run(self, sandbox: Sandbox, number: int, piece: Piece) -> bool:
        """Runs one cell; False if that ended the sandbox."""
        try:
            reply, _ = self._timed(sandbox, {"do": "run", "cell": number})
        except Ended as ended:
            self._lethal.add(piece.name)
            self.problems[piece.name] = f"did not run to its end: {ended}"
            self._drop()
            return False
        if "error" in reply:
            self.problems[piece.name] = f"raised {_described(reply['error'])}"
        return True


class Proxy:
    """Stands for a function of the submission: called with arrays, it answers with what that returned.

    Has the name, docstring and signature of the function that the assignment asks for.
    """

    runs_elsewhere = True

    def __init__(self, definition: ast.FunctionDef, call: Callable[[str, tuple, dict], Any]) -> None:
        self.__name__ = self.__qualname__ = definition.name
        self.__doc__ = ast.get_docstring(definition)
        self.__signature__ = _signature(definition)
        self._call = call

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._call(self.__name__, args, named)

    def __repr__(self) -> str:
        return f"<the submission's {self.__name__}{self.__signature__}>"


class NoClass:
    """Stands for a class of the submission, which cannot cross."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, *args: Any, **named: Any) -> Any:
        raise TypeError(f"the class {self.__name__} stays in the sandbox: a test calls functions that use it")


def stand_ins(sources: Sequence[str], call: Callable[[str, tuple, dict], Any]) -> dict[str, Any]:
    """A proxy for every function, and a stand-in for every class, that cells of the assignment define."""
    found: dict[str, Any] = {}
    for source in sources:
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = Proxy(node, call)
            elif isinstance(node, ast.ClassDef):
                found[node.name] = NoClass(node.name)
    return found


def _signature(definition: ast.FunctionDef) -> inspect.Signature:
    arguments = definition.args
    positional = [*arguments.posonlyargs, *arguments.args]
    gaps = [None] * (len(positional) - len(arguments.defaults))
    kinds = inspect.Parameter
    parameters = [
        _parameter(argument.arg, kinds.POSITIONAL_ONLY if number < len(arguments.posonlyargs)
                   else kinds.POSITIONAL_OR_KEYWORD, default)
        for number, (argument, default) in enumerate(zip(positional, [*gaps, *arguments.defaults]))
    ]  # fmt: skip
    if arguments.vararg:
        parameters.append(_parameter(arguments.vararg.arg, kinds.VAR_POSITIONAL, None))
    parameters += [
        _parameter(argument.arg, kinds.KEYWORD_ONLY, default)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults)
    ]
    if arguments.kwarg:
        parameters.append(_parameter(arguments.kwarg.arg, kinds.VAR_KEYWORD, None))
    return inspect.Signature(parameters)


def _parameter(name: str, kind: Any, default: ast.expr | None) -> inspect.Parameter:
    if default is None:
        return inspect.Parameter(name, kind)
    try:
        value = ast.literal_eval(default)
    except ValueError:
        value = ast.unparse(default)  # only shown: the submission's own default is what holds
    return inspect.Parameter(name, kind, default=value)


def _described(error: Any) -> str:
    """What the child says about an exception, as text. It may say anything."""
    error = error if isinstance(error, dict) else {}
    kind, text = str(error.get("type", "an error")), str(error.get("text", ""))
    where = str(error.get("where", ""))
    return f"{kind}: {text}"[:4000] + (f"\n{where}"[:4000].rstrip() if where else "")


def _raised(function: str, error: Any) -> SubmissionError:
    """The exception of a submission as one of ours, which is also of the same built-in type."""
    names = error.get("names", []) if isinstance(error, dict) else []
    kind = str(error.get("type", "")) if isinstance(error, dict) else ""
    if kind == "Unsendable":
        return SubmissionError(
            f"{function} {error.get('text', '')}; what comes back must be numbers, strings, NumPy arrays of numbers, "
            "or tuples, lists and dicts of these"[:1000]
        )
    if kind == "NotImplementedError":
        return NotAttempted(f"not attempted: {function} raises NotImplementedError")
    if kind == "NotOwnWork":
        return SubmissionError(f"{function} {error.get('text', '')}"[:1000])
    for name in names if isinstance(names, list) else []:
        known: Any = getattr(builtins, name, None) if isinstance(name, str) else None
        if isinstance(known, type) and issubclass(known, Exception):
            return _mixed(known)(f"{function} raised {_described(error)}")
    return SubmissionError(f"{function} raised {_described(error)}")


def _mixed(known: type[Exception]) -> type[SubmissionError]:
    """A SubmissionError that tests may also catch by Python's name."""
    try:
        kind = type(known.__name__, (SubmissionError, known), {"__str__": RuntimeError.__str__})
        kind("tried")
    except TypeError:  # an exception of other arguments, as UnicodeDecodeError
        return SubmissionError
    return kind


def constants_and_imports(source: str) -> Iterator[ast.stmt]:
    """The statements of a given cell that also run outside of the sandbox: imports, and names for plain constants."""
    for node in ast.parse(source).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.Assign):
            try:
                ast.literal_eval(node.value)
            except ValueError:
                continue
            yield node


def defined_functions(pieces: Mapping[str, str]) -> dict[str, str]:
    """Each function or class with the name of the cell (of the assignment) that defines it."""
    return {
        node.name: cell
        for cell, source in pieces.items()
        for node in ast.parse(source).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
