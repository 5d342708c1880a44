"""Schedules: torch's rates, past their end too, exact continuation, and explained refusals."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest

import tinynet
from tinynet.optim import SGD, Adam, Optimizer, lr_scheduler

STEPS = 60
SCHEDULES = {
    "step": ("StepLR", {"step_size": 7}),
    "step-gamma": ("StepLR", {"step_size": 1, "gamma": 0.9}),
    "multi-step": ("MultiStepLR", {"milestones": [30, 5, 5, 12], "gamma": 0.5}),
    "multi-step-0": ("MultiStepLR", {"milestones": [0, 2], "gamma": 0.5}),
    "constant": ("ConstantLR", {}),
    "constant-10": ("ConstantLR", {"factor": 0.25, "total_iters": 10}),
    "linear": ("LinearLR", {}),
    "linear-down": ("LinearLR", {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 40}),
    "exponential": ("ExponentialLR", {"gamma": 0.93}),
    "cosine": ("CosineAnnealingLR", {"T_max": 25}),
    "cosine-long": ("CosineAnnealingLR", {"T_max": 100, "eta_min": 0.01}),
    "cosine-short": ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.02}),
    "cosine-1": ("CosineAnnealingLR", {"T_max": 1, "eta_min": 0.02}),
    "lambda": ("LambdaLR", {"lr_lambda": lambda epoch: 1 / (1 + epoch)}),
    "lambda-list": ("LambdaLR", {"lr_lambda": [lambda epoch: 0.9**epoch, lambda epoch: min(epoch, 9) / 9]}),
    "one-cycle": ("OneCycleLR", {"max_lr": 0.4, "total_steps": STEPS}),
    "one-cycle-odd": ("OneCycleLR", {"max_lr": [0.4, 0.2], "epochs": 9, "steps_per_epoch": 7, "pct_start": 0.37}),
    "one-cycle-linear": ("OneCycleLR", {"max_lr": 0.4, "total_steps": STEPS, "anneal_strategy": "linear"}),
    "one-cycle-three": ("OneCycleLR", {"max_lr": 0.4, "total_steps": 61, "three_phase": True, "div_factor": 10.0,
                                       "final_div_factor": 100.0, "base_momentum": 0.7, "max_momentum": 0.9}),
    "one-cycle-still": ("OneCycleLR", {"max_lr": 0.4, "total_steps": STEPS, "cycle_momentum": False}),
}


def tiny_optimizer(framework, kind="SGD"):
    params = [framework.zeros(2, requires_grad=True), framework.zeros(3, requires_grad=True)]
    momentum = {"momentum": 0.9} if kind == "SGD" else {}
    return getattr(framework.optim, kind)([{"params": params[:1]}, {"params": params[1:], "lr": 0.03}], lr=0.1,
                                          **momentum)


def trajectory(optimizer, scheduler, steps):
    rows = []
    for _ in range(steps):
        rows.append([(group["lr"], group.get("momentum", 0.0), *group.get("betas", ()))
                     for group in optimizer.param_groups])
        assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
        optimizer.step()
        scheduler.step()
    return np.array(rows)


def make(framework, optimizer, name):
    kind, options = SCHEDULES[name]
    return getattr(framework.optim.lr_scheduler, kind)(optimizer, **options)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_torchs(name, kind):
    torch = pytest.importorskip("torch")
    rows = []
    for framework in (tinynet, torch):
        optimizer = tiny_optimizer(framework, kind)
        rows.append(trajectory(optimizer, make(framework, optimizer, name), STEPS))
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-12, atol=1e-15)


def warmup_then_cosine(framework, optimizer):
    schedules = framework.optim.lr_scheduler
    parts = [schedules.LinearLR(optimizer, start_factor=0.01, total_iters=5),
             schedules.CosineAnnealingLR(optimizer, T_max=30, eta_min=1e-4), schedules.StepLR(optimizer, 4)]
    return schedules.SequentialLR(optimizer, parts, milestones=[5, 35])


def nested(framework, optimizer):
    schedules = framework.optim.lr_scheduler
    inner = schedules.SequentialLR(optimizer, [schedules.ConstantLR(optimizer, 0.5, 3),
                                               schedules.ExponentialLR(optimizer, 0.8)], milestones=[6])
    return schedules.SequentialLR(optimizer, [inner, schedules.MultiStepLR(optimizer, [2, 3])], milestones=[20])


def starting_at_zero(framework, optimizer):
    schedules = framework.optim.lr_scheduler
    return schedules.SequentialLR(optimizer, [schedules.ConstantLR(optimizer), schedules.StepLR(optimizer, 2),
                                              schedules.LinearLR(optimizer)], milestones=[0, 9])


@pytest.mark.torch
@pytest.mark.parametrize("build", [warmup_then_cosine, nested, starting_at_zero])
def test_sequences_are_torchs(build):
    torch = pytest.importorskip("torch")
    rows = []
    for framework in (tinynet, torch):
        optimizer = tiny_optimizer(framework)
        rows.append(trajectory(optimizer, build(framework, optimizer), STEPS))
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-12, atol=1e-15)


@pytest.mark.torch
def test_two_schedules_on_one_optimizer_multiply_as_in_torch():
    torch = pytest.importorskip("torch")
    rows = []
    for framework in (tinynet, torch):
        optimizer = tiny_optimizer(framework)
        first = make(framework, optimizer, "cosine")
        second = make(framework, optimizer, "step")
        for _ in range(STEPS):
            optimizer.step()
            first.step()
            second.step()
            rows.append([group["lr"] for group in optimizer.param_groups])
    np.testing.assert_allclose(rows[:STEPS], rows[STEPS:], rtol=1e-12)


def test_cosine_is_its_formula_past_the_end():
    optimizer = tiny_optimizer(tinynet)
    rates = trajectory(optimizer, lr_scheduler.CosineAnnealingLR(optimizer, 20, eta_min=0.01), STEPS)[:, 0, 0]
    expected = [0.01 + 0.09 * (1 + math.cos(math.pi * t / 20)) / 2 for t in range(STEPS)]
    np.testing.assert_allclose(rates, expected, rtol=1e-10)


def test_one_cycle_corners():
    optimizer = tiny_optimizer(tinynet)
    rows = trajectory(optimizer, lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=100), 100)[:, 0]
    np.testing.assert_allclose(rows[[0, 29, 99]], [[0.02, 0.95], [0.5, 0.85], [0.02 / 1e4, 0.95]], rtol=1e-12)
    assert rows[:, 0].argmax() == 29


@pytest.mark.parametrize("steps, start", [(1, 0.3), (10, 0.1), (10, 1.0), (10, 0.0)])
def test_one_cycle_with_phases_of_no_length(steps, start):
    optimizer = tiny_optimizer(tinynet)
    rows = trajectory(optimizer, lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=steps, pct_start=start), steps)
    assert np.isfinite(rows).all()
    assert rows[:, :, 0].max() <= 0.5 + 1e-12


@pytest.mark.parametrize("name", ["step", "multi-step", "cosine", "one-cycle", "linear", "sequence"])
def test_resuming_gives_the_same_bits(name):
    def build(optimizer):
        return warmup_then_cosine(tinynet, optimizer) if name == "sequence" else make(tinynet, optimizer, name)

    optimizer = tiny_optimizer(tinynet)
    expected = trajectory(optimizer, build(optimizer), 50)
    optimizer = tiny_optimizer(tinynet)
    scheduler = build(optimizer)
    trajectory(optimizer, scheduler, 23)
    saved = json.loads(json.dumps([scheduler.state_dict(), optimizer.state_dict()["param_groups"]]))
    resumed_optimizer = tiny_optimizer(tinynet)
    resumed = build(resumed_optimizer)
    resumed.load_state_dict(saved[0])
    resumed_optimizer.load_state_dict({"state": {}, "param_groups": saved[1]})
    np.testing.assert_array_equal(trajectory(resumed_optimizer, resumed, 27), expected[23:])


def test_continuing_with_last_epoch():
    optimizer = tiny_optimizer(tinynet)
    with pytest.raises(KeyError, match=r"param_groups\[0\] has no 'initial_lr'"):
        lr_scheduler.StepLR(optimizer, 3, last_epoch=4)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    assert lr_scheduler.StepLR(optimizer, 3, last_epoch=4).last_epoch == 5


def test_lambdas_that_are_objects_are_saved():
    class Warmup:
        def __init__(self, length):
            self.length = length

        def __call__(self, epoch):
            return min(1.0, (epoch + 1) / self.length)

    optimizer = tiny_optimizer(tinynet)
    state = lr_scheduler.LambdaLR(optimizer, [Warmup(4), lambda epoch: 1.0]).state_dict()
    assert state["lr_lambdas"] == [{"length": 4}, None]
    other = lr_scheduler.LambdaLR(tiny_optimizer(tinynet), [Warmup(9), lambda epoch: 1.0])
    other.load_state_dict(state)
    assert other.lr_lambdas[0].length == 4


def test_wrong_order_of_steps_warns_once():
    optimizer = tiny_optimizer(tinynet)
    scheduler = lr_scheduler.StepLR(optimizer, 3)
    with pytest.warns(UserWarning, match=r"before optimizer\.step"):
        scheduler.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()
        ordered = tiny_optimizer(tinynet)
        scheduler = lr_scheduler.StepLR(ordered, 3)
        ordered.step()
        scheduler.step()


def test_no_warning_for_an_optimizer_with_a_step_of_its_own():
    class Frozen(Optimizer):
        def step(self, closure=None):
            pass

    scheduler = lr_scheduler.StepLR(Frozen([tinynet.zeros(1, requires_grad=True)], {"lr": 0.1}), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()


@pytest.mark.parametrize("build, message", [
    (lambda o: lr_scheduler.StepLR(o, 0), "step_size must be a positive integer, got 0"),
    (lambda o: lr_scheduler.CosineAnnealingLR(o, 0), "T_max"),
    (lambda o: lr_scheduler.ConstantLR(o, 1.5), "factor must be in .*1.5"),
    (lambda o: lr_scheduler.LinearLR(o, 0.0), "start_factor"),
    (lambda o: lr_scheduler.LinearLR(o, end_factor=-1.0), "end_factor"),
    (lambda o: lr_scheduler.LambdaLR(o, [len]), "lr_lambda has 1 values for 2 parameter groups"),
    (lambda o: lr_scheduler.OneCycleLR(o, 0.1), "total_steps, or both"),
    (lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=0), "total_steps"),
    (lambda o: lr_scheduler.OneCycleLR(o, 0.1, epochs=1, steps_per_epoch=2.5), "steps_per_epoch"),
    (lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=9, pct_start=1.5), "pct_start"),
    (lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=9, anneal_strategy="exp"), "'exp'"),
    (lambda o: lr_scheduler.OneCycleLR(o, [0.1], total_steps=9), "max_lr has 1 values"),
    (lambda o: lr_scheduler.SequentialLR(o, [], []), "at least one"),
    (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 1)], [3]), "1 schedulers need 0 milestones"),
    (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(tiny_optimizer(tinynet), 1)], []), "another"),
])
def test_explained_refusals(build, message):
    with pytest.raises(ValueError, match=message):
        build(tiny_optimizer(tinynet))


def test_wrong_types():
    with pytest.raises(TypeError, match="float is not an Optimizer"):
        lr_scheduler.StepLR(0.1, 3)
    with pytest.raises(TypeError, match="number 0 is no scheduler"):
        lr_scheduler.SequentialLR(tiny_optimizer(tinynet), [0.1], [])


def test_one_cycle_needs_something_to_cycle_and_ends():
    class Plain(Optimizer):
        pass

    plain = Plain([tinynet.zeros(1, requires_grad=True)], {"lr": 0.1})
    with pytest.raises(ValueError, match="Plain has neither momentum nor betas"):
        lr_scheduler.OneCycleLR(plain, 0.1, total_steps=5)
    optimizer = SGD([tinynet.zeros(1, requires_grad=True)], momentum=0.9)
    scheduler = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=5)
    trajectory(optimizer, scheduler, 5)
    with pytest.raises(ValueError, match="step 6 of a schedule of 5 steps"):
        scheduler.step()


def test_one_cycle_moves_beta1_of_adam():
    optimizer = Adam([tinynet.zeros(1, requires_grad=True)], betas=(0.9, 0.99))
    lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10)
    assert optimizer.param_groups[0]["betas"] == (0.95, 0.99)
