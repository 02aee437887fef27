"""A small generator that nobody trained, with weights that say something."""

from typing import Any

import torch

from textflow.codecs import EmbeddingTable
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
        "codec": lambda vocab: EmbeddingTable(vocab, dim),
        "net": lambda codec: ELF(codec, width=16, depth=2, heads=2, bottleneck=8, commitment_head=head),
        "objective": ELFObjective(),
    }
    made = Generator(vocab, **parts | options)
    for p in made.ema_net.parameters():
        p.data.add_(0.3 * torch.randn_like(p))  # the clean guess starts at 0
    made.seq_length = length
    return made.eval()
