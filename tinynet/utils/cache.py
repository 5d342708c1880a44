"""Where tinynet keeps files of its own for this user."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs


def user_cache(*parts: str) -> Path:
    """A path in the user's cache directory (`TINYNET_CACHE_DIR` replaces it); nothing is created."""
    chosen = os.environ.get("TINYNET_CACHE_DIR")
    root = Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("tinynet", appauthor=False)
    if not chosen and not root.is_absolute():  # no HOME and no entry in the user database
        root = Path(tempfile.gettempdir()) / f"tinynet-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    return root.joinpath(*parts)
