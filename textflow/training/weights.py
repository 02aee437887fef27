"""The weights of a run: a safetensors file that is whole or not there, and knows its checksum."""

import errno
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from textflow.runtime.atomic import replace


def write_weights(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, str]) -> None:
    """A safetensors file that knows its checksum, and replaces the one before only when it is whole on the disk.

    Args:
        path: of the file.
        tensors: its contents.
        note: its metadata.
    """
    note = {"format": "pt", "sha256": digest(tensors), **note}

    def write(tmp: Path) -> None:
        try:
            save_file(dict(tensors), tmp, metadata=note)
        except SafetensorError as error:
            raise OSError(_number(error), str(error), str(tmp)) from error

    replace(path, write)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; a damaged one is a ValueError.

    Args:
        path: of the file; one without a checksum is taken as it is.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors, note = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"it is no whole safetensors file: {error}") from error
    if note.get("sha256", found := digest(tensors)) != found:
        raise ValueError("its tensors do not have the checksum that was written with them")
    return tensors, note


def digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and values.

    Args:
        tensors: by name.
    """
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _number(error: SafetensorError) -> int:
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else errno.EIO
