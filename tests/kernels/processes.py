"""Running a snippet in a fresh Python process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Makes `tinynet.kernels` importable without the rest of the package, which takes longer.
KERNELS_ONLY = f"""
    import sys, types
    sys.modules["tinynet"] = types.ModuleType("tinynet")
    sys.modules["tinynet"].__path__ = [{str(ROOT / "tinynet")!r}]
    from tinynet import kernels
"""


def python(code: str, timeout: float = 240, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run `code` in a new process; a variable given as None is removed from its environment."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def output_of(code: str, **environment: str | None) -> str:
    """What `code` printed, once it has ended well."""
    done = python(code, **environment)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout
