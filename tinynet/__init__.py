"""tinynet: a deep-learning engine small enough to read and fast enough to mean it, with torch's API.

``import tinynet as torch`` runs model code that keeps to what is here.
"""

from __future__ import annotations

import importlib

from . import errors, kernels
from .dtypes import (
    bool,
    double,
    dtype,
    float,
    float16,
    float32,
    float64,
    get_default_dtype,
    half,
    int,
    int8,
    int16,
    int32,
    int64,
    long,
    promote_types,
    set_default_dtype,
    short,
    uint8,
)
from .factories import *
from .functions import *
from .kernels.launch import get_num_threads, set_num_threads
from .printing import set_printoptions
from .random import Generator, default_generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state
from .tensor import Size, Tensor, device

from . import autograd, distributed, nn, optim, utils  # isort: skip  (floor 4 needs the tensor)
from .autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled  # isort: skip

__version__ = "0.1.0"

# The upper floors are made with tinynet itself, so they are imported when first asked for.
_ROOMS = ("bench", "checkpoint", "data", "detection", "fusion", "inspect", "models", "plot", "training")
_FROM_ROOMS = {
    "fuse": "fusion", "image_pyramid": "models", "load": "checkpoint", "profile": "inspect", "save": "checkpoint",
}  # fmt: skip


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name in _FROM_ROOMS:
        return getattr(importlib.import_module(f".{_FROM_ROOMS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
