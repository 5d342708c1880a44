"""What ``import tinynet`` gives, and how soon."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tinynet


def test_functions_of_upper_rooms_are_there_when_asked_for():
    from tinynet import checkpoint, models

    assert tinynet.load is checkpoint.load and tinynet.save is checkpoint.save
    assert tinynet.image_pyramid is models.image_pyramid
    assert tinynet.models is models
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        tinynet.nonsense  # noqa: B018


def test_importing_loads_neither_a_compiler_nor_what_only_pictures_and_files_need():
    heavy = ("numba", "matplotlib", "sklearn", "scipy", "PIL", "torch", "tinynet.models", "tinynet.checkpoint")
    script = f"import sys, tinynet; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_a_saved_state_dict_comes_back(tmp_path):
    layer = tinynet.nn.Linear(3, 2)
    tinynet.save(layer.state_dict(), tmp_path / "layer.safetensors")
    loaded = tinynet.load(tmp_path / "layer.safetensors")
    assert list(loaded) == ["weight", "bias"] and loaded["weight"].equal(layer.weight)
