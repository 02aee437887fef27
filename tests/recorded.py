"""Tensors recorded with the published code."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor


def recorded(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and configuration of tests/data/<name>.safetensors."""
    with safe_open(Path(__file__).parent / "data" / f"{name}.safetensors", "pt") as file:
        meta = file.metadata()
        tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
    return tensors, meta | {"config": json.loads(meta["config"])}


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {key[len(prefix) :]: tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def error(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected value."""
    found, expected = found.detach(), expected.detach()
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
