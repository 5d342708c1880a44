"""The focal loss of independent yes-or-no classifications (``torchvision.ops.sigmoid_focal_loss``)."""

from __future__ import annotations

import math

import numpy as np

from ..kernels.focal_loss import focal_loss
from ..tape import Operation
from . import checks


class SigmoidFocalLoss(Operation):
    """alpha_t · (1 - p_t)^gamma · cross entropy, per logit, or their sum or mean.

    A detector has millions of these, nearly all of them background, so forward leaves nothing but the slopes.
    Targets are constants.
    """

    name = "sigmoid_focal_loss"

    @staticmethod
    def forward(ctx, inputs, targets, *, alpha=0.25, gamma=2.0, reduction="none"):
        name = "sigmoid_focal_loss"
        checks.reduction(name, reduction)
        checks.floating(name, inputs=inputs, targets=targets)
        checks.same_shape(name, inputs, targets)
        checks.constant(name, "targets", ctx.needs_input_grad[1])
        if alpha != -1:
            alpha = checks.number(name, "alpha (or -1 for none)", alpha, 0, 1)
        losses, slopes = focal_loss(inputs, targets, alpha, checks.number(name, "gamma", gamma, 0, math.inf))
        divisor = inputs.dtype.type(inputs.size if reduction == "mean" else 1)
        ctx.save(slopes=slopes, divisor=divisor)
        return losses if reduction == "none" else np.asarray(losses.sum() / divisor)

    @staticmethod
    def backward(ctx, grad):
        return ctx.slopes * (grad / ctx.divisor), None
