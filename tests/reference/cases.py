"""The case table: every operation written once, run by torch and by tinynet on the same drawn inputs.

A case never mentions which library it runs on. Its inputs, parameters and cotangents are drawn by NumPy
from its name, so that nothing but torch's results has to be stored.
"""

from __future__ import annotations

import importlib
import inspect
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np

from tests.comparison import to_numpy

FAMILIES = (
    "arithmetic", "reduction", "shape", "indexing", "linear", "activation", "convolution", "normalization",
    "pooling", "upsampling", "loss", "factories", "layers", "optimizers",
)  # fmt: skip
# Whole networks: too slow for what the table of operations does with its cases; tests/models compares them.
MODEL_FAMILIES = ("models",)
# Families that reach the kernels: their cases run once per backend.
KERNEL_FAMILIES = ("activation", "convolution", "linear", "normalization", "pooling", "upsampling", "layers")
DTYPES = ("float32", "float64")


def generator(*words: object) -> np.random.Generator:
    """A NumPy generator that depends on the words and on nothing else."""
    return np.random.default_rng(zlib.crc32(" ".join(map(str, words)).encode()))


@dataclass(frozen=True)
class Input:
    """One argument of a case: how to draw it, how it lies in memory, whether gradients are taken."""

    shape: tuple[int, ...]
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    floating: bool = True
    layout: str = "contiguous"
    requires_grad: bool = True

    def array(self, rng: np.random.Generator, dtype: str) -> np.ndarray:
        values = np.asarray(self.draw(rng, self.shape))
        values = values.astype(dtype) if self.floating else values
        if self.layout == "transposed":
            return np.ascontiguousarray(values.T).T
        if self.layout == "strided":
            buffer = np.zeros((*values.shape[:-1], 2 * values.shape[-1]), values.dtype)
            buffer[..., ::2] = values
            return buffer[..., ::2]
        return np.ascontiguousarray(values).reshape(values.shape)

    def constant(self) -> Input:
        """The same input without a gradient."""
        return replace(self, requires_grad=False)

    def lying(self, layout: str) -> Input:
        """The same values, 'transposed' or 'strided' in memory."""
        return replace(self, layout=layout)


def normal(*shape: int, scale: float = 1.0) -> Input:
    return Input(shape, lambda rng, size: scale * rng.standard_normal(size))


def uniform(low: float, high: float, *shape: int) -> Input:
    return Input(shape, lambda rng, size: rng.uniform(low, high, size))


def positive(*shape: int) -> Input:
    return uniform(0.5, 2.0, *shape)


def rounded(*shape: int, low: int = -2, high: int = 3) -> Input:
    """Whole numbers in floating point: many ties, zeros and values on a boundary."""
    return Input(shape, lambda rng, size: rng.integers(low, high, size))


def integers(low: int, high: int, *shape: int) -> Input:
    return Input(shape, lambda rng, size: rng.integers(low, high, size), False, requires_grad=False)


def boolean(*shape: int) -> Input:
    return Input(shape, lambda rng, size: rng.random(size) < 0.5, False, requires_grad=False)


def fixed(values: Any) -> Input:
    """Floating values given as they are."""
    array = np.array(values, np.float64)
    return Input(array.shape, lambda rng, size: array)


def tensors(results: Any) -> Iterator[tuple[str, Any]]:
    """The results of a case one by one: a tensor or number, a tuple of them, or a dict."""
    if isinstance(results, dict):
        yield from results.items()
    elif isinstance(results, (tuple, list)):
        for position, result in enumerate(results):
            yield f"output{position}", result
    else:
        yield "output0", results


def differentiable(value: Any) -> bool:
    return bool(getattr(value, "requires_grad", False))


def backward(lib: ModuleType, outputs: Iterable[tuple[str, Any]], *words: object) -> None:
    """Sends a random cotangent through every differentiable output."""
    outputs = [(name, output) for name, output in outputs if differentiable(output)]
    for position, (name, output) in enumerate(outputs):
        cotangent = generator("cotangent", name, *words).standard_normal(tuple(output.shape))
        gradient = lib.from_numpy(np.asarray(cotangent, to_numpy(output).dtype))
        output.backward(gradient, retain_graph=position + 1 < len(outputs))


@dataclass(frozen=True)
class Case:
    """`function(lib, F, *inputs)`, its outputs, and the gradient of every floating input."""

    name: str
    function: Callable[..., Any]
    inputs: tuple[Input, ...] = ()
    family: str = ""

    def labels(self) -> list[str]:
        names = list(inspect.signature(self.function).parameters)[2:]
        return [names[min(i, len(names) - 1)] + (str(i) if i >= len(names) else "") for i in range(len(self.inputs))]

    def evaluate(self, lib: ModuleType, dtype: str, seed: int = 0) -> dict[str, np.ndarray]:
        """Outputs and gradients by name, as arrays."""
        rng = generator(self.name, seed)
        arguments = []
        for spec in self.inputs:
            argument = lib.from_numpy(spec.array(rng, dtype))
            arguments.append(argument.requires_grad_() if spec.floating and spec.requires_grad else argument)
        outputs = list(tensors(self.function(lib, lib.nn.functional, *arguments)))
        results = {name: to_numpy(output).copy() for name, output in outputs}
        backward(lib, outputs, self.name, seed)
        for label, argument in zip(self.labels(), arguments):
            if argument.grad is not None:
                results[f"gradient of {label}"] = to_numpy(argument.grad)
        return results


def fill(lib: ModuleType, module: Any, dtype: str, *words: object) -> Any:
    """Draws every parameter of a module by its name."""
    module = module.double() if dtype == "float64" else module
    with lib.no_grad():
        for name, parameter in module.named_parameters():
            values = generator(name, *words).standard_normal(tuple(parameter.shape)) * 0.5
            parameter.copy_(lib.from_numpy(values.astype(dtype)))
    return module


@dataclass(frozen=True)
class ModuleCase:
    """A module in training mode for some steps, then in evaluation: outputs, all gradients, buffers."""

    name: str
    build: Callable[[Any], Any]
    inputs: tuple[Input, ...]
    steps: int = 1
    family: str = ""

    def evaluate(self, lib: ModuleType, dtype: str, seed: int = 0) -> dict[str, np.ndarray]:
        rng = generator(self.name, seed)
        module = fill(lib, self.build(lib.nn), dtype, self.name, seed)
        results: dict[str, np.ndarray] = {}
        for step in range(self.steps):
            module.zero_grad()
            arguments = [lib.from_numpy(spec.array(rng, dtype)) for spec in self.inputs]
            leaves = [a for a, spec in zip(arguments, self.inputs) if spec.floating and spec.requires_grad]
            for leaf in leaves:
                leaf.requires_grad_()
            outputs = list(tensors(module(*arguments)))
            backward(lib, outputs, self.name, seed, step)
            results |= {f"step {step} {name}": to_numpy(output).copy() for name, output in outputs}
            results |= {f"step {step} gradient {i}": to_numpy(leaf.grad) for i, leaf in enumerate(leaves)}
        for name, parameter in module.named_parameters():
            results[f"gradient of {name}"] = to_numpy(parameter.grad).copy()
        for name, buffer in module.named_buffers():
            results[f"buffer {name}"] = to_numpy(buffer).copy()
        module.eval()
        with lib.no_grad():
            results |= {f"eval {name}": to_numpy(output) for name, output in tensors(module(*arguments))}
        return results


@dataclass(frozen=True)
class OptimizerCase:
    """The trajectory of a two-layer net under an optimizer (and a schedule): parameters after every step."""

    name: str
    build: Callable[[Any, list[Any]], Any]
    schedule: Callable[[Any, Any], Any] | None = None
    steps: int = 8
    between: Callable[[Any, Any], Any] | None = field(default=None)
    family: str = ""

    def evaluate(self, lib: ModuleType, dtype: str, seed: int = 0) -> dict[str, np.ndarray]:
        nn = lib.nn
        model = fill(lib, nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2)), dtype, self.name, seed)
        optimizer = self.build(lib.optim, list(model.parameters()))
        scheduler = self.schedule(lib.optim.lr_scheduler, optimizer) if self.schedule else None
        rng = generator(self.name, seed)
        results: dict[str, np.ndarray] = {}
        rates = []
        for step in range(self.steps):
            x, y = (lib.from_numpy(rng.standard_normal(shape).astype(dtype)) for shape in ((5, 3), (5, 2)))
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            if self.between:
                results[f"step {step} norm"] = to_numpy(self.between(nn.utils, model.parameters())).copy()
            optimizer.step()
            group = optimizer.param_groups[0]
            momentum = group["betas"][0] if "betas" in group else group["momentum"]
            rates.append([group["lr"], momentum])
            if scheduler:
                scheduler.step()
            values = [to_numpy(parameter).reshape(-1) for parameter in model.parameters()]
            results[f"step {step}"] = np.concatenate(values)
        results["rates and momenta"] = np.array(rates, np.float64)
        return results


AnyCase = Case | ModuleCase | OptimizerCase


def family_cases(family: str) -> list[AnyCase]:
    """The cases of one family, named after it."""
    table = importlib.import_module(f"tests.reference.families.{family}").CASES
    named = [replace(case, family=family, name=f"{family}/{case.name}") for case in table]
    names = [case.name for case in named]
    repeated = {name for name in names if names.count(name) > 1}
    assert not repeated, f"two cases with the same name: {sorted(repeated)}"
    return named


def all_cases() -> list[AnyCase]:
    return [case for family in FAMILIES for case in family_cases(family)]
