"""CCI: how much of a text was decided with other tokens of it in sight [ours]."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from textflow.diagnostics.bootstrap import Size
from textflow.diagnostics.perturbation import Read
from textflow.diagnostics.residual import channel_blur, per_sequence
from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.samplers.base import Trace
from textflow.types import Ids, Latents, Logits, Mask


@dataclass(frozen=True)
class Cci:
    """Share of pairs of positions where one token's value was in sight when the other was decided.

    Args:
        value: mean over sequences with at least two valid positions; 0 without any.
        sequences: of each sequence, float64 [B]; 0 where there is no pair.
        decided: call at which each position was decided, [B, L].
        calls: number of calls, K.
        size: n positions and n sequences.
    """

    value: float
    sequences: Float[Tensor, " B"]
    decided: Int[Tensor, "B L"]
    calls: int
    size: Size


def cci(fed: list[Ids], final: Ids, weights: list[float], mask: Mask) -> Cci:
    """2 / (L (L - 1)) sum_k w_k n_k N_k: n_k tokens decided at call k, N_k before it [ours].

    One-shot readouts have 0, autoregression 1, K equal batches (1 - 1 / K) L / (L - 1). Soft feedback counts 0.

    Args:
        fed: tokens that were embedded into the input of each call, -1 where none (`fed_of`).
        final: what was written.
        weights: strength of the evidence in each call's input, in [0, 1]: 1 for clean codes, else `evidence`.
        mask: True where a token was generated; a prompt is left out.
    """
    if len(fed) != len(weights):
        raise ValueError(f"cci got the inputs of {len(fed)} calls and {len(weights)} weights; it needs one a call")
    decided = decision(fed, final)
    at = torch.arange(len(fed), device=final.device)[:, None, None] == decided  # [K, B, L]
    now = (at & mask).double().sum(-1)  # [K, B]
    before = now.cumsum(0) - now
    strength = torch.tensor(weights, dtype=torch.float64, device=final.device)
    length = mask.double().sum(1)
    pairs = length * (length - 1) / 2
    shares = strength @ (now * before) / pairs.clamp_min(1)
    value = float(shares[pairs > 0].mean()) if (pairs > 0).any() else 0.0
    return Cci(value, shares, decided, len(fed), Size(int(mask.sum()), len(final)))


def decision(fed: list[Ids], final: Ids) -> Int[Tensor, "B L"]:
    """First call after which the fed token is always the final one, else the last call.

    Args:
        fed: tokens in the input of each call, -1 where none.
        final: what was written.
    """
    later = torch.stack([final, *(ids for ids in fed[1:])]) == final  # row 0 stands for the readout itself
    held = later[1:].flip(0).long().cumprod(0).sum(0)  # calls at the end that were fed the final token
    return len(fed) - 1 - held


def fed_of(trace: Trace) -> list[Ids]:
    """Tokens in the input of each call: what the beliefs before it chose last; -1 where none.

    Args:
        trace: of `sample`, with an escape that says what it has chosen.
    """
    none = torch.full(trace.z.shape[:2], -1, device=trace.z.device)
    fed = [none]
    for belief in trace.beliefs[:-1]:
        chosen = none if belief.chosen is None else belief.chosen
        fed.append(torch.where(chosen >= 0, chosen, fed[-1]))
    return fed


@torch.no_grad()
def evidence(read: Read, x: Latents, mask: Mask, path: Path, t: float, noise: Noise) -> float:
    """(acc - 1 / V) / (1 - 1 / V), acc the share of codes that are still read rightly after noise at t; 0 at t = 0.

    Args:
        read: latents -> logits; the nearest code has the largest.
        x: latents of tokens (codes).
        mask: True where x is text.
        path: how x is noised.
        t: time of the call whose input it is.
        noise: one stream a sequence.
    """
    if t <= 0:
        return 0.0
    clean = read(x)
    blurred = torch.where(mask[..., None], x + channel_blur(path, t) * noise.normal_like(x), 0)
    kept = per_sequence(read(blurred).argmax(-1) == clean.argmax(-1), mask).sum() / mask.double().sum().clamp_min(1)
    chance = 1 / clean.shape[-1]
    return min(max((float(kept) - chance) / max(1 - chance, chance), 0.0), 1.0)


def forced_nll(logits: Iterable[Logits], ids: Ids, decided: Int[Tensor, "B L"], mask: Mask) -> float:
    """Mean -log p of real tokens at the call that decides each, nats: CE_tf, when the tokens decided before are fed.

    Args:
        logits: of p(token) of each call, one after the other.
        ids: real text.
        decided: call of each position, as of `cci`.
        mask: True where ids are text.
    """
    total = torch.zeros((), dtype=torch.float64)
    for k, said in enumerate(logits):
        nll = said.logsumexp(-1) - said.gather(-1, ids[..., None])[..., 0]
        total += per_sequence(nll, mask & (decided == k)).sum().cpu()
    return float(total) / max(int(mask.sum()), 1)


def cci_info(unigram: float, forced: float, entropy: float) -> float:
    """(H_uni - CE_tf) / (H_uni - H): share of the total correlation that was carried categorically [ours].

    Args:
        unigram: entropy of single tokens, nats a token.
        forced: `forced_nll`, nats a token.
        entropy: of the text, nats a token; less than unigram.
    """
    if not entropy < unigram:
        raise ValueError(f"the text's entropy {entropy} must lie below its unigram entropy {unigram}: no correlation")
    return (unigram - forced) / (unigram - entropy)
