"""Tensors recorded with the published code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors import safe_open

if TYPE_CHECKING:
    from torch import Tensor

ASSETS = Path(__file__).parents[1] / "assets"
FOLDER = ASSETS  # of the recordings; --recorded names another, before any test is collected


def use(folder: Path) -> None:
    """Take recordings from a folder.

    Args:
        folder: folder with files <name>_<word>.safetensors, one of each name at most.
    """
    global FOLDER
    if not folder.is_dir():
        raise pytest.UsageError(f"--recorded: there is no folder {folder}")
    FOLDER = folder.resolve()


def file_of(name: str) -> Path:
    """The only <name>_<word>.safetensors; a set of another folder may lack it, which skips what asks for it."""
    found = sorted(file for file in FOLDER.glob("*_*.safetensors") if file.stem.rpartition("_")[0] == name)
    if len(found) > 1:
        pytest.fail(f"{FOLDER} has several recordings {name}: {', '.join(file.name for file in found)}", pytrace=False)
    if found:
        return found[0]
    lacks = f"{FOLDER} has no {name}_<word>.safetensors"
    if FOLDER == ASSETS:
        pytest.fail(lacks, pytrace=False)
    pytest.skip(lacks, allow_module_level=True)


def recorded(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata, with its configuration read, of the recording of a name, such as elf or elf_train."""
    with safe_open(file_of(name), "pt") as file:
        meta = file.metadata()
        tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
    return tensors, meta | {"config": json.loads(meta["config"])}


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {key[len(prefix) :]: tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def error(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected value; 0 where both are empty."""
    found, expected = found.detach(), expected.detach()
    if found.shape == expected.shape and not found.numel():
        return 0.0
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
