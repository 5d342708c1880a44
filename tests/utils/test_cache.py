"""Where the cache is."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from tinynet.utils.cache import user_cache


def test_override(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYNET_CACHE_DIR", str(tmp_path / "c"))
    assert user_cache("data", "fashion") == tmp_path / "c" / "data" / "fashion"
    assert not (tmp_path / "c").exists()


def test_default_is_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("TINYNET_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert user_cache("x").is_relative_to(tmp_path) or os.name == "nt"


def test_without_a_home(monkeypatch):
    monkeypatch.delenv("TINYNET_CACHE_DIR", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: Path("~/.cache/tinynet"))
    assert user_cache("x").is_absolute()
