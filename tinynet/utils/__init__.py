"""Helpers below the models: `utils.data` (torch.utils.data), the progress bar, safe files, downloads.

Importing this package imports none of them: `utils.progress` and `utils.atomic` know no Tensor and may be used
on any floor.
"""

from __future__ import annotations

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    if name == "data":  # `import tinynet; tinynet.utils.data` works, as in torch
        return importlib.import_module(".data", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
