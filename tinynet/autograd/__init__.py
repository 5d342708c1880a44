"""torch.autograd: gradients by hand (`grad`), own operations (`Function`), and their checking (`gradcheck`)."""

from __future__ import annotations

from ..errors import GraphError
from ..tape import backward as run_backward
from ..tape import edge_of, enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from ..tensor import Tensor, backward_from, refuse_create_graph, root_gradients, wrap
from .anomaly_mode import detect_anomaly, set_detect_anomaly
from .function import Function, FunctionCtx
from .gradcheck import gradcheck


def _as_tuple(value) -> tuple:
    return (value,) if isinstance(value, Tensor) or value is None else tuple(value)


def backward(tensors, grad_tensors=None, retain_graph: bool = False, create_graph: bool = False, inputs=None):
    """Adds the gradients of several tensors at once to the leaves' ``.grad``."""
    tensors = _as_tuple(tensors)
    gradients = (None,) * len(tensors) if grad_tensors is None else _as_tuple(grad_tensors)
    backward_from(tensors, gradients, retain_graph, create_graph, None if inputs is None else _as_tuple(inputs))


def grad(
    outputs,
    inputs,
    grad_outputs=None,
    retain_graph: bool = False,
    create_graph: bool = False,
    allow_unused: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of ``outputs`` with respect to ``inputs``; nobody's ``.grad`` changes.

    Raises GraphError if an input does not require grad, or was not used and ``allow_unused`` is off.
    """
    refuse_create_graph(create_graph)
    outputs, inputs = _as_tuple(outputs), _as_tuple(inputs)
    gradients = (None,) * len(outputs) if grad_outputs is None else _as_tuple(grad_outputs)
    for position, tensor in enumerate(inputs):
        if not tensor.requires_grad:
            raise GraphError(f"grad: input {position} of shape {list(tensor.shape)} does not require grad")
    targets = [edge_of(tensor) for tensor in inputs]
    _, captured = run_backward(root_gradients(outputs, gradients), retain_graph, targets)
    found = []
    for position, (tensor, target) in enumerate(zip(inputs, targets)):
        array = captured.get(target)
        if array is None and not (allow_unused or materialize_grads):
            raise GraphError(
                f"grad: input {position} of shape {list(tensor.shape)} was not used in the graph; set "
                "allow_unused=True to get None for it"
            )
        if array is None:
            found.append(tensor.new_zeros(tensor.shape) if materialize_grads else None)
        else:
            found.append(wrap(array))
    return tuple(found)


__all__ = [
    "Function",
    "FunctionCtx",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "gradcheck",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]
