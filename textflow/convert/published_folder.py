"""Folders in a published layout, and errors for what the layout has no place for."""

import json
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from textflow.runtime.atomic import atomic_write_text
from textflow.training.weights import write_weights


def write_published(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write model.safetensors and config.json.

    Args:
        folder: folder to write.
        tensors: tensors by published name.
        config: content of config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder / "model.safetensors", {n: t.detach().contiguous() for n, t in tensors.items()}, {})
    atomic_write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")


def own_parameters(net: nn.Module) -> dict[str, Tensor]:
    """Parameters of a net by name, without those of its codec."""
    return {name: p for name, p in net.named_parameters() if not name.startswith("codec.")}


def refuse_unplaced(net: nn.Module, plain: nn.Module, settings: Sequence[str] = ()) -> None:
    """Raise an error for a net that its converter would not read back as it is.

    Args:
        net: net of a run.
        plain: net that the converter makes of the written tensors; its values are not read.
        settings: dotted attributes that no tensor tells.
    """
    places = own_parameters(plain)
    for name, tensor in own_parameters(net).items():
        if name not in places:
            raise ValueError(f"the layout has no place for {name} {tuple(tensor.shape)}")
        if tensor.shape != places[name].shape:
            raise ValueError(f"{name} is {tuple(tensor.shape)}, and the layout has {tuple(places[name].shape)}")
    for setting in settings:
        refuse_setting(f"{type(net).__name__}'s {setting}", attrgetter(setting)(net), attrgetter(setting)(plain))


def refuse_setting(name: str, found: object, published: object) -> None:
    """Raise an error for a setting that differs from the only one that the layout stands for."""
    if found != published:
        raise ValueError(f"{name} is {found}, and the layout stands for {published} alone")
