"""A process that a stranger's code may run in: what it may use up, see and leave behind is limited.

Three levels of protection, from weak to strong; each includes those before it:

- ``limits``: a process group of its own in an empty scratch folder, with limits of time, memory, file sizes,
  processes and output;
- ``user``: and as another, unprivileged user (needs root), so that the files of the grader are out of its reach;
- ``namespaces``: and in a world of its own (Linux): a read-only view of Python and NumPy and nothing else, a scratch
  folder in memory, no network, no other processes, and everything gone when it ends.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import platform
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tinynet.errors import TinynetError
from tinynet.grading import messages
from tinynet.grading.enter import NOT_ENTERED
from tinynet.grading.own_work import RIVALS

LEVELS = ("limits", "user", "namespaces")
HERE = Path(__file__).resolve().parent
INSIDE = ("child.py", "messages.py", "own_work.py")
SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/etc/ld.so.cache",
    "/etc/alternatives", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom",
)  # fmt: skip
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "MPLBACKEND": "Agg",
    "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "TINYNET_BACKEND": "numpy", "TINYNET_PROGRESS": "0", "TINYNET_QUIET": "1",  # nothing to compile
}  # fmt: skip


class SandboxError(TinynetError, RuntimeError):
    """The sandbox itself cannot be made as asked; nobody's submission is to blame."""


class Ended(RuntimeError):
    """The process of a submission came to an end (or had to be ended) before it answered; the text says why."""

    def __init__(self, text: str, out_of_time: bool = False) -> None:
        super().__init__(text)
        self.out_of_time = out_of_time


@dataclass(frozen=True)
class Limits:
    """What one submission may use: seconds for one answer and for all, bytes of memory, disk and answers, processes."""

    call_seconds: float = 10.0
    seconds: float = 60.0
    memory: int = 2 << 30
    disk: int = 64 << 20
    processes: int = 16
    reply: int = 256 << 20
    output: int = 20_000


@dataclass(frozen=True)
class Protection:
    """A level, and in words what it protects from here and what not, as found by trying."""

    level: str
    active: tuple[str, ...]
    inactive: tuple[str, ...]


@dataclass
class _World:
    """What a sandbox is to see of this system."""

    binds: list[tuple[str, str]] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


class Sandbox:
    """One process for one submission's cells. Ask it; close it.

    `modules` are the top-level modules that may be imported inside, `hidden` are paths that must not be seen
    (should they lie within what is needed). Raises SandboxError where the level cannot be had.
    """

    def __init__(
        self, level: str, limits: Limits, modules: Sequence[str] = ("numpy",), hidden: Sequence[str | Path] = ()
    ) -> None:
        self.limits = limits
        self.level = level
        self._number = 0
        self._output = bytearray()
        self._folder = Path(tempfile.mkdtemp(prefix="tinynet-grading-"))
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        output, printed = os.pipe()
        os.set_blocking(self._requests, False)
        os.set_blocking(self._replies, False)
        options = self._options(requests, replies, modules, hidden)
        enter = [os.path.realpath(sys.executable), "-I", "-S", str(HERE / "enter.py"), json.dumps(options)]
        try:
            self._process = subprocess.Popen(
                enter, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, pass_fds=(requests, replies), cwd="/",
                env={}, start_new_session=True,
            )  # fmt: skip
        finally:
            for descriptor in (requests, replies, printed):
                os.close(descriptor)
        self._listener = threading.Thread(target=self._listen, args=(output,), daemon=True)
        self._listener.start()

    def _options(self, requests: int, replies: int, modules: Sequence[str], hidden: Sequence[str | Path]) -> dict:
        inside = self.level == "namespaces"
        world = _world(tuple(modules), tuple(str(Path(path).resolve()) for path in hidden))
        script = "/grader/child.py" if inside else str(HERE / "child.py")
        home = "/tmp" if inside else str(self._folder)
        talk = {"requests": requests, "replies": replies, "paths": world.paths}
        alone = os.geteuid() == 0 or (inside and _counts_processes_by_namespace())
        return {
            "parent": os.getpid(),
            "namespaces": inside,
            "separate_user": self.level == "user",
            "world": str(self._folder),
            "scratch": str(self._folder),
            "binds": world.binds, "links": world.links, "hidden": world.hidden,
            "kept": [requests, replies],
            "command": [os.path.realpath(sys.executable), "-I", "-S", "-B", "-u", script, json.dumps(talk)],
            "environment": {**ENVIRONMENT, "HOME": home, "TMPDIR": home, "TINYNET_CACHE_DIR": f"{home}/.cache"},
            "limits": {
                "memory": self.limits.memory, "disk": self.limits.disk, "seconds": int(self.limits.seconds) + 10,
                "processes": self.limits.processes + (0 if alone else _processes_of_this_user()),
            },
        }  # fmt: skip

    def _listen(self, descriptor: int) -> None:
        """Takes what is printed inside, keeping the beginning."""
        with open(descriptor, "rb", buffering=0) as file:
            while part := file.read(65536):
                if len(self._output) < self.limits.output:
                    self._output += part[: self.limits.output - len(self._output)]

    @property
    def output(self) -> str:
        """The beginning of what was printed inside, to stdout and stderr."""
        return self._output.decode("utf-8", "replace")

    def ask(self, fields: dict[str, Any], value: Any = None, seconds: float | None = None) -> tuple[dict, Any]:
        """Sends a request and waits for its reply, `seconds` at most (default: the limit of one call).

        Raises Ended, after which nothing can be asked any more; SandboxError; messages.Unsendable.
        """
        if self._requests < 0:
            raise Ended("the process has ended before")
        seconds = self.limits.call_seconds if seconds is None else seconds
        deadline = time.monotonic() + seconds
        self._number += 1
        request = messages.encode({**fields, "number": self._number}, value)
        try:
            messages.send(self._requests, request, deadline)
            reply, result = messages.receive(self._replies, self.limits.reply, deadline)
            if reply.pop("number", None) != self._number:
                raise messages.Malformed("it does not belong to the question")
        except TimeoutError:
            self.close()
            raise Ended(f"no answer within {seconds:.3g} s (an endless loop?)", out_of_time=True) from None
        except (EOFError, BrokenPipeError):
            raise Ended(self._why_it_ended()) from None
        except messages.Malformed as error:
            self.close()
            raise Ended(f"the answer could not be read: {error}") from None
        return reply, result

    def _why_it_ended(self) -> str:
        """In words, from the exit code."""
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.close()
            return "the process closed its connection to the grader"
        self.close()
        if code == NOT_ENTERED:
            raise SandboxError(f"the level {self.level!r} cannot be had here: {self.output.strip()}")
        reasons = {
            0: "the process ended itself (os._exit?)",
            128 + signal.SIGSEGV: "the process crashed (segmentation fault)",
            128 + signal.SIGKILL: "the process was killed (by itself, or for lack of memory)",
            128 + signal.SIGABRT: "the process aborted",
            128 + signal.SIGXCPU: f"the process used more than {int(self.limits.seconds) + 10} s of processor time",
            128 + signal.SIGXFSZ: f"the process wrote a file of more than {self.limits.disk >> 20} MB",
        }
        return reasons.get(code, f"the process ended with exit code {code}")

    def close(self) -> None:
        """Ends the process and everything that it started, and removes its scratch folder."""
        if self._process.poll() is None:
            self._end()
        for name in ("_requests", "_replies"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)
        self._listener.join(2)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self) -> None:
        if self.level != "namespaces":  # it has cleaning up to do
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(3)
        self._process.kill()
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# What is seen inside


@functools.cache
def _world(modules: tuple[str, ...], hidden: tuple[str, ...]) -> _World:
    world = _World()
    for path in SYSTEM:
        if os.path.islink(path) and os.path.dirname(path) == "/":
            world.links.append((path, os.readlink(path)))
        elif os.path.exists(path):
            world.binds.append((path, path))
    world.binds += [(str(HERE / name), f"/grader/{name}") for name in INSIDE]
    needed = [os.path.realpath(prefix) for prefix in (sys.base_prefix, sys.base_exec_prefix)]
    for module in modules:
        place, package = _installed(module)
        if place and place not in world.paths:
            world.paths.append(place)
        if place:
            needed.append(place if os.path.basename(place) in ("site-packages", "dist-packages") else package)
    for path in needed:
        if not any(_within(path, source) for source, _ in world.binds):
            world.binds.append((path, path))
    unwanted = [os.path.realpath(path) for path in site.getsitepackages([sys.base_prefix, sys.base_exec_prefix])]
    unwanted = [path for path in unwanted if path not in world.paths]
    unwanted += [os.path.join(place, rival) for place in world.paths for rival in RIVALS if rival not in modules]
    visible = [source for source, _ in world.binds if os.path.isdir(source)]
    world.hidden = [
        path for path in (*unwanted, *hidden) if os.path.exists(path) and any(_within(path, s) for s in visible)
    ]
    return world


def _installed(module: str) -> tuple[str, str]:
    """The folder to import a top-level module from, and the module's own path; empty for Python's own modules."""
    spec = None if module in sys.stdlib_module_names else importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return "", ""
    package = os.path.realpath(next(iter(spec.submodule_search_locations or ()), spec.origin))
    return os.path.dirname(package), package


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


@functools.cache
def _counts_processes_by_namespace() -> bool:
    """Linux counts the processes of a user in each user namespace apart since 5.14."""
    version = platform.release().split(".")
    return sys.platform == "linux" and tuple(int("".join(filter(str.isdigit, v)) or 0) for v in version[:2]) >= (5, 14)


def _processes_of_this_user() -> int:
    """How many processes (on Linux: threads) this user runs; the system counts all of them against the limit."""
    if sys.platform != "linux":
        listing = subprocess.run(["ps", "-U", str(os.getuid()), "-o", "pid="], capture_output=True, text=True)
        return len(listing.stdout.split())
    return sum(_threads_in(Path(entry)) for entry in os.scandir("/proc") if entry.name.isdecimal())


def _threads_in(folder: Path) -> int:
    with contextlib.suppress(OSError):
        if folder.stat().st_uid == os.getuid():
            return len(os.listdir(folder / "task"))
    return 0


# Which level


def protection(wanted: str | None = None, hidden: Sequence[str | Path] = ()) -> Protection:
    """The strongest level that this system permits, proved by trying it; at least `wanted` if that is given.

    `hidden` are paths that a submission must not see. Raises SandboxError where `wanted` cannot be had.
    """
    if os.name == "nt":
        raise SandboxError("submissions can be contained on Linux and macOS only; on Windows use WSL")
    refusals = []
    for level in reversed(LEVELS):
        try:
            found = _tried(level, tuple(map(str, hidden)))
        except SandboxError as error:
            refusals.append(str(error))
            if wanted == level:
                weaker = LEVELS[: LEVELS.index(level)]
                hint = f"; --protection {' or '.join(weaker)} would be weaker" if weaker else ""
                raise SandboxError(f"protection {wanted!r} is not to be had here: {error}{hint}") from None
            continue
        if wanted is None or level == wanted:
            return replace(found, inactive=(*found.inactive, *refusals))
    raise SandboxError("; ".join(refusals))


@functools.cache
def _tried(level: str, hidden: tuple[str, ...]) -> Protection:
    """Starts a sandbox of this level and looks around in it. Raises SandboxError if it does not hold."""
    if level == "user" and os.geteuid() != 0:
        raise SandboxError("a separate user needs root")
    if level == "limits" and os.geteuid() == 0:
        raise SandboxError("limits alone do not hold root: grade as an ordinary user")
    if level == "namespaces" and sys.platform != "linux":
        raise SandboxError("namespaces are Linux's")
    limits = Limits(call_seconds=60)
    home = os.path.expanduser("~")
    looked_at = {"files": [*hidden, home], "folders": ["/", home, "/usr", "/var/tmp", str(HERE), *hidden]}
    with Sandbox(level, limits, hidden=hidden) as sandbox:
        try:
            _, seen = sandbox.ask({"do": "look", **looked_at})
        except Ended as error:
            raise SandboxError(f"the sandbox did not start: {error}: {sandbox.output.strip()[-300:]}") from None
    return Protection(level, *_words(level, limits, seen, hidden))


def _words(level: str, limits: Limits, seen: dict[str, Any], hidden: Sequence[str]) -> tuple[tuple, tuple]:
    """What was found, as sentences: protections that are active and those that are not."""
    active = ["time", f"{limits.processes} processes"]
    inactive: list[str] = []
    for holds, good, bad in _findings(limits, seen, hidden):
        (active if holds else inactive).append(good if holds else bad)
    if level == "namespaces" and inactive:
        raise SandboxError(f"the namespaces leak: {'; '.join(inactive)}")
    return tuple(active), tuple(inactive)


def _findings(limits: Limits, seen: dict[str, Any], hidden: Sequence[str]) -> Iterator[tuple[bool, str, str]]:
    yield sys.platform == "linux", f"{limits.memory / 2**30:.3g} GB of memory", "memory is not limited on this system"
    in_memory = seen["folder"] == "/tmp" and seen["processes_seen"] <= 4
    yield in_memory, f"{limits.disk >> 20} MB of disk", f"files of {limits.disk >> 20} MB each, but any number of them"
    other = seen["uid"] != os.getuid()
    yield other or in_memory, "a separate user" if other else "a user namespace", "runs as the user who grades"
    yield not seen["network"], "no network", "the network can be reached"
    yield not seen["writable"], "nothing else is writable", f"writable: {', '.join(seen['writable'])}"
    secret = [path for path in seen["readable"] if path in hidden]
    unseen = not secret and (in_memory or bool(hidden))
    yield unseen, "hidden tests and other submissions unseen", "hidden tests can be read"
    yield in_memory, "other processes unseen", "other processes can be seen"
