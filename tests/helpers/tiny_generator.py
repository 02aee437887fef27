"""A small generator whose random weights give different samples for different seeds."""

from typing import Any

import torch

from textflow.codecs import EmbeddingTable
from textflow.models.generator import Generator
from textflow.models.text_format import TextFormat
from textflow.nets import ELF
from textflow.objectives import ELFObjective


def untrained(vocab: int = 40, dim: int = 8, length: int = 12, head: bool = False, **options: Any) -> Generator:
    """An ELF of width 16 on an embedding table; `head` adds a commitment head, `options` replace parts of Generator."""
    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "codec": lambda vocab: EmbeddingTable(vocab, dim),
        "net": lambda codec: ELF(codec, width=16, depth=2, heads=2, bottleneck=8, commitment_head=head),
        "objective": ELFObjective(),
    }
    model = Generator(vocab, **parts | options)
    for p in model.ema_net.parameters():
        p.data.add_(0.3 * torch.randn_like(p))  # the initial prediction is 0
    model.text_format = TextFormat(seq_length=length)
    return model.eval()
