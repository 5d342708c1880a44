"""The progress bar: shown, quiet, forced; the same calls in every case."""

from __future__ import annotations

import io
import sys
import types
import warnings

import pytest

from tinynet.utils import progress as module
from tinynet.utils.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_terminal(monkeypatch):
    # Not a fixture: pytest puts its own stderr in place between the fixtures and the test.
    monkeypatch.delenv("TINYNET_PROGRESS", raising=False)
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def use(bar):
    for _ in bar:
        bar.set_postfix({"loss": 0.5})
    bar.close()


def test_shown_on_a_terminal(monkeypatch):
    terminal = on_terminal(monkeypatch)
    use(progress(range(3), desc="training"))
    assert "training" in terminal.getvalue() and "3/3" in terminal.getvalue()
    assert "loss=0.5" in terminal.getvalue()


@pytest.mark.parametrize("value", ["0", "false", "off"])
def test_silenced(monkeypatch, value):
    terminal = on_terminal(monkeypatch)
    monkeypatch.setenv("TINYNET_PROGRESS", value)
    use(progress(range(3)))
    assert terminal.getvalue() == ""


def test_quiet_when_not_a_terminal_unless_forced(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delenv("TINYNET_PROGRESS", raising=False)
    use(progress(range(3)))
    assert stream.getvalue() == ""
    monkeypatch.setenv("TINYNET_PROGRESS", "1")
    use(progress(range(3)))
    assert "3/3" in stream.getvalue()


def test_without_stderr(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.delenv("TINYNET_PROGRESS", raising=False)
    assert list(progress(range(3))) == [0, 1, 2]


def test_update_and_write(monkeypatch, capsys):
    terminal = on_terminal(monkeypatch)
    with progress(total=10, desc="download") as bar:
        bar.update(4)
        bar.write("a line")
        bar.update(6)
    assert "10/10" in terminal.getvalue()


def test_a_quiet_bar_still_writes_lines(monkeypatch, capsys):
    monkeypatch.setenv("TINYNET_PROGRESS", "0")
    with progress(total=2) as bar:
        bar.write("epoch 1: 97 %")
    assert capsys.readouterr().out == "epoch 1: 97 %\n"


def notebook(monkeypatch):
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell, version_info=(8,)))


def test_in_a_notebook_without_widgets_it_is_a_text_bar_and_no_warning(monkeypatch):
    terminal = on_terminal(monkeypatch)
    notebook(monkeypatch)
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        use(progress(range(3)))
    assert "3/3" in terminal.getvalue()


def test_in_a_notebook_widgets_are_used_if_there_are_any(monkeypatch):
    notebook(monkeypatch)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    assert module._widgets()


def test_no_thread_is_left_behind(monkeypatch):
    import threading

    on_terminal(monkeypatch)
    use(progress(range(3)))
    assert not [thread for thread in threading.enumerate() if type(thread).__name__ == "TMonitor"]
