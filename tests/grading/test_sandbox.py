"""Each level of protection by itself: what holds at all of them, and what only some of them hold."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from tests.grading import small
from tests.grading.test_hostile import processes_named
from tinynet.grading import sandbox
from tinynet.grading.sandbox import LEVELS, Ended, Limits, Sandbox, SandboxError

LIMITS = Limits(call_seconds=5, seconds=20, memory=1 << 30, disk=8 << 20, processes=12, output=1000)


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> str:
    return small.contained(request.param).level


def started(level: str, code: str, limits: Limits = LIMITS) -> Sandbox:
    """A sandbox in which `code` has run."""
    inside = Sandbox(level, limits)
    cells = [{"name": "c", "given": True, "source": code}]
    load = {"do": "load", "cells": cells, "allowed": ["numpy"], "refused": []}
    assert inside.ask(load, seconds=60)[0] == {"problems": {}}
    assert inside.ask({"do": "run", "cell": 0}) == ({}, None)
    return inside


def call(inside: Sandbox, *args, seconds: float | None = None):
    reply, value = inside.ask({"do": "call", "function": "f"}, (args, {}), seconds)
    assert reply == {}, reply
    return value


def test_arrays_go_in_and_come_back(level: str) -> None:
    with started(level, "def f(x, y): return {'sum': x + y, 'all': (x, [y, None, 'text'])}") as inside:
        x = np.arange(6.0).reshape(2, 3)
        found = call(inside, x, 2)
        assert np.array_equal(found["sum"], x + 2) and found["all"][1] == [2, None, "text"]


def test_nothing_of_the_graders_environment_is_there(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "token")
    code = """
import os, sys
def f():
    descriptors = []
    for number in range(256):
        try: os.fstat(number); descriptors.append(number)
        except OSError: pass
    return dict(os.environ), descriptors, os.getcwd(), os.listdir("."), sys.stdin.read()
"""
    with started(level, code) as inside:
        environment, descriptors, folder, files, typed = call(inside)
        assert "SECRET" not in environment and "TINYNET_DATA" not in environment and typed == ""
        assert len(descriptors) == 5 and environment["TINYNET_BACKEND"] == "numpy"
        assert folder == environment["HOME"] != os.getcwd()
        assert files == [] or level == "namespaces"  # where Python itself lies below /tmp


def test_a_native_loop_deaf_to_signals_is_ended(level: str) -> None:
    code = """
import ctypes, signal
def f():
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, signal.SIG_IGN)
    while True: ctypes.CDLL(None).sleep(1000)
"""
    inside = started(level, code)
    begun = time.monotonic()
    with pytest.raises(Ended, match=r"no answer within 0.3 s \(an endless loop\?\)"):
        call(inside, seconds=0.3)
    assert time.monotonic() - begun < 10
    with pytest.raises(Ended):
        call(inside)


@pytest.mark.parametrize("code, says", [
    ("import ctypes\ndef f(): ctypes.string_at(0)", "segmentation fault"),
    ("import os\ndef f(): os._exit(0)", "ended itself"),
    ("import os\ndef f(): os._exit(3)", "exit code 3"),
    ("import os\ndef f(): os.abort()", "aborted"),
    ("import os\ndef f(): os.kill(os.getpid(), 9)", "was killed"),
])  # fmt: skip
def test_how_it_ended_is_said(level: str, code: str, says: str) -> None:
    with started(level, code) as inside, pytest.raises(Ended, match=says):
        call(inside)


def test_what_it_leaves_behind_is_gone(level: str) -> None:
    mark = f"{4000 + os.getpid() % 1000}.{os.getpid()}"
    code = f"""
import os, subprocess
def f():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: os.execv("/bin/sleep", ["sleep", "{mark}"])
        os._exit(0)
    subprocess.Popen(["/bin/sleep", "{mark}"], start_new_session=True)
    os.wait()
"""
    with started(level, code) as inside:
        call(inside)
        deadline = time.monotonic() + 10
        while len(processes_named(mark)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        folder = inside._folder
    assert processes_named(mark) == [] and not folder.exists()


def test_memory_processes_and_files_are_limited(level: str) -> None:
    code = """
import os, time
import numpy as np
def tried(action):
    try: return action()
    except (OSError, MemoryError) as error: return type(error).__name__
def fork():
    for count in range(100):
        if os.fork() == 0: time.sleep(3); os._exit(0)
def write():
    with open("file", "wb") as file: file.write(bytes(1 << 24))
def f(): return tried(lambda: np.ones(1 << 28)), tried(fork), tried(write)
"""
    with started(level, code) as inside:
        assert call(inside) == ("MemoryError", "BlockingIOError", "OSError")


def test_what_is_printed_is_kept_in_part(level: str) -> None:
    code = "import sys\ndef f():\n    print('a', flush=True); print('b' * 5000, file=sys.stderr)"
    with started(level, code) as inside:
        call(inside)
    assert inside.output.startswith("a\nbbb") and len(inside.output) == LIMITS.output


def test_the_world_inside_is_read_only(level: str) -> None:
    if level != "namespaces":
        pytest.skip("the other levels share the world outside")
    code = """
import os
def f():
    with open("/proc/self/mountinfo") as file: places = [line.split()[4] for line in file]
    return [place for place in places if not os.statvfs(place).f_flag & os.ST_RDONLY], os.listdir("/")
"""
    with started(level, code) as inside:
        writable, listed = call(inside)
    assert writable == ["/tmp"] and not {"home", "var", "sys", "mnt"} & set(listed)


def test_what_is_hidden_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    found = small.contained("namespaces", (tmp_path / "source",))
    assert "hidden tests and other submissions unseen" in found.active and found.inactive == ()


def test_a_level_that_leaks_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    leaky = {"uid": -1, "processes_seen": 2, "readable": [], "writable": [], "network": ["eth0"], "folder": "/tmp"}
    with pytest.raises(SandboxError, match="the namespaces leak: the network can be reached"):
        sandbox._words("namespaces", LIMITS, leaky, ())
    leaky = {**leaky, "network": [], "readable": ["/secret"]}
    with pytest.raises(SandboxError, match="hidden tests can be read"):
        sandbox._words("namespaces", LIMITS, leaky, ("/secret",))
    active, inactive = sandbox._words("user", LIMITS, {**leaky, "folder": "/x", "writable": ["/"]}, ())
    assert "writable: /" in inactive and "a separate user" in active


def test_limits_alone_do_not_hold_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SandboxError, match="do not hold root"):
        sandbox._tried.__wrapped__("limits", ())
