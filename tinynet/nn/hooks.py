"""Hooks on modules: the slow path of `Module.__call__`, and the boundaries that catch a module's gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..tape import Operation, is_grad_enabled
from ..tensor import RemovableHandle, Tensor, apply, exposed, seen_gradient, share_version


class Hook(NamedTuple):
    """A registered hook. Each registration is an object of its own, so the same function may be added twice."""

    function: Callable[..., Any]
    with_kwargs: bool = False


def register(hooks: list[Hook], function: Callable[..., Any], prepend: bool, with_kwargs: bool = False):
    """Adds a hook to a module's list; the handle takes it out again."""
    if not callable(function):
        raise TypeError(f"a hook must be callable, got {type(function).__name__}")
    hook = Hook(function, with_kwargs)
    hooks.insert(0 if prepend else len(hooks), hook)
    return RemovableHandle(hooks, hook)


def call(module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``module.forward`` between the hooks, in torch's order."""
    for hook in list(module._forward_pre_hooks):
        args, kwargs = _before(hook, module, args, kwargs)
    passage = _Passage(module) if module._backward_hooks and is_grad_enabled() else None
    if passage is not None:
        args = passage.enter(args)
    output = module.forward(*args, **kwargs)
    for hook in list(module._forward_hooks):
        seen = (args, kwargs, output) if hook.with_kwargs else (args, output)
        replaced = hook.function(module, *seen)
        output = output if replaced is None else replaced
    return output if passage is None else passage.leave(output)


def _before(hook: Hook, module, args, kwargs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not hook.with_kwargs:
        replaced = hook.function(module, args)
        if replaced is None:
            return args, kwargs
        return (replaced if isinstance(replaced, tuple) else (replaced,)), kwargs
    replaced = hook.function(module, args, kwargs)
    if replaced is None:
        return args, kwargs
    if not isinstance(replaced, tuple) or len(replaced) != 2:
        raise RuntimeError(
            f"a forward pre-hook with_kwargs must return None or a tuple (args, kwargs), got {replaced!r}"
        )
    return replaced


class _Boundary(Operation):
    """Passes values on unchanged, and hands all their gradients at once to ``cross``, which may replace them."""

    name = "module_boundary"

    @staticmethod
    def forward(ctx, *arrays, cross):
        ctx.save(cross=cross)
        return tuple(array.view() for array in arrays)

    @staticmethod
    def backward(ctx, *grads):
        return ctx.cross(grads)


class _Passage:
    """One call of a module with backward hooks, between a boundary around its inputs and one around its outputs.

    A boundary of its own, because a tensor's gradient also holds what other uses of it contribute. The outputs'
    gradients come first; the hooks run when the inputs' are there too, or at once if no input requires grad.
    """

    def __init__(self, module) -> None:
        self.module = module
        self.hooks = list(module._backward_hooks)
        self.inputs = self.outputs = 0  # how many there are
        self.input_places: list[int] = []  # which of them require grad
        self.output_places: list[int] = []
        self.grad_output: tuple[Tensor | None, ...] | None = None

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.inputs = len(args)
        self.input_places, args = _bounded(args, self._inputs_crossed)
        return args

    def leave(self, output: Any) -> Any:
        outputs = output if isinstance(output, tuple) else (output,)
        self.outputs = len(outputs)
        self.output_places, bounded = _bounded(outputs, self._outputs_crossed)
        return bounded if isinstance(output, tuple) else bounded[0]

    def _outputs_crossed(self, grads):
        self.grad_output = _spread(grads, self.output_places, self.outputs)
        if not self.input_places:
            self._run((None,) * self.inputs)
        return grads

    def _inputs_crossed(self, grads):
        if self.grad_output is None:
            return grads  # the inputs got gradients that did not come through the outputs
        grad_input = self._run(_spread(grads, self.input_places, self.inputs))
        self.grad_output = None
        replaced = [grad_input[place] for place in self.input_places]
        return tuple([None if grad is None else grad._array for grad in replaced])

    def _run(self, grad_input: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        for hook in self.hooks:
            replaced = hook.function(self.module, grad_input, self.grad_output)
            if replaced is None:
                continue
            replaced = replaced if isinstance(replaced, tuple) else (replaced,)
            if len(replaced) != len(grad_input):
                raise RuntimeError(
                    f"a backward hook of {type(self.module).__name__} returned {len(replaced)} gradients "
                    f"for {len(grad_input)} inputs"
                )
            grad_input = replaced
        return grad_input


def _bounded(values: tuple[Any, ...], cross) -> tuple[list[int], tuple[Any, ...]]:
    """`values` with those that require grad led through one boundary, and the places of those."""
    places = [i for i, value in enumerate(values) if isinstance(value, Tensor) and value.requires_grad]
    if not places:
        return places, values
    for place in places:
        exposed(values[place])  # the boundary shares its memory
    passed = apply(_Boundary, *[values[place] for place in places], cross=cross)
    bounded = list(values)
    for place, tensor in zip(places, passed):
        share_version(tensor, values[place])
        bounded[place] = tensor
    return places, tuple(bounded)


def _spread(grads, places: list[int], count: int) -> tuple[Tensor | None, ...]:
    spread: list[Tensor | None] = [None] * count
    for place, grad in zip(places, grads):
        spread[place] = seen_gradient(grad)
    return tuple(spread)
