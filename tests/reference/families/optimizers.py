"""Trajectories of optimizers, with schedules and clipping: parameters, rates and momenta after every step."""

from __future__ import annotations

from tests.reference.cases import OptimizerCase

OPTIMIZERS = {
    "SGD": lambda optim, p: optim.SGD(p, lr=0.1),
    "SGD momentum": lambda optim, p: optim.SGD(p, lr=0.1, momentum=0.9),
    "SGD dampening": lambda optim, p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3),
    "SGD Nesterov": lambda optim, p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "SGD weight decay": lambda optim, p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": lambda optim, p: optim.Adam(p, lr=0.01),
    "Adam settings": lambda optim, p: optim.Adam(p, lr=0.05, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1),
    "AdamW": lambda optim, p: optim.AdamW(p, lr=0.01),
    "AdamW settings": lambda optim, p: optim.AdamW(p, lr=0.05, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1),
}


def sgd(optim, parameters):
    return optim.SGD(parameters, lr=0.1, momentum=0.9)


def adamw(optim, parameters):
    return optim.AdamW(parameters, lr=0.1)


def groups(optim, parameters):
    """Two groups, one with its own rate and decay."""
    return optim.SGD(
        [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.01, "weight_decay": 0.1}],
        lr=0.1,
        momentum=0.5,
    )


def warm_up_then_cosine(schedules, optimizer):
    warm_up = schedules.LinearLR(optimizer, start_factor=0.1, total_iters=4)
    cosine = schedules.CosineAnnealingLR(optimizer, T_max=6)
    return schedules.SequentialLR(optimizer, [warm_up, cosine], milestones=[4])


SCHEDULES = {
    "StepLR": lambda s, o: s.StepLR(o, step_size=3, gamma=0.5),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, milestones=[2, 5, 5, 7], gamma=0.3),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, T_max=6, eta_min=0.01),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, max_lr=0.5, total_steps=10),
    "OneCycleLR settings": lambda s, o: s.OneCycleLR(
        o,
        max_lr=0.5,
        epochs=2,
        steps_per_epoch=5,
        pct_start=0.4,
        div_factor=10,
        final_div_factor=100,
        base_momentum=0.8,
        max_momentum=0.9,
    ),
    "OneCycleLR linear": lambda s, o: s.OneCycleLR(o, max_lr=0.5, total_steps=10, anneal_strategy="linear"),
    "OneCycleLR fixed momentum": lambda s, o: s.OneCycleLR(o, max_lr=0.5, total_steps=10, cycle_momentum=False),
    "LinearLR": lambda s, o: s.LinearLR(o, start_factor=0.25, total_iters=5),
    "LinearLR default": lambda s, o: s.LinearLR(o),
    "SequentialLR": warm_up_then_cosine,
}

CASES = [
    *[OptimizerCase(name, build) for name, build in OPTIMIZERS.items()],
    *[OptimizerCase(f"SGD with {name}", sgd, schedule, steps=10) for name, schedule in SCHEDULES.items()],
    *[
        OptimizerCase(f"AdamW with {name}", adamw, SCHEDULES[name], steps=10)
        for name in ("OneCycleLR", "CosineAnnealingLR")
    ],
    OptimizerCase("cosine past its end", sgd, SCHEDULES["CosineAnnealingLR"], steps=15),
    OptimizerCase("groups", groups, SCHEDULES["StepLR"]),
    OptimizerCase("clipped norm", sgd, between=lambda utils, p: utils.clip_grad_norm_(p, 0.5)),
    OptimizerCase("clipped norm, too small to clip", sgd, between=lambda utils, p: utils.clip_grad_norm_(p, 1e3)),
    OptimizerCase("clipped infinite norm", sgd, between=lambda utils, p: utils.clip_grad_norm_(p, 0.1, float("inf"))),
]
