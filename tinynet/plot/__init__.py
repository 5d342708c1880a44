"""Pictures of training runs and models; every function returns a matplotlib Figure, `save` writes one as PNG."""

from __future__ import annotations

from tinynet.plot.classify import classification
from tinynet.plot.curves import curves
from tinynet.plot.detections import detections, draw_boxes, precision_recall, size_comparison
from tinynet.plot.features import features
from tinynet.plot.graph import draw, graph
from tinynet.plot.mistakes import mistakes
from tinynet.plot.style import save

__all__ = [
    "classification",
    "curves",
    "detections",
    "draw",
    "draw_boxes",
    "features",
    "graph",
    "mistakes",
    "precision_recall",
    "save",
    "size_comparison",
]
