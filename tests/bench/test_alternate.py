"""Two engines beside each other: turns, agreement, and one clear line for whatever goes wrong."""

from __future__ import annotations

import os
import threading

import pytest

from tinynet.bench import alternate, compare, works
from tinynet.bench.alternate import Turns, Worker, take_turns
from tinynet.bench.works import EAGER, FUSED, TINYNET, Side, Work
from tinynet.errors import TinynetError

SMALL = Work("cifar_resnet20", batch=2, size=(16, 16))
OURS = Side(TINYNET, EAGER)


class Recorder:
    """Stands for a worker; notes who was asked for what, and that nobody was asked meanwhile."""

    def __init__(self, name: str, seconds: float, log: list) -> None:
        self.name, self.seconds, self.log, self.busy = name, seconds, log, threading.Lock()

    def ask(self, do: str, iterations: int, **request: object) -> list[float]:
        assert do == "run" and self.busy.acquire(blocking=False)
        self.log.append((self.name, iterations))
        self.busy.release()
        return [self.seconds] * iterations


def test_turns_go_forwards_and_backwards(monkeypatch):
    monkeypatch.setattr(alternate, "SETTLE", 0.0)
    log: list = []
    jobs = [Turns(Recorder("a", 0.1, log)), Turns(Recorder("b", 0.001, log)), Turns(Recorder("c", 3.0, log))]  # type: ignore[arg-type]
    told: list[str] = []
    turns = take_turns(jobs, 1.0, told.append)
    assert [job.iterations for job in jobs] == [2, 250, 1]  # a turn of at least 0.25 s
    assert turns == [[0.1] * 5, [0.001] * 5, [3.0] * 5] and told[-1] == "round 5 of 5"
    order = [name for name, _ in log[3:]]
    assert "".join(order) == "abc" "cba" "abc" "cba" "abc"


def test_a_side_alone():
    result = compare(SMALL, [OURS], threads=1, seconds=0.2, macs=1000)
    (measured,) = result.sides
    assert measured.threads == 1 and len(measured.seconds) >= alternate.FEWEST and measured.median > 0
    assert measured.peak > 0 and result.better(OURS) == OURS
    assert result.gflops(OURS) == pytest.approx(2e-9 * 1000 * 2 / measured.median)


def test_fused_and_eager_agree():
    result = compare(SMALL, [Side(TINYNET, FUSED), OURS], threads=2, seconds=0.2)
    assert result.ratio(OURS, Side(TINYNET, FUSED)) == pytest.approx(1 / result.ratio(Side(TINYNET, FUSED), OURS))


@pytest.mark.torch
@pytest.mark.parametrize(
    "work",
    [Work("resnet18_fpn", size=(40, 56)), Work("cifar_resnet20", "training", 4, (16, 16)),
     Work(works.ADDITIONS, "training")],
    ids=lambda work: work.name,
)  # fmt: skip
def test_against_torch(work):
    layout = works.TORCH_SIDES[0 if work.model == works.ADDITIONS else 1]  # the one that takes a conversion
    sides = [OURS, layout]
    result = compare(work, sides, threads=1, seconds=0.1)
    assert [measured.side for measured in result.sides] == sides
    assert all(ratio > 0 for ratio in result.ratios(OURS, sides[1]))


@pytest.mark.torch
def test_torch_keeps_its_own_wait_policy(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv("GOMP_SPINCOUNT", "10000")
    seen: dict = {}

    class Spy(Exception):
        pass

    def started(*args, env, **named):
        seen.update(env)
        raise Spy

    monkeypatch.setattr(alternate.subprocess, "Popen", started)
    with pytest.raises(Spy):
        Worker("torch", 1)
    assert not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(seen) and os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.torch
def test_other_results_are_refused(monkeypatch):
    monkeypatch.setattr(alternate, "TOLERANCE", 1e-12)
    with pytest.raises(TinynetError, match=r"torch NCHW computes something else than tinynet eager \(relative error"):
        compare(SMALL, [OURS, works.TORCH_SIDES[0]], threads=1, seconds=0.1)


def test_missing_packages_name_their_extra(monkeypatch):
    monkeypatch.setattr(alternate.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TinynetError, match=r"torch not installed here.*`torch`, `pip install -e \"\.\[torch\]\"`"):
        compare(SMALL, [OURS, works.TORCH_SIDES[0]], threads=1)
    with pytest.raises(TinynetError, match=r"onnx and onnxruntime not installed here: .* extra `bench`"):
        alternate.require("onnxruntime")
    alternate.require(TINYNET)


def test_a_worker_reports_what_went_wrong():
    with Worker(TINYNET, 1) as worker:
        with pytest.raises(TinynetError, match="tinynet: KeyError: 'nothing'"):
            worker.ask("run", key="nothing", iterations=1)
        assert worker.ask("macs", work=works.as_request(Work("cifar_resnet20", size=(32, 32)))) == 40_551_040
        worker.process.kill()
        with pytest.raises(TinynetError, match="the process of tinynet ended"):
            worker.ask("product")
