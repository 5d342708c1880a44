"""The fit loop on several ranks: what one rank would do, one checkpoint, another number of ranks, and failures."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinynet
from tests.distributed.launching import launch, needs_mpi, run, start
from tests.distributed.training import blobs
from tinynet import ranks
from tinynet.training import read_checkpoint
from tinynet.utils.data import DataLoader, DistributedSampler

pytestmark = needs_mpi


def train(count: int, folder: Path, epochs: int, *words: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    return launch(count, ["-m", "tests.distributed.training", str(folder), str(epochs), *words],
                  cwd=Path(__file__).parents[2])  # fmt: skip


def results(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert done.returncode == 0 and len(lines) == 1, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(lines[0].removeprefix("RESULT "))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return results(train(0, tmp_path_factory.mktemp("alone"), 4))


@pytest.mark.parametrize("count", [2, 3])
def test_several_ranks_do_what_one_does(count, alone, tmp_path):
    """Three ranks have 5, 5 and 6 images of a batch, and none of the last held-out one."""
    done = train(count, tmp_path, 4)
    found = results(done)
    np.testing.assert_allclose(found["values"], alone["values"], rtol=1e-9, atol=1e-12)
    assert found["labels"] == alone["labels"] and found["loss"] == pytest.approx(alone["loss"], rel=1e-9)
    for row, expected in zip(found["history"], alone["history"], strict=True):
        assert row == pytest.approx(expected, rel=1e-9)
    assert len(set(found["bits"])) == 1 and len(found["bits"]) == count
    assert done.stdout.count("epoch 1/4") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_resuming_with_another_number_of_ranks(tmp_path):
    """The random numbers too are those of the run that was not stopped: with the same ranks the same bits."""
    whole = results(train(2, tmp_path / "whole", 3, "augmented"))
    for folder, counts in (("same", (2, 2)), ("fewer", (2, 1)), ("more", (1, 2))):
        train(counts[0], tmp_path / folder, 2, "augmented")
        resumed = results(train(counts[1], tmp_path / folder, 3, "augmented", "resume"))
        assert len(resumed["history"]) == 3
        assert (resumed["bits"] == whole["bits"]) == (folder == "same")


@pytest.mark.parametrize("what, message", [
    ("killed", "died without a word, as after kill -9 or when memory is short; the job ends with it; "),
    ("nan", r"DivergedError: the loss is nan in step 1 of epoch 3: image 0 of the batch is not finite"),
    ("oserror", "OSError: [Errno 5] no such luck: '/data/images'"),
])  # fmt: skip
def test_a_failing_rank_ends_the_job_and_one_rank_less_goes_on(what, message, tmp_path):
    started = time.monotonic()
    done = train(2, tmp_path, 4, what)
    assert done.returncode != 0 and time.monotonic() - started < 60
    assert message in done.stderr and "tinynet: rank 1 of 2 on" in done.stderr
    if what == "killed":
        assert f"{tmp_path / 'checkpoint.safetensors'} holds epoch 2; go on with the same, resume" in done.stderr
    assert len(read_checkpoint(tmp_path / "checkpoint.safetensors").record["history"]) == 2
    resumed = results(train(0, tmp_path, 4, "resume"))
    assert len(resumed["history"]) == 4


def test_the_command_on_two_ranks(tmp_path):
    """One folder, one bar's worth of lines, and what is wrong is said once."""
    arguments = ["-m", "tinynet", "train", "--epochs", "1", "--batch-size", "600", "--out", str(tmp_path)]
    done = launch(2, arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/1") == 1 and "2 ranks with 1 thread each" in done.stdout
    (folder,) = tmp_path.iterdir()
    assert {"model.safetensors", "checkpoint.safetensors", "curves.png", "config.json"} <= {
        path.name for path in folder.iterdir()
    }
    done = launch(2, [*arguments, "--name", folder.name])
    assert done.returncode == 1 and done.stderr.count("already holds a run") == 1
    done = launch(2, ["-m", "tinynet", "train", "--data", "nonsense"])
    assert done.returncode == 1 and done.stderr.count("--data 'nonsense' is unknown") == 1


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the ranks below mpiexec in /proc")
@pytest.mark.parametrize("how", ["killed", "interrupted"])
def test_the_command_goes_on_with_one_rank_less(how, tmp_path):
    """kill -9 of a rank, or Ctrl-C, in the middle: what to type next is said, and it works."""
    arguments = ["-m", "tinynet", "train", "--batch-size", "300", "--out", str(tmp_path), "--name", "run"]
    process = start(3, [*arguments, "--epochs", "200"])
    assert process.stdout is not None
    while "epoch   1/200" not in (line := process.stdout.readline()):
        assert line, process.communicate()
    if how == "killed":
        os.kill(rank_processes(process.pid)[1], signal.SIGKILL)
    else:
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert ("rank 1 of 3" in err and "died without a word" in err) == (how == "killed")
    assert err.count("go on with") == 1
    command = f"mpiexec -n 3 tinynet train --resume {tmp_path / 'run'}"
    assert f"go on with `{command}` (other numbers of ranks can, too)" in err
    finished = len(read_checkpoint(tmp_path / "run" / "checkpoint.safetensors").record["history"])
    assert f"holds epoch {finished}" in err
    resumed = start(2, ["-m", "tinynet", "train", "--resume", str(tmp_path / "run")])
    assert resumed.stdout is not None
    lines = [resumed.stdout.readline() for _ in range(3)]
    resumed.kill()
    resumed.communicate()
    assert lines[0].startswith("resuming") and f"after epoch {finished} of 200" in lines[0], lines
    assert "2 ranks" in lines[1] and f"epoch {finished + 1:3}/200" in lines[2], lines


def rank_processes(launcher: int) -> dict[int, int]:
    """The process of each rank that this mpiexec has started."""
    parents, found = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            variables = dict(each.split("=", 1) for each in (folder / "environ").read_text().split("\0") if "=" in each)
            if "PMI_RANK" in variables:
                found[int(folder.name)] = int(variables["PMI_RANK"])

    def below(process: int) -> bool:
        return process == launcher or (process > 1 and below(parents.get(process, 0)))

    return {rank: process for process, rank in found.items() if below(process)}


def test_loaders_that_cannot_be_shared():
    dataset = blobs(4, 0)
    with pytest.raises(ValueError, match="not of a stream or batch_size=None"):
        ranks.shared(DataLoader(dataset, batch_size=None))
    with pytest.raises(ValueError, match="leave the DistributedSampler out"):
        ranks.shared(DataLoader(dataset, sampler=DistributedSampler(dataset, 2, 0)))


def test_parts_of_batches(monkeypatch):
    """Every image once; of a batch with too few for all ranks, the first again."""
    monkeypatch.setattr(ranks, "count", lambda: 3)
    batches = [[5, 3, 8, 1, 9], [7, 2, 4], [6, 0]]
    parts = []
    for rank in range(3):
        monkeypatch.setattr(ranks, "number", lambda rank=rank: rank)
        sampler = ranks.PartsOfBatches(batches)
        parts.append(list(sampler))
        assert sampler.sizes == [5, 3, 2] and len(sampler) == 3
    assert [[image for part in step for image in part] for step in zip(*parts)] == [*batches[:2], [6, 6, 0]]
    assert [len(part[0]) for part in parts] == [1, 2, 2]


def test_ranks_draw_other_numbers_but_go_on_together(monkeypatch):
    monkeypatch.setattr(ranks, "count", lambda: 2)
    tinynet.manual_seed(1)
    together = tinynet.rand(3).tolist()
    drawn = set()
    for epoch in range(2):
        for rank in range(2):
            monkeypatch.setattr(ranks, "number", lambda rank=rank: rank)
            tinynet.manual_seed(1)
            with ranks.own_random_numbers(epoch):
                drawn.add(tuple(tinynet.rand(3).tolist()))
            assert tinynet.rand(3).tolist() == together
    assert len(drawn) == 4


def test_detections_of_all_ranks_come_in_order():
    (found, other) = run(2, """
        from tinynet import data, detecting
        splits = detecting.open_splits("scenes", limit=19)
        model = detecting.build_trainer(detecting.new_config("fpn", "scenes", limit=19), splits).model
        seen = []
        def detect(images):
            seen.append(len(images))
            return [{"sum": image.sum().item()} for image in images]
        model.detect = detect
        found = detecting.detect_all(model, splits.test, quiet=True)
        expected = [float((splits.test.pixels(n) / 255).sum()) for n in range(19)]
        same = np.allclose([each["sum"] for each in found], expected, rtol=1e-4) and len(set(expected)) == 19
        report(same=bool(same), seen=seen, norms=sum(isinstance(m, nn.SyncBatchNorm) for m in model.modules()))
    """)
    assert found["same"] and other["same"] and found["norms"] > 10
    assert (found["seen"], other["seen"]) == ([8, 3], [8])
