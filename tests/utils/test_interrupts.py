"""A Ctrl-C that a library swallows is raised all the same."""

from __future__ import annotations

import contextlib
import signal
import threading

import pytest

from tinynet.utils.interrupts import interrupts_kept

pytestmark = pytest.mark.usefixtures("hears_ctrl_c")


def swallow() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_swallowed_interrupt_is_raised_at_the_end() -> None:
    before, reached = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), interrupts_kept():
        swallow()
        reached.append("the end of the block")
    assert reached and signal.getsignal(signal.SIGINT) is before


def test_a_swallowed_interrupt_is_raised_when_asked_for() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts_kept() as check:
        check()
        swallow()
        reached.append("behind it")
        check()
        reached.append("too far")
    assert reached == ["behind it"]


def test_a_block_inside_of_another_knows_what_the_outer_one_has_heard() -> None:
    before, reached = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), interrupts_kept():
        swallow()
        with interrupts_kept() as check:
            reached.append("inside")
            check()
            reached.append("too far")
    assert reached == ["inside"] and signal.getsignal(signal.SIGINT) is before
    with interrupts_kept() as check:  # and later ones do not
        check()


def test_what_is_swallowed_in_an_inner_block_is_raised_at_its_end() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts_kept():
        with interrupts_kept():
            swallow()
        reached.append("too far")
    assert not reached


def test_an_interrupt_leaves_the_block_at_once() -> None:
    before, reached = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), interrupts_kept():
        signal.raise_signal(signal.SIGINT)
        reached.append("what is behind it")
    assert not reached and signal.getsignal(signal.SIGINT) is before


def test_without_one_nothing_happens_and_errors_pass() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts_kept():
        pass
    with pytest.raises(ZeroDivisionError), interrupts_kept():
        _ = 1 / 0
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_interrupt_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts_kept():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_may_use_it() -> None:
    done = []

    def work() -> None:
        with interrupts_kept():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
