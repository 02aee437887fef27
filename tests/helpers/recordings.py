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
CONSTANTS = {  # of the published code; the configuration of a recording may hold another value
    "clip_norm": 1.0,  # norm that gradients are clipped to (ELF)
    "clock_order": 100,  # quadrature points of the decode error (FLM)
    "velocity_eps": 1e-5,  # added to 1 - t where a velocity is divided by it (FLM)
    "logit_softcap": 30.0,  # token logits are 30 tanh(logits / 30) (FMLM)
    "noise_eps": 1e-3,  # fraction of tokens that survive in pure noise (MDLM)
    "sampling_eps": 1e-3,  # least noise of a training step (MDLM)
    "curriculum_temperature": 1e-2,  # of the softmax that the network reads in the curriculum (Duo)
    "final_eps": 1e-5,  # noise that is left to the last pass of a sampler (MDLM)
}
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


def constant(config: dict[str, Any], name: str) -> Any:
    """A constant of a recording: that of its configuration, else the published one."""
    return config.get(name, CONSTANTS[name])


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {key[len(prefix) :]: tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def error(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected value; 0 where both are empty."""
    found, expected = found.detach(), expected.detach()
    if found.shape == expected.shape and not found.numel():
        return 0.0
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
