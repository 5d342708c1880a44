"""A Fashion-MNIST of a few images in the real file format."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.small_fashion import write_small_fashion


@pytest.fixture
def fashion_folder(tmp_path: Path) -> Path:
    return write_small_fashion(tmp_path / "fashion")
