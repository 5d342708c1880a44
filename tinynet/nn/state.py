"""Loading a state_dict into a module tree: first everything is compared, then everything is copied.

A failed load therefore leaves the module as it was, to the bit. Source: torch.nn.Module.load_state_dict.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import CheckpointError
from ..tensor import Tensor
from .parameter import Parameter

PLAN = "planned_copies"  # the entry of local_metadata through which modules hand in what they want copied
ASSIGN = "assign_to_params_buffers"  # torch's name


class IncompatibleKeys(namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    """What `load_state_dict(strict=False)` could not match: two lists of names."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<All keys matched successfully>" if not any(self) else super().__repr__()

    __str__ = __repr__


class PlannedCopy(NamedTuple):
    """One tensor of a checkpoint that fits its place in a module."""

    module: Any
    name: str  # of the parameter or buffer in its module
    key: str  # in the state_dict
    source: Any  # the value as it was given
    array: np.ndarray


def load(module, state_dict: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """Copies `state_dict` into `module` and its submodules, or raises CheckpointError and changes nothing."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"load_state_dict: expected a dict of names to tensors, got {type(state_dict).__name__}")
    names = OrderedDict((key, value) for key, value in state_dict.items() if isinstance(key, str))
    incompatible = IncompatibleKeys([], [key for key in state_dict if key not in names])
    problems: list[str] = []
    plan: list[PlannedCopy] = []
    _compare(module, names, "", _local_metadata(state_dict, assign, plan), incompatible, problems)
    if strict:
        problems = _strict_problems(incompatible) + problems
    if problems:
        raise CheckpointError(
            f"Error(s) in loading state_dict for {type(module).__name__} (nothing was loaded):\n\t"
            + "\n\t".join(problems)
        )
    _warn_about_non_finite(plan)
    for entry in plan:
        _assign(entry) if assign else _copy(entry)
    return incompatible


def compare_module(
    module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
) -> None:
    """Compares one module, without its children, with `state_dict`: the body of `Module._load_from_state_dict`.

    What fits joins the plan in `local_metadata`; what does not joins the three lists.
    """
    plan = local_metadata.get(PLAN)
    copy_now = plan is None  # called by hand, outside of load_state_dict
    plan = [] if copy_now else plan
    local_state = dict(module._named_state())
    for name, target in local_state.items():
        key = prefix + name
        if key not in state_dict:
            if strict:
                missing_keys.append(key)
            continue
        array, problem = _fitting_array(key, state_dict[key], target)
        if array is None:
            error_msgs.append(problem)
        else:
            plan.append(PlannedCopy(module, name, key, state_dict[key], array))
    if strict:
        unexpected_keys.extend(_unexpected(module, state_dict, prefix, local_state))
    if copy_now:
        for entry in plan:
            _copy(entry)


def _local_metadata(state_dict, assign, plan):
    """A function from a module's path to the `local_metadata` that its `_load_from_state_dict` gets."""
    saved = getattr(state_dict, "_metadata", None) or {}

    def of(path: str) -> dict[str, Any]:
        return {**saved.get(path, {}), ASSIGN: assign, PLAN: plan}

    return of


def _compare(module, state_dict, prefix, local_metadata, incompatible, problems) -> None:
    module._load_from_state_dict(
        state_dict, prefix, local_metadata(prefix[:-1]), True, *incompatible, problems
    )
    for name, child in module._modules.items():
        if child is not None:
            child_prefix = f"{prefix}{name}."
            # of its own, as in torch: a module may rename its keys for its children, not for its siblings
            child_state = OrderedDict((k, v) for k, v in state_dict.items() if k.startswith(child_prefix))
            _compare(child, child_state, child_prefix, local_metadata, incompatible, problems)


def _strict_problems(incompatible: IncompatibleKeys) -> list[str]:
    kinds = (("Missing", incompatible.missing_keys), ("Unexpected", incompatible.unexpected_keys))
    return [
        f"{kind} key(s) in state_dict: " + ", ".join(f'"{key}"' for key in keys) + "." for kind, keys in kinds if keys
    ]


def _unexpected(module, state_dict, prefix, local_state) -> Iterator[str]:
    for key in state_dict:
        first, dot, _ = key.removeprefix(prefix).partition(".")
        if key.startswith(prefix) and first not in (module._modules if dot else local_state):
            yield key


def _fitting_array(key: str, value: Any, target: Tensor) -> tuple[np.ndarray | None, str | None]:
    """The array of `value` where it fits `target`, else why it does not."""
    array = _as_array(value)
    if array is None:
        kind = type(value).__name__
        return None, f"{key}: expected a tensor or an array of numbers from the checkpoint, got {kind}."
    expected = tuple(target.shape)
    if expected == () and array.shape == (1,):
        array = array[0:1].reshape(())  # scalars of files from before torch 0.4
    if array.shape != expected:
        return None, (
            f"size mismatch for {key}: the checkpoint has shape {list(array.shape)}, "
            f"the module has shape {list(expected)}."
        )
    return array, None


def _as_array(value: Any) -> np.ndarray | None:
    """The numbers of a Tensor, an array or anything with ``__array__`` (torch's tensors too); None for the rest."""
    if isinstance(value, Tensor):
        return value._array
    if not hasattr(value, "__array__"):
        return None
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return array if array.dtype.kind in "fiub" else None


def _warn_about_non_finite(plan: list[PlannedCopy]) -> None:
    broken = [e.key for e in plan if e.array.dtype.kind == "f" and not np.isfinite(e.array).all()]
    if broken:
        shown = ", ".join(broken[:8]) + (f" and {len(broken) - 8} more" if len(broken) > 8 else "")
        warnings.warn(f"load_state_dict: NaN or infinite values in {shown}", stacklevel=4)


def _copy(entry: PlannedCopy) -> None:
    target = getattr(entry.module, entry.name)
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, as in torch
        np.copyto(target._array, entry.array, casting="unsafe")
    target._version_counter.bump()


def _assign(entry: PlannedCopy) -> None:
    target = getattr(entry.module, entry.name)
    tensor = entry.source if isinstance(entry.source, Tensor) else Tensor(np.array(entry.array))
    if tuple(tensor.shape) != tuple(target.shape):
        tensor = tensor.reshape(target.shape)
    if isinstance(target, Parameter) and not isinstance(tensor, Parameter):
        tensor = Parameter(tensor, requires_grad=target.requires_grad)
    elif isinstance(target, Parameter):
        tensor.requires_grad_(target.requires_grad)
    setattr(entry.module, entry.name, tensor)
