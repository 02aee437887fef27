"""Weights of FLM, MDLM and Duo as their repositories publish them: Lightning checkpoints and exports to the Hub.

`official_weights(find_weights(source))` gives the network's tensors by their published names, without prefix.
"""

import pickle
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from textflow.runtime.visible import visible_files
from textflow.training.weights import read_weights

EXPORT, CONFIG = "model.safetensors", "config.json"
PREFIX = "backbone."
BUFFERS = ("rotary_emb.inv_freq",)  # in a state dict, but not in the moving average


def find_weights(source: str) -> Path:
    """The file of weights of a file, a folder (model.safetensors, or the only .ckpt) or a Hub repository."""
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        found = [path / EXPORT] if (path / EXPORT).is_file() else visible_files(path, "*.ckpt")
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise ValueError(f"{source} has no {EXPORT} and not one .ckpt, but {names}; give the file's path")
        return found[0]
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        path = Path(hf_hub_download(source, EXPORT))
        with suppress(EntryNotFoundError):
            hf_hub_download(source, CONFIG)  # beside it
        return path
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{source!r} is not a file, a folder or a reachable Hub repository ({reason})") from error


def official_weights(path: Path) -> dict[str, Tensor]:
    """A network's tensors by published name without prefix: the moving average of a Lightning checkpoint that has one.

    Args:
        path: an export (.safetensors) or a Lightning checkpoint.
    """
    try:
        if path.suffix == ".safetensors":
            return strip_prefix(read_weights(path)[0])
        checkpoint = load_lightning(path)
        state = require_mapping("state_dict", checkpoint.get("state_dict", checkpoint))
        tensors = {name: t for name, t in state.items() if isinstance(name, str) and isinstance(t, Tensor)}
        weights = strip_prefix(tensors)
        shadow = shadow_params(checkpoint)
        return weights if shadow is None else weights | ema_by_order(weights, shadow)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_lightning(path: Path) -> dict[str, Any]:
    """The content of a checkpoint; objects of other classes (its configuration) become `Unread`, their code is not
    run."""
    try:
        names = get_unsafe_globals_in_checkpoint(path)
        with safe_globals([(type(name, (Unread,), {}), name) for name in names]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(f"it is not opened, since {' '.join(str(error).split())[:200]}") from error
    except Exception as error:  # torch raises any type of error on a truncated file
        why = f"{type(error).__name__} {' '.join(str(error).split())[:200]}"
        raise ValueError(f"it is not a checkpoint, or is truncated: {why}") from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"it holds a {type(checkpoint).__name__}; a checkpoint is a dictionary of tensors")
    return checkpoint


class Unread:
    """An object of a checkpoint that is not read."""

    def __new__(cls, *_: object, **__: object) -> "Unread":
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def strip_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's tensors in their order, without `_orig_mod.` and any number of `backbone.`; if some names have that
    prefix, the others are not part of the network."""
    names = {name: name.replace("_orig_mod.", "") for name in tensors}
    inside = {name for name, clean in names.items() if clean.startswith(PREFIX)}
    selected = {names[name]: t for name, t in tensors.items() if name in inside or not inside}
    while any(name.startswith(PREFIX) for name in selected):
        selected = {name.removeprefix(PREFIX): t for name, t in selected.items()}
    if not selected:
        raise ValueError("it holds no tensors of a network")
    return selected


def shadow_params(checkpoint: Mapping[str, Any]) -> list[Tensor] | None:
    """The moving average of a Lightning checkpoint, of several that with the largest decay; None without one."""
    several = require_mapping("ema_list", checkpoint.get("ema_list") or {})
    try:
        last = several[max(several, key=float)] if several else None
    except (TypeError, ValueError) as error:
        raise ValueError(f"ema_list has the keys {list(several)[:4]}; it needs decays, such as 0.99990000") from error
    shadow = require_mapping("ema", checkpoint.get("ema") or last or {}).get("shadow_params") or None
    if shadow is not None and not isinstance(shadow, list | tuple):
        raise ValueError(f"shadow_params is of type {type(shadow).__name__}; it needs a list of tensors")
    for i, tensor in enumerate(shadow or ()):
        if not isinstance(tensor, Tensor):
            raise ValueError(f"shadow_params[{i}] is of type {type(tensor).__name__}; it needs a tensor")
    return None if shadow is None else list(shadow)


def require_mapping(name: str, found: object) -> Mapping[Any, Any]:
    """A part of a checkpoint that is a dictionary."""
    if not isinstance(found, Mapping):
        raise ValueError(f"{name} is of type {type(found).__name__}; it needs a dictionary")
    return found


def ema_by_order(weights: Mapping[str, Tensor], shadow: Sequence[Tensor]) -> dict[str, Tensor]:
    """A moving average by name: its tensors have no names, but the order of the parameters of the network.

    Args:
        weights: tensors of the network in the order of its state dict.
        shadow: tensors of the moving average.
    """
    names = [name for name in weights if not name.endswith(BUFFERS)]
    for i, (name, tensor) in enumerate(zip(names, shadow, strict=False)):
        if tensor.shape != weights[name].shape:
            raise ValueError(
                f"tensor {i} of the moving average is {tuple(tensor.shape)}, but {name} is "
                f"{tuple(weights[name].shape)}: they are not in one order; remove `ema` to convert the raw weights"
            )
    if len(names) != len(shadow):
        raise ValueError(
            f"the moving average has {len(shadow)} tensors for {len(names)} parameters; remove `ema` to convert the "
            "raw weights"
        )
    return dict(zip(names, shadow, strict=True))
