"""Looking into a model and at the engine itself: layers, graphs, comparisons, the gradient check of every operation."""

from __future__ import annotations

from tinynet.autograd.gradcheck import diagnose, gradcheck_module
from tinynet.inspect.compare import Comparison, compare
from tinynet.inspect.mermaid import to_mermaid
from tinynet.inspect.profile import Report, profile
from tinynet.inspect.summary import Summary, summary

__all__ = [
    "Comparison", "Report", "Summary", "compare", "diagnose", "gradcheck_module", "profile", "summary", "to_mermaid",
]  # fmt: skip
