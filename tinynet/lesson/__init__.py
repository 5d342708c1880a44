"""What the lessons (`lessons/*.ipynb`) call: predictions, checks of exercises, pictures, stored results."""

from __future__ import annotations

from tinynet.lesson.lesson import Lesson
from tinynet.lesson.measure import relative_error

__all__ = ["Lesson", "relative_error"]
