"""Fused inference: a model traced, its norms, additions and ReLUs done inside of the convolutions.

`fuse` (`fused.py`) is the entry. In the order of the work: `trace.py` writes down what the model does, `fold.py` has
the mathematics of batch norm and convolution, `chains.py` finds what can be one step, `steps.py` has the steps,
`memory.py` lets their results share memory, and `plan.py` runs them.
"""

from __future__ import annotations

from tinynet.fusion.fused import FusedModel, fuse
from tinynet.fusion.plan import Plan

__all__ = ["FusedModel", "Plan", "fuse"]
