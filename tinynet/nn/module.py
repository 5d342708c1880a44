"""`Module`: the tree of parameters, buffers and submodules that every layer and model is (torch.nn.Module)."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import numpy as np

from .. import dtypes
from ..tensor import RemovableHandle, Tensor
from ..tensor import device as check_device
from . import hooks, state
from .html import module_html
from .parameter import Parameter


class Module:
    """Base of all layers and models, with torch.nn.Module's contract.

    Subclasses call ``super().__init__()`` first, then assign parameters (`Parameter`), buffers
    (`register_buffer`) and submodules to attributes, and define ``forward``. Everything registered keeps the
    order of assignment; ``state_dict`` names are the attribute paths, ``layer1.0.conv1.weight``.
    """

    training: bool
    _version = 1  # of the layout of this module's entries in a state_dict

    def __init__(self) -> None:
        assign = super().__setattr__  # past the registration below, which needs these to exist
        assign("training", True)
        assign("_parameters", OrderedDict())
        assign("_buffers", OrderedDict())
        assign("_non_persistent_buffers_set", set())
        assign("_modules", OrderedDict())
        assign("_forward_pre_hooks", [])
        assign("_forward_hooks", [])
        assign("_backward_hooks", [])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the output; every subclass defines it. Call the module itself, which also runs the hooks."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._forward_hooks or self._forward_pre_hooks or self._backward_hooks:
            return hooks.call(self, args, kwargs)
        return self.forward(*args, **kwargs)

    # Registration

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Adds a parameter; None keeps the name's place (a layer without bias)."""
        self._check_name(name, "parameter", self._parameters)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{type(param).__name__}' object to parameter '{name}' (nn.Parameter or None required)"
            )
        if param is not None and param.grad_fn is not None:
            raise ValueError(
                f"cannot assign a non-leaf tensor to parameter '{name}': compute it in forward() instead"
            )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a tensor that is not trained; with `persistent` it is part of the state_dict."""
        self._check_name(name, "buffer", self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' (Tensor or None required)"
            )
        self._buffers[name] = tensor
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Adds a submodule under `name`."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{_type_name(module)} is not a Module subclass")
        self._check_name(name, "module", self._modules)
        self._modules[name] = module

    def register_module(self, name: str, module: Module | None) -> None:
        """The same as :meth:`add_module`."""
        self.add_module(name, module)

    def _check_name(self, name: str, kind: str, registry: Mapping[str, Any]) -> None:
        self._check_initialized(kind + "s")
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string, got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain ".", got: "{name}"')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if name not in registry and hasattr(self, name):
            raise KeyError(f"attribute '{name}' already exists")

    def _check_initialized(self, what: str) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(
                f"cannot assign {what} before Module.__init__() call: "
                f"{type(self).__name__}.__init__ must start with super().__init__()"
            )

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            self._check_initialized("parameters")
            self._forget(name, except_from=self._parameters)
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._check_initialized("modules")
            self._forget(name, except_from=self._modules)
            self.add_module(name, value)
        else:
            self._set_other(name, value)

    def _set_other(self, name: str, value: Any) -> None:
        """Assigns what is neither Parameter nor Module: a registered name takes None, a buffer also a Tensor."""
        own = self.__dict__
        for registry, kind, allowed in (
            ("_parameters", "parameter", "nn.Parameter"), ("_modules", "child module", "nn.Module"),
            ("_buffers", "buffer", "Tensor"),
        ):
            if name in own.get(registry, ()):
                if value is not None and not (registry == "_buffers" and isinstance(value, Tensor)):
                    raise TypeError(
                        f"cannot assign '{_type_name(value)}' as {kind} '{name}' ({allowed} or None expected)"
                    )
                own[registry][name] = value
                return
        super().__setattr__(name, value)

    def _forget(self, name: str, except_from: Mapping[str, Any]) -> None:
        self.__dict__.pop(name, None)
        for registry in (self._parameters, self._buffers, self._modules):
            if registry is not except_from:
                registry.pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    def __getattr__(self, name: str) -> Any:
        # Python calls this only for what is no plain attribute
        own = self.__dict__
        if "_parameters" not in own:
            raise AttributeError(
                f"'{type(self).__name__}' object has no attribute '{name}': Module.__init__() was never called "
                f"({type(self).__name__}.__init__ must start with super().__init__())"
            )
        for registry in ("_parameters", "_buffers", "_modules"):
            if name in own[registry]:
                return own[registry][name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __delattr__(self, name: str) -> None:
        for registry in (self._parameters, self._buffers, self._modules):
            if name in registry:
                del registry[name]
                self._non_persistent_buffers_set.discard(name)
                return
        super().__delattr__(name)

    def __dir__(self) -> list[str]:
        names = {*super().__dir__(), *self._parameters, *self._buffers, *self._modules}
        return sorted(name for name in names if not name[0].isdigit())

    # Walking the tree

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """All modules of the tree, itself first (under `prefix`), each once, with their paths."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, _join(prefix, name), remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """All modules of the tree, itself first."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules, each once, with their names."""
        seen: set[Module] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct submodules."""
        for _, module in self.named_children():
            yield module

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Parameters with their paths; a shared one comes once unless `remove_duplicate` is False."""
        yield from self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Parameters of the module, with `recurse` of its submodules too."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Buffers with their paths."""
        yield from self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Buffers of the module, with `recurse` of its submodules too."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def _named_members(self, registry: str, prefix: str, recurse: bool, remove_duplicate: bool):
        seen: set[int] = set()
        owners = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in owners:
            for name, value in getattr(module, registry).items():
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield _join(path, name), value

    def get_submodule(self, target: str) -> Module:
        """The module at a path such as ``"layer1.0.conv1"``; AttributeError names the part that is missing."""
        module = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a path such as ``"layer1.0.conv1.weight"``."""
        return self._get_member(target, "_parameters", "an nn.Parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a path such as ``"bn1.running_mean"``."""
        return self._get_member(target, "_buffers", "a buffer")

    def _get_member(self, target: str, registry: str, kind: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        if name not in getattr(module, registry):
            raise AttributeError(f"`{name}` is not {kind}")
        return getattr(module, registry)[name]

    # Saving and loading

    def _named_state(self) -> Iterator[tuple[str, Tensor]]:
        """What this module alone keeps in a state_dict."""
        for name, value in itertools.chain(self._parameters.items(), self._buffers.items()):
            if value is not None and name not in self._non_persistent_buffers_set:
                yield name, value

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, value in self._named_state():
            destination[prefix + name] = value if keep_vars else value.detach()

    def state_dict(
        self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> OrderedDict[str, Tensor]:
        """Parameters and persistent buffers by path, sharing memory with the module.

        With `keep_vars` the Parameters themselves, else detached tensors. The attribute ``_metadata`` holds
        the layout version of every module, as torch's does.
        """
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = {"version": self._version}
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        return destination

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> state.IncompatibleKeys:
        """Copies tensors (or arrays) into the parameters and buffers of the same path, cast to their dtype.

        `strict`: missing or unexpected names are errors. `assign`: take the given tensors themselves, with
        their dtype, instead of copying. Returns ``(missing_keys, unexpected_keys)``. Raises CheckpointError
        with every mismatch in names and shapes, and then has changed nothing; wrong shapes are errors also
        when not strict. Warns about NaN and infinite values.
        """
        return state.load(self, state_dict, strict, assign)

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ) -> None:
        """Matches this module alone with `state_dict`; subclasses override it to accept older names.

        They change `state_dict` (a copy) and call super; what fits is copied only after the whole tree has
        been matched.
        """
        state.compare_module(
            self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    # Modes and conversions

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Calls `fn` on every module, children before parents."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """Sets training mode, which BatchNorm and Dropout depend on, for the whole tree."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """Sets evaluation mode: the same as ``train(False)``."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Sets whether the parameters require grad (False freezes the module)."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of all parameters, or with ``set_to_none=False`` fills them with zeros."""
        for parameter in self.parameters():
            if set_to_none or parameter.grad is None:
                parameter.grad = None
            else:
                parameter.grad = parameter.grad.detach()
                parameter.grad.zero_()

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> Self:
        """Replaces the data of every parameter, gradient and buffer by ``fn`` of it; the Parameters stay the same."""
        for module in self.children():
            module._apply(fn)
        for parameter in self._parameters.values():
            if parameter is not None:
                grad = parameter.grad
                parameter.grad = None
                parameter.data = fn(parameter.data)
                parameter.grad = None if grad is None else fn(grad)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Casts floating parameters and buffers: ``to(dtype)``, ``to(device)``, ``to(device, dtype)``, ``to(tensor)``.

        The only device is the cpu, integer buffers keep their dtype.
        """
        dtype = _target_dtype(*args, **kwargs)
        if dtype is None:
            return self
        if not dtype.is_floating_point:
            raise TypeError(f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype}")
        return self._apply(lambda t: t.to(dtype) if t.is_floating_point() else t)

    def type(self, dst_type: Any) -> Self:
        """Casts all parameters and buffers to a dtype."""
        return self._apply(lambda t: t.to(dtypes.as_dtype(dst_type)))

    def float(self) -> Self:
        """Casts floating parameters and buffers to float32."""
        return self.to(dtypes.float32)

    def double(self) -> Self:
        """Casts floating parameters and buffers to float64."""
        return self.to(dtypes.float64)

    def cpu(self) -> Self:
        """Returns itself: everything is on the cpu."""
        return self

    # Hooks

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Calls ``hook(module, args)`` before forward; what it returns, unless None, replaces the arguments.

        With `with_kwargs`: ``hook(module, args, kwargs)``, returning ``(args, kwargs)`` or None.
        """
        return hooks.register(self._forward_pre_hooks, hook, prepend, with_kwargs)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Calls ``hook(module, args, output)`` after forward; what it returns, unless None, replaces the output.

        With `with_kwargs`: ``hook(module, args, kwargs, output)``.
        """
        return hooks.register(self._forward_hooks, hook, prepend, with_kwargs)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Calls ``hook(module, grad_input, grad_output)`` when the gradient with respect to the inputs is known.

        Both are tuples over the positional inputs and the outputs, None where there is no gradient. What the
        hook returns, unless None, replaces grad_input.
        """
        return hooks.register(self._backward_hooks, hook, prepend)

    # Showing

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What the repr shows of the module's own settings."""
        return ""

    def __repr__(self) -> str:
        children = [f"({name}): {indented(repr(module))}" for name, module in self._modules.items()]
        return block_repr(self._get_name(), self.extra_repr(), children)

    def _repr_html_(self) -> str:
        return module_html(self)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def indented(text: str) -> str:
    """All lines but the first moved in by two spaces."""
    return text.replace("\n", "\n  ")


def block_repr(name: str, extra: str, children: list[str]) -> str:
    """``Name(extra)`` on one line, or one line per part inside of the brackets."""
    lines = extra.split("\n") if extra else []
    if not children and len(lines) <= 1:
        return f"{name}({extra})"
    return f"{name}(\n  " + "\n  ".join(lines + children) + "\n)"


def _target_dtype(*args: Any, device: Any = None, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The dtype among the arguments of ``Module.to``; devices are checked and passed over."""
    found = None if dtype is None else dtypes.as_dtype(dtype)
    for value in (*args, device):
        if isinstance(value, Tensor):
            found = value.dtype
        elif isinstance(value, (dtypes.dtype, np.dtype, type)):
            found = dtypes.as_dtype(value)
        elif value is not None and not isinstance(value, bool):  # a bool is a positional non_blocking
            check_device(value)
    return found
