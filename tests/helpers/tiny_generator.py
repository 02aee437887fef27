"""A small generator that nobody trained, with weights that say something."""

from typing import Any

import torch

from textflow.codecs import Table
from textflow.models.generator import Generator
from textflow.nets import ELF
from textflow.objectives import ELFObjective


def untrained(vocab: int = 40, dim: int = 8, length: int = 12, head: bool = False, **options: Any) -> Generator:
    """An ELF of width 16 over a table.

    Args:
        vocab: number of tokens.
        dim: of a latent.
        length: of its texts.
        head: whether the net has a commitment head.
        options: of Generator, in place of these.
    """
    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "codec": lambda vocab: Table(vocab, dim),
        "net": lambda dim, vocab: ELF(dim, vocab, width=16, depth=2, heads=2, bottleneck=8, head=head),
        "objective": ELFObjective(),
    }
    made = Generator(vocab, **parts | options)
    for p in made.twin.parameters():
        p.data.add_(0.3 * torch.randn_like(p))  # the clean guess starts at 0
    made.length = length
    return made.eval()
