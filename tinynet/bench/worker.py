"""The process in which one engine works: requests come in as lines of JSON, answers go back the same way.

Each engine has a process of its own, because two pools of threads in one process disturb each other; the process
stays alive and asleep between its turns.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tinynet.bench import engines, works
from tinynet.bench.memory import Peak
from tinynet.bench.works import ADDITIONS, TINYNET, Side, Work

SMALL = (64, 64)  # images to load and compile code with, before memory is measured
WARM_UP = 2  # runs whose time does not count
SIZE = 1536  # of the matrix product: 7 GFLOP, more than any cache holds
PROFILED = 3


class Engine:
    """The answers to requests; a job stays until the process ends."""

    def __init__(self) -> None:
        self.jobs: dict[str, engines.Job] = {}

    def start(self, engine: str, threads: int) -> int:
        """Imports what the engine needs; returns the number of threads it will use."""
        return engines.use_threads(engine, threads)

    def prepare(
        self, key: str, side: list[str], work: dict[str, Any], threads: int, result: str, exported: str | None = None
    ) -> int:
        """Makes a job and runs it; writes what it computes to `result`. Returns the peak of memory in bytes."""
        who, what = Side(*side), works.from_request(work)
        if exported is None:
            size = what.size if what.model == ADDITIONS else SMALL
            small = Work(what.model, what.task, min(2, what.batch), size, what.blocks)
            engines.prepare(who, small, threads).run()
        job = engines.prepare(who, what, threads, exported)
        peak = Peak()
        arrays = job.result()
        for _ in range(WARM_UP):
            job.run()
        extra = peak.bytes()
        np.savez(result, allow_pickle=False, **{str(n): array for n, array in enumerate(arrays)})
        self.jobs[key] = job
        return extra

    def run(self, key: str, iterations: int, threads: int | None = None) -> list[float]:
        """Seconds of each of so many runs."""
        if threads is not None:
            engines.use_threads(TINYNET, threads)
        job, seconds = self.jobs[key].run, []
        for _ in range(iterations):
            started = time.perf_counter()
            job()
            seconds.append(time.perf_counter() - started)
        return seconds

    def macs(self, work: dict[str, Any]) -> int:
        """Multiply-adds of one image's forward pass, as `tinynet summary` counts them."""
        from tinynet.inspect.summary import summary

        what = works.from_request(work)
        return summary(engines.build(TINYNET, what), (1, 3, *what.size), depth=0).macs

    def export(self, work: dict[str, Any], path: str) -> None:
        """Writes the work's model, with the weights that all engines get, as an ONNX file."""
        import tinynet
        from tinynet.bench.onnx_graph import export

        what = works.from_request(work)
        model = engines.build(TINYNET, what)
        values = works.weights({name: tuple(value.shape) for name, value in model.state_dict().items()})
        model.load_state_dict({name: tinynet.from_numpy(array) for name, array in values.items()})
        export(model, works.images(what), path)

    def layers(self, work: dict[str, Any], path: str | None = None) -> dict[str, Any]:
        """The profile of one run on eager tinynet: its table, its fastest product's GFLOP/s, a picture.

        A 1 x 1 convolution is a product; a larger one may need fewer multiplications than are counted (Winograd's).
        """
        import tinynet

        what = works.from_request(work)
        job = engines.prepare(Side(TINYNET, works.EAGER), what, tinynet.get_num_threads())
        job.run()
        best, fewest = 0.0, float("inf")
        for _ in range(PROFILED):
            with tinynet.profile() as report:
                job.run()
            products = [layer for layer in report.layers if getattr(layer.module, "kernel_size", None) == (1, 1)]
            rates = [layer.forward_gflops or 0.0 for layer in products if layer.own_forward > 2e-4]
            best = max([best, *rates])
            if report.seconds < fewest:
                fewest, quickest = report.seconds, report
        if path is not None:
            quickest.plot(path)
        return {"table": quickest.table(), "best": best}

    def product(self) -> list[Any]:
        """GFLOP/s of NumPy's product of two large matrices, the best of several, and what its BLAS says it is."""
        from tinynet.kernels.launch import blas_libraries

        random = np.random.default_rng(0)
        a, b = random.standard_normal((2, SIZE, SIZE), np.float32)
        out = np.empty_like(a)
        fewest = float("inf")
        until = time.perf_counter() + 1.5
        while time.perf_counter() < until:
            started = time.perf_counter()
            np.matmul(a, b, out=out)
            fewest = min(fewest, time.perf_counter() - started)
        libraries = [each["architecture"] for each in blas_libraries() if "numpy" in each["filepath"]]
        return [2e-9 * SIZE**3 / fewest, next((name for name in libraries if name), "unknown")]


def main() -> None:
    """Answers requests until there are no more. Whatever libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    engine = Engine()
    for line in sys.stdin:
        request = json.loads(line)
        answer: Callable[..., Any] = getattr(engine, request.pop("do"))
        try:
            reply = {"value": answer(**request)}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()
