"""The torch-style source beside this file, executed on torch or on tinynet."""

from __future__ import annotations

import functools
import re
import types
from pathlib import Path
from types import ModuleType

SOURCE = Path(__file__).with_name("torch_style.py").read_text(encoding="utf-8")


def with_imports_changed(source: str) -> str:
    """What a user does to a file written for torch: `import tinynet as torch`, `from tinynet import nn`."""
    source = re.sub(r"^import torch$", "import tinynet as torch", source, flags=re.MULTILINE)
    return re.sub(r"^(import|from) torch\b", r"\1 tinynet", source, flags=re.MULTILINE)


@functools.cache
def torch_style(library: str) -> ModuleType:
    """A module of the source's classes, made of "torch" or of "tinynet"."""
    module = types.ModuleType(f"torch_style_on_{library}")
    exec(SOURCE if library == "torch" else with_imports_changed(SOURCE), module.__dict__)
    return module
