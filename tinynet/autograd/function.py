"""torch.autograd.Function: an operation of the user's own, written over Tensors."""

from __future__ import annotations

import weakref

import numpy as np

from ..errors import GraphError
from ..tape import DISCARD, Operation, no_grad
from ..tensor import Tensor, apply, exposed, seen_gradient


class FunctionCtx:
    """What forward leaves for backward."""

    def __init__(self, node):
        self._node = None if node is None else weakref.ref(node)  # weak: the node holds this ctx
        self._saved: tuple[Tensor | None, ...] = ()
        self._not_differentiable: tuple[Tensor, ...] = ()
        self.needs_input_grad: tuple[bool, ...] = ()
        self.materialize_grads = True

    def save_for_backward(self, *tensors) -> None:
        """Keeps tensors (or None); they are checked for in-place changes."""
        for tensor in tensors:
            if tensor is not None and not isinstance(tensor, Tensor):
                raise TypeError(f"save_for_backward takes Tensors, got {type(tensor).__name__}; use ctx.name = value")
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple:
        """The tensors that ``save_for_backward`` kept."""
        node = None if self._node is None else self._node()
        if node is not None and node.freed:
            raise GraphError("saved_tensors: the graph was freed by an earlier backward pass")
        return self._saved

    def mark_non_differentiable(self, *tensors) -> None:
        """These outputs carry no gradient."""
        self._not_differentiable = tensors

    def mark_dirty(self, *tensors) -> None:
        """Refused: a Function that changes its inputs has no place on this tape."""
        raise NotImplementedError("mark_dirty: an autograd.Function of tinynet cannot change its inputs in place")

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros (True) or None for an output without a gradient."""
        self.materialize_grads = bool(value)


class Function:
    """Subclass with static ``forward(ctx, *args)`` and ``backward(ctx, *grads)``; call ``YourFunction.apply(...)``.

    ``forward`` runs unrecorded. With a static ``setup_context(ctx, inputs, output)`` forward takes no ctx.
    backward returns one gradient per argument of forward, None for arguments that take none.
    """

    @staticmethod
    def forward(*args, **kwargs):
        raise NotImplementedError("an autograd.Function needs a static forward")

    @staticmethod
    def backward(ctx, *grads):
        raise NotImplementedError("an autograd.Function needs a static backward")

    setup_context = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls._operation = type(cls.__name__, (_FunctionOperation,), {"name": cls.__name__})

    _operation: type[_FunctionOperation]

    @classmethod
    def apply(cls, *args):
        """Runs forward and puts it on the tape."""
        call = _Call(cls, args)
        if not call.positions:
            return _run_forward(cls, FunctionCtx(None), args)
        return call.run()


class _Call:
    """One call of a Function: which arguments are Tensors, and what kind of outputs came back."""

    def __init__(self, function: type[Function], args: tuple):
        self.function = function
        self.args = args
        self.count = len(args)
        self.positions = [index for index, value in enumerate(args) if isinstance(value, Tensor)]
        self.several = False
        self.constants: list[int] = []

    def run(self):
        """Records the call; one output or a tuple comes back as forward returned it."""
        outputs = apply(self.function._operation, *[self.args[index] for index in self.positions], call=self)
        self.args = ()
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        for index in self.constants:
            outputs[index].detach_()
        return outputs if self.several else outputs[0]

    def needs_input_grad(self, needs: tuple[bool, ...]) -> tuple[bool, ...]:
        flags = dict(zip(self.positions, needs))
        return tuple(flags.get(index, False) for index in range(self.count))


class _FunctionOperation(Operation):
    """The Operation behind a Function. ``save`` names the saved Tensors' arrays, so that the tape watches them."""

    @staticmethod
    def forward(node, *arrays, call):
        recorded = node if node is not DISCARD else None
        ctx = FunctionCtx(recorded)
        ctx.needs_input_grad = call.needs_input_grad(node.needs_input_grad)
        outputs = _run_forward(call.function, ctx, call.args)
        call.several = isinstance(outputs, tuple)
        outputs = outputs if call.several else (outputs,)
        for output in outputs:
            if not isinstance(output, Tensor):
                raise TypeError(f"{call.function.__name__}: forward must return Tensors, got {type(output).__name__}")
        constants = {id(tensor) for tensor in ctx._not_differentiable}
        call.constants = [index for index, output in enumerate(outputs) if id(output) in constants]
        results = [exposed(output) for output in outputs]  # forward may have kept what it returns
        given = [call.args[index]._array for index in call.positions]
        saved = {f"saved_tensors[{i}]": t._array for i, t in enumerate(ctx._saved) if t is not None}
        node.save(ctx=ctx, call=call, **saved)
        if recorded is not None:
            recorded.materialize_grads = ctx.materialize_grads
        # an input returned as it is gets an array object of its own, so the tape can tell them apart
        return tuple(
            result.view() if any(result is array for array in given) else result for result in results
        )

    @staticmethod
    def backward(node, *grads):
        call, name = node.call, node.name
        with no_grad():
            seen = [None if grad is None else seen_gradient(grad) for grad in grads]
            results = call.function.backward(node.ctx, *seen)
        results = results if isinstance(results, tuple) else (results,)
        if len(results) < call.count or any(extra is not None for extra in results[call.count :]):
            raise GraphError(
                f"{name}: backward returned {len(results)} gradients for {call.count} arguments of forward"
            )
        return tuple(_gradient_array(name, results[index]) for index in call.positions)


def _run_forward(function, ctx, args):
    with no_grad():
        if function.setup_context is None:
            return function.forward(ctx, *args)
        output = function.forward(*args)
        function.setup_context(ctx, args, output)
        return output


def _gradient_array(name: str, gradient) -> np.ndarray | None:
    if gradient is None:
        return None
    if not isinstance(gradient, Tensor):
        raise TypeError(f"{name}: backward must return Tensors or None, got {type(gradient).__name__}")
    return gradient._array.view()  # a view, so that the tape never takes the user's array for its own
