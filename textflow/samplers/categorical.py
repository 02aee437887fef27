"""Draws from categorical laws, in float64: a float32 Gumbel draw loses tails and sharpens the law (2409.02908)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sample_by_inversion(law: Float[Tensor, "*rows N"], uniform: Float[Tensor, "*rows"]) -> Int[Tensor, "*rows"]:
    """The entry that holds the quantile `uniform`, in (0, 1), of a law >= 0, normalised or not."""
    total = law.double().cumsum(-1)
    return torch.searchsorted(total, uniform.double()[..., None] * total[..., -1:]).squeeze(-1)


def cut_to_nucleus(p: Float[Tensor, "*rows N"], top_p: float) -> Float[Tensor, "*rows N"]:
    """Probabilities with 0 outside the likeliest tokens, which hold `top_p` in (0, 1] of them; not normalised
    (1904.09751)."""
    if top_p == 1:
        return p
    likely, order = p.sort(descending=True, stable=True)
    inside = likely.cumsum(-1) - likely < top_p  # True while likelier tokens do not fill the nucleus
    return torch.zeros_like(p).scatter(-1, order, likely * inside)


def sample_by_gumbel(law: Float[Tensor, "*rows N"], uniform: Float[Tensor, "*rows N"]) -> Int[Tensor, "*rows"]:
    """The first of exponential clocks with rates `law` >= 0, argmax law / -log(uniform), uniform in (0, 1): Gumbel's
    rule."""
    return (law.double() / -uniform.double().log()).argmax(-1)
