"""LangFlow's training step and sampler with logits of all tokens: the oracle for tests and the baseline for
benchmarks."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from textflow.nets.langflow import LangFlow
from textflow.objectives.base import Draws
from textflow.objectives.langflow import LangFlowObjective
from textflow.paths.base import ProbPath
from textflow.reference.elf import token_nll_of
from textflow.types import Batch, Conditioning, Latents


def reference_langflow_loss(
    objective: LangFlowObjective, net: LangFlow, path: ProbPath, x: Latents, batch: Batch, draws: Draws
) -> dict[str, Tensor]:
    """`LangFlowObjective.loss` with both passes on all rows and their logits in memory (LangFlow, 2604.11748).

    Args:
        objective: objective whose loss it is.
        net: denoiser.
        path: how latents are noised.
        x: clean latents [B, L, d].
        batch: token ids and masks.
        draws: times, noise and self-conditioned rows.
    """
    z, t = path.mix(x, draws.eps, draws.t), draws.t
    assert draws.self_cond is not None, "the objective draws its rows"
    with torch.no_grad():
        first = net.forward_logits(z, t).softmax(-1) @ net.table
    cond = Conditioning(self_cond=first * draws.self_cond[:, None, None])
    valid = batch.loss_mask(objective.loss_on_padding)
    nll = token_nll_of(net.forward_logits(z, t, cond), batch.ids) * valid
    ce, row_ce = nll.sum() / valid.sum().clamp_min(1), nll.detach().sum(1) / valid.sum(1)
    return {"loss": ce, "tokens": valid.sum()} | objective.schedule_losses(ce, row_ce, t, valid)


@torch.no_grad()
def reference_langflow_sample(
    net: LangFlow, path: ProbPath, z: Latents, times: list[float]
) -> Iterator[tuple[Latents, Tensor]]:
    """Euler's state before each step, and the predicted probabilities, whose last are the sample (LangFlow, released
    code).

    Args:
        net: denoiser.
        path: how latents are noised.
        z: noise at times[0] [B, L, d].
        times: increasing grid.
    """
    previous = None
    for t, t_next in pairwise(times):
        p = net.forward_logits(z, z.new_full((len(z),), t), Conditioning(self_cond=previous)).softmax(-1)
        yield z, p
        previous = p @ net.table
        z = path.step(z, previous, t, t_next)
