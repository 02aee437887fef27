"""The objective of MDLM (2406.07524): the tokens behind masks, weighed so that the mean bounds -log p(text)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from textflow.discrete.absorbing import Masking
from textflow.discrete.mdlm import MDLM
from textflow.types import Batch, Times


class Hidden(NamedTuple):
    """The random numbers of one step.

    Args:
        t: time of each row, 0 masked, 1 text; float64.
        uniform: on [0, 1), one a token: small ones are masked.
    """

    t: Times
    uniform: Float[Tensor, "B L"]


class SUBS(nn.Module):
    """-log p(token | what is not masked) at masked tokens, times (1 - floor) / (1 - kept(t)); a token mean.

    Args:
        schedule: how many tokens are kept at t.
        least: smallest share of masked tokens that is drawn, in (0, 1).
        timed: whether the network is told the noise; without it, what it said stays true until a token changes.
        spread: whether the times of a batch are spread evenly over [0, 1] (MDLM) or drawn each on its own.
    """

    def __init__(
        self, schedule: Masking = Masking(), least: float = 1e-3, timed: bool = False, spread: bool = True
    ) -> None:
        super().__init__()
        if not 0 < least < 1:
            raise ValueError(f"SUBS got least = {least}; it needs a share of masked tokens above 0 and below 1")
        self.schedule, self.least, self.timed, self.spread = schedule, least, timed, spread

    def forward(self, net: MDLM, batch: Batch) -> dict[str, Tensor]:
        rows = torch.rand(len(batch.ids), dtype=torch.float64, device=batch.ids.device)
        tokens = torch.rand(batch.ids.shape, dtype=torch.float64, device=batch.ids.device)
        return self.loss(net, batch, Hidden(self.times(rows), tokens))

    def times(self, uniform: Times) -> Times:
        """Times of rows from uniform numbers; spread, row i of B lies in the i-th B-th of [0, 1], moved round."""
        if self.spread:
            place = torch.arange(len(uniform), device=uniform.device) / len(uniform)
            uniform = (uniform / len(uniform) + place) % 1
        return 1 - ((1 - self.least) * uniform + self.least)

    def told(self, t: Times) -> Times:
        """The noise that the network is told at t."""
        return self.schedule.sigma(t) if self.timed else torch.zeros_like(t)

    def loss(self, net: MDLM, batch: Batch, draws: Hidden) -> dict[str, Tensor]:
        """The losses for given draws; logits exist for masked text alone.

        Args:
            net: is trained.
            batch: ids and mask.
            draws: of this step.
        """
        t = draws.t.double()
        ids = self.schedule.hide(batch.ids, draws.uniform, t, net.mask)
        if batch.fixed is not None:  # a source is never hidden
            ids = torch.where(batch.fixed, batch.ids, ids)
        told = batch.mask if batch.fixed is None else batch.mask & ~batch.fixed
        lost = (ids == net.mask) & told
        logits = net.logits(net(ids, self.told(t))[lost])[:, : net.mask]  # [n, V]
        nll = F.cross_entropy(logits.float(), batch.ids[lost], reduction="none")
        weight = self.schedule.weight(t)[:, None].expand_as(lost)[lost].to(nll)
        return {
            "loss": (nll * weight).sum() / told.sum().clamp_min(1),
            "tokens": told.sum(),
            "ce": nll.detach().sum() / lost.sum().clamp_min(1),
        }
