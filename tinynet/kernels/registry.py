"""One object per kernel, three implementations each, and the switches between them.

A kernel is called like a function; the active backend decides which implementation runs:

- ``loops``: the definition in plain Python loops, as a lesson derives it; for reading and tiny inputs;
- ``numpy``: vectorised, no compiler needed;
- ``numba``: compiled for this machine, the default where Numba imports.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import numpy as np

from tinynet.errors import DtypeError, ShapeError
from tinynet.kernels import launch

BACKENDS = ("numba", "numpy", "loops")

_default_backend: str | None = None
_scoped_backend: ContextVar[str | None] = ContextVar("tinynet_backend", default=None)
_overrides: ContextVar[Mapping[str, _Override] | None] = ContextVar("tinynet_overrides", default=None)
_kernels: dict[str, Kernel] = {}


class Kernel:
    """A named computation on arrays with one implementation per backend.

    `family` groups kernels that build on each other. `shapes(*args)` gives the shape of every result, which
    is how the result of a user's own function is checked. A kernel with `builds_on_family` takes its plain
    (NumPy) path, which calls the other kernels of its family, while one of those is overridden.
    """

    def __init__(
        self,
        name: str,
        family: str,
        *,
        loops: Callable[..., Any],
        numpy: Callable[..., Any],
        numba: Callable[..., Any],
        shapes: Callable[..., tuple[tuple[int, ...], ...]],
        builds_on_family: bool = False,
        integer_results: tuple[int, ...] = (),
    ) -> None:
        self.name = name
        self.family = family
        self.implementations = {"loops": loops, "numpy": numpy, "numba": numba}
        self.shapes = shapes
        self.builds_on_family = builds_on_family
        self.integer_results = integer_results
        self.parameters = tuple(inspect.signature(numpy).parameters)
        self.__doc__ = numpy.__doc__
        self.__name__ = name
        self.__signature__ = inspect.signature(numpy)
        _kernels[name] = self

    def __call__(self, *args: Any, **named: Any) -> Any:
        if named:
            args = self.__signature__.bind(*args, **named).args
        overrides = _overrides.get()
        if overrides:
            own = overrides.get(self.name)
            if own is not None:
                return own(*args)
            if self.builds_on_family and any(_kernels[name].family == self.family for name in overrides):
                return self.implementations["numpy"](*args)
        backend = current_backend()
        if backend == "numba" and not launch.usable_in_this_process():
            backend = "numpy"
        return self.implementations[backend](*args)

    def __reduce__(self) -> tuple[Callable[[str], Kernel], tuple[str]]:
        return kernel_named, (self.name,)

    def __repr__(self) -> str:
        return f"<kernel {self.name}({', '.join(self.parameters)}) of family {self.family}>"


def kernel_named(name: str) -> Kernel:
    return _kernels[name]


def kernel_names() -> tuple[str, ...]:
    """Names of all kernels, in the order of their definition."""
    return tuple(_kernels)


def is_overridden(*names: str) -> bool:
    """Whether one of these kernels is replaced by a user's function in the current context."""
    overrides = _overrides.get() or {}
    return any(name in overrides for name in names)


def runs_compiled(*names: str) -> bool:
    """Whether these kernels, called here, would run Numba's code and not a user's or another backend's."""
    return current_backend() == "numba" and launch.usable_in_this_process() and not is_overridden(*names)


def current_backend() -> str:
    """Name of the backend that a kernel called here would use."""
    return _scoped_backend.get() or _default_backend or _first_choice()


def set_backend(name: str) -> None:
    """Make `name` ("numba", "numpy" or "loops") the default of the whole process.

    Raises ValueError for an unknown name and RuntimeError for "numba" where Numba cannot be imported.
    """
    global _default_backend
    _default_backend = _checked(name)


@contextlib.contextmanager
def backend(name: str) -> Iterator[None]:
    """Use the backend `name` inside the `with` block, in this thread (or asyncio task) only."""
    token = _scoped_backend.set(_checked(name))
    try:
        yield
    finally:
        _scoped_backend.reset(token)


def _checked(name: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; choose one of {', '.join(BACKENDS)}")
    if name == "numba" and launch.numba_problem() is not None:
        raise RuntimeError(f"the backend 'numba' is not available: {launch.numba_problem()}")
    return name


def _first_choice() -> str:
    """The default when nobody chose: $TINYNET_BACKEND, else Numba, else NumPy with a word about why."""
    wanted = os.environ.get("TINYNET_BACKEND", "").strip()
    if wanted:
        try:
            set_backend(wanted)
        except ValueError as error:
            raise ValueError(f"TINYNET_BACKEND: {error}") from None
        return wanted
    problem = launch.numba_problem()
    if problem is not None:
        launch.say(f"tinynet: numba cannot be imported ({problem}); using the slower NumPy backend")
    set_backend("numpy" if problem is not None else "numba")
    return current_backend()


class OverrideReport:
    """What an `override` block did: `calls["im2col"]` is how often the user's im2col really ran."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.calls: dict[str, int] = dict.fromkeys(names, 0)

    def __repr__(self) -> str:
        return f"OverrideReport(calls={self.calls})"


class _Override:
    """A user's function in the place of one kernel: counted, and its results checked."""

    def __init__(self, kernel: Kernel, function: Callable[..., Any], report: OverrideReport) -> None:
        self.kernel = kernel
        self.function = function
        self.report = report

    def __call__(self, *args: Any) -> Any:
        self.report.calls[self.kernel.name] += 1
        result = self.function(*args)
        shapes = self.kernel.shapes(*args)
        if len(shapes) == 1:
            return self._checked_array(result, shapes[0], args, 0)
        if not isinstance(result, tuple | list) or len(result) != len(shapes):
            raise ShapeError(
                f"your {self.kernel.name} must return a tuple of {len(shapes)} arrays, got {_describe(result)}"
            )
        return tuple(
            self._checked_array(array, shape, args, index) for index, (array, shape) in enumerate(zip(result, shapes))
        )

    def _checked_array(self, array: Any, shape: tuple[int, ...], args: tuple[Any, ...], index: int) -> np.ndarray:
        title = f"your {self.kernel.name}" + (f", result {index}," if index else "")
        if not isinstance(array, np.ndarray):
            raise DtypeError(f"{title} must return a NumPy array, got {_describe(array)}")
        if array.shape != shape:
            inputs = ", ".join(f"{name} {_describe(value)}" for name, value in zip(self.kernel.parameters, args))
            raise ShapeError(f"{title} returned shape {array.shape}, expected {shape} for {inputs}")
        expected = np.dtype(np.int64) if index in self.kernel.integer_results else args[0].dtype
        if array.dtype != expected:
            raise DtypeError(f"{title} returned {array.dtype}, expected {expected}")
        if any(isinstance(value, np.ndarray) and np.may_share_memory(array, value) for value in args):
            return array.copy()
        return np.ascontiguousarray(array)


@contextlib.contextmanager
def override(**functions: Callable[..., Any]) -> Iterator[OverrideReport]:
    """Run your own function in place of a kernel inside the `with` block: ``override(im2col=my_im2col)``.

    Yields a report whose `calls` counts, by kernel, how often your function really ran. Holds for the current
    thread (or asyncio task) only. While a kernel is overridden its family takes the plain path, so a
    convolution really calls your im2col.

    Raises ValueError for a name that is no kernel and TypeError for a function with other parameters.
    What your function returns is checked: ShapeError or DtypeError say what was expected.
    """
    report = OverrideReport(tuple(functions))
    chosen = dict(_overrides.get() or {})
    for name, function in functions.items():
        chosen[name] = _Override(_overridable(name, function), function, report)
    token = _overrides.set(chosen)
    try:
        yield report
    finally:
        _overrides.reset(token)


def _overridable(name: str, function: Callable[..., Any]) -> Kernel:
    """The kernel that `function` may replace, or an error that says why it may not."""
    kernel = _kernels.get(name)
    if kernel is None:
        raise ValueError(f"there is no kernel named {name!r}; the kernels are {', '.join(_kernels)}")
    if not callable(function):
        raise TypeError(f"override({name}=...) needs a function, got {_describe(function)}")
    parameters = inspect.signature(getattr(function, "py_func", function)).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = tuple(p.name for p in positional[: len(kernel.parameters)])
    surplus = [p for p in parameters if p.name not in names and p.kind is not p.VAR_KEYWORD]
    if names != kernel.parameters or any(p.default is p.empty for p in surplus):
        raise TypeError(
            f"{name} is called as {name}({', '.join(kernel.parameters)}), "
            f"but your function takes ({', '.join(p.name for p in parameters)})"
        )
    return kernel


def _describe(value: Any) -> str:
    return str(value.shape) if isinstance(value, np.ndarray) else repr(value)[:60]
