"""Tensor (floor 3): a NumPy array with a place on the tape, under torch's method names.

A Tensor made by an operation holds ``_node``, which knows how to go back; a leaf that requires grad holds
``_leaf``, where its gradient ends.
"""

from __future__ import annotations

import weakref

import numpy as np

from .. import dtypes
from ..dtypes import as_dtype
from ..errors import DtypeError, GraphError, ShapeError
from ..kernels.addition import add
from ..ops import reduction
from ..printing import tensor_text
from ..tape import VersionCounter, edge_of
from .arithmetic import Arithmetic
from .conversion import Conversion
from .device import CPU, RemovableHandle, Size, device
from .differentiate import backward_from
from .in_place import InPlace
from .layout import exposed
from .reductions import Reductions
from .shapes import Shapes
from .variable import as_array, derived, results_are, seen_gradient, wrap


class Tensor(Arithmetic, Reductions, Shapes, InPlace, Conversion):
    """An n-dimensional array that remembers how it was made.

    ``Tensor(data)`` takes an array (shared, not copied), a Tensor or nested numbers; users call
    ``tinynet.tensor`` (copies) or ``tinynet.as_tensor`` (shares).
    """

    __array_priority__ = 1000  # ndarray + tensor asks the tensor
    def __init__(self, data=(), *, requires_grad: bool = False):
        self._array = as_array(data)
        self._version_counter = VersionCounter()
        if requires_grad:
            self.requires_grad_()

    @staticmethod
    def _make_subclass(cls, data, requires_grad: bool = False):
        """A leaf of class ``cls`` over the memory of ``data`` (torch's constructor for Parameter)."""
        made = cls.__new__(cls)
        made._array = as_array(data)
        made._version_counter = VersionCounter()
        if requires_grad:
            made.requires_grad_()
        return made


    @property
    def shape(self) -> Size:
        return Size(self._array.shape)

    def size(self, dim: int | None = None):
        """The shape, or the size of one dimension."""
        if dim is None:
            return Size(self._array.shape)
        if self._array.ndim == 0:
            raise IndexError("size: a 0-d tensor has no dimensions")
        return self._array.shape[reduction.normalize_dim("size", dim, self._array.ndim)]

    @property
    def dtype(self) -> dtypes.dtype:
        return as_dtype(self._array.dtype)

    @property
    def device(self) -> device:
        return CPU

    @property
    def ndim(self) -> int:
        return self._array.ndim

    def dim(self) -> int:
        """The number of dimensions."""
        return self._array.ndim

    def numel(self) -> int:
        """The number of elements."""
        return self._array.size

    nelement = numel

    def element_size(self) -> int:
        """Bytes per element."""
        return self._array.itemsize

    @property
    def nbytes(self) -> int:
        return self._array.nbytes

    def stride(self, dim: int | None = None):
        """Steps between neighbours, in elements."""
        steps = tuple(step // self._array.itemsize for step in exposed(self).strides)
        return steps if dim is None else steps[reduction.normalize_dim("stride", dim, self._array.ndim)]

    def is_contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        return self._hidden or bool(self._array.flags.c_contiguous)

    def data_ptr(self) -> int:
        """The address of the first element."""
        return exposed(self).ctypes.data

    def is_floating_point(self) -> bool:
        return self._array.dtype.kind == "f"

    def is_complex(self) -> bool:
        return False

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True):
        """Asks for gradients of this leaf (floating tensors only)."""
        if self._node is not None:
            if not requires_grad:
                raise GraphError("requires_grad can only be turned off on leaves; use .detach()")
            return self
        if requires_grad and self._array.dtype.kind != "f":
            raise DtypeError(
                f"only floating tensors can require gradients, this one is {self._array.dtype.name}; use .float()"
            )
        self._requires_grad = bool(requires_grad)
        if not requires_grad:
            self._version_counter.guarded = False
        return self

    @property
    def grad_fn(self):
        """The node that made this tensor, None for a leaf."""
        return self._node

    @property
    def is_leaf(self) -> bool:
        return self._node is None

    @property
    def output_nr(self) -> int:
        return self._index

    @property
    def _version(self) -> int:
        return self._version_counter.value

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward left here, None before."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"grad must be a Tensor or None, got {type(value).__name__}")
            if value._array.shape != self._array.shape:
                raise ShapeError(
                    f"grad: shape {list(value.shape)} does not fit the tensor's {list(self.shape)}"
                )
            if value._array.dtype != self._array.dtype:
                raise DtypeError(f"grad: dtype {value.dtype} does not fit the tensor's {self.dtype}")
        self._grad = value

    @property
    def data(self) -> Tensor:
        """The same memory outside of the tape; changes through it are not tracked."""
        return wrap(exposed(self))

    @data.setter
    def data(self, value) -> None:
        self._array, self._hidden = as_array(value), False
        self._leaf = None

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The array itself (shared memory); a tensor that requires grad must be detached first."""
        if self._requires_grad and not force:
            raise GraphError("numpy: this tensor requires grad; use tensor.detach().numpy()")
        return exposed(self)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def item(self):
        """The only element as a Python number."""
        if self._array.size != 1:
            raise ShapeError(f"item: expected one element, got {self._array.size} in shape {list(self.shape)}")
        return self._array.item()

    def tolist(self):
        """Nested lists of Python numbers."""
        return self._array.tolist()

    def __bool__(self) -> bool:
        if self._array.size != 1:
            raise ShapeError(
                f"the truth of a tensor of {self._array.size} elements is ambiguous; use .any() or .all()"
            )
        return bool(self._array.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self._array.dtype.kind not in "iub" or self._array.size != 1:
            raise TypeError("only integer tensors of a single element can be used as an index")
        return int(self._array.item())

    def __len__(self) -> int:
        if self._array.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self._array.shape[0]

    def __iter__(self):
        if self._array.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __contains__(self, value) -> bool:
        return bool((self._array == getattr(value, "_array", value)).any())

    def __repr__(self) -> str:
        suffixes = []
        if self._node is not None:
            suffixes.append(f"grad_fn=<{self._node.name}>")
        elif self._requires_grad:
            suffixes.append("requires_grad=True")
        return tensor_text(self._array, dtypes.default_numpy_dtype(), suffixes=suffixes)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self._array.ndim == 0 else object.__format__(self, spec)

    def __hash__(self) -> int:
        return id(self)

    def __deepcopy__(self, memo):
        if self._node is not None:
            raise GraphError(
                "deepcopy: only leaves can be copied, this tensor is the result of "
                f"{self._node.name}; copy tensor.detach() instead"
            )
        copied = Tensor._make_subclass(type(self), self._array.copy(), self._requires_grad)
        memo[id(self)] = copied
        if self._grad is not None:
            copied._grad = self._grad.__deepcopy__(memo)
        return copied

    def __reduce_ex__(self, protocol):
        return _rebuild, (type(self), np.ascontiguousarray(self._array).reshape(self._array.shape),
                          self._requires_grad)


    def backward(self, gradient=None, retain_graph: bool = False, create_graph: bool = False, inputs=None):
        """Adds the gradient of this scalar (or of ``(self · gradient).sum()``) to every leaf's ``.grad``.

        Raises GraphError without a graph, on a non-scalar without ``gradient``, on a second pass through a
        freed graph, and when a saved value was changed in place; ``.grad`` is then as it was.
        """
        backward_from((self,), (gradient,), retain_graph, create_graph, inputs)

    def detach(self) -> Tensor:
        """The same memory as a constant."""
        constant = wrap(exposed(self))
        constant._version_counter = self._version_counter
        constant._seen_rebase = self._seen_rebase
        return constant

    def detach_(self) -> Tensor:
        """Cuts this tensor off its history."""
        self._node, self._index, self._requires_grad = None, 0, False
        return self

    def retain_grad(self) -> None:
        """Keeps the gradient of an intermediate result in its ``.grad`` too."""
        if not self._requires_grad:
            raise GraphError("retain_grad: this tensor does not require grad")
        if self._node is None or self._retains_grad:
            return
        self._retains_grad = True
        place = weakref.ref(self)

        def keep(array):
            tensor = place()
            if tensor is not None:
                kept = array.copy("K") if tensor._grad is None else add(tensor._grad._array, array)
                tensor._grad = derived(kept, tensor)

        self._node.add_hook(self._index, keep)

    @property
    def retains_grad(self) -> bool:
        return self._retains_grad

    def register_hook(self, hook) -> RemovableHandle:
        """Calls ``hook(grad)`` when this tensor's gradient is complete; what it returns replaces it."""
        if not self._requires_grad:
            raise GraphError("register_hook: this tensor does not require grad")

        def over_arrays(array):
            gradient = seen_gradient(array)
            result = hook(gradient)
            if result is None:
                return None if gradient._array is array else gradient._array
            if result._array.shape != array.shape:
                raise ShapeError(
                    f"a hook returned a gradient of shape {list(result.shape)} for one of {list(array.shape)}"
                )
            return result._array

        node, index = edge_of(self)
        node.add_hook(index, over_arrays)
        return RemovableHandle(node.hooks[index], over_arrays)


results_are(Tensor)


def _rebuild(cls, array, requires_grad):
    return Tensor._make_subclass(cls, array, requires_grad)
