"""A small autoencoder's latents."""

import torch
from torch import nn

from textflow.codecs.base import Codec
from textflow.layers.functional import Norm
from textflow.layers.transformer import Block, Vocabulary, rotary
from textflow.types import Ids, Latents, Logits, Mask, Sight


class Learned(Codec):
    """A bidirectional transformer encodes tokens in context; a position-wise network reads them out.

    Each latent coordinate is normalised by running statistics, which are saved with the weights.

    Args:
        vocab: number of tokens (from the tokenizer).
        dim: width of the latents.
        width: of the hidden states.
        depth: blocks of the encoder; 0 is a table.
        heads: of attention.
        hide: share of the tokens that the encoder does not see in training, in [0, 1): the readout must find them in
            their neighbours' company, so latents carry context, and a flow learns them sooner.
    """

    def __init__(
        self, vocab: int, dim: int = 64, width: int = 128, depth: int = 1, heads: int = 4, hide: float = 0.3
    ) -> None:
        super().__init__()
        self.vocab, self.dim, self.head_width, self.hide = vocab, dim, width // heads, hide
        self.embed = nn.Embedding(vocab + 1, width)  # the last row stands for a hidden token
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.last = Norm(width, eps=1e-6)  # bounds what the statistics have to follow
        self.narrow = nn.Linear(width, dim, bias=False)
        self.norm = nn.BatchNorm1d(dim, affine=False, momentum=0.01)
        self.widen = nn.Sequential(nn.Linear(dim, width), nn.GELU(), Norm(width, eps=1e-6))
        self.vocabulary = Vocabulary(width, width, vocab)
        nn.init.normal_(self.embed.weight, std=1.0)

    def encode(self, ids: Ids, mask: Mask | Sight | None = None) -> Latents:
        mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        keys = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]  # of all heads
        mask = mask if mask.ndim == 2 else mask.diagonal(dim1=1, dim2=2)  # text sees itself
        seen = mask
        if self.training and self.hide:
            seen = mask & (torch.rand(ids.shape, device=ids.device) >= self.hide)
            ids = ids.masked_fill(mask & ~seen, self.vocab)
        x = self.embed(ids)
        turn = rotary(ids.shape[1], self.head_width, x)
        for block in self.blocks:
            x = block(x, turn, keys)
        x = self.narrow(self.last(x)).to(self.embed.weight.dtype)
        # Statistics are of seen tokens, as a trained codec hides none; padding neither shifts them nor carries any.
        scaled = self.scaled(x, torch.where(seen.any(), seen, mask)) if self.training else self.norm(x.flatten(0, 1))
        return torch.where(mask[..., None], scaled.view_as(x), 0.0)

    def scaled(self, x: Latents, known: Mask) -> Latents:
        """x by the statistics of the known tokens, which move the running ones as BatchNorm's do; how many there are is
        not asked, since the host would wait for a GPU.

        Args:
            x: latents as they come.
            known: True on the tokens that are counted.
        """
        norm, each, n = self.norm, known[..., None], known.sum().clamp_min(1)
        assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
        assert norm.num_batches_tracked is not None
        mean = torch.where(each, x, 0.0).sum((0, 1)) / n
        var = torch.where(each, x - mean, 0.0).square().sum((0, 1)) / n
        with torch.no_grad():
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(var * n / (n - 1).clamp_min(1), norm.momentum)
            norm.num_batches_tracked.add_(1)
        return (x - mean) * (var + norm.eps).rsqrt()

    def readout(self, z: Latents) -> Logits:
        return self.vocabulary(self.widen(z))

    @property
    def ready(self) -> bool:
        return bool(self.norm.num_batches_tracked)
