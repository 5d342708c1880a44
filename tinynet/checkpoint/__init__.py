"""Tensors in files: safetensors written atomically, checked when read, torch's files, and never any code in them."""

from __future__ import annotations

from tinynet.checkpoint.published import find_weights
from tinynet.checkpoint.safetensors import Checkpoint, load_safetensors, save_safetensors
from tinynet.checkpoint.store import Description, describe, load, save
from tinynet.checkpoint.weights import load_weights, read_state_dict

__all__ = [
    "Checkpoint", "Description", "describe", "find_weights", "load", "load_safetensors", "load_weights",
    "read_state_dict", "save", "save_safetensors",
]  # fmt: skip
