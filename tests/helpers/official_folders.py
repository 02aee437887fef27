"""Recorded weights in the layouts that the systems publish."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.helpers.recordings import part, recorded
from tests.helpers.tiny_elf import save_official

RECORDINGS = {"langflow": "langflow", "flm": "flm", "fmlm": "fmlm", "mdlm": "mdlm", "duo": "mdlm", "cola": "cola"}
WEIGHTS = {"flm": "flm.weights.", "cola": ""}  # prefix of the weights in a recording, else `weights.`
PREFIXES = {"mdlm": "backbone.", "duo": "backbone."}  # of an export's names; LangFlow's are recorded with it
SYSTEMS = [*RECORDINGS, "elf"]


def save_folder(folder: Path, tensors: dict[str, Tensor], config: Any) -> Path:
    """A folder of model.safetensors and config.json."""
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def recorded_weights(system: str) -> dict[str, Tensor]:
    """Weights of a system by their names in its export; for Duo, whose network has none recorded, MDLM's."""
    tensors = part(recorded(RECORDINGS[system])[0], WEIGHTS.get(system, "weights."))
    return {PREFIXES.get(system, "") + name: tensor for name, tensor in tensors.items()}


def published_config(system: str) -> dict[str, Any]:
    """config.json of a system, of the sizes that its code was recorded with."""
    sizes = recorded(RECORDINGS[system])[1]["config"]["model"]
    if system in ("mdlm", "duo"):
        return {"model_length": sizes["length"], "n_heads": sizes["n_heads"]}
    return sizes if system == "langflow" else {"model": sizes}


def save_published(system: str, folder: Path) -> Path:
    """A checkpoint in the published layout of a system."""
    if system == "elf":
        folder.mkdir(parents=True)
        save_official(folder, "elf")
    elif system == "cola":
        tensors, meta = recorded("cola")
        for name in ("vae", "dit"):
            weights = {n: t for n, t in part(tensors, f"{name}.").items() if n != "recon_loss"}
            save_folder(folder / f"cola_{name}", weights, meta["config"][name])
    else:
        save_folder(folder, recorded_weights(system), published_config(system))
    return folder


def published_tensors(folder: Path) -> dict[str, Tensor]:
    """Tensors of all files of a published checkpoint, by file and name; of an ELF, its moving average."""
    found = dict[str, Tensor]()
    for file in folder.rglob("*.safetensors"):
        found |= {f"{file.relative_to(folder)}: {name}": tensor for name, tensor in load_file(file).items()}
    for file in folder.glob("checkpoint_*"):
        found |= torch.load(file, weights_only=True)["ema_params1"]
    return found
