"""Submissions to assignments, run where they can do no harm and scored with reasons.

Hidden tests import three functions from here; `tinynet grade` is the rest.
"""

from __future__ import annotations

from tinynet.grading.compare import Mismatch, compare, fresh_generator
from tinynet.grading.own_work import require_own_work

__all__ = ["Mismatch", "compare", "fresh_generator", "require_own_work"]
