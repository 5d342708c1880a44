"""From what a file holds to the names that a model has: nested state_dicts, wrappers' prefixes, older names.

Names that modules changed themselves are their own business (`_load_from_state_dict`, as in torch): the pyramid's
`inner_blocks.0.weight`, RetinaNet's `conv.2.weight`, batch norms with and without `num_batches_tracked`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from tinynet import Tensor
from tinynet.checkpoint.torch_files.records import brief
from tinynet.errors import CheckpointError

NESTING = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "model.", "_orig_mod.")  # DataParallel, Lightning, torch.compile


def find_state_dict(value: Any) -> tuple[Mapping[str, Any], list[str]]:
    """The model's tensors by name in what a file holds, and the names of what lies beside them.

    Looks below "state_dict", "model_state_dict" and "model", and takes the model's part of a file that
    `tinynet train` wrote. Raises CheckpointError where no tensors are found.
    """
    found, beside = value, []
    while isinstance(found, Mapping) and (key := next((k for k in NESTING if isinstance(found.get(k), Mapping)), None)):
        beside += [str(other) for other in found if other != key]
        found = found[key]
    if not isinstance(found, Mapping) or not any(isinstance(entry, (Tensor, np.ndarray)) for entry in found.values()):
        raise CheckpointError(
            f"expected tensors by name, or a state_dict below {', '.join(map(repr, NESTING))}; found {_contents(value)}"
        )
    names = [name for name in found if isinstance(name, str)]
    if any(name.startswith("optimizer.") for name in names) and any(name.startswith("model.") for name in names):
        beside += [str(name) for name in found if name not in names or not name.startswith("model.")]
        found = _without_prefix(found, "model.")
    return found, beside


def match_names(state: Mapping[str, Any], wanted: Collection[str]) -> Mapping[str, Any]:
    """`state` under the names `wanted` by a model, as far as they differ by a wrapper's prefix; the rest stays."""
    while prefix := _wrapper(state, wanted):
        state = _without_prefix(state, prefix)
    return state


def _contents(value: Any) -> str:
    if not isinstance(value, Mapping):
        return f"a {type(value).__name__}"
    shown = ", ".join(f"{brief(key)}: {type(entry).__name__}" for key, entry in list(value.items())[:8])
    return f"{{{shown}{', ...' if len(value) > 8 else ''}}}"


def _wrapper(state: Mapping[str, Any], wanted: Collection[str]) -> str | None:
    """A prefix that every name of the file has and none of the model."""
    for prefix in PREFIXES:
        everywhere = state and all(isinstance(name, str) and name.startswith(prefix) for name in state)
        if everywhere and not any(name.startswith(prefix) for name in wanted):
            return prefix
    return None


def _without_prefix(state: Mapping[str, Any], prefix: str) -> Mapping[str, Any]:
    """The entries below `prefix`, and what `_metadata` says of their modules."""
    below = OrderedDict((name[len(prefix) :], value) for name, value in state.items() if name.startswith(prefix))
    versions = getattr(state, "_metadata", None)
    if isinstance(versions, Mapping):
        paths = {f"{path}.": version for path, version in versions.items() if isinstance(path, str)}
        versions = {path[len(prefix) : -1]: version for path, version in paths.items() if path.startswith(prefix)}
    return _keep_versions(below, versions)


def _keep_versions(state: OrderedDict[str, Any], versions: Any) -> Mapping[str, Any]:
    if isinstance(versions, Mapping):
        state._metadata = versions  # type: ignore[attr-defined]  # where torch keeps each module's layout version
    return state
