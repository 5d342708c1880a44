"""Every test starts from the same seed; the summary says what was not compared with a live torch."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator

import pytest

os.environ.setdefault("TINYNET_PROGRESS", "0")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Restarts tinynet's generator, so that no test depends on those before it."""
    import tinynet

    tinynet.manual_seed(0)


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Also where the tests run in a shell's background, which is deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("torch") is not None:
        return
    skip = pytest.mark.skip(reason="torch is not installed")
    for item in items:
        if item.get_closest_marker("torch"):
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if importlib.util.find_spec("torch") is not None:
        return
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "torch" in str(report.longrepr)]
    terminalreporter.write_line(
        f"torch is not installed: {len(skipped)} live comparisons skipped "
        "(the stored references were still compared; `pip install .[torch]` runs these too)"
    )
