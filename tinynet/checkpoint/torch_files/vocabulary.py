"""The names that a torch file may mention: an allow-list. None of them leads to code of the file's choosing.

Torch allows about the same ones for `torch.load(weights_only=True)`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from tinynet.checkpoint.torch_files.records import (
    ITEMSIZES,
    ParameterRecord,
    StorageType,
    TensorRecord,
    TensorType,
    TorchDtype,
    brief,
    check_differentiable,
    make_tensor,
)
from tinynet.errors import CheckpointError
from tinynet.tensor import Size

STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
    "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool",
    "ComplexDouble": "complex128", "ComplexFloat": "complex64",
}  # fmt: skip


class Constructor:
    """A name that a pickle may apply to arguments: this module's own function stands for it."""

    __slots__ = ("build", "name")

    def __init__(self, name: str, build: Callable[..., Any]) -> None:
        self.name, self.build = name, build


def hashable(value: Any) -> Any:
    """`value`, if it may be a key: a scalar or a tuple of scalars. (Hashing deeper ones can crash Python.)"""
    items = value if type(value) is tuple else (value,)
    for item in items:
        if item is not None and type(item) not in (str, int, float, bool, bytes):
            raise CheckpointError(f"expected a string or number as a key, found {type(item).__name__}")
    return value


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> TensorRecord:
    return make_tensor(storage, offset, shape, stride)


def _tensor_v2(
    storage: Any, offset: Any, shape: Any, stride: Any, requires_grad: Any, hooks: Any, metadata: Any = None
) -> TensorRecord:
    _check_metadata(metadata)
    return make_tensor(storage, offset, shape, stride, requires_grad)


def _tensor_v3(
    storage: Any, offset: Any, shape: Any, stride: Any, requires_grad: Any, hooks: Any, dtype: Any,
    metadata: Any = None,
) -> TensorRecord:  # fmt: skip
    _check_metadata(metadata)
    if not isinstance(dtype, TorchDtype):
        raise CheckpointError(f"expected a tensor's dtype, found {type(dtype).__name__}")
    return make_tensor(storage, offset, shape, stride, requires_grad, dtype.name)


def _check_metadata(metadata: Any) -> None:
    if metadata:
        raise CheckpointError(f"a tensor with the unsupported properties {brief(metadata)}")


def _parameter(data: Any, requires_grad: Any, hooks: Any) -> ParameterRecord:
    if not isinstance(data, TensorRecord) or type(requires_grad) is not bool:
        raise CheckpointError(f"expected a Parameter's tensor, found {brief((data, requires_grad))}")
    if requires_grad:
        check_differentiable(data)
    return ParameterRecord(data, requires_grad)


def _ordered_dict(pairs: Any = ()) -> OrderedDict:
    return OrderedDict((hashable(key), value) for key, value in _expect((list, tuple), pairs))


def _counter(counts: Any) -> Counter:
    return Counter(_expect((dict,), counts))


def _size(sizes: Any) -> Size:
    return Size(_expect((tuple, list), sizes))


def _set(items: Any = ()) -> set:
    return {hashable(item) for item in _expect((list, tuple), items)}


def _bytes() -> bytes:
    return b""


def _bytearray(data: Any = b"") -> bytearray:
    return bytearray(_expect((bytes,), data))


def _complex(real: Any, imaginary: Any) -> complex:
    return complex(_expect((float,), real), _expect((float,), imaginary))


def _encode(text: Any, encoding: Any) -> bytes:
    """How pickle's protocol 2 writes bytes."""
    if encoding != "latin1":
        raise CheckpointError(f"expected bytes written as latin1 text, found {brief(encoding)}")
    return _expect((str,), text).encode("latin1")


def _device(kind: Any, index: Any = None) -> str:
    """A string: tinynet has one device, and tensors are loaded to it wherever they came from."""
    kind = _expect((str,), kind)
    return kind if index is None else f"{kind}:{_expect((int,), index)}"


def _expect(kinds: tuple[type, ...], value: Any) -> Any:
    if type(value) not in kinds:
        raise CheckpointError(f"expected {kinds[0].__name__}, found {type(value).__name__}")
    return value


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "collections.Counter": _counter,
    "torch.Size": _size,
    "torch.device": _device,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "_codecs.encode": _encode,
    "builtins.set": _set,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytearray,
    "builtins.complex": _complex,
}


def _vocabulary() -> dict[str, Any]:
    names: dict[str, Any] = {name: Constructor(name, build) for name, build in _FUNCTIONS.items()}
    for name in [name for name in names if name.startswith("builtins.")]:
        names[name.replace("builtins", "__builtin__")] = names[name]  # Python 2's name, which protocol 2 writes
    for module in ("torch", "torch.cuda"):
        for kind, dtype in STORAGES.items():
            names[f"{module}.{kind}Storage"] = StorageType(f"{kind}Storage", dtype)
            names[f"{module}.{kind}Tensor"] = TensorType(f"{kind}Tensor")
    names["torch.storage.UntypedStorage"] = StorageType("UntypedStorage", "uint8")
    for dtype in ITEMSIZES:
        names[f"torch.{dtype}"] = TorchDtype(dtype)
    return names


_ALLOWED = _vocabulary()


def look_up(module: str, name: str) -> Any:
    """What stands for a global name. Raises CheckpointError for any that is not on the list."""
    full_name = f"{module}.{name}"
    found = _ALLOWED.get(full_name)
    if found is None:
        raise CheckpointError(
            f"refused: the file names {full_name!a}, and only tensors, containers and plain values are read, "
            "since anything else would need code to run (a model saved whole? In torch, save model.state_dict())"
        )
    return found
