"""An onlooker sees every operation of its own thread, recorded or not, and nothing after its block."""

from __future__ import annotations

import threading

import pytest

import tinynet
from tinynet.tape.observe import observed_by, state


class Listening:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple] = []

    def applied(self, operation, inputs, settings, outputs) -> None:
        self.seen.append(("applied", operation.name, len(inputs), settings, outputs[0].tolist()))

    def changing(self, target) -> None:
        self.seen.append(("changing", target.tolist()))

    def changed(self, operation, inputs, settings, written) -> None:
        self.seen.append(("changed", operation.name, inputs[0].tolist(), written))


@pytest.mark.parametrize("recorded", [True, False])
def test_every_operation_is_seen(recorded: bool) -> None:
    x = tinynet.tensor([1.0, -2.0], requires_grad=recorded)
    listening = Listening()
    with observed_by(listening):
        y = x * 2
        y += 1
        y.exp_()
        y.permute(0)
    x.exp()
    names = [(entry[0], entry[1]) for entry in listening.seen]
    assert names == [
        ("applied", "mul"), ("changing", [2.0, -4.0]), ("changed", "add"), ("changing", [3.0, -3.0]),
        ("changed", "exp"), ("applied", "permute"),
    ]  # fmt: skip
    assert listening.seen[2][2:] == ([3.0, -3.0], True) and listening.seen[4][3] is False
    assert listening.seen[5][3] == {"dims": (0,)}


def test_other_threads_are_not_seen_and_blocks_nest() -> None:
    outer, inner = Listening(), Listening()
    with observed_by(outer):
        thread = threading.Thread(target=lambda: tinynet.ones(2) + 1)
        thread.start()
        thread.join()
        with pytest.raises(ZeroDivisionError), observed_by(inner):
            tinynet.ones(2).exp()
            raise ZeroDivisionError
        assert state.observer is outer
    assert state.observer is None and not outer.seen and len(inner.seen) == 1
