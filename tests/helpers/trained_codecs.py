"""Tiny codecs, trained for a moment to read their own latents."""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F

from textflow.codecs import CosmosCodec, EmbeddingTable, TextVAE
from textflow.discrete import DiLaDiffCodec, LatentTokenDiT
from textflow.types import Batch

VOCAB, LENGTH, ROWS = 11, 8, 4
WIDTHS: dict[str, Any] = {"width": 16, "depth": 1, "heads": 2}
BLOCKS: dict[str, Any] = {"width": 16, "heads": 2, "mlp_width": 16, "block_size": 4}


def texts() -> Batch:
    """Random text."""
    ids = torch.randint(1, VOCAB, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    return Batch(ids, ids >= 0)


@cache
def trained_vae() -> TextVAE:
    """A text autoencoder that reads its own latents."""
    torch.manual_seed(0)
    vae, ids = TextVAE(VOCAB, 8, encoder_depth=1, decoder_depth=1, **BLOCKS), torch.randint(VOCAB, (16, LENGTH))
    optimizer = torch.optim.Adam(vae.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(vae.decode_logits(vae.encode(ids)).flatten(0, 1), ids.flatten()).backward()
        optimizer.step()
    return vae.eval()


@cache
def trained_resampler() -> CosmosCodec:
    """A codec of half as many latents as tokens, which reads its own latents."""
    torch.manual_seed(0)
    codec = CosmosCodec(VOCAB, lambda vocab: EmbeddingTable(vocab, 16), 8, LENGTH // 2, LENGTH, depth=1, heads=2)
    return reading(codec)


def reading(codec: Any) -> Any:
    """The codec, trained for a moment to read its own latents."""
    codec.norm.momentum = 0.1
    optimizer = torch.optim.Adam([p for p in codec.parameters() if p.requires_grad], 1e-2)
    for _ in range(150):
        ids = torch.randint(VOCAB, (16, LENGTH))
        optimizer.zero_grad()
        F.cross_entropy(codec.decode_logits(codec.encode(ids)).flatten(0, 1), ids.flatten()).backward()
        optimizer.step()
    return codec.eval()


@cache
def masked_resampler() -> DiLaDiffCodec:
    """Half as many latents as tokens, with a masked diffusion of the tokens."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"dim": 8, "latents": LENGTH // 2, "length": LENGTH, "depth": 1, "heads": 2}
    net: dict[str, Any] = {**WIDTHS, "cond_width": 8, "dropout": 0.0}
    codec = DiLaDiffCodec(
        VOCAB, lambda vocab: EmbeddingTable(vocab, 16), decoder=lambda *made: LatentTokenDiT(*made, **net), **sizes
    )
    for p in codec.decoder.parameters():
        p.data.add_(0.1 * torch.randn_like(p))  # many layers start at 0
    return reading(codec)
