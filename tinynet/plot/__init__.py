"""Pictures of training runs and models; every function returns a matplotlib Figure, `save` writes one as PNG."""

from __future__ import annotations

from tinynet.plot.assignment import assignment
from tinynet.plot.charts import bars, images, lines
from tinynet.plot.classify import classification
from tinynet.plot.curves import curves, detection_curves
from tinynet.plot.descent import descent
from tinynet.plot.detections import detections, draw_boxes, precision_recall, size_comparison
from tinynet.plot.features import features
from tinynet.plot.gradient_check import agreement, step_sizes
from tinynet.plot.graph import diagram, draw, graph
from tinynet.plot.mistakes import mistakes
from tinynet.plot.pathways import pathways
from tinynet.plot.roofline import roofline
from tinynet.plot.stacks import stacks
from tinynet.plot.style import save
from tinynet.plot.votes import votes
from tinynet.plot.windows import receptive_field, windows

__all__ = [
    "agreement",
    "assignment",
    "bars",
    "classification",
    "curves",
    "descent",
    "detection_curves",
    "detections",
    "diagram",
    "draw",
    "draw_boxes",
    "features",
    "graph",
    "images",
    "lines",
    "mistakes",
    "pathways",
    "precision_recall",
    "receptive_field",
    "roofline",
    "save",
    "size_comparison",
    "stacks",
    "step_sizes",
    "votes",
    "windows",
]
