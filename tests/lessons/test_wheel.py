"""The lessons are found in a wheel, without scripts, assignments and the pictures of the README."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.lessons.build import LESSONS, scripts


def test_a_wheel_brings_the_notebooks(tmp_path: Path) -> None:
    root = LESSONS.parent
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(root)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    brought = installed / "tinynet" / "lesson" / "notebooks"
    assert {path.name for path in brought.glob("*.ipynb")} == {path.with_suffix(".ipynb").name for path in scripts()}
    assert (brought / "README.md").exists()
    others = {path.relative_to(brought).parts[0] for path in brought.rglob("*") if path.suffix != ".ipynb"}
    assert others <= {"README.md", "results"} and not (installed / "lessons").exists()
    copy = [sys.executable, "-m", "tinynet", "lessons", "--no-open", "--to", str(tmp_path / "mine")]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    said = subprocess.run(copy, check=True, capture_output=True, text=True, env=environment, cwd=tmp_path).stdout
    assert "copied to" in said and (tmp_path / "mine" / "01_tensors_and_backprop.ipynb").exists()
