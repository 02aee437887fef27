"""Perplexity: exp(sum of weighted token NLL / sum of weights), in float64; `TokenWeighting` selects the tokens."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor

from textflow.metrics.token_weights import TokenWeighting
from textflow.types import Ids, Logits


def token_nll(logits: Logits, ids: Ids) -> Float[Tensor, "B L-1"]:
    """-log p(ids[:, i] | ids[:, :i]) in nats, float64; the first token has no context and is unscored.

    Args:
        logits: logits of a causal language model at `ids`.
        ids: tokens, padded on the right.
    """
    rows = zip(logits[:, :-1], ids[:, 1:], strict=True)  # row by row: no second B x L x V tensor
    return torch.stack([F.cross_entropy(row.float(), target, reduction="none").double() for row, target in rows])


def corpus_perplexity(nll: Float[Tensor, "B M"], weights: Num[Tensor, "B M"], batch_size: int = 1) -> Float[Tensor, ""]:
    """exp(sum nll w / sum w), float64.

    Args:
        nll: nats per token.
        weights: how often a token counts; 0 leaves it out.
        batch_size: an incomplete last batch of this many rows is dropped, as MDLM does; 1 drops nothing.
    """
    count = TokenWeighting(drop_last=True).num_counted(len(nll), batch_size)
    nll, weights = nll[:count].double(), weights[:count].double()
    if weights.sum() == 0:
        raise ValueError("perplexity needs at least one scored token and found none; are all samples empty?")
    return (torch.where(weights > 0, nll, 0) * weights).sum().div(weights.sum()).exp()


def sample_perplexity(nll: Float[Tensor, "B M"], weights: Num[Tensor, "B M"]) -> Float[Tensor, " N"]:
    """Perplexity of each row that has a scored token (N <= B), float64; the `ld4lg` protocol takes their mean."""
    nll, weights = nll.double(), weights.double()
    scored = weights.sum(1) > 0
    return ((torch.where(weights > 0, nll, 0) * weights).sum(1)[scored] / weights.sum(1)[scored]).exp()
