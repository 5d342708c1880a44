"""Modules that hold modules: Sequential, ModuleList, ModuleDict (torch.nn)."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from .module import Module, block_repr, indented


class _Numbered(Module):
    """What Sequential and ModuleList share: children by position, named "0", "1", ... when appended."""

    def _position(self, index: int) -> int:
        index, size = operator.index(index), len(self)
        if not -size <= index < size:
            raise IndexError(f"index {index} is out of range for {size} modules")
        return index % size

    def _key(self, index: int) -> str:
        return list(self._modules)[self._position(index)]

    def _rename(self, modules: Iterable[Module]) -> None:
        """Makes `modules` the children, named by their positions."""
        modules = list(modules)
        for module in modules:
            _check_module(module)
        self._modules.clear()
        self._modules.update((str(i), module) for i, module in enumerate(modules))

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._key(index), module)

    def __delitem__(self, index: int | slice) -> None:
        keys = list(self._modules)
        for key in keys[index] if isinstance(index, slice) else [self._key(index)]:
            del self._modules[key]
        self._rename(self)

    def append(self, module: Module) -> Self:
        """Adds a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Adds modules at the end."""
        if not isinstance(modules, Iterable):
            raise TypeError(f"{type(self).__name__}.extend takes an iterable of modules, got {type(modules).__name__}")
        for module in list(modules):
            self.append(module)
        return self

    def pop(self, index: int = -1) -> Module:
        """Removes the module at `index` and returns it."""
        module = self._modules[self._key(index)]
        del self[index]
        return module


class Sequential(_Numbered):
    """Calls its modules one after another: ``Sequential(a, b)`` or ``Sequential(OrderedDict(first=a, second=b))``."""

    def __init__(self, *args: Any) -> None:
        super().__init__()
        is_named = len(args) == 1 and isinstance(args[0], OrderedDict)
        for name, module in args[0].items() if is_named else zip(map(str, range(len(args))), args):
            self.add_module(name, module)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(OrderedDict(list(self._modules.items())[index]))
        return self._modules[self._key(index)]

    def __add__(self, other: Sequential) -> Sequential:
        _check_sequential(other)
        return Sequential(*self, *other)

    def __iadd__(self, other: Sequential) -> Self:
        _check_sequential(other)
        return self.extend(other)

    def insert(self, index: int, module: Module) -> Self:
        """Puts a module before position `index` (-len <= index <= len)."""
        size = len(self)
        if not -size <= index <= size:
            raise IndexError(f"Index out of range: {index} for {size} modules")
        children = list(self)
        children.insert(index, module)
        self._rename(children)
        return self

    def forward(self, input: Any) -> Any:
        for module in self._modules.values():
            input = module(input)
        return input


class ModuleList(_Numbered):
    """A list of modules whose parameters are registered; it has no forward."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._modules[self._key(index)]

    def __iadd__(self, modules: Iterable[Module]) -> Self:
        return self.extend(modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def insert(self, index: int, module: Module) -> None:
        """Puts a module before position `index`, which may lie outside, as in a list."""
        children = list(self)
        children.insert(index, module)
        self._rename(children)

    def __repr__(self) -> str:
        """Runs of equal modules on one line: ``(0-2): 3 x Linear(...)``."""
        runs: list[tuple[int, int, str]] = []
        for index, text in enumerate(map(repr, self)):
            if runs and runs[-1][2] == text:
                runs[-1] = (runs[-1][0], index, text)
            else:
                runs.append((index, index, text))
        lines = [
            f"({first}): {indented(text)}" if first == last
            else f"({first}-{last}): {last - first + 1} x {indented(text)}"
            for first, last, text in runs
        ]
        return block_repr(self._get_name(), "", lines)


class ModuleDict(Module):
    """A dict of modules, in order of insertion, whose parameters are registered; it has no forward."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def clear(self) -> None:
        """Removes all modules."""
        self._modules.clear()

    def pop(self, key: str) -> Module:
        """Removes the module `key` and returns it."""
        return self._modules.pop(key)

    def keys(self) -> Iterable[str]:
        return self._modules.keys()

    def items(self) -> Iterable[tuple[str, Module]]:
        return self._modules.items()

    def values(self) -> Iterable[Module]:
        return self._modules.values()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Adds the modules of a mapping, or of ``(name, module)`` pairs, replacing those of the same name."""
        if not isinstance(modules, Iterable):
            raise TypeError(f"ModuleDict.update takes a mapping or pairs, got {type(modules).__name__}")
        items = modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules
        for pair in items:
            if len(pair) != 2:
                raise ValueError(f"ModuleDict update sequence element has length {len(pair)}; 2 is required")
            self[pair[0]] = pair[1]


def _check_module(module: Any) -> None:
    if not isinstance(module, Module):
        raise TypeError(f"{type(module).__name__} is not a Module subclass")


def _check_sequential(other: Any) -> None:
    if not isinstance(other, Sequential):
        raise ValueError(f"only a Sequential can be added to a Sequential, got {type(other).__name__}")
