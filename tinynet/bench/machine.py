"""What this machine can do: the fastest large matrix product, against which achieved GFLOP/s are held."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from tinynet.bench.alternate import Worker

NUMPY = "numpy"
AVX512 = "SkylakeX"  # OpenBLAS' kernels for AVX-512, of whatever maker


@dataclass(frozen=True)
class Speed:
    """The largest GFLOP/s measured here, and of what."""

    gflops: float
    what: str

    def at_least(self, gflops: float | None, what: str) -> Speed:
        """The same, or a faster measurement of a product in its place."""
        return Speed(gflops, what) if gflops is not None and gflops > self.gflops else self

    def __str__(self) -> str:
        return f"{self.gflops:.0f} GFLOP/s ({self.what})"


def product_speed(threads: int) -> Speed:
    """NumPy's BLAS on so many threads; also with AVX-512 kernels where the processor has it and BLAS has not noticed.

    (OpenBLAS knows processors by their names and takes a new one for an old one.)
    """
    gflops, architecture = _product(threads)
    best = Speed(gflops, f"NumPy's matrix product, OpenBLAS for {architecture}")
    if "OPENBLAS_CORETYPE" not in os.environ and architecture != AVX512 and _has_avx512():
        gflops, forced = _product(threads, OPENBLAS_CORETYPE=AVX512)
        best = best.at_least(
            gflops, f"NumPy's matrix product with OPENBLAS_CORETYPE={forced}; left alone it picks {architecture}, "
            f"{best.gflops:.0f} GFLOP/s",
        )  # fmt: skip
    return best


def _product(threads: int, **environment: str) -> tuple[float, str]:
    variables = {name: str(threads) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    with Worker(NUMPY, threads, {**variables, **environment}) as worker:
        gflops, architecture = worker.ask("product")
    return gflops, architecture


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _has_avx512() -> bool:
    return " avx512f" in _cpuinfo()


def processor() -> str:
    """The processor's name."""
    names = [line.partition(":")[2].strip() for line in _cpuinfo().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
