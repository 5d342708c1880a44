"""What leaves the teacher's hands: a zip for the students, and one for Gradescope."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import tinynet
from tinynet.errors import DataError
from tinynet.grading.assignments import MARK, release_path, source_path
from tinynet.utils.atomic import atomic_write

FOLDER = "tinynet-assignments"  # what the students' zip unpacks to
GUIDE = "README.md"
PACKAGE = Path(tinynet.__file__).parent
PROJECT = ("pyproject.toml", "README.md", "LICENSE")  # what building the package needs beside it
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same files give the same zip

SETUP = """\
#!/usr/bin/env bash
# Gradescope runs this once, when it builds the image of the autograder.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
apt-get update
python=python3
if python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  apt-get install -y python3-venv
else # tinynet needs Python 3.11, which an older Ubuntu has beside its own
  apt-get install -y python3.11 python3.11-venv
  python=python3.11
fi
"$python" -m venv /autograder/venv
/autograder/venv/bin/pip install --quiet /autograder/source/package jupytext
chmod -R go-rwx /autograder/source
# Compiles the kernels now and not for every student: grades the reference solution.
/autograder/source/grade.sh /autograder/source/{name}/{name}.py /autograder/warmup
rm -r /autograder/warmup
"""

GRADE = """\
#!/usr/bin/env bash
# grade.sh SUBMISSION OUT
set -euo pipefail
export TINYNET_CACHE_DIR=/autograder/cache TINYNET_PROGRESS=0
/autograder/venv/bin/tinynet grade /autograder/source/{name} "$1" --out "$2"
"""

RUN = """\
#!/usr/bin/env bash
# Gradescope runs this for every submission, and shows the student results/results.json.
set -euo pipefail
shopt -s nullglob
files=(/autograder/submission/*.ipynb /autograder/submission/*.py)
mkdir -p /autograder/results
if [ ${#files[@]} -eq 0 ]; then
  echo '{"score": 0, "output": "no notebook (.ipynb) was handed in"}' > /autograder/results/results.json
  exit
fi
rm -rf /autograder/graded
/autograder/source/grade.sh "${files[0]}" /autograder/graded
cp /autograder/graded/results.json /autograder/results/results.json
"""


def student_zip(course: Path, names: Sequence[str], out: Path) -> list[str]:
    """Writes the released notebooks of the named assignments and the students' guide to a zip.

    Returns the names of the files in it. Raises DataError for an assignment that was not generated, or whose
    notebook has a solution or hidden tests in it.
    """
    guide = course / "release" / GUIDE
    files = {GUIDE: guide.read_bytes()} if guide.exists() else {}
    for name in names:
        path = release_path(course, name)
        if not path.exists():
            raise DataError(f"{path} does not exist: run `tinynet assignment generate {name}` first")
        content = path.read_bytes()
        if MARK.search(content.decode()):
            raise DataError(f"{path} holds a solution or hidden tests: run `tinynet assignment generate {name}` again")
        files[path.name] = content
    _write(out, {f"{FOLDER}/{name}": content for name, content in files.items()})
    return list(files)


def gradescope_zip(course: Path, name: str, out: Path) -> list[str]:
    """Writes the autograder of one assignment: Gradescope's two scripts, this package, and the assignment's source.

    Returns the names of the files in it. Raises DataError outside of a clone, whose files the package is built from.
    """
    root = PACKAGE.parent
    missing = [file for file in PROJECT if not (root / file).exists()]
    if missing:
        raise DataError(f"{root} has no {', '.join(missing)}: make the autograder in a clone of tinynet")
    scripts = {"setup.sh": SETUP, "run_autograder": RUN, "grade.sh": GRADE}
    files = {script: text.replace("{name}", name).encode() for script, text in scripts.items()}
    files[f"{name}/{name}.py"] = source_path(course, name).read_bytes()
    for file in PROJECT:
        files[f"package/{file}"] = (root / file).read_bytes()
    for path in sorted([*PACKAGE.rglob("*.py"), PACKAGE / "py.typed"]):
        files[f"package/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    _write(out, files)
    return list(files)


def _write(out: Path, files: Mapping[str, bytes]) -> None:
    """A zip that is the same for the same files; scripts in it can be run."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            script = PurePosixPath(name).suffix == ".sh" or name == "run_autograder"
            entry.external_attr = (0o755 if script else 0o644) << 16
            archive.writestr(entry, content)
    with atomic_write(out) as file:
        file.write(buffer.getvalue())
