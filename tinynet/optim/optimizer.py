"""The base of all optimizers: parameter groups, per-parameter state and their exchange format."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from ..autograd import enable_grad
from ..errors import CheckpointError, ShapeError
from ..tensor import Tensor, exposed

_BLOCK = 1 << 15  # elements; a handful of such blocks stay in the second-level cache


class Optimizer:
    """Base of the optimizers (torch.optim.Optimizer).

    Args:
        params: tensors, or dicts `{"params": tensors, "lr": ..., ...}`, one per parameter group.
        defaults: the options that a group has unless it sets its own.

    A subclass here says what happens to one parameter (`_update`) and which options are legal
    (`_check_options`); one written as in torch may override `step` instead.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, (Tensor, dict, str)):
            raise self._error(TypeError, "params must be an iterable of tensors or of dicts, "
                              f"not one {type(params).__name__}")
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._steps_taken = 0  # lr_scheduler warns when it is stepped first
        groups = list(params)
        if not groups:
            raise self._error(ValueError, "the parameter list is empty (was model.parameters() used up "
                              "before, or has the model no parameters?)")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group `{"params": tensors, option: value, ...}`; options that it leaves out are the defaults.

        Raises:
            TypeError: a parameter that is no tensor, or parameters in a set (its order changes between runs).
            ValueError: no parameters, one given twice, one that is not a leaf, or an illegal option.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, not {type(param_group).__name__}")
        params = param_group["params"]
        if isinstance(params, (set, frozenset)):
            raise TypeError("parameters in a set have no fixed order; give a list")
        params = [params] if isinstance(params, Tensor) else list(params)
        group = {**copy.copy(self.defaults), **param_group, "params": params}
        self._check_params(params)
        self._check_options(group)
        self.param_groups.append(group)

    def _check_params(self, params: list[Any]) -> None:
        where = f"group {len(self.param_groups)}"
        if not params:
            raise self._error(ValueError, f"{where} has no parameters")
        seen: dict[int, str] = {}
        for group_index, group in enumerate(self.param_groups):
            for i, parameter in enumerate(group["params"]):
                seen[id(parameter)] = f"parameter {i} of group {group_index}"
        for i, parameter in enumerate(params):
            name = f"parameter {i} of {where}"
            if not isinstance(parameter, Tensor):
                raise self._error(TypeError, f"{name} is no tensor but {type(parameter).__name__}")
            if not parameter.is_leaf:
                raise self._error(ValueError, f"{name} is not a leaf: it was computed from other "
                                  "tensors, and changing it changes none of them")
            if id(parameter) in seen:
                raise self._error(ValueError, f"{name} is also {seen[id(parameter)]} (shape "
                                  f"{tuple(parameter.shape)}); each parameter may appear once")
            seen[id(parameter)] = name

    def _check_options(self, group: dict[str, Any]) -> None:
        """Raise ValueError for an option of the group that makes no sense."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or with `set_to_none=False` fill them with zeros."""
        for parameter in chain.from_iterable(group["params"] for group in self.param_groups):
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = Tensor(np.zeros(parameter.shape, parameter._array.dtype))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update, in place, every parameter that has a gradient.

        `closure` clears the gradients, computes the loss, calls backward and returns the loss, which is
        returned here. Raises ShapeError where gradient or state do not have the shape of their parameter.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group_index, group in enumerate(self.param_groups):
            for index, parameter in enumerate(group["params"]):
                if parameter.grad is not None:
                    self._check_state(parameter, f"parameter {index} of group {group_index}")
                    self._update(exposed(parameter), exposed(parameter.grad), self.state[parameter], group)
                    parameter._version_counter.bump()
        self._steps_taken += 1
        return loss

    def _check_state(self, parameter: Tensor, name: str) -> None:
        arrays = {"grad": parameter.grad, **self.state.get(parameter, {})}
        for key, value in arrays.items():
            if key != "step" and isinstance(value, Tensor) and value.shape != parameter.shape:
                raise self._error(ShapeError, f"{name} has shape {tuple(parameter.shape)}, its {key} "
                                  f"{tuple(value.shape)}; make a new optimizer after a change of shape")
        if not parameter._array.flags.writeable:
            raise self._error(ValueError, f"{name} lies in read-only memory; clone() it first")

    def _update(self, parameter: np.ndarray, gradient: np.ndarray, state: dict[str, Any],
                group: dict[str, Any]) -> None:
        """Change `parameter` in place; `gradient` belongs to the tape and is only read."""
        raise NotImplementedError(f"{type(self).__name__} defines neither step nor _update")

    def state_dict(self) -> dict[str, Any]:
        """`{"state": {index: {...}}, "param_groups": [{..., "params": [indices]}]}`, torch's format.

        Parameters are numbered through all groups in order; the tensors are the optimizer's own, not copies.
        """
        numbers = {id(p): i for i, p in enumerate(self._all_params())}
        groups = [{**group, "params": [numbers[id(p)] for p in group["params"]]}
                  for group in self.param_groups]
        state = {numbers[id(p)]: dict(values) for p, values in self.state.items() if values}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over state and options of `state_dict`, copied and cast to each parameter's dtype.

        Raises:
            CheckpointError (a ValueError): other numbers of groups or of parameters.
            ShapeError: state of other shapes; all of them are listed. Nothing is changed then.
        """
        loaded = self._checked_groups(state_dict)
        order = chain.from_iterable(group["params"] for group in loaded)
        parameters = dict(zip(order, self._all_params()))
        stale = []
        state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for index, values in state_dict["state"].items():
            if index not in parameters:
                raise self._error(CheckpointError, f"there is state for parameter {index}, which no "
                                  f"no group has (known: {sorted(parameters)})")
            parameter = parameters[index]
            state[parameter] = {key: _like(parameter, key, value) for key, value in values.items()}
            stale += [f"{key} of parameter {index} has shape {tuple(value.shape)}, the parameter "
                      f"{tuple(parameter.shape)}" for key, value in state[parameter].items()
                      if key != "step" and isinstance(value, Tensor) and value.shape != parameter.shape]
        if stale:
            raise self._error(ShapeError, f"the state belongs to other parameters: {'; '.join(stale)}")
        self.state = state
        self.param_groups = [_merged(group, saved) for group, saved in zip(self.param_groups, loaded)]

    def _checked_groups(self, state_dict: dict[str, Any]) -> list[dict[str, Any]]:
        missing = {"state", "param_groups"} - set(state_dict)
        if missing:
            raise self._error(CheckpointError, f"the state has no {sorted(missing)}")
        loaded = state_dict["param_groups"]
        if len(loaded) != len(self.param_groups):
            raise self._error(CheckpointError, f"the state has {len(loaded)} parameter groups, "
                              f"this optimizer {len(self.param_groups)}")
        for i, (group, saved) in enumerate(zip(self.param_groups, loaded)):
            if len(group["params"]) != len(saved["params"]):
                raise self._error(CheckpointError, f"group {i} has {len(saved['params'])} parameters "
                                  f"in the state and {len(group['params'])} here")
        return loaded

    def _all_params(self) -> Iterator[Tensor]:
        return chain.from_iterable(group["params"] for group in self.param_groups)

    def _error(self, kind: type[Exception], text: str) -> Exception:
        return kind(f"{type(self).__name__}: {text}")

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}: {len(group['params'])} tensors")
            lines += [f"    {key}: {value}" for key, value in sorted(group.items()) if key != "params"]
        return "\n".join([*lines, ")"])


def _like(parameter: Tensor, key: str, value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = Tensor(value)
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    array = value.detach()._array
    return Tensor(array.copy() if key == "step" else array.astype(parameter._array.dtype))


def _merged(group: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    merged = {**group, **copy.deepcopy(saved), "params": group["params"]}
    for key, value in group.items():
        if isinstance(value, tuple):  # betas come back from JSON as a list
            merged[key] = tuple(merged[key])
    return merged


def check_option(owner: str, name: str, value: Any, below: float = math.inf) -> None:
    """Raise ValueError unless `value` is a number in [0, below)."""
    if isinstance(value, Tensor):
        raise TypeError(f"{owner}: {name} must be a Python number, not a tensor")
    if not 0 <= value < below:  # NaN fails both comparisons
        interval = "a finite number >= 0" if below == math.inf else f"in [0, {below:g})"
        raise ValueError(f"{owner}: {name} must be {interval}, got {value}")


def state_buffer(state: dict[str, Any], name: str, parameter: np.ndarray) -> np.ndarray:
    """The state array `name` of a parameter, zeros at first."""
    if name not in state:
        state[name] = Tensor(np.zeros_like(parameter, order="C"))
    return state[name]._array


def blocks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Views that walk through arrays of one shape together, so that temporaries stay small and in cache."""
    if not all(array.flags.c_contiguous for array in arrays):
        yield arrays
        return
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, _BLOCK):
        yield tuple(array[start:start + _BLOCK] for array in flat)
