"""Whether a solution is the student's own: what it imports, and what of the library it uses.

Also run inside of the sandbox, so this file imports only Python's own modules. What is found by reading the code is
found before anything runs; a second line of defence refuses at run time. Neither stops somebody who digs deep
enough into Python; against that the library's files are absent from the sandbox where an assignment does not use it.
"""

from __future__ import annotations

import ast
import dis
import functools
import importlib
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

HARMLESS = frozenset((
    "__future__", "abc", "collections", "copy", "dataclasses", "enum", "functools", "itertools", "math", "numbers",
    "operator", "random", "string", "textwrap", "time", "typing", "warnings",
))  # fmt: skip
RIVALS = (
    "tinynet", "torch", "torchvision", "scipy", "sklearn", "numba", "onnx", "onnxruntime", "tensorflow", "keras", "jax",
    "jaxlib", "cv2", "skimage", "pycocotools", "autograd", "mxnet", "paddle", "cupy", "tinygrad",
)  # fmt: skip


class NotOwnWork(RuntimeError):
    """A solution that uses what it was asked to write."""


class Rules:
    """What the code of solutions may use: `allowed` top-level modules, but nothing below a `refused` path."""

    def __init__(self, allowed: Iterable[str] = ("numpy",), refused: Iterable[str] = ()) -> None:
        self.allowed = frozenset(allowed) | HARMLESS
        self.listed = tuple(allowed)
        self.refused = tuple(refused)

    def objection(self, path: str) -> str:
        """Why a dotted path may not be used, or "" if it may."""
        if any(path == refused or path.startswith(refused + ".") for refused in self.refused):
            return f"uses tinynet's own answer ({path}), which this assignment asks you to write"
        top = path.split(".")[0]
        if top in self.allowed:
            return ""
        if top == "tinynet":
            return f"uses tinynet's own answer ({path}), which this assignment asks you to write"
        return f"uses {path}; this assignment allows {', '.join(self.listed) or 'no modules'}"


def imported_names(tree: ast.AST) -> dict[str, str]:
    """What the import statements of some code bind, each name with its dotted path."""
    return {name: path for node in ast.walk(tree) for name, path in _bindings(node)}


def objections(tree: ast.AST, rules: Rules, known: Mapping[str, str]) -> list[str]:
    """What speaks against some code; `known` are the names that other cells have imported."""
    names = {**known, **{name: path for node in ast.walk(tree) for name, path in _bindings(node)}}
    paths = [path for node in ast.walk(tree) for path in _imports(node)]
    paths += _Uses(names).paths_in(tree)
    return list(dict.fromkeys(text for path in paths if (text := rules.objection(path))))


def _bindings(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
    elif isinstance(node, ast.ImportFrom) and not node.level:
        for alias in node.names:
            yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


class _Uses(ast.NodeVisitor):
    """Every dotted path that begins with an imported name which no function in between has made its own."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names
        self.local: list[set[str]] = []
        self.paths: list[str] = []

    def paths_in(self, tree: ast.AST) -> list[str]:
        self.visit(tree)
        return self.paths

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        body = node.body if isinstance(node.body, list) else [node.body]
        inside = [inner for statement in body for inner in ast.walk(statement)]
        own = {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
        own |= {inner.id for inner in inside if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)}
        own -= {name for inner in inside for name, _ in _bindings(inner)}
        self.local.append(own)
        self.generic_visit(node)
        self.local.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]
    visit_Lambda = visit_FunctionDef  # type: ignore[assignment]

    def visit_Name(self, node: ast.Name) -> None:
        self._note(node, [])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        parts, inner = [node.attr], node.value
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            self._note(inner, parts[::-1])
        else:
            self.visit(inner)

    def _note(self, root: ast.Name, parts: list[str]) -> None:
        path = self.names.get(root.id)
        if path and isinstance(root.ctx, ast.Load) and not any(root.id in scope for scope in self.local):
            self.paths.append(".".join([path, *parts]))


# At run time


class Absent:
    """Stands for a module that a given cell imports but that solutions may not use."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self.path}.{name}")

    def __call__(self, *args: Any, **named: Any) -> Any:
        raise NotOwnWork(Rules().objection(self.path))


def guard(path: str, is_solution: Callable[[types.FrameType | None], bool]) -> None:
    """From now on what `path` names (a module, class, function or kernel) refuses to be called by a solution.

    The library itself may go on using it. A path that does not exist is left alone.
    """
    owner, name, thing = _resolve(path)
    if isinstance(thing, types.ModuleType):
        prefix = path + "."
        for module_name, module in list(sys.modules.items()):
            if module is not None and (module_name == path or module_name.startswith(prefix)):
                for inner, value in list(vars(module).items()):
                    if getattr(value, "__module__", "") == module_name and not inner.startswith("__"):
                        _guard_one(module, inner, value, f"{module_name}.{inner}", is_solution)
    elif owner is not None:
        _guard_one(owner, name, thing, path, is_solution)


def _resolve(path: str) -> tuple[Any, str, Any]:
    """The owner of what a dotted path names, its name there, and the thing itself (None where there is none)."""
    parts = path.split(".")
    owner: Any = None
    try:
        thing: Any = importlib.import_module(parts[0])
        for number, part in enumerate(parts[1:], start=2):
            owner = thing
            if not hasattr(thing, part):
                importlib.import_module(".".join(parts[:number]))
            thing = getattr(thing, part)
    except (ImportError, AttributeError):
        return None, "", None
    return owner, parts[-1], thing


def _guard_one(owner: Any, name: str, thing: Any, path: str, is_solution: Callable) -> None:
    if isinstance(thing, type):
        home = next(base for base in thing.__mro__ if "__init__" in vars(base))
        owner, name, thing = thing, "__init__", vars(home)["__init__"]
    elif not isinstance(thing, types.FunctionType):
        owner, name, thing = type(thing), "__call__", vars(type(thing)).get("__call__")
        path = path.rpartition(".")[0]  # shared by all objects of the type, such as kernels
    if not isinstance(thing, types.FunctionType) or hasattr(thing, "guarded"):
        return
    original = thing

    @functools.wraps(original)
    def guarded(*args: Any, **named: Any) -> Any:
        if is_solution(sys._getframe(1)):
            raise NotOwnWork(f"uses tinynet's own answer ({path}), which this assignment asks you to write")
        return original(*args, **named)

    guarded.guarded = True  # type: ignore[attr-defined]
    setattr(owner, name, guarded)


# In a notebook, where nbgrader grades


def require_own_work(*answers: Any, allowed: Iterable[str] = ("numpy",), refused: Iterable[str] = ()) -> None:
    """Raises AssertionError if one of these functions or classes uses more than `allowed`, or is the library's own.

    For hidden tests under nbgrader; reads the compiled code, with all functions of the notebook it refers to.
    `tinynet grade` has looked before any cell ran, so there (where functions stand for those in the sandbox) this
    does nothing.
    """
    rules = Rules(allowed, refused)
    seen: set[int] = set()
    for answer in answers:
        if not getattr(answer, "runs_elsewhere", False):
            _require(answer, rules, seen)


def _require(answer: Any, rules: Rules, seen: set[int]) -> None:
    """Objects to the library's own function or class; reads a student's, with all of the student's that it uses."""
    answer = getattr(answer, "py_func", answer)
    if id(answer) in seen:
        return
    seen.add(id(answer))
    named = answer if hasattr(answer, "__qualname__") else type(answer)  # a kernel is an object
    if named.__module__.split(".")[0] in RIVALS:
        path = f"{named.__module__}.{getattr(answer, '__qualname__', getattr(answer, '__name__', named.__qualname__))}"
        _assert_none(rules.objection(path), path)
    elif isinstance(answer, type):
        for inner in (*answer.__bases__, *vars(answer).values()):
            if _of_students(inner, answer.__module__):
                _require(inner, rules, seen)
    elif isinstance(answer, types.FunctionType):
        for path in _paths_in_code(answer.__code__, answer.__globals__):
            _assert_none(rules.objection(path), answer.__name__)
        for inner in _reached(answer):
            if _of_students(inner, answer.__module__):
                _require(inner, rules, seen)


def _of_students(thing: Any, notebook: str) -> bool:
    """Whether there is something to say about it: a function or class of the notebook's, or of a library's."""
    home = getattr(thing, "__module__", None)
    return isinstance(thing, (types.FunctionType, type)) and (home == notebook or str(home).split(".")[0] in RIVALS)


def _reached(function: types.FunctionType) -> Iterator[Any]:
    """What a function closes over, and the globals that it names."""
    yield from (cell.cell_contents for cell in function.__closure__ or () if _filled(cell))
    names = {name for code in _codes(function.__code__) for name in code.co_names}
    yield from (function.__globals__[name] for name in names if name in function.__globals__)


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _paths_in_code(code: types.CodeType, scope: Mapping[str, Any]) -> Iterator[str]:
    """The dotted paths that compiled code imports, or reaches from a global that is a module or the library's."""
    for inner in _codes(code):
        path = ""
        for step in dis.get_instructions(inner):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                path = _path_of(scope.get(step.argval))
            elif step.opname == "IMPORT_NAME":
                path = step.argval
            elif step.opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM") and path:
                path = f"{path}.{step.argval}"
                yield path
                continue
            if path:
                yield path
            if step.opname not in ("IMPORT_NAME", "LOAD_GLOBAL", "LOAD_NAME", "PUSH_NULL", "CACHE", "PRECALL"):
                path = ""


def _path_of(value: Any) -> str:
    if isinstance(value, types.ModuleType):
        return value.__name__
    module = getattr(value, "__module__", None) or ""
    if isinstance(module, str) and module.split(".")[0] in RIVALS and hasattr(value, "__name__"):
        return f"{module}.{value.__name__}"
    return ""


def _assert_none(objection: str, name: str) -> None:
    assert not objection, f"{name} {objection}"
