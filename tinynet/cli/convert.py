"""`tinynet convert` and `tinynet inspect`: checkpoints into safetensors, and what is in them."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tinynet.checkpoint import Description, describe, read_state_dict, save
from tinynet.checkpoint.torch_files import TensorInfo
from tinynet.errors import CheckpointError

SUFFIX = ".safetensors"
LONGEST_TEXT = 100  # characters of a metadata entry that are shown
UNITS = ("kB", "MB", "GB", "TB")


def _run_inspect(options: argparse.Namespace) -> int:
    """Prints a checkpoint's tensors and metadata without loading them. Raises CheckpointError."""
    description = describe(options.file)
    lines = [_title(options.file, description)]
    lines += [f"  {_printable(key)}: {_shortened(_printable(text))}" for key, text in description.metadata.items()]
    print("\n".join([*lines, "", *table(description.tensors), "", totals(description.tensors)]))
    return 0


def _run_convert(options: argparse.Namespace) -> int:
    """Writes a checkpoint's tensors to a safetensors file, and says what has no place in one.

    Raises:
        CheckpointError: an unusable input, or an output that exists or has another suffix.
        OSError: the output cannot be written.
    """
    source, target = Path(options.input), Path(options.output)
    if target.suffix != SUFFIX:
        raise CheckpointError(f"{target}: convert writes safetensors files; call it {target.with_suffix(SUFFIX)}")
    if target.exists() and not options.force:
        raise CheckpointError(f"{target} exists already; --force replaces it")
    before = describe(source)
    state, beside = read_state_dict(source)
    save(state, target, before.metadata or {"format": "pt"})  # as other tools mark tensors named by torch
    after = describe(target)
    print(f"{_title(target, after)}\n{totals(after.tensors)}")
    if widened := sum(info.dtype == "bfloat16" for info in before.tensors):
        print(f"widened from bfloat16 to float32, exactly: {widened} of {len(before.tensors)} tensors")
    if beside:
        print(f"left out, since only the model's tensors are kept: {_shortened(_printable(', '.join(beside)))}")
    return 0


def table(tensors: list[TensorInfo]) -> list[str]:
    """Lines of name, dtype, shape and size, one for each tensor."""
    rows = [("name", "dtype", "shape", "size")]
    for info in tensors:
        shape = "×".join(map(str, info.shape)) or "scalar"
        rows.append((_printable(info.name) or "(unnamed)", _printable(info.dtype), shape, size_text(info.nbytes)))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        f"{name:{widths[0]}}  {dtype:{widths[1]}}  {shape:>{widths[2]}}  {size:>{widths[3]}}"
        for name, dtype, shape, size in rows
    ]
    return [lines[0], "─" * len(lines[0]), *lines[1:]]


def size_text(nbytes: int) -> str:
    """As people read it: 940 B, 12.5 kB, 97.8 MB."""
    if nbytes < 1000:
        return f"{nbytes} B"
    power = 1
    while nbytes / 1000**power >= 999.95 and power < len(UNITS):  # which would be shown as 1000.0
        power += 1
    return f"{nbytes / 1000**power:.1f} {UNITS[power - 1]}"


def _title(path: str | Path, description: Description) -> str:
    return f"{path}: {description.format} file{', with a checksum' if description.protected else ''}"


def totals(tensors: list[TensorInfo]) -> str:
    """One line: how many tensors of which dtypes, their elements and their size together."""
    elements = sum(math.prod(info.shape) for info in tensors)
    dtypes = Counter(_printable(info.dtype) for info in tensors).most_common()
    kinds = ", ".join(f"{count} {dtype}" for dtype, count in dtypes) or "none"
    return f"{len(tensors)} tensors ({kinds}), {elements:,} elements, {size_text(sum(t.nbytes for t in tensors))}"


def _printable(text: str) -> str:
    """Names come from the file: line breaks and terminal codes are shown, not sent."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text):,} characters)"


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {"convert": _run_convert, "inspect": _run_inspect}
