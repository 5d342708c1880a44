"""The progress bar of the project: a tqdm that knows when to be quiet."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

CHOICE = "TINYNET_PROGRESS"


def progress(iterable: Iterable[Any] | None = None, total: float | None = None, desc: str | None = None,
             **options: Any) -> tqdm:
    """A tqdm bar over `iterable`, or one that `update(n)` moves towards `total`.

    It shows when stderr is a terminal or in a notebook; TINYNET_PROGRESS=0 silences it and 1 forces it.
    A silent bar takes the same calls (`update`, `set_postfix`, `close`, ...). `bar.write(text)` prints a
    line to stdout without tearing the bar, shown or not. `options` go to tqdm.
    """
    options = {"dynamic_ncols": True, "leave": True, **options}
    return _bar_class(_widgets())(iterable, desc, total, disable=not shown(), **options)


def shown() -> bool:
    """Whether bars are drawn here: TINYNET_PROGRESS if it is set, else a terminal or a notebook."""
    choice = os.environ.get(CHOICE, "").strip().lower()
    if choice:
        return choice not in ("0", "false", "no", "off")
    return _in_notebook() or bool(sys.stderr and sys.stderr.isatty())


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _widgets() -> bool:
    return _in_notebook() and importlib.util.find_spec("ipywidgets") is not None


@cache
def _bar_class(widgets: bool) -> type[tqdm]:
    # Not tqdm.auto: it warns where ipywidgets is missing.
    if widgets:
        from tqdm.notebook import tqdm as base
    else:
        from tqdm import tqdm as base

    class Bar(base):
        monitor_interval = 0  # no monitor thread: data-loader workers are forked from this process

    return Bar
