"""What runs inside of the sandbox: the cells of one submission, and then one call after another.

    python -I -S child.py '{"requests": 3, "replies": 4, "paths": [...]}'

Requests come in and replies go out as messages (see messages.py). Nothing that is expected is known here, and no
verdict is made here: from the first cell on, this process belongs to the submission.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import json
import linecache
import os
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

LONGEST_TEXT = 4000
SOLUTION = "<cell "
GIVEN = "<given cell "


def main() -> None:
    options = json.loads(sys.argv[1])
    for descriptor in (options["requests"], options["replies"]):
        os.set_inheritable(descriptor, False)
    sys.path += options["paths"]
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import messages
    import own_work

    del sys.path[0]
    sys.argv = [""]
    os.register_at_fork(after_in_child=lambda: _close(options["requests"], options["replies"]))
    cells = Cells(own_work)
    while True:
        try:
            fields, value = messages.receive(options["requests"], 1 << 40)
        except EOFError:
            return
        reply, result = cells.answer(fields, value)
        try:
            message = messages.encode({**reply, "number": fields["number"]}, result)
        except Exception as error:
            refused = {"error": {"type": "Unsendable", "names": [], "text": f"returned {error}"[:LONGEST_TEXT]}}
            message = messages.encode({**refused, "number": fields["number"]})
        messages.send(options["replies"], message)


def _close(*descriptors: int) -> None:
    """In a process that the submission forks off: it has no part in the conversation."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


class Cells:
    """The cells of a submission and the namespace that they share, as in a notebook."""

    def __init__(self, own_work: types.ModuleType) -> None:
        self.own_work = own_work
        self.rules = own_work.Rules()
        self.cells: list[dict[str, Any]] = []
        self.codes: dict[int, types.CodeType] = {}
        self.main = types.ModuleType("__main__")
        self.main.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}

    def answer(self, fields: dict[str, Any], value: Any) -> tuple[dict[str, Any], Any]:
        """The reply's fields and value for one request."""
        actions: dict[str, Callable[[dict[str, Any], Any], tuple[dict[str, Any], Any]]] = {
            "load": self._load, "run": self._run, "call": self._call, "look": _look,
        }
        try:
            return actions[fields["do"]](fields, value)
        except BaseException as error:  # SystemExit and KeyboardInterrupt too: a submission may raise anything
            return {"error": _described(error)}, None

    def _load(self, fields: dict[str, Any], value: Any) -> tuple[dict[str, Any], Any]:
        """Compiles all cells, and reads (before anything runs) what they use."""
        self.rules = self.own_work.Rules(fields["allowed"], fields["refused"])
        self.cells = fields["cells"]
        trees: dict[int, ast.Module] = {}
        problems = {}
        for number, cell in enumerate(self.cells):
            filename = f"{GIVEN if cell['given'] else SOLUTION}{cell['name']}>"
            linecache.cache[filename] = (len(cell["source"]), None, cell["source"].splitlines(True), filename)
            try:
                trees[number] = _parsed(cell["source"], filename)
                self.codes[number] = compile(trees[number], filename, "exec")
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                problems[str(number)] = _syntax(error)
        known = {
            name: path for number, tree in trees.items() for name, path in self.own_work.imported_names(tree).items()
        }
        for number, tree in trees.items():
            found = [] if self.cells[number]["given"] else self.own_work.objections(tree, self.rules, known)
            if found:
                problems[str(number)] = "; ".join(found)
                del self.codes[number]
        sys.modules["__main__"] = self.main
        if "tinynet" in self.rules.allowed:
            for path in self.rules.refused:
                self.own_work.guard(path, _asked_by_solution)
        return {"problems": problems}, None

    def _run(self, fields: dict[str, Any], value: Any) -> tuple[dict[str, Any], Any]:
        exec(self.codes[fields["cell"]], self.main.__dict__)
        return {}, None

    def _call(self, fields: dict[str, Any], value: Any) -> tuple[dict[str, Any], Any]:
        function = self.main.__dict__.get(fields["function"])
        if function is None:
            return {"missing": True}, None
        args, named = value
        return {}, function(*args, **named)

    def _import(self, name: str, scope: Any = None, local: Any = None, wanted: Any = (), level: int = 0) -> Any:
        """What an import statement in a cell calls."""
        top = name.split(".")[0]
        given = sys._getframe(1).f_code.co_filename.startswith(GIVEN)
        if given and top in self.own_work.RIVALS and top not in self.rules.allowed:
            return self.own_work.Absent(name if wanted else top)
        if not given and not level:
            paths = [f"{name}.{part}" for part in wanted] if wanted else [name]
            for path in paths:
                if objection := self.rules.objection(path):
                    raise self.own_work.NotOwnWork(objection)
        return builtins.__import__(name, scope, local, wanted, level)


def _parsed(source: str, filename: str) -> ast.Module:
    """The syntax tree of a cell. IPython's `%magic` and `!command` lines are left out if it only fails over them."""
    try:
        return ast.parse(source, filename)
    except SyntaxError:
        lines = [
            f"{line[: len(line) - len(line.lstrip())]}pass" if line.lstrip()[:1] in ("%", "!") else line
            for line in source.split("\n")
        ]
        plain = "\n".join(lines)
        if plain == source:
            raise
        return ast.parse(plain, filename)


def _syntax(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        line = (error.text or "").strip()
        return f"cannot be read: {type(error).__name__}: {error.msg} (line {error.lineno}: {line[:200]})"
    return f"cannot be read: {type(error).__name__}: {error}"


def _asked_by_solution(frame: types.FrameType | None) -> bool:
    """Whether the nearest caller that is a cell or of the library is a cell of the submission."""
    while frame is not None:
        filename = frame.f_code.co_filename
        if filename.startswith(SOLUTION):
            return True
        if filename.startswith(GIVEN) or f"{os.sep}tinynet{os.sep}" in filename:
            return False
        frame = frame.f_back
    return False


def _described(error: BaseException) -> dict[str, Any]:
    """An exception as plain text: its type, the names of its bases, what it says and where in the cells it came up."""
    names = [kind.__name__ for kind in type(error).__mro__]
    try:
        text = str(error)
    except BaseException:
        text = "(its text cannot be made)"
    try:
        frames = traceback.extract_tb(error.__traceback__)
        inside = [frame for frame in frames if frame.filename.startswith((SOLUTION, GIVEN))]
        where = "".join(traceback.format_list(inside[-6:]))
    except BaseException:
        where = ""
    return {"type": names[0], "names": names, "text": text[:LONGEST_TEXT], "where": where[:LONGEST_TEXT]}


def _look(fields: dict[str, Any], value: Any) -> tuple[dict[str, Any], Any]:
    """What this process can do, asked before a submission is trusted to it: the proof of each protection."""
    return {}, {
        "uid": os.getuid() if hasattr(os, "getuid") else -1,
        "processes_seen": len([name for name in _listing("/proc") if name.isdecimal()]),
        "readable": [path for path in fields["files"] if os.access(path, os.R_OK)],
        "writable": [path for path in fields["folders"] if _writes(path)],
        "network": [name for name in _interfaces() if name != "lo"],
        "folder": os.getcwd(),
    }


def _listing(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _writes(folder: str) -> bool:
    path = os.path.join(folder, f".tinynet-write-test-{os.getpid()}")
    try:
        with open(path, "x"):
            pass
        os.unlink(path)
    except OSError:
        return False
    return True


def _interfaces() -> list[str]:
    import socket

    try:
        return [name for _, name in socket.if_nameindex()]
    except OSError:
        return []


if __name__ == "__main__":
    main()
