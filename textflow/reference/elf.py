"""ELF's training step as it is published: the oracle and the yardstick of the lean one."""

import torch
import torch.nn.functional as F
from torch import Tensor

from textflow.nets.base import Speaker
from textflow.objectives.elf import Draws, ELFObjective, means, with_head
from textflow.paths.base import Path
from textflow.types import Batch, Given, Latents


def plain_loss(
    objective: ELFObjective, net: Speaker, path: Path, x: Latents, batch: Batch, draws: Draws
) -> dict[str, Tensor]:
    """`ELFObjective.loss` with three passes on all rows and logits of all tokens (ELF, released code)."""
    t, w, decode = draws.t, draws.w, draws.decode
    again = draws.again & ~decode
    z = path.mix(x, draws.eps, t)
    with torch.no_grad():
        x_u = net(z, t, Given(w=w)).mean
        x_c = net(z, t, Given(prev=x_u, w=w)).mean
        push = (1 - 1 / w)[:, None, None] * (path.velocity(z, x_c, t) - path.velocity(z, x_u, t))
        target = path.velocity(z, x, t) + push * again[:, None, None]
    share = draws.share[..., None]
    noisy = share * x + (1 - share) * objective.decode_scale * draws.decode_eps
    z_in = torch.where(decode[:, None, None], noisy, z)
    prev = x_u * again[:, None, None]
    hidden = net.trunk(z_in, torch.where(decode, 1.0, t), Given(prev=prev, w=w), decode)
    square = ((path.velocity(z, net.mean(hidden), t) - target) ** 2).mean(-1)
    nll = surprise(net.logits(hidden), batch.ids)
    said = decode[:, None] & batch.mask
    losses = means((square * (batch.mask & ~said)).sum(), (nll * said).sum(), batch.mask, decode)
    if (logits := net.token_logits(hidden)) is None:
        return losses
    told = surprise(logits, batch.ids) * (batch.mask & ~decode[:, None])
    return with_head(losses, told.sum(), objective.head_weight, batch.mask, decode)


def surprise(logits: Tensor, ids: Tensor) -> Tensor:
    """- log p of the tokens, (B, L) in nats, from logits (B, L, V)."""
    return F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none").view(ids.shape)
