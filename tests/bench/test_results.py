"""Medians, ratios, tables, CSV, targets and pictures from made-up measurements."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from tinynet import plot
from tinynet.bench import chart, machine, memory, scaling, table, targets, works
from tinynet.bench.alternate import Comparison, Measured
from tinynet.bench.machine import Speed
from tinynet.bench.works import ONNXRUNTIME, TINYNET, TRAINING, Side, Work

FUSED, EAGER, ONNX = Side(TINYNET, "fused"), Side(TINYNET, "eager"), Side(ONNXRUNTIME)
PLAIN, LAST = works.TORCH_SIDES
SPEED = Speed(200.0, "a test")


def measured(side: Side, *seconds: float, peak: int = 1 << 20) -> Measured:
    return Measured(side, seconds, peak, 2)


@pytest.fixture
def single() -> Comparison:
    sides = (
        measured(FUSED, 0.02, 0.04, 0.02), measured(EAGER, 0.03, 0.03, 0.03), measured(PLAIN, 0.04, 0.04, 0.08),
        measured(LAST, 0.025, 0.05, 0.05), measured(ONNX, 0.01, 0.02, 0.01),
    )  # fmt: skip
    return Comparison(targets.SINGLE, sides, 10**9)


def test_ratios_are_medians_of_pairs(single):
    assert single.ratios(FUSED, PLAIN) == [0.5, 1.0, 0.25] and single.ratio(FUSED, PLAIN) == 0.5
    uneven = Comparison(targets.SINGLE, (measured(FUSED, 0.02, 0.04, 0.06), measured(PLAIN, 0.04, 0.16, 0.06)))
    assert uneven.ratio(FUSED, PLAIN) == 0.5  # not 0.04 / 0.06
    assert single.better(PLAIN, LAST) == PLAIN  # medians 0.04 and 0.05
    assert single.gflops(EAGER) == pytest.approx(2 / 0.03)
    step = Comparison(Work("resnet50", TRAINING, 8), (measured(EAGER, 1.0),), 10**9)
    assert step.gflops(EAGER) == pytest.approx(3 * 8 * 2)
    assert Comparison(targets.SUMS, (measured(EAGER, 1.0),)).gflops(EAGER) is None


def test_the_table(single):
    lines = table.table([single], SPEED).splitlines()
    assert lines[0].split()[-6:] == ["fused", "÷", "it", "eager", "÷", "it"]
    assert lines[2].split()[4:] == ["224×224", "tinynet", "fused", "20.0", "50.0", "100", "50%", "1"]
    assert lines[4].split() == ["torch", "NCHW", "40.0", "25.0", "50", "25%", "1", "0.50", "0.75"]
    said = table.conclusions([single])
    assert "resnet50 inference, batch 1, 224×224: tinynet fused takes 0.50 of the time of torch NCHW" in said[0]
    assert said[0].endswith("its better layout") and len(said) == 4 and "channels_last" not in "".join(said)
    assert [table.milliseconds(s) for s in (0.00451, 0.0451, 0.451)] == ["4.51", "45.1", "451"]


def test_the_csv(single, tmp_path):
    table.write_csv([single], SPEED, tmp_path / "bench.csv")
    with open(tmp_path / "bench.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == table.CSV_COLUMNS and len(rows) == 5
    assert rows[2]["engine"] == "torch" and rows[2]["fused_over_this"] == "0.5000" and rows[0]["share"] == "0.5"


def test_targets(single):
    results = {each.target.name: each for each in targets.outcomes([single])}
    assert len(results) == 3  # the others' works are not there
    fused = results["ResNet-50 inference, fused, batch 1"]
    assert (fused.rival, fused.ratio, fused.met) == (PLAIN, 0.5, True)
    assert not results["aim: ResNet-50 inference, fused, batch 1"].met
    step = Comparison(
        targets.STEP, (measured(EAGER, 1.0, peak=300), measured(PLAIN, 2.0, peak=200), measured(LAST, 1.0, peak=250))
    )
    by_name = {each.target.name: each for each in targets.outcomes([step])}
    peak = by_name["peak memory of the ResNet-50 training step"]
    assert (peak.ratio, peak.rival, peak.met) == (1.5, PLAIN, False)
    rows = targets.outcome_table(targets.outcomes([single, step])).splitlines()[2:]
    assert rows[0].split()[-4:] == ["0.50", "≤", "0.9", "met"] and rows[-1].endswith("missed")


def test_every_target_can_be_measured():
    for target in targets.TARGETS:
        assert {target.own, *target.rivals} <= set(targets.SIDES[target.work])


def test_the_straight_line():
    line = scaling.line_through("batch", (1, 2, 4), ("1", "2", "4"), (0.3, 0.5, 0.9))
    assert line.intercept == pytest.approx(0.1) and line.slope == pytest.approx(0.2) and line.deviation < 1e-9
    bent = scaling.line_through("batch", (1, 2, 4), ("1", "2", "4"), (0.3, 0.8, 0.9))
    assert bent.deviation > 0.15


def test_speed_is_the_largest_seen():
    faster = SPEED.at_least(250.0, "a layer")
    assert faster.gflops == 250.0 and "a layer" in str(faster)
    assert SPEED.at_least(150.0, "a layer") is SPEED and SPEED.at_least(None, "nothing") is SPEED
    assert machine.cores() >= 1 and machine.processor()


def test_peak_memory():
    peak = memory.Peak()
    array = np.ones(1 << 25, np.uint8)
    assert (1 << 25) * 0.9 < peak.bytes() < (1 << 25) * 1.5
    del array
    assert peak.bytes() > (1 << 25) * 0.9  # a peak stays
    if memory._CLEAR.exists():
        assert memory.Peak().bytes() < 1 << 23  # and a new one starts from here


def test_pictures(single, tmp_path):
    line = scaling.line_through("batch", (1, 2, 4), ("1", "2", "4"), (0.3, 0.5, 0.9))
    threads = {(1, 1): 0.2, (1, 2): 0.11, (8, 1): 1.6, (8, 2): 0.85}
    result = scaling.Scaling(FUSED, "inference", (line, line, line), threads)
    assert result.speedup(1, 2) == pytest.approx(0.2 / 0.11)
    sums = Comparison(targets.SUMS, (measured(EAGER, 1.0), measured(PLAIN, 0.5)))
    for number, figure in enumerate((
        chart.speeds([single], SPEED, "note"), chart.speeds([sums], SPEED, "note"),
        chart.scaling_chart(result, "note"), chart.targets_chart(targets.outcomes([single, sums]), "note"),
    )):  # fmt: skip
        plot.save(figure, tmp_path / f"{number}.png")
        with Image.open(tmp_path / f"{number}.png") as image:
            assert len(np.unique(np.asarray(image.convert("L")))) > 20
