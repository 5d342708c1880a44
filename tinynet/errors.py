"""The errors that users meet. Each can be caught by Python's name or by the one torch would raise."""

from __future__ import annotations


class TinynetError(Exception):
    """Base of every error that tinynet defines."""


class ShapeError(TinynetError, ValueError, RuntimeError):
    """Shapes or sizes that do not fit each other; the message holds the formula and the user's numbers."""


class DtypeError(TinynetError, TypeError, RuntimeError):
    """A dtype that the operation does not take."""


class LabelError(TinynetError, ValueError, IndexError):
    """A class label outside of the classes; the message names the row."""


class GraphError(TinynetError, RuntimeError):
    """The tape cannot do what was asked: no graph, a freed one, or a value changed behind its back."""


class CheckpointError(TinynetError, RuntimeError, ValueError):
    """A file that is not a usable checkpoint; nothing was loaded from it."""


class DataError(TinynetError, RuntimeError, ValueError):
    """Data that cannot be read or does not pass its checksum; the message holds the path."""
