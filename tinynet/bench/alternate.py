"""Engines beside each other: every side in a process of its own, taking turns, so that both meet the same minutes.

A machine's speed drifts by more than the differences that matter. So a round gives each side one turn, the next
round goes through them backwards, and what is reported is the median over the rounds of the turns' ratios.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import tinynet
from tinynet.bench import works
from tinynet.bench.works import ONNXRUNTIME, TINYNET, TORCH, TRAINING, Side, Work
from tinynet.errors import TinynetError
from tinynet.inspect.compare import relative_error

EXTRAS = {TORCH: "torch", ONNXRUNTIME: "bench"}
PACKAGES = {TORCH: ("torch",), ONNXRUNTIME: ("onnx", "onnxruntime")}
TOLERANCE = 1e-4  # relative to the largest magnitude; a training step's loss has gone through batch statistics
TRAINING_TOLERANCE = 1e-3
TURN = 0.25  # seconds that a turn lasts at least
FEWEST, MOST = 5, 60  # rounds
SETTLE = 0.02  # seconds of sleep before a turn: the last side's threads may still spin


WAIT_POLICY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # of libgomp, which torch uses too


class Worker:
    """The process of one engine, with that engine's own defaults; `ask` waits for the answer without using a core."""

    def __init__(self, engine: str, threads: int, environment: dict[str, str] | None = None) -> None:
        require(engine)
        self.name = engine
        # What is imported first finds the environment as its users do, before tinynet sets a wait policy.
        first = "" if engine == TINYNET else f"import {PACKAGES.get(engine, ('numpy',))[-1]}\n"
        command = [sys.executable, "-c", f"{first}from tinynet.bench.worker import main\nmain()"]
        variables = {name: value for name, value in os.environ.items() if name not in WAIT_POLICY}
        paths = os.pathsep.join(filter(None, (str(Path(tinynet.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
        variables |= {"PYTHONPATH": paths, "TINYNET_QUIET": "1", "TINYNET_PROGRESS": "0", **(environment or {})}
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=variables
        )
        self.threads = threads
        if engine in (TINYNET, *EXTRAS):
            try:
                self.threads = self.ask("start", engine=engine, threads=threads)
            except BaseException:
                self.close()
                raise

    def ask(self, do: str, **request: Any) -> Any:
        """The answer to a request. Raises TinynetError if the engine fails or its process ends."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            said = self.errors.read().decode(errors="replace").strip().splitlines() or ["without a word"]
            raise TinynetError(f"bench: the process of {self.name} ended: {said[-1]}")
        reply = json.loads(line)
        if "error" in reply:
            raise TinynetError(f"bench: {self.name}: {reply['error']}")
        return reply["value"]

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def require(engine: str) -> None:
    """Raises TinynetError, with the extra to install, if an engine's packages are missing."""
    missing = [name for name in PACKAGES.get(engine, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise TinynetError(
            f"bench: {' and '.join(missing)} not installed here: install tinynet's extra `{EXTRAS[engine]}`, "
            f'`pip install -e ".[{EXTRAS[engine]}]"`'
        )


@dataclass(frozen=True)
class Measured:
    """One side of a comparison: seconds per run, the median of each turn; and bytes beyond the built model."""

    side: Side
    seconds: tuple[float, ...]
    peak: int
    threads: int

    @property
    def median(self) -> float:
        """Median seconds over all turns."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Comparison:
    """A work on several sides that took turns. `macs` are one image's multiply-adds, 0 where nobody counted."""

    work: Work
    sides: tuple[Measured, ...]
    macs: int = 0

    def of(self, side: Side) -> Measured:
        """What was measured of a side."""
        return next(measured for measured in self.sides if measured.side == side)

    def ratios(self, one: Side, other: Side) -> list[float]:
        """Time of `one` over time of `other`, round by round."""
        return [a / b for a, b in zip(self.of(one).seconds, self.of(other).seconds)]

    def ratio(self, one: Side, other: Side) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(self.ratios(one, other))

    def better(self, *sides: Side) -> Side:
        """The one with the smallest median time."""
        return min(sides, key=lambda side: self.of(side).median)

    def gflops(self, side: Side) -> float | None:
        """Achieved GFLOP/s, two per multiply-add; a training step counts as three forward passes."""
        if not self.macs:
            return None
        return 2e-9 * self.macs * self.work.batch * self.work.passes / self.of(side).median


def compare(
    work: Work,
    sides: Sequence[Side],
    *,
    threads: int,
    seconds: float = 6.0,
    macs: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Lets the sides do the work in turns, each for about `seconds`.

    Before anything is timed, every side's results must agree with the first side's. `tell` hears what goes on.

    Raises:
        TinynetError: a package is missing, an engine fails, or results differ.
    """
    for side in sides:
        require(side.engine)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tinynet-bench-")))
        workers, peaks, results = [], [], []
        for number, side in enumerate(sides):
            tell(f"{side.name} gets ready")
            workers.append(stack.enter_context(Worker(side.engine, threads)))
            result = folder / f"{number}.npz"
            exported = _exported(work, side, threads, folder)
            peaks.append(
                workers[-1].ask("prepare", key="", side=[side.engine, side.variant], work=works.as_request(work),
                                threads=threads, result=str(result), exported=exported)
            )  # fmt: skip
            results.append(result)
        _check(work, sides, results)
        jobs = [Turns(worker) for worker in workers]
        turns = take_turns(jobs, seconds, lambda text: tell(f"{work.name}: {text}"))
        measured = tuple(
            Measured(side, tuple(turn), peak, worker.threads)
            for side, turn, peak, worker in zip(sides, turns, peaks, workers)
        )
    return Comparison(work, measured, macs)


def _exported(work: Work, side: Side, threads: int, folder: Path) -> str | None:
    if side.engine != ONNXRUNTIME:
        return None
    if work.task == TRAINING:
        raise TinynetError("bench: ONNX Runtime is measured in inference only: use --work inference")
    path = str(folder / "model.onnx")
    with Worker(TINYNET, threads) as writer:
        writer.ask("export", work=works.as_request(work), path=path)
    return path


def _check(work: Work, sides: Sequence[Side], results: Sequence[Path]) -> None:
    """Raises TinynetError if a side computes something else than the first."""
    allowed = TRAINING_TOLERANCE if work.task == TRAINING else TOLERANCE
    arrays = [list(_read(path)) for path in results]
    for side, own in zip(sides[1:], arrays[1:]):
        errors = [relative_error(a, b) for a, b in zip(arrays[0], own)] if len(own) == len(arrays[0]) else [np.inf]
        if not max(errors) <= allowed:
            raise TinynetError(
                f"bench: {work.name}: {side.name} computes something else than {sides[0].name} "
                f"(relative error {max(errors):.1e}, allowed {allowed:.0e}), so comparing their times means nothing"
            )


def _read(path: Path) -> Iterator[np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        yield from (file[name] for name in sorted(file.files, key=int))


@dataclass
class Turns:
    """One job that takes turns with others: whom to ask, for what, and how many runs make a turn."""

    worker: Worker
    request: dict[str, Any] = field(default_factory=lambda: {"key": ""})
    iterations: int = 1

    def calibrate(self) -> float:
        """Chooses the runs per turn; returns a turn's length in seconds."""
        once = min(self.worker.ask("run", iterations=2, **self.request))
        self.iterations = max(1, round(TURN / once))
        return once * self.iterations

    def take(self) -> float:
        """One turn: the median seconds of its runs."""
        time.sleep(SETTLE)
        return statistics.median(self.worker.ask("run", iterations=self.iterations, **self.request))


def take_turns(jobs: Sequence[Turns], seconds: float, tell: Callable[[str], None]) -> list[list[float]]:
    """For each job the seconds per run of every round; rounds go forwards and backwards, never two jobs at once."""
    longest = sum(job.calibrate() for job in jobs) / len(jobs)
    rounds = min(MOST, max(FEWEST, round(seconds / longest)))
    turns: list[list[float]] = [[] for _ in jobs]
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        order = list(zip(jobs, turns))
        for job, taken in order if number % 2 == 0 else reversed(order):
            taken.append(job.take())
    return turns
