"""What the lessons promise holds in what is stored of them: handwriting in lesson 6, degradation in lesson 7."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest

from tests.lessons.build import LESSONS, scripts
from tests.lessons.stored import notebook_of

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def degradation() -> dict[str, Any]:
    return json.loads((LESSONS / "results" / "07_residual.json").read_text())["results"]


def test_lesson_6_reads_98_of_100_digits() -> None:
    said = "\n".join(
        output.data.get("text/markdown", "") for cell in notebook_of(scripts([6])[0]).cells
        for output in cell.get("outputs", ()) if "data" in output
    )  # fmt: skip
    (percent,) = re.findall(r"\*\*([\d.]+)%\*\* of the held-out digits", said)
    assert float(percent) >= 98


def test_lesson_7_ran_three_seeds_of_four_nets(degradation: dict[str, Any]) -> None:
    nets = degradation["nets"]
    assert set(nets) == {"plain-20", "plain-56", "residual-20", "residual-56"}
    for runs in nets.values():
        assert tuple(run["seed"] for run in runs) == SEEDS
        for run in runs:
            assert len(run["loss"]) == 10 and len(run["gradient"]) == 22
            assert all(math.isfinite(value) for value in run["loss"] + run["gradient"])


@pytest.mark.parametrize("seed", SEEDS)
def test_lesson_7_shows_the_degradation_with_each_seed(degradation: dict[str, Any], seed: int) -> None:
    runs = {name: results[seed] for name, results in degradation["nets"].items()}
    loss = {name: run["loss"][-1] for name, run in runs.items()}
    assert loss["plain-56"] >= 0.7 and runs["plain-56"]["accuracy"] <= 0.75
    assert loss["plain-20"] <= 0.30
    for name in ("residual-20", "residual-56"):
        assert loss[name] <= 0.03 and runs[name]["accuracy"] >= 0.99 and runs[name]["held_out"] >= 0.95, name
    assert loss["plain-56"] / loss["residual-56"] >= 30


@pytest.mark.parametrize("seed", SEEDS)
def test_lesson_7_shows_an_exploding_gradient_and_then_a_frozen_layer(degradation: dict[str, Any], seed: int) -> None:
    runs = {name: results[seed] for name, results in degradation["nets"].items()}
    plain, others = runs.pop("plain-56"), list(runs.values())
    assert all(plain["gradient"][0] >= 20 * run["gradient"][0] for run in others)
    growth = [run["weight"][1] / run["weight"][0] for run in (plain, *others)]
    assert growth[0] >= 10 and growth[0] >= 3 * max(growth[1:])


def test_lesson_7_finds_slowness_and_not_inability(degradation: dict[str, Any]) -> None:
    """More time helps; no learning rate and no limit on the gradients brings it near plain-20 in ten epochs."""
    usual, otherwise = degradation["nets"]["plain-56"][0]["loss"][-1], dict(degradation["plain-56, otherwise"])
    assert otherwise.pop("30 epochs")["loss"][-1] <= 0.6 * usual
    assert len(otherwise) == 5 and min(run["loss"][-1] for run in otherwise.values()) >= 0.7
    assert otherwise["gradients limited"]["loss"][-1] > usual
