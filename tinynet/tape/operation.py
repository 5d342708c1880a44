"""What an operation is: a forward and a backward function over NumPy arrays, side by side."""

from __future__ import annotations

from typing import Any


class Operation:
    """A differentiable operation.

    ``forward(ctx, *arrays, **settings)`` returns an array or a tuple of arrays. Positional arguments are the
    inputs that may carry a gradient (a missing bias is None), keywords are plain settings.
    ``backward(ctx, *grads)`` gets one gradient per output and returns one per positional input, None where
    there is none. It returns fresh arrays, the incoming gradient itself, or views of it, and changes none.

    What backward needs is named in forward, ``ctx.save(input=x, stride=stride)``, and read back as
    ``ctx.input``, ``ctx.stride``. Nothing else lives until backward.
    """

    name = "operation"  # torch's name of the function, for messages
    view = False  # whether the output may share memory with the first input; if not, it must be all its own

    @staticmethod
    def forward(ctx, *arrays, **settings) -> Any:
        raise NotImplementedError

    @staticmethod
    def backward(ctx, *grads) -> Any:
        raise NotImplementedError


class Discard:
    """The ctx of a forward pass that nobody will differentiate: what is saved is dropped at once."""

    __slots__ = ()
    needs_input_grad: tuple[bool, ...] = (False,) * 16

    def save(self, **values) -> None:
        pass


DISCARD = Discard()
