"""What importing `tinynet.utils` brings along."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tinynet


def test_data_is_there_after_import_tinynet_but_loaded_late():
    code = ("import sys, tinynet; assert 'tinynet.utils.data' not in sys.modules; "
            "assert tinynet.utils.data.DataLoader")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names():
    with pytest.raises(AttributeError, match="nonsense"):
        tinynet.utils.nonsense  # noqa: B018
