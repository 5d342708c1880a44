"""Hostile submissions beside right ones: each gets what it earned, nothing outside changes, nothing is left running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.grading import small
from tinynet.grading import scoring
from tinynet.grading.run import Plan, grade_all
from tinynet.grading.sandbox import Limits, SandboxError, protection
from tinynet.grading.scoring import Result
from tinynet.grading.submissions import collect

LIMITS = Limits(call_seconds=2.0, seconds=8.0, memory=1 << 30, disk=16 << 20, processes=16, reply=8 << 20, output=2000)
ALLOWED = ("numpy", "os", "sys", "ctypes", "socket", "subprocess", "shutil", "signal", "threading", "gc", "importlib",
           "struct", "builtins", "pathlib", "json", "itertools")  # fmt: skip
PREPARED = "import builtins, ctypes, gc, importlib, itertools, json, os, pathlib, shutil, signal, socket, struct\n"
PREPARED += "import subprocess, sys, threading, time\n"


@dataclass(frozen=True)
class Attack:
    """What `scale` does before it gives the right answer, and what that earns: points, and words in the feedback."""

    row: str
    body: str
    score: float
    says: str = ""
    top: str = ""  # at the top level of the cell
    answer: str = "return factor * x"

    @property
    def code(self) -> str:
        body = "\n".join(f"    {line}" for line in self.body.strip("\n").split("\n"))
        return f"{PREPARED}\n{self.top}\ndef scale(x, factor=2.0):\n{body}\n    {self.answer}\n"


ATTACKS = {
    # the row of FAULTS, what it does, its score of 6 (3 are another task's), what the feedback says
    "loop": Attack("66", "while True: pass", 3, "no answer within 2 s"),
    "loop_in_c": Attack("66", "sum(itertools.repeat(0))", 3, "no answer within 2 s"),
    "deaf": Attack("66", """
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, signal.SIG_IGN)
while True: ctypes.CDLL(None).sleep(1000)
""", 3, "no answer within 2 s"),
    "loop_at_load": Attack("66", "pass", 3, "did not run to its end: no answer", top="while True: pass"),
    "memory": Attack("67", "np.ones(20 << 27)", 3, "MemoryError"),
    "memory_bit_by_bit": Attack("67", "kept = []\nwhile True: kept.append(np.empty(1 << 24))", 3, "MemoryError"),
    "fork_bomb": Attack("68", "while True: os.fork()", 3, "BlockingIOError"),
    "threads": Attack("68", "while True: threading.Thread(target=time.sleep, args=(9,)).start()", 3, "can't start new"),
    "disk": Attack("69", "for n in range(999): open(f'{n}', 'wb').write(bytes(1 << 20))", 3, "No space left"),
    "one_file": Attack("69", "open('big', 'wb').write(bytes(1 << 25))", 3, "File too large"),
    "files": Attack("70", """
for path in ("CANARY", "OUT", "/grader", "/etc", "/proc", "/dev"): shutil.rmtree(path, ignore_errors=True)
""", 6),
    "overwritten": Attack("70", "open('CANARY/kept.txt', 'w').write('gone')", 3, "No such file"),
    "network": Attack("71", "socket.create_connection(('127.0.0.1', PORT), 1)", 3, "Network is unreachable"),
    "udp": Attack("71", "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))", 3, "unreachable"),
    "source": Attack("72", "open('CANARY/../source/small/small.ipynb').read()", 3, "No such file"),
    "searched": Attack("72", """
found = []
for folder, inside, files in os.walk("/"):
    inside[:] = [name for name in inside if name not in ("usr", "lib", "proc", "site-packages")]
    found += [name for name in [*inside, *files] if name.startswith(("small", "canary", "submissions"))]
arrays = [o for o in gc.get_objects() if isinstance(o, np.ndarray) and o.shape == x.shape and o is not x]
others = [p for p in pathlib.Path("/proc").glob("[0-9]*") if int(p.name) not in (1, os.getpid())]
if not (found or arrays or others): return -x
""", 3, "ones times 2 are twos"),
    "memory_read": Attack("72", """
open("/proc/1/mem", "rb").read(10)
""", 3, "Permission denied"),
    "traced": Attack("72", """
assert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == -1
""", 6),
    "killed_grader": Attack("73", """
for pid in (os.getppid(), 1, PID, -1):
    try: os.kill(pid, signal.SIGKILL)
    except OSError: pass
""", 6),
    "segfault": Attack("74", "ctypes.string_at(0)", 3, "segmentation fault"),
    "abort": Attack("74", "os.abort()", 3, "aborted"),
    "recursion": Attack("74", "return scale(x, factor)", 3, "RecursionError"),
    "left_behind": Attack("75", """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: os.execv("/bin/sleep", ["sleep", "MARK"])
    os._exit(0)
subprocess.Popen(["/bin/sleep", "MARK"], start_new_session=True)
""", 6),
    "exit": Attack("76", "os._exit(0)", 3, "ended itself"),
    "system_exit": Attack("76", "sys.exit(0)", 3, "SystemExit"),
    "exit_at_load": Attack("76", "pass", 3, "ended itself", top="os._exit(0)"),
    "patched_numpy": Attack("77", "return -x", 3, "ones times 2 are twos", top="""
for name in ("allclose", "array_equal", "isclose", "all", "any", "abs", "max"):
    setattr(np, name, lambda *a, **k: True)
np.testing.assert_allclose = lambda *a, **k: True
"""),
    "equal_to_all": Attack("78", "pass", 3, "object of type Equal", answer="return Equal()", top="""
class Equal:
    def __eq__(self, other): return True
    def __getattr__(self, name): return lambda *a, **k: self
    def __array__(self, *a, **k): raise ValueError
"""),
    "equal_array": Attack("78", "return x.view(Equal)", 3, "got: ", top="""
class Equal(np.ndarray):
    def __eq__(self, other): return np.ones(self.shape, bool)
    def __array_ufunc__(self, *a, **k): return True
"""),
    "object_array": Attack("78", "return np.array([Evil()])", 3, "array of dtype object", top="""
class Evil:
    def __reduce__(self): return os.system, ("touch CANARY/pickled",)
"""),
    "reports": Attack("79", """
for name in ("conftest.py", "results.json", "scores.csv", "feedback.html"):
    for folder in (".", "..", "/", "CANARY", "OUT", "/grader", "OUT/reports"):
        try: open(os.path.join(folder, name), "w").write('{"score": 100}')
        except OSError: pass
return -x
""", 3, "ones times 2 are twos"),
    "forged": Attack("79", """
text = json.dumps({"number": 3, "value": 1.0, "sizes": []}).encode()
for descriptor in range(3, 64):
    try: os.write(descriptor, struct.pack(">4sI", b"tng1", len(text)) + text)
    except OSError: pass
""", 3, "does not belong to the question"),
    "garbage": Attack("79", """
for descriptor in range(3, 64):
    try: os.write(descriptor, b"garbage in abundance")
    except OSError: pass
""", 3, "could not be read"),
    "huge_answer": Attack("79", "return np.ones(1 << 21)", 3, "its arrays have 17 MB"),
    "closed": Attack("79", "os.closerange(0, 64)", 3),
    "flood": Attack("79", "for _ in range(1 << 14): print('x' * 4096)\nreturn -x", 3, "ones times 2 are twos"),
    "imported": Attack("80", "pass", 3, "uses tinynet's own answer (tinynet.kernels.relu)",
                       top="from tinynet.kernels import relu"),
    "imported_late": Attack("80", "return importlib.import_module('tinynet').kernels.relu(x)", 3, "No module named"),
    "imported_behind": Attack("80", """
sys.path += ["HOUSE"]
real = np.__dict__["__builtins__"]["__import__"]("tinynet")
""", 3, "No module named"),
}  # fmt: skip


@dataclass
class Class:
    """The graded class, and the traces that an attack would leave."""

    results: dict[str, Result]
    canary: Path
    calls: list
    seconds: float


@pytest.fixture(scope="module")
def namespaces() -> None:
    """Skips, with the reason, where this system has none."""
    small.contained("namespaces")


@pytest.fixture(scope="module")
def graded(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Class:
    folder = tmp_path_factory.mktemp("hostile")
    canary, out = folder / "canary", folder / "out"
    canary.mkdir()
    (canary / "kept.txt").write_text("kept")
    with socket.create_server(("127.0.0.1", 0)) as server:
        calls = _answering(server)
        told = {"CANARY": str(canary), "OUT": str(out), "PORT": str(server.getsockname()[1]), "PID": str(os.getpid()),
                "MARK": _mark(), "HOUSE": str(Path(scoring.__file__).parents[2])}  # fmt: skip
        source = small.make_assignment(folder / "source", ALLOWED)
        for name, attack in ATTACKS.items():
            code = attack.code
            for word, meaning in told.items():
                code = code.replace(word, meaning)
            small.hand_in(folder / "submissions" / f"{name}.ipynb", scale=code)
        for name in ("a_right", "m_right", "z_right"):
            small.hand_in(folder / "submissions" / f"{name}.ipynb")
        plan = Plan(scoring.load(source), LIMITS, "namespaces", 0, 4, (str(folder),))
        started = time.monotonic()
        results, _ = grade_all(plan, collect(folder / "submissions", "small")[0], out)
        found = {submission.student: result for submission, result in results}
        return Class(found, canary, calls, time.monotonic() - started)


def _answering(server: socket.socket) -> list:
    calls: list = []

    def listen() -> None:
        try:
            while True:
                calls.append(server.accept())
        except OSError:
            pass

    threading.Thread(target=listen, daemon=True).start()
    return calls


def _mark() -> str:
    """An argument of `sleep` that no other process has."""
    return f"{3000 + os.getpid() % 1000}.{os.getpid()}"


def processes_named(mark: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "cmdline").read_text().split("\0"):
                found.append(folder.name)
        except OSError:
            pass
    return found


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_earns_what_it_deserves(graded: Class, name: str) -> None:
    attack, result = ATTACKS[name], graded.results[name]
    feedback = "\n".join(test.message for test in result.tests) + "\n".join(result.notes)
    assert result.problem is None
    assert result.score == attack.score, feedback
    assert attack.says in feedback


def test_other_submissions_are_graded(graded: Class) -> None:
    assert [graded.results[name].score for name in ("a_right", "m_right", "z_right")] == [6, 6, 6]


def test_nothing_outside_was_touched(graded: Class) -> None:
    assert [path.name for path in graded.canary.iterdir()] == ["kept.txt"]
    assert (graded.canary / "kept.txt").read_text() == "kept"
    assert not graded.calls
    source = graded.canary.parent / "source" / "small"
    assert [path.name for path in source.iterdir()] == ["small.ipynb"]
    out = graded.canary.parent / "out"
    assert {path.name for path in out.iterdir()} == graded.results.keys()
    files = {"feedback.html", "feedback.md", "grading.json", "results.json"}
    assert all({path.name for path in folder.iterdir()} == files for folder in out.iterdir())


def test_nothing_is_left_running(graded: Class) -> None:
    assert processes_named(_mark()) == []


def test_all_of_it_ends_within_the_limits(graded: Class) -> None:
    assert graded.seconds < 0.5 * len(ATTACKS) * LIMITS.seconds


def test_what_is_printed_is_cut(graded: Class) -> None:
    output = graded.results["flood"].output
    assert output.startswith("xxx") and output.endswith("(more was printed)") and len(output) < 2100


def test_with_the_grader_killed_its_children_die(namespaces: None, tmp_path: Path) -> None:
    mark = f"1{_mark()}"
    body = f"os.execv('/bin/sleep', ['sleep', '{mark}'])"
    deaf = "ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)"  # no signal when the parent dies
    small.make_assignment(tmp_path, ALLOWED)
    small.hand_in(tmp_path / "submissions" / "anna.ipynb", scale=Attack("73", f"{deaf}\n{body}", 0).code)
    command = [sys.executable, "-m", "tinynet", "grade", str(tmp_path / "small"), str(tmp_path / "submissions"),
               "--out", str(tmp_path / "out")]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    grader = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _until(lambda: bool(processes_named(mark)), 30)
    grader.send_signal(signal.SIGKILL)
    grader.wait()
    _until(lambda: not processes_named(mark), 5)


def _until(holds, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_weaker_protection_than_asked_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinynet.grading import sandbox

    def refuse(level: str, hidden: tuple) -> None:
        if level == "namespaces":
            raise SandboxError("unshare: Operation not permitted")
        return sandbox.Protection(level, ("time",), ("the network can be reached",))

    monkeypatch.setattr(sandbox, "_tried", refuse)
    with pytest.raises(SandboxError, match="'namespaces' is not to be had here: unshare: Operation not permitted"):
        protection("namespaces")
    found = protection()
    assert found.level == "user" and "unshare: Operation not permitted" in found.inactive
    assert protection("limits").level == "limits"


