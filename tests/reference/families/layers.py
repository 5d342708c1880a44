"""Modules of nn: three training steps with running statistics, then evaluation mode."""

from __future__ import annotations

from tests.reference.cases import Case, ModuleCase, boolean, integers, normal, uniform

IMAGE = normal(4, 3, 7, 6)


def convolutional(nn):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


MODULES = {
    "Conv2d": (lambda nn: nn.Conv2d(3, 4, (3, 2), stride=2, padding=(1, 0)), (IMAGE,)),
    "Conv2d groups": (lambda nn: nn.Conv2d(4, 6, 3, groups=2, dilation=2, bias=False), (normal(2, 4, 7, 6),)),
    "Conv2d same": (lambda nn: nn.Conv2d(3, 4, 4, padding="same"), (IMAGE,)),
    "ConvTranspose2d": (
        lambda nn: nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1),
        (IMAGE,),
    ),
    "Linear": (lambda nn: nn.Linear(4, 3), (normal(5, 4),)),
    "Linear without bias": (lambda nn: nn.Linear(4, 3, bias=False), (normal(2, 5, 4),)),
    "BatchNorm2d": (lambda nn: nn.BatchNorm2d(3), (IMAGE,)),
    "BatchNorm2d momentum": (lambda nn: nn.BatchNorm2d(3, eps=1e-3, momentum=0.3), (IMAGE,)),
    "BatchNorm2d cumulative": (lambda nn: nn.BatchNorm2d(3, momentum=None), (IMAGE,)),
    "BatchNorm2d not affine": (lambda nn: nn.BatchNorm2d(3, affine=False), (IMAGE,)),
    "BatchNorm2d without statistics": (lambda nn: nn.BatchNorm2d(3, track_running_stats=False), (IMAGE,)),
    "BatchNorm1d": (lambda nn: nn.BatchNorm1d(4), (normal(5, 4),)),
    "BatchNorm1d sequence": (lambda nn: nn.BatchNorm1d(4), (normal(3, 4, 6),)),
    "GroupNorm": (lambda nn: nn.GroupNorm(2, 4), (normal(3, 4, 5, 2),)),
    "ReLU": (lambda nn: nn.ReLU(), (IMAGE,)),
    "ReLU6": (lambda nn: nn.ReLU6(), (IMAGE,)),
    "Sigmoid": (lambda nn: nn.Sigmoid(), (IMAGE,)),
    "Hardtanh": (lambda nn: nn.Hardtanh(-0.5, 0.7), (IMAGE,)),
    "Identity": (lambda nn: nn.Sequential(nn.Identity(), nn.ReLU()), (IMAGE,)),
    "Dropout of nothing": (lambda nn: nn.Dropout(0.0), (IMAGE,)),
    "Flatten": (lambda nn: nn.Flatten(2), (IMAGE,)),
    "MaxPool2d": (lambda nn: nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True), (IMAGE,)),
    "AvgPool2d": (lambda nn: nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), (IMAGE,)),
    "AdaptiveAvgPool2d": (lambda nn: nn.AdaptiveAvgPool2d((3, 2)), (IMAGE,)),
    "Upsample": (lambda nn: nn.Upsample(scale_factor=2), (IMAGE,)),
    "Upsample bilinear": (lambda nn: nn.Upsample(size=(9, 11), mode="bilinear"), (IMAGE,)),
    "CrossEntropyLoss": (
        lambda nn: nn.CrossEntropyLoss(label_smoothing=0.1),
        (normal(6, 5), integers(0, 5, 6)),
    ),
    "NLLLoss": (lambda nn: nn.NLLLoss(), (normal(6, 5), integers(0, 5, 6))),
    "BCEWithLogitsLoss": (lambda nn: nn.BCEWithLogitsLoss(), (normal(6, 5), uniform(0, 1, 6, 5).constant())),
    "MSELoss": (lambda nn: nn.MSELoss(), (normal(6, 5), normal(6, 5))),
    "L1Loss": (lambda nn: nn.L1Loss(reduction="sum"), (normal(6, 5), normal(6, 5))),
    "SmoothL1Loss": (lambda nn: nn.SmoothL1Loss(beta=0.5), (normal(6, 5), normal(6, 5))),
    "Sequential": (convolutional, (IMAGE,)),
}


def dropout_scales(lib, F, x, b):
    """What dropout keeps it divides by 1 - p: only this much of a random layer can be compared."""
    y = F.dropout(lib.ones(64, 64), 0.25)
    kept = y[y != 0]
    return (kept.max() * 0.75, kept.min() * 0.75, (kept.numel() > 2600) & (kept.numel() < 3500))


CASES = [
    *[ModuleCase(name, build, inputs, steps=3) for name, (build, inputs) in MODULES.items()],
    Case("dropout scales", dropout_scales, (normal(1), boolean(1))),
]
