"""Discrete decoders on the exact posterior: autoregressive, or masked in batches."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from textflow.noise import Noise
from textflow.oracle.chain import sample_index
from textflow.oracle.tasks import OracleTask
from textflow.types import Conditioning, Ids, Latents, PositionMask


class DecodingTrace(NamedTuple):
    """Decoded tokens and the tokens fed at each call.

    Args:
        ids: decoded token ids.
        fed_ids: tokens embedded in the input of each call, -1 where none; decisions are final.
    """

    ids: Ids
    fed_ids: list[Ids]


def decode_autoregressive(task: OracleTask, noise: Noise, soft_feedback: bool = False) -> DecodingTrace:
    """Decode left to right, one call per token.

    Args:
        task: oracle task.
        noise: one stream per text.
        soft_feedback: True to feed expectations instead of samples; then `fed_ids` is -1 everywhere.
    """
    calls = torch.arange(task.length).expand(len(noise.streams), -1)
    return decode_in_calls(task, calls, noise, soft_feedback)


def decode_masked(
    task: OracleTask,
    num_calls: int,
    noise: Noise,
    order: Literal["random", "dilated"] = "random",
    soft_feedback: bool = False,
) -> DecodingTrace:
    """Decode from all masks in equal batches; tokens of a batch are independent given earlier batches.

    Args:
        task: oracle task.
        num_calls: number of batches K, a power of 2 if dilated.
        noise: one stream per text.
        order: `random` batches, or `dilated` ones: every K-th token, each batch halfway between those before.
        soft_feedback: True to feed expectations instead of samples; then `fed_ids` is -1 everywhere.
    """
    if not 1 <= num_calls <= task.length:
        raise ValueError(f"decode_masked got {num_calls} calls for {task.length} tokens; it needs 1 to {task.length}")
    if order == "random":
        rank = noise.uniform(task.length).argsort(-1).argsort(-1)
        return decode_in_calls(task, rank * num_calls // task.length, noise, soft_feedback)
    rank = torch.tensor(bisection_order(num_calls)).argsort()[torch.arange(task.length) % num_calls]
    return decode_in_calls(task, rank.expand(len(noise.streams), -1), noise, soft_feedback)


def bisection_order(num_calls: int) -> list[int]:
    """0 ... calls - 1, each halfway between those before: 0, 4, 2, 6, 1, 3, 5, 7."""
    if num_calls & (num_calls - 1):
        raise ValueError(f"dilated batches got {num_calls} calls; they need a power of 2, such as 8")
    order, gap = [0], num_calls
    while gap > 1:
        order, gap = order + list(range(gap // 2, num_calls, gap)), gap // 2
    return order


@torch.no_grad()
def decode_in_calls(
    task: OracleTask, call_index: Int[Tensor, "B L"], noise: Noise, soft_feedback: bool = False
) -> DecodingTrace:
    """Sample each token at its call from p(y_l | tokens fed at earlier calls).

    A sampled token's E_y enters the input like a prompt. The commit ablation `soft_feedback` feeds e = gamma E in its
    place, with the same order and random numbers. The mean of several codes is not a code, and rounding it to the
    nearest one would be a hidden commitment. It therefore counts as a latent under noise of variance 1, with evidence
    E_v.e - |E_v|^2 / 2, the codec's logits: weak for a broad gamma, nearly one token for a sharp one [ours].

    Args:
        task: oracle task.
        call_index: index of the call at which each token is sampled, from 0.
        noise: one stream per text.
        soft_feedback: True to feed expectations instead of samples; then `fed_ids` is -1 everywhere.
    """
    u, codes = noise.uniform(call_index.shape[1]), task.codec.codes.double()
    fed: list[Ids] = []
    embeddings = torch.zeros(*call_index.shape, task.codec.dim, dtype=torch.float64)
    ids = torch.full_like(call_index, -1)
    for call in range(int(call_index.max()) + 1):
        fed.append(torch.full_like(ids, -1) if soft_feedback else ids)
        gamma = token_posterior(task, embeddings, call_index < call, soft_feedback)
        now = call_index == call
        ids = torch.where(now, sample_index(gamma, u), ids)
        fed_back = gamma @ codes if soft_feedback else codes[ids.clamp_min(0)]
        embeddings = torch.where(now[..., None], fed_back, embeddings)
    return DecodingTrace(ids, fed)


def token_posterior(
    task: OracleTask, embeddings: Latents, known_mask: PositionMask, soft_feedback: bool
) -> Float[Tensor, "B S V"]:
    """gamma of a text with some known embeddings; the other positions are at t = 0, where z is pure noise.

    Args:
        task: oracle task.
        embeddings: clean latents of the known tokens.
        known_mask: True at positions with an embedding.
        soft_feedback: True to treat embeddings as latents under noise of variance 1, not as a prompt.
    """
    time = unit_variance_time(task) * known_mask.double() if soft_feedback else torch.zeros_like(embeddings[..., 0])
    cond = Conditioning() if soft_feedback else Conditioning(prompt=embeddings, prompt_mask=known_mask)
    logits = task.denoiser.posterior(time[..., None] * embeddings, time, cond).logits
    assert logits is not None
    return logits.softmax(-1)


def unit_variance_time(task: OracleTask) -> float:
    """The time at which z_t / t is a code plus noise of variance 1 = tau^2 + (scale (1 - t) / t)^2."""
    return task.path.noise_scale / (task.path.noise_scale + (1 - task.codec.tau**2) ** 0.5)
