"""torch.autograd.backward over Tensors: what to differentiate is checked, leaves get their ``.grad``."""

from __future__ import annotations

import numpy as np

from ..errors import GraphError, ShapeError
from ..kernels.addition import add, add_into
from ..tape import backward as run_backward
from ..tape import check_current, edge_of
from .variable import Variable, as_array, derived


def root_gradients(tensors, gradients):
    """``(node, output index, gradient array)`` of each tensor to differentiate, checked and explained."""
    roots = []
    for tensor, gradient in zip(tensors, gradients):
        if not tensor._requires_grad:
            raise GraphError(
                "backward: this tensor does not require grad and has no grad_fn; nothing it was made from "
                "requires grad, or it was made under no_grad()"
            )
        check_current(tensor, "backward")
        if gradient is None:
            if tensor._array.size != 1:
                raise GraphError(
                    f"backward: grad can be implicitly created only for scalar outputs, this one has shape "
                    f"{list(tensor.shape)}; pass a gradient of that shape"
                )
            gradient = np.ones(tensor._array.shape, tensor._array.dtype)
        else:
            gradient = gradient._array if isinstance(gradient, Variable) else as_array(gradient)
            if gradient.shape != tensor._array.shape:
                raise ShapeError(
                    f"backward: the gradient has shape {list(gradient.shape)}, the tensor {list(tensor.shape)}"
                )
            gradient = gradient.astype(tensor._array.dtype, copy=False)
        node, index = edge_of(tensor)
        roots.append((node, index, gradient))
    return roots


def refuse_create_graph(create_graph: bool) -> None:
    if create_graph:
        raise NotImplementedError("create_graph=True: tinynet's gradients are arrays, not recorded themselves")


@np.errstate(all="ignore")
def backward_from(tensors, gradients, retain_graph=False, create_graph=False, inputs=None) -> None:
    """torch.autograd.backward over tuples of tensors and gradients."""
    refuse_create_graph(create_graph)
    roots = root_gradients(tensors, gradients)
    wanted = None if inputs is None else {edge_of(tensor)[0] for tensor in inputs}
    leaves, _ = run_backward(roots, retain_graph)
    for leaf, array, owned in leaves:
        tensor = leaf.tensor()
        if tensor is None or (wanted is not None and leaf not in wanted):
            continue
        present = tensor._grad
        if present is None:
            if not owned or not tensor.is_contiguous():
                given, array = array, np.empty_like(tensor._array)  # in the leaf's order, as in torch
                array[...] = given
            tensor._grad = derived(array, tensor)
        elif present._array.flags.writeable:
            add_into(present._array, array)
            present._version_counter.bump()
        else:
            tensor._grad = derived(add(present._array, array), tensor)
