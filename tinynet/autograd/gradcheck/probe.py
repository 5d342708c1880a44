"""The function under test as plain arrays: its values as one flat vector, its gradients for a flat cotangent."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence

import numpy as np

from tinynet.tape import backward, edge_of, enable_grad, no_grad
from tinynet.tensor import Tensor, root_gradients

from .inputs import array_of, broadcast_axes, first_index, plain_index


class Problem(Exception):
    """Something about the function that makes a comparison of gradients pointless; the text says what."""


class Probe:
    """``func`` at the given inputs, whose own memory is moved element by element (so closures over them work).

    Raises Problem if the function does not return finite float64 tensors that require grad, changes its
    inputs, or does not give the same result twice. ``restore`` is called after every evaluation; it puts
    back what a call may leave behind on purpose (a module's running statistics).
    """

    def __init__(self, func: Callable, inputs: Sequence, checked: Sequence[int], names: Sequence[str],
                 nondet_tol: float = 0.0, restore: Callable[[], None] | None = None):
        self._func = func
        self._inputs = inputs
        self._restore = restore
        self._nondet_tol = nondet_tol
        self.names = [names[position] for position in checked]
        self.tensors = [inputs[position] for position in checked]
        self.arrays = [array_of(tensor) for tensor in self.tensors]
        self._constants = [
            (names[position], array_of(item)) for position, item in enumerate(inputs) if isinstance(item, Tensor)
        ]
        self._before = [array.copy() for _, array in self._constants]
        self._chosen: list[int] = []  # which outputs are compared
        self._first_values()
        self._outputs = self._recorded_outputs()
        self.outputs = [array_of(output).copy() for output in self._outputs]
        self.base = self.values()
        self.notes: list[str] = self._unchecked_outputs()

    # values

    def _call(self) -> list[Tensor]:
        result = self._func(*self._inputs)
        if self._restore is not None:
            self._restore()
        outputs = list(result) if isinstance(result, (tuple, list)) else [result]
        for position, output in enumerate(outputs):
            if not isinstance(output, Tensor):
                which = f"output {position} is" if isinstance(result, (tuple, list)) else "the function returned"
                raise Problem(f"{which} a {type(output).__name__}, not a tensor: nothing can flow back from it")
        if not outputs:
            raise Problem("the function returned an empty tuple, not a tensor")
        return outputs

    def _arrays(self) -> list[np.ndarray]:
        with no_grad():
            return [array_of(output) for output in self._call()]

    def values(self) -> np.ndarray:
        """The compared outputs at the present inputs, flat and copied."""
        arrays = self._arrays()
        return np.concatenate([arrays[position].ravel() for position in self._chosen])

    def _first_values(self) -> None:
        """Two plain runs, before anything is recorded: do they leave the inputs alone and agree?"""
        first = [array.copy() for array in self._arrays()]
        self.check_inputs_unchanged("the function")
        second = self._arrays()
        self.check_inputs_unchanged("the function")
        self._check_same(first, second)
        self._first = first

    def _recorded_outputs(self) -> list[Tensor]:
        with enable_grad():
            outputs = self._call()
        self.check_inputs_unchanged("the function")
        self._check_same(self._first, [array_of(output) for output in outputs], " once it is recorded")
        self._chosen = [position for position, output in enumerate(outputs) if output.requires_grad]
        for position in self._chosen:
            _check_output(array_of(outputs[position]), position, len(outputs))
        if not self._chosen:
            self._check_detached()
        return [outputs[position] for position in self._chosen]

    def _check_same(self, first, second, when: str = "") -> None:
        """Raises Problem unless two runs at the same point agree (within ``nondet_tol``)."""
        for position, (a, b) in enumerate(zip(first, second)):
            if a.shape != b.shape or not np.allclose(a, b, rtol=0, atol=self._nondet_tol, equal_nan=True):
                detail = f"shapes {list(a.shape)} and {list(b.shape)}"
                if a.shape == b.shape:
                    index = first_index(~np.isclose(a, b, rtol=0, atol=self._nondet_tol, equal_nan=True))
                    detail = f"{a[index]:.9g} and {b[index]:.9g} at index {index}"
                raise Problem(
                    f"the function is random (or keeps a state): two forward runs at the same point{when} differ "
                    f"in output {position}: {detail}. Draw the random numbers outside, or use .eval()"
                )

    def check_still_the_same(self) -> None:
        """After all the evaluations: does the first point still give the first values?"""
        again = self.values()
        self.check_inputs_unchanged("the function")
        self._check_same([self.base], [again])

    def check_inputs_unchanged(self, who: str) -> None:
        for (name, array), before in zip(self._constants, self._before):
            if not np.array_equal(array, before, equal_nan=before.dtype.kind == "f"):
                index = first_index(~((array == before) | ((array != array) & (before != before))))
                changed, value = array[index], before[index]
                array[...] = before
                raise Problem(
                    f"{who} changed {name} in place: at index {index} it was {value:.9g} and is now {changed:.9g}"
                )

    def _check_detached(self) -> None:
        """No output requires grad: wrong if the values do depend on an input, else nothing to say."""
        self._chosen = [position for position, array in enumerate(self._first) if array.dtype.kind == "f"]
        if not self._chosen:
            raise Problem("no output is a floating tensor: there is no gradient to check")
        base = self.values()
        for name, array in zip(self.names, self.arrays):
            before = array.copy()
            array += 1e-3 * np.maximum(np.abs(array), 1e-3)
            moved = self.values()
            array[...] = before
            if not np.array_equal(base, moved):
                raise Problem(
                    f"no output requires grad, although the values depend on {name}: nothing reaches this input "
                    "(was it detached, computed under no_grad, or taken through NumPy?)"
                )
        raise Problem("no output requires grad, and none was seen to depend on an input: nothing to compare")

    def _unchecked_outputs(self) -> list[str]:
        return [
            f"output {position} does not require grad and was not checked"
            for position, array in enumerate(self._first)
            if position not in self._chosen and array.dtype.kind == "f"
        ]

    # gradients

    @property
    def output_size(self) -> int:
        return self.base.size

    def output_index(self, flat: int) -> tuple[int, tuple[int, ...]]:
        """(which output, index in it) of a position in the flat vector."""
        for position, array in zip(self._chosen, self.outputs):
            if flat < array.size:
                return position, plain_index(flat, array.shape)
            flat -= array.size
        raise IndexError(flat)

    def split(self, flat: np.ndarray) -> list[np.ndarray]:
        """A flat vector (…, output size) as one array per output."""
        pieces, start = [], 0
        for array in self.outputs:
            piece = flat[..., start : start + array.size]
            pieces.append(piece.reshape(flat.shape[:-1] + array.shape))
            start += array.size
        return pieces

    def gradients(self, cotangent: np.ndarray) -> list[np.ndarray | None]:
        """One flat gradient per checked input for a flat upstream gradient; None where backward gave none."""
        upstream = [np.array(piece, order="C") for piece in self.split(cotangent)]
        targets = [edge_of(tensor) for tensor in self.tensors]
        try:
            _, found = backward(root_gradients(self._outputs, upstream), retain_graph=True, targets=targets)
        except Exception as error:
            raise Problem(_backward_raised(error)) from error
        for sent, array in zip(self.split(cotangent), upstream):
            if not np.array_equal(array, sent):
                raise Problem("backward changed the upstream gradient in place; others may still need it")
        return [
            self._checked(found[target], place) if target in found else None for place, target in enumerate(targets)
        ]

    def _checked(self, gradient: np.ndarray, place: int) -> np.ndarray:
        name, shape = self.names[place], self.arrays[place].shape
        if gradient.shape != shape:
            raise Problem(
                f"the gradient of {name} has the wrong shape: {list(gradient.shape)} instead of {list(shape)}"
                + broadcast_hint([gradient.shape, shape])
            )
        if gradient.dtype != np.float64:
            raise Problem(f"the gradient of {name} has the wrong dtype: {gradient.dtype.name} instead of float64")
        if not np.isfinite(gradient).all():
            index = first_index(~np.isfinite(gradient))
            raise Problem(f"the gradient of {name} is {gradient[index]} at index {index}, though the values are finite")
        return gradient.reshape(-1).copy()


def _backward_raised(error: Exception) -> str:
    """The text for an error inside backward, with a hint if it speaks of shapes that broadcast."""
    shapes = [
        tuple(int(size) for size in re.findall(r"\d+", found))
        for found in re.findall(r"[\[(]((?:\d+,?\s*)+)[\])]", str(error))
    ]
    wrong_shape = "the gradient has the wrong shape: " if len(shapes) > 1 and "gradient" in str(error) else ""
    return f"{wrong_shape}backward raised {type(error).__name__}: {error}" + broadcast_hint(shapes)


def _check_output(array: np.ndarray, position: int, count: int) -> None:
    which = f"output {position}" if count > 1 else "the output"
    if array.dtype.kind == "c":
        raise Problem(f"{which} is complex; only real functions can be checked")
    if array.dtype != np.float64:
        raise Problem(
            f"{which} is {array.dtype.name} although the inputs are float64: the function computes in a lower "
            "precision (use .double() on its weights, too), which hides what finite differences could show"
        )
    if array.size == 0:
        raise Problem(f"{which} is empty (shape {list(array.shape)}): nothing to check")
    if not np.isfinite(array).all():
        index = first_index(~np.isfinite(array))
        raise Problem(f"{which} holds {array[index]} (NaN or infinite) at index {index}")


def broadcast_hint(shapes) -> str:
    """Says so if one of the shapes broadcasts to another: the sum over those axes was forgotten."""
    for small, large in itertools.permutations(shapes, 2):
        if axes := broadcast_axes(small, large):
            return (
                f". Likely cause: missing sum over the broadcast axes: {list(small)} was broadcast to "
                f"{list(large)}, so its gradient is summed over axes {axes}"
            )
    return ""
