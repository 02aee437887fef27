"""ELF's training step as published: the oracle for tests and the baseline for benchmarks."""

import torch
import torch.nn.functional as F
from torch import Tensor

from textflow.nets.base import DecodingDenoiser
from textflow.objectives.base import combine_losses
from textflow.objectives.elf import ELFDraws, ELFObjective
from textflow.paths.base import ProbPath
from textflow.types import Batch, Conditioning, Latents


def reference_elf_loss(
    objective: ELFObjective, net: DecodingDenoiser, path: ProbPath, x: Latents, batch: Batch, draws: ELFDraws
) -> dict[str, Tensor]:
    """`ELFObjective.loss` with three passes on all rows and logits of all tokens (ELF, released code)."""
    t, w, decode = draws.t, draws.guidance, draws.decode
    self_cond_rows = draws.self_cond & ~decode
    z = path.mix(x, draws.eps, t)
    with torch.no_grad():
        x_u = net(z, t, Conditioning(guidance=w)).mean
        x_c = net(z, t, Conditioning(self_cond=x_u, guidance=w)).mean
        push = (1 - 1 / w)[:, None, None] * (path.velocity(z, x_c, t) - path.velocity(z, x_u, t))
        target = path.velocity(z, x, t) + push * self_cond_rows[:, None, None]
    clean = draws.clean_fraction[..., None]
    noisy = clean * x + (1 - clean) * objective.decode_noise_scale * draws.decode_eps
    z_in = torch.where(decode[:, None, None], noisy, z)
    self_cond = x_u * self_cond_rows[:, None, None]
    cond = Conditioning(self_cond=self_cond, guidance=w)
    hidden = net.forward_hidden(z_in, torch.where(decode, 1.0, t), cond, decode)
    square = ((path.velocity(z, net.predict_x0(hidden), t) - target) ** 2).mean(-1)
    nll = token_nll_of(net.lm_logits(hidden), batch.ids)
    decode_mask = decode[:, None] & batch.mask
    denoise_mask, head_nll = batch.mask & ~decode_mask, None
    if (logits := net.commitment_logits(hidden)) is not None:
        head_nll = (token_nll_of(logits, batch.ids) * denoise_mask).sum()
    squared, nll = (square * denoise_mask).sum(), (nll * decode_mask).sum()
    return combine_losses(squared, nll, batch.mask, decode, head_nll, objective.head_loss_weight)


def token_nll_of(logits: Tensor, ids: Tensor) -> Tensor:
    """- log p of the tokens, (B, L) in nats, from logits (B, L, V)."""
    return F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none").view(ids.shape)
