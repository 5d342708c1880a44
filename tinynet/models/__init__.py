"""Models whose source, names and state_dict keys a torchvision user knows already."""

from __future__ import annotations

from tinynet.models import feature_maps, fpn, frozen_batch_norm, pyramids, registry, resnet
from tinynet.models.feature_maps import *
from tinynet.models.fpn import *
from tinynet.models.frozen_batch_norm import *
from tinynet.models.pyramids import *
from tinynet.models.registry import *
from tinynet.models.resnet import *

__all__ = (
    resnet.__all__ + frozen_batch_norm.__all__ + feature_maps.__all__ + fpn.__all__ + pyramids.__all__
    + registry.__all__
)  # fmt: skip
