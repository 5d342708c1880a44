"""Loading a checkpoint into a model: all of it, or nothing and every reason why not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tinynet import Tensor, nn
from tinynet.checkpoint.keys import find_state_dict, match_names
from tinynet.checkpoint.published import find_weights
from tinynet.checkpoint.store import load
from tinynet.errors import CheckpointError

LAST_LAYERS = ("fc", "cls_logits")  # one output for each class, times the anchors in detectors


def load_weights(model: nn.Module, source: str | os.PathLike[str], architecture: str | None = None) -> None:
    """Loads a checkpoint of tinynet or torch, or published weights by name, into `model`.

    Takes state_dicts as they are, nested ones (below "state_dict", "model_state_dict", "model"), and those of
    wrapped models ("module." before every name); older names of pyramids and heads are understood. Values are
    cast to the model's dtypes.

    Args:
        source: a path, or a name such as "IMAGENET1K_V2", "COCO_V1" or "DEFAULT"; such files are looked for in
            `$TINYNET_DATA/weights` and in the user's cache, and else downloaded to it, with a progress bar, and
            always checked against the hash in their name.
        architecture: whose weights the name means, such as "resnet50".

    Raises:
        CheckpointError: not a checkpoint, damaged, or for another model: every missing, unexpected and wrongly
            shaped tensor is listed. The model is as it was, to the bit.
        DataError: a download failed; it says where to put the file by hand.
    """
    path = find_weights(source, architecture)
    own = model.state_dict()
    state = match_names(read_state_dict(path)[0], own)
    try:
        model.load_state_dict(state)
    except CheckpointError as error:
        advice = _other_classes(state, own)
        raise CheckpointError(f"{path} does not fit this {type(model).__name__}: {error}{advice}") from error


def read_state_dict(path: str | os.PathLike[str]) -> tuple[Mapping[str, Any], list[str]]:
    """The model's tensors in a checkpoint, and the names of what lies beside them. Raises CheckpointError."""
    found = load(path)
    try:
        return find_state_dict(found)
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {os.fspath(path)}: {error}") from None


def _other_classes(state: Mapping[str, Any], own: Mapping[str, Tensor]) -> str:
    """Advice where the last layer has another number of outputs than the file's."""
    for name, target in own.items():
        *_, layer, kind = ["", *name.split(".")]
        source = state.get(name)
        if layer not in LAST_LAYERS or kind != "weight" or not isinstance(source, Tensor):
            continue
        if source.shape[1:] == target.shape[1:] and source.shape[0] != target.shape[0]:
            path = name.removesuffix(".weight")
            return (
                f"\n\tThe file's {path} has {source.shape[0]} outputs, the model's {target.shape[0]}: they are for "
                f"different classes. Build the model with the file's number of classes, load, and then replace {path}; "
                f"or drop {path}.* from tinynet.load(...) and use model.load_state_dict(state, strict=False)."
            )
    return ""
