"""Readers with a categorical trace: token by token, or masked in batches, by the exact posterior."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from textflow.noise import Noise
from textflow.oracle.chain import pick
from textflow.oracle.worlds import World
from textflow.types import Choice, Given, Ids, Latents


class Reading(NamedTuple):
    """What a reader wrote and what it had been fed.

    Args:
        ids: the tokens drawn, each at its call.
        fed: for each call the tokens embedded in its input, -1 where none; a decision stands.
    """

    ids: Ids
    fed: list[Ids]


def autoregressive(world: World, noise: Noise, soft: bool = False) -> Reading:
    """From left to right, a call a token.

    Args:
        world: its denoiser reads.
        noise: one stream a text.
        soft: as of `read`.
    """
    calls = torch.arange(world.length).expand(len(noise.streams), -1)
    return read(world, calls, noise, soft)


def masked(
    world: World, calls: int, noise: Noise, order: Literal["random", "dilated"] = "random", soft: bool = False
) -> Reading:
    """All tokens masked at first, then equal batches of them, each drawn independently given those before.

    Args:
        world: its denoiser reads.
        calls: number of batches K, a power of 2 if dilated.
        noise: one stream a text.
        order: `random` batches, or `dilated` ones: every K-th token, each batch halfway between those before.
        soft: as of `read`.
    """
    if not 1 <= calls <= world.length:
        raise ValueError(f"masked got {calls} calls for {world.length} tokens; it needs 1 to {world.length}")
    rows = len(noise.streams)
    if order == "random":
        rank = noise.uniform(world.length).argsort(-1).argsort(-1)
        return read(world, rank * calls // world.length, noise, soft)
    turns = torch.tensor(halving(calls)).argsort()
    return read(world, turns[torch.arange(world.length) % calls].expand(rows, -1), noise, soft)


def halving(calls: int) -> list[int]:
    """0 ... calls - 1, each halfway between those before: 0, 4, 2, 6, 1, 3, 5, 7."""
    if calls & (calls - 1):
        raise ValueError(f"dilated batches got {calls} calls; they need a power of 2, such as 8")
    places, gap = [0], calls
    while gap > 1:
        places, gap = places + list(range(gap // 2, calls, gap)), gap // 2
    return places


@torch.no_grad()
def read(world: World, calls: Int[Tensor, "B L"], noise: Noise, soft: bool = False) -> Reading:
    """Draw each token at its call from p(y_l | what was fed at the calls before).

    A drawn token's E_y stands in the input like a prompt. The commit ablation `soft` feeds e = gamma E in its place,
    with the same order and random numbers. The mean of many codes is no code, and to take it for the nearest one would
    be a hidden choice. It is therefore evidence as a latent under noise of variance 1, E_v.e - |E_v|^2 / 2, which is
    what the codec's readout makes of it: little where gamma is broad, almost one token where it is sharp [ours].

    Args:
        world: its denoiser reads.
        calls: number of the call at which each token is drawn, from 0.
        noise: one stream a text.
        soft: feed expectations instead of draws; then `fed` holds no token.
    """
    u, codes = noise.uniform(calls.shape[1]), world.codec.codes.double()
    fed: list[Ids] = []
    said = torch.zeros(*calls.shape, world.codec.dim, dtype=torch.float64)
    ids = torch.full_like(calls, -1)
    for call in range(int(calls.max()) + 1):
        fed.append(torch.full_like(ids, -1) if soft else ids)
        gamma = ask(world, said, calls < call, soft)
        now = calls == call
        ids = torch.where(now, pick(gamma, u), ids)
        said = torch.where(now[..., None], gamma @ codes if soft else codes[ids.clamp_min(0)], said)
    return Reading(ids, fed)


def ask(world: World, said: Latents, known: Choice, soft: bool) -> Float[Tensor, "B S V"]:
    """gamma of a text of which some embeddings are known; the other positions are at t = 0, where z says nothing.

    Args:
        world: its denoiser is asked.
        said: embeddings.
        known: where they were fed.
        soft: they stand under noise of variance 1 rather than as a prompt.
    """
    time = unit_time(world) * known.double() if soft else torch.zeros_like(said[..., 0])
    given = Given() if soft else Given(clean=said, fixed=known)
    logits = world.denoiser.posterior(time[..., None] * said, time, given).logits
    assert logits is not None
    return logits.softmax(-1)


def unit_time(world: World) -> float:
    """The time at which z_t / t is a code plus noise of variance 1 = tau^2 + (scale (1 - t) / t)^2."""
    return world.path.scale / (world.path.scale + (1 - world.codec.tau**2) ** 0.5)
