"""What the lessons promise holds in what is stored of them, on every seed: digits, degradation, detectors, cells."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest

from tests.lessons.build import LESSONS, scripts
from tests.lessons.stored import notebook_of

SEEDS = (0, 1, 2)


def results_of(lesson: str) -> dict[str, Any]:
    return json.loads((LESSONS / "results" / f"{lesson}.json").read_text())["results"]


@pytest.fixture(scope="module")
def degradation() -> dict[str, Any]:
    return results_of("07_residual")


def runs_by_design(lesson: str) -> dict[str, dict[int, dict[str, float]]]:
    designs: dict[str, dict[int, dict[str, float]]] = {}
    for run in results_of(lesson)["runs"]:
        designs.setdefault(run["design"], {})[int(run["seed"])] = run
    return designs


def test_the_detectors_were_trained_with_three_seeds_each() -> None:
    wanted = {"image-pyramid", "c4", "c5", "hierarchy", "fpn", "fpn-no-lateral", "fpn-no-top-down"}
    scenes, cells = runs_by_design("12_detecting"), runs_by_design("13_blood_cells")
    assert wanted <= set(scenes) and set(cells) == {"fpn", "c4", "c5"}
    assert all(tuple(sorted(runs)) == SEEDS for runs in (*scenes.values(), *cells.values()))


@pytest.mark.parametrize("seed", SEEDS)
def test_lesson_12_shows_what_each_design_is_worth(seed: int) -> None:
    runs = {design: seeds[seed] for design, seeds in runs_by_design("12_detecting").items()}
    fpn, single, images = runs["fpn"], runs["c4"], runs["image-pyramid"]
    assert fpn["AP"] >= 0.62 and fpn["AP50"] >= 0.96 and fpn["AP_small"] >= 0.56
    assert fpn["AP_small"] - single["AP_small"] >= 0.30 and runs["c5"]["AP"] <= 0.25
    assert runs["fpn-no-lateral"]["AP"] <= fpn["AP"] - 0.15
    assert images["AP"] >= 0.65
    assert images["milliseconds"] >= 3 * fpn["milliseconds"] and images["megabytes"] >= 8 * fpn["megabytes"]


@pytest.mark.parametrize("seed", SEEDS)
def test_lesson_12_shows_what_the_top_down_pathway_is_for(seed: int) -> None:
    """It does not help where a digit's own pixels decide, and does where its surroundings do."""
    for table, sign in (("runs", -1), ("context", 1)):
        ap = {run["design"]: run["AP"] for run in results_of("12_detecting")[table] if run["seed"] == seed}
        for other in ("fpn-no-top-down", "hierarchy"):
            assert sign * (ap["fpn"] - ap[other]) > 0, (table, other)


@pytest.mark.parametrize("seed", SEEDS)
def test_lesson_13_finds_platelets_with_the_pyramid_alone(seed: int) -> None:
    runs = {design: seeds[seed] for design, seeds in runs_by_design("13_blood_cells").items()}
    fpn, c4, c5 = runs["fpn"], runs["c4"], runs["c5"]
    assert fpn["AP"] >= 0.52 and fpn["AP50"] >= 0.85 and fpn["AP50 Platelets"] >= 0.84
    assert fpn["AP50 WBC"] >= 0.93 and fpn["AP50 RBC"] >= 0.73
    assert fpn["AP"] - c4["AP"] >= 0.08 and fpn["AP50 Platelets"] - c4["AP50 Platelets"] >= 0.45
    assert c5["AP50 Platelets"] <= 0.10


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
