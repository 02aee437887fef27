"""CCI [ours]: share of token pairs in which one token was chosen after the network had received the other."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from textflow.diagnostics.bootstrap import SampleSize
from textflow.diagnostics.perturbation import DecodeFn
from textflow.diagnostics.residual import channel_blur, latent_mask, sum_per_sequence
from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.samplers.base import Trace
from textflow.types import Ids, Latents, Logits, Mask


@dataclass(frozen=True)
class CCIResult:
    """Share of position pairs where one token was decided while conditioned on the other's value.

    Args:
        value: mean over sequences with at least two valid positions; 0 without any.
        per_sequence: CCI of each sequence, float64 [B]; 0 without a pair.
        decision_calls: call at which each position was decided, [B, L].
        num_calls: number of calls, K.
        size: n positions and n sequences.
    """

    value: float
    per_sequence: Float[Tensor, " B"]
    decision_calls: Int[Tensor, "B L"]
    num_calls: int
    size: SampleSize


def cci(
    fed_ids: list[Ids], final_ids: Ids, weights: list[float], mask: Mask, block_size: int | None = None
) -> CCIResult:
    """2 / (L (L - 1)) sum_k w_k n_k N_k: n_k tokens decided at call k, N_k before it [ours].

    One-shot readouts have 0, autoregression 1, K equal batches (1 - 1 / K) L / (L - 1). Soft feedback counts 0.

    Args:
        fed_ids: tokens that were embedded into the input of each call, -1 where none (`collect_fed_ids`).
        final_ids: final tokens of the text.
        weights: strength of the evidence in each call's input, in [0, 1]: 1 for clean codes, else `evidence_strength`.
        mask: True where a token was generated; a prompt is left out.
        block_size: tokens that are sampled together; default: all. Pairs of two blocks count 0, for a block sees the
            latents of those before it, not their tokens.
    """
    if len(fed_ids) != len(weights):
        raise ValueError(f"cci got inputs of {len(fed_ids)} calls and {len(weights)} weights; it needs one per call")
    decided = find_decision_calls(fed_ids, final_ids)
    at = torch.arange(len(fed_ids), device=final_ids.device)[:, None, None] == decided  # [K, B, L]
    size = block_size or max(mask.shape[1], 1)
    padded = F.pad((at & mask).double(), (0, -mask.shape[1] % size))
    now = padded.view(*padded.shape[:2], padded.shape[2] // size, size).sum(-1)  # [K, B, blocks]
    before = now.cumsum(0) - now
    strength = torch.tensor(weights, dtype=torch.float64, device=final_ids.device)
    length = mask.double().sum(1)
    pairs = length * (length - 1) / 2
    shares = strength @ (now * before).sum(-1) / pairs.clamp_min(1)
    value = float(shares[pairs > 0].mean()) if (pairs > 0).any() else 0.0
    return CCIResult(value, shares, decided, len(fed_ids), SampleSize(int(mask.sum()), len(final_ids)))


def find_decision_calls(fed_ids: list[Ids], final_ids: Ids) -> Int[Tensor, "B L"]:
    """First call after which the fed token is always the final one, else the last call. Arguments as in `cci`."""
    is_final = torch.stack([final_ids, *fed_ids[1:]]) == final_ids  # row 0 is the readout
    final_run = is_final[1:].flip(0).long().cumprod(0).sum(0)  # calls at the end that were fed the final token
    return len(fed_ids) - 1 - final_run


def collect_fed_ids(trace: Trace) -> list[Ids]:
    """Tokens in the input of each call: the last that the escape committed before it; -1 where none."""
    none = torch.full(trace.z.shape[:2], -1, device=trace.z.device)
    fed = [none]
    for belief in trace.beliefs[:-1]:
        chosen = none if belief.committed is None else belief.committed
        fed.append(torch.where(chosen >= 0, chosen, fed[-1]))
    return fed


@torch.no_grad()
def evidence_strength(decode: DecodeFn, x: Latents, mask: Mask, path: ProbPath, t: float, noise: Noise) -> float:
    """(acc - 1 / V) / (1 - 1 / V), acc the share of codes decoded correctly under noise at t; 0 at the noisy end.

    Args:
        decode: latents -> logits; the nearest code has the largest.
        x: latents of tokens (codes).
        mask: True at text.
        path: probability path.
        t: time of the call.
        noise: one stream per row.
    """
    if path.fraction(t) <= 0:
        return 0.0
    clean = decode(x)
    blurred = torch.where(latent_mask(mask, x)[..., None], x + channel_blur(path, t) * noise.normal_like(x), 0)
    correct = sum_per_sequence(decode(blurred).argmax(-1) == clean.argmax(-1), mask).sum()
    accuracy = correct / mask.double().sum().clamp_min(1)
    chance = 1 / clean.shape[-1]
    return min(max((float(accuracy) - chance) / max(1 - chance, chance), 0.0), 1.0)


def teacher_forced_nll(logits: Iterable[Logits], ids: Ids, decision_calls: Int[Tensor, "B L"], mask: Mask) -> float:
    """Mean -log p of real tokens at the call that decides each, nats: CE_tf, with earlier decisions teacher-forced.

    Args:
        logits: logits of each call in order.
        ids: real text.
        decision_calls: deciding call of each position (see `cci`).
        mask: True at text.
    """
    total = torch.zeros((), dtype=torch.float64)
    for k, call_logits in enumerate(logits):
        nll = call_logits.logsumexp(-1) - call_logits.gather(-1, ids[..., None])[..., 0]
        total += sum_per_sequence(nll, mask & (decision_calls == k)).sum().cpu()
    return float(total) / max(int(mask.sum()), 1)


def cci_info(unigram_entropy: float, teacher_forced_ce: float, entropy: float) -> float:
    """(H_uni - CE_tf) / (H_uni - H): share of the total correlation that was carried categorically [ours].

    All in nats per token: H_uni of single tokens, CE_tf by `teacher_forced_nll`, and the text's entropy rate H < H_uni.
    """
    if not entropy < unigram_entropy:
        raise ValueError(
            f"the text's entropy {entropy} must lie below its unigram entropy {unigram_entropy}: no correlation"
        )
    return (unigram_entropy - teacher_forced_ce) / (unigram_entropy - entropy)
