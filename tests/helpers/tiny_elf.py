"""A small ELF with random weights, its outputs and gradients, a random batch with padding; a published checkpoint."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.helpers.recordings import part, recorded
from textflow.codecs import LatentSpace
from textflow.nets import ELF
from textflow.types import Batch, Conditioning, Latents


def tiny_elf(dim: int = 12, vocab: int = 50, depth: int = 2, std: float = 0.02, **options: Any) -> ELF:
    """An ELF of width 16; `std` is that of its output layer, which is 0 at first."""
    torch.manual_seed(0)
    net = ELF(LatentSpace(dim, vocab), width=16, depth=depth, heads=2, bottleneck=8, **options)
    torch.nn.init.normal_(net.out.weight, std=std)
    return net


def random_batch(rows: int, length: int, dim: int, vocab: int) -> tuple[Latents, Batch]:
    """Latents and tokens of rows of random lengths from 1 to `length`."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(vocab, (rows, length), generator=generator)
    mask = torch.arange(length)[None] < torch.randint(1, length + 1, (rows, 1), generator=generator)
    return torch.randn(rows, length, dim, generator=generator), Batch(ids, mask)


def predict(net: ELF, seed: int = 1, rows: int = 3) -> Tensor:
    """The clean prediction for random latents of this seed."""
    torch.manual_seed(seed)
    z, t = torch.randn(rows, 5, 12), torch.rand(rows)
    return net.predict_x0(net.forward_hidden(z, t, Conditioning(self_cond=z)))


def gradients(net: ELF) -> list[Tensor]:
    return [p.grad for p in net.parameters() if p.grad is not None]


def save_official(folder: Path, name: str) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    """A recording's weights in a file as published; also its tensors and metadata."""
    tensors, meta = recorded(name)
    weights = part(tensors, "weights.")
    file = folder / "checkpoint_95000"
    raw = {f"_orig_mod.{key}": torch.zeros_like(tensor) for key, tensor in weights.items()}
    torch.save({"params": raw, "ema_params1": weights, "step": 95000}, file)
    return file, tensors, meta
