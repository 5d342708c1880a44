"""Measured comparisons: how fast a model runs here, how much memory it takes, and beside which other engine."""

from __future__ import annotations

from tinynet.bench.alternate import Comparison, compare
from tinynet.bench.warmup import WarmUp, warmup
from tinynet.bench.works import Side, Work

__all__ = ["Comparison", "Side", "WarmUp", "Work", "compare", "warmup"]
