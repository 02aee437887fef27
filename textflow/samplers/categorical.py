"""Draws from categorical laws, in float64: a float32 Gumbel draw loses tails and sharpens the law (2409.02908)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sample_by_inversion(law: Float[Tensor, "*rows N"], uniform: Float[Tensor, "*rows"]) -> Int[Tensor, "*rows"]:
    """The entry that holds the quantile `uniform`, in (0, 1), of a law >= 0, normalised or not."""
    total = law.double().cumsum(-1)
    return torch.searchsorted(total, uniform.double()[..., None] * total[..., -1:]).squeeze(-1)


def sample_by_gumbel(law: Float[Tensor, "*rows N"], uniform: Float[Tensor, "*rows N"]) -> Int[Tensor, "*rows"]:
    """The first of exponential clocks with rates `law` >= 0, argmax law / -log(uniform), uniform in (0, 1): Gumbel's
    rule."""
    return (law.double() / -uniform.double().log()).argmax(-1)
