"""The models by name (torchvision.models.get_model, list_models)."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

from tinynet import nn
from tinynet.models import resnet
from tinynet.models.feature_maps import FeatureMaps

__all__ = ["get_model", "list_models"]

RESIDUAL = {
    name: getattr(resnet, name) for name in resnet.__all__ if name[0].islower() and not name.startswith("plain")
}
MODELS: dict[str, Callable[..., Any]] = {
    **RESIDUAL,
    **{f"plain_{name}": partial(build, shortcut="none") for name, build in RESIDUAL.items()},
}


def list_models() -> list[str]:
    """The names that `get_model` takes, sorted; each plain net is the residual net without its shortcuts."""
    return sorted(MODELS)


def get_model(name: str, *, features_only: bool = False, **options: Any) -> nn.Module:
    """Builds a model by name: ``get_model("resnet50", weights=None, num_classes=10)``.

    Args:
        name: one of `list_models()`.
        features_only: give the maps C2 to C5 instead of logits (`FeatureMaps`).
        options: those of the model's function, such as `weights`, `num_classes` and `norm_layer`.

    Raises:
        ValueError: an unknown name.
    """
    if name not in MODELS:
        close = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"did you mean {close[0]}?" if close else "tinynet.models.list_models() has them all"
        raise ValueError(f"Unknown model {name}: {hint}")
    model = MODELS[name](**options)
    return FeatureMaps(model) if features_only else model
