"""Weights: safetensors files that are written atomically with a checksum, and checks of tensors against a model."""

import errno
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from textflow.runtime.atomic import atomic_write
from textflow.runtime.rank_zero import rank_zero_warn

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def write_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically, with additional metadata and a checksum."""
    metadata = {"format": "pt", "sha256": tensors_sha256(tensors), **metadata}

    def write(tmp: Path) -> None:
        try:
            save_file(dict(tensors), tmp, metadata=metadata)
        except SafetensorError as error:
            raise OSError(_error_number(error), str(error), str(tmp)) from error

    atomic_write(path, write)


def weights_are_current(path: Path, step: int) -> bool:
    """True if a weights file is intact and belongs to an optimizer step; a damaged one is reported."""
    try:
        return read_weights(path)[1].get("step") == str(step)
    except (OSError, ValueError) as error:
        if not isinstance(error, FileNotFoundError):
            rank_zero_warn(f"{path} is damaged ({error}); rewritten")
        return False


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata of a safetensors file, verified if it has a checksum.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"it is not a complete safetensors file: {error}") from error
    if metadata.get("sha256", digest := tensors_sha256(tensors)) != digest:
        raise ValueError("its tensors do not have the checksum that was written with them")
    return tensors, metadata


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and values."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def describe_mismatch(tensor: Tensor, expected: Tensor) -> str:
    """Reason why a tensor cannot replace a model's, phrased to follow its name; empty if it can.

    Args:
        tensor: tensor from a file.
        expected: tensor of the model; if all NaN (a schedule not fitted yet), `tensor` may be all NaN too.
    """
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout is not torch.strided or tensor.is_meta:
        return f"is {'a tensor without values' if tensor.is_meta else 'sparse'}, where the model needs plain values"
    if not expected.is_floating_point():
        is_integer = not (tensor.is_floating_point() or tensor.is_complex())
        return "" if is_integer else f"is {kind}, where the model needs {str(expected.dtype).removeprefix('torch.')}"
    if tensor.dtype not in FLOAT_DTYPES:
        return f"is {kind}, where the model needs floating point: float16, bfloat16, float32 or float64"
    finite = tensor.to(expected.dtype).isfinite()
    if finite.all() or (expected.isnan().all() and tensor.isnan().all()):
        return ""
    return f"has {int((~finite).sum()):,} of {finite.numel():,} values that are not finite"


def _error_number(error: SafetensorError) -> int:
    match = re.search(r"os error (\d+)", str(error))
    return int(match[1]) if match else errno.EIO
