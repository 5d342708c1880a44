"""What tests of detection share."""

from __future__ import annotations

import pytest

import tinynet


@pytest.fixture
def uninitialised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models without random numbers, for counting and for weights that are loaded: 35 million take seconds."""
    for name in ("kaiming_normal_", "kaiming_uniform_", "uniform_", "normal_"):
        monkeypatch.setattr(tinynet.nn.init, name, lambda tensor, *args, **kwargs: tensor)
