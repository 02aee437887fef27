"""The objective of ELF (2605.10938): flow matching and decoding in one pass, guidance learned from the model itself."""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.nets.base import Denoiser, Speaker
from textflow.objectives.base import Objective
from textflow.objectives.row_indices import asked, places
from textflow.paths.base import Path
from textflow.schedules.base import Clock
from textflow.schedules.logit_normal import LogitNormal
from textflow.types import Batch, Choice, Given, Latents, Rows, Times, keep, pick


class Draws(NamedTuple):
    """The random numbers of one step.

    Args:
        t: time of the denoising rows.
        eps: their noise, standard normal.
        decode: True on rows that learn to decode.
        share: of the clean latent in a decoding row, a position.
        decode_eps: noise of the decoding rows, standard normal.
        again: True on rows that see their own guess.
        w: guidance scale.
    """

    t: Times
    eps: Latents
    decode: Rows
    share: Float[Tensor, "B S"]
    decode_eps: Latents
    again: Rows
    w: Times


class Counts(NamedTuple):
    """Rows of each kind in a batch.

    Args:
        decode: learn to decode.
        again: see their own guess.
    """

    decode: int
    again: int


class ELFObjective(Objective):
    """Denoising rows regress the guided velocity, decoding rows the tokens; one token mean over both (ELF, sec. 3).

    Args:
        clock: time of the denoising rows.
        decode_share: probability that a row learns to decode.
        decode_clock: share of the clean latent in a decoding row, a position.
        decode_scale: standard deviation of a decoding row's noise at share 0.
        again_share: probability that a denoising row is self-conditioned.
        w_min: smallest guidance scale.
        w_max: largest guidance scale.
        error: that is squared: of the `velocity` (ELF), or of the clean guess `x` [ours], where the last times, which
            ask for little, do not outweigh the others.
        coins: `exact` tosses one a row; `stratified` takes the whole number of rows nearest to the expected one each
            time, so that all shapes are known beforehand: no step waits for a GPU, but padding is computed and thrown
            away. Batches of at least 10 rows or so are near it; one too small for any is refused in training.
        head_weight: of the cross-entropy of denoising rows, where the net has a commitment head, >= 0.
        pads: whether padding counts in the loss, so that an answer to a prompt learns to end (ELF, conditional tasks).
    """

    def __init__(
        self,
        clock: Clock | None = None,
        decode_share: float = 0.2,
        decode_clock: Clock | None = None,
        decode_scale: float = 5.0,
        again_share: float = 0.5,
        w_min: float = 0.5,
        w_max: float = 5.0,
        error: Literal["velocity", "x"] = "velocity",
        coins: Literal["exact", "stratified"] = "exact",
        head_weight: float = 0.1,
        pads: bool = False,
    ) -> None:
        super().__init__()
        self.clock = clock or LogitNormal(-1.5, 0.8)
        self.decode_clock = decode_clock or LogitNormal(0.8, 0.8)
        self.decode_share, self.decode_scale, self.again_share = decode_share, decode_scale, again_share
        self.w_min, self.w_max, self.error, self.coins = w_min, w_max, error, coins
        self.head_weight, self.pads = head_weight, pads

    def forward(self, net: Denoiser, path: Path, x: Latents, batch: Batch) -> dict[str, Tensor]:
        if not isinstance(net, Speaker):
            raise ValueError(
                f"ELFObjective trains a net with a decode mode (such as ELF); {type(net).__name__} has none"
            )
        return self.loss(net, path, x, batch, self.draw(x), batch.fixed)

    def draw(self, x: Latents) -> Draws:
        """The random numbers of one step for latents of x's shape."""
        rows, device, counts = len(x), x.device, self.counts(len(x))
        decode = self._toss(self.decode_share, x.new_ones(rows, dtype=torch.bool), counts and counts.decode)
        return Draws(
            t=self.clock.draw(rows, device=device),
            eps=torch.randn_like(x),
            decode=decode,
            share=self.decode_clock.draw(*x.shape[:2], device=device),
            decode_eps=torch.randn_like(x),
            again=self._toss(self.again_share, ~decode, counts and counts.again),
            w=self.guidance(torch.rand(rows, device=device)),
        )

    def guidance(self, uniform: Times) -> Times:
        """w = (1 + w_min) ((1 + w_max) / (1 + w_min))^u - 1: log-uniform in 1 + w."""
        return (1 + self.w_min) * torch.exp(uniform * math.log((1 + self.w_max) / (1 + self.w_min))) - 1

    def counts(self, rows: int) -> Counts | None:
        """How many of the rows are of each kind, where that is no matter of chance.

        Args:
            rows: of the batch.
        """
        if self.coins == "exact":
            return None
        decode = round(self.decode_share * rows)
        counts = Counts(decode, round(self.again_share * (rows - decode)))
        expected = self.decode_share, self.again_share * (1 - self.decode_share)
        if self.training and any(share and not count for share, count in zip(expected, counts, strict=True)):
            raise ValueError(
                f"coins: stratified takes {counts.decode} decoding and {counts.again} self-conditioned of {rows} rows"
                f" (shares {self.decode_share} and {self.again_share}), so a part of the net would learn nothing;"
                " give a larger --data.batch_size or coins: exact"
            )
        return counts

    def _toss(self, share: float, among: Rows, count: int | None) -> Rows:
        """True on a share of the rows `among`, or on as many as `count`."""
        order = torch.rand(len(among), device=among.device)
        if count is None:
            return (order < share) & among
        return order.masked_fill(~among, 2.0).argsort().argsort() < count

    def loss(
        self, net: Speaker, path: Path, x: Latents, batch: Batch, draws: Draws, fixed: Choice | None = None
    ) -> dict[str, Tensor]:
        """The losses for given draws, at the least work that gives the published gradient.

        Only self-conditioned rows take the pass without gradient; the conditional guess in the guided target is the
        gradient pass's own, detached, since both have the same inputs; logits exist for valid tokens of decoding rows.
        The velocity is affine in the guess, so the guidance can be added to the clean target.
        A prompt is clean in z and in the self-condition of denoising rows, and has no loss; decoding rows, which have
        no self-condition, meet it as noisy as the rest.
        """
        t, w = draws.t, draws.w
        given = Given(w=w, clean=None if fixed is None else x, fixed=fixed)
        valid = batch.mask | self.pads if fixed is None else (batch.mask | self.pads) & ~fixed
        rows, counts = ~draws.decode, self.counts(len(x))
        told = places(rows, counts and len(x) - counts.decode)
        said = places(draws.decode, counts and counts.decode)
        inner = places(draws.again[told], counts and counts.again)
        again = told[inner]
        z, some = keep(path.mix(x, draws.eps, t), given), pick(given, again)
        prev = keep(torch.zeros_like(x), given).masked_fill(draws.decode[:, None, None], 0.0)
        with torch.no_grad():
            once = net.mean(net.trunk(z[again], t[again], some._replace(prev=prev[again])))  # no head
            prev[again] = once = keep(once, some)
        share = draws.share[..., None]
        noisy = share * x + (1 - share) * self.decode_scale * draws.decode_eps

        z_in = torch.where(rows[:, None, None], z, noisy)
        hidden = net.trunk(z_in, torch.where(rows, t, 1.0), given._replace(prev=prev), draws.decode)
        guess, goal = net.mean(hidden[told]), x[told]
        with torch.no_grad():
            twice = guess[inner] if net.repeats else net.mean(net.trunk(z[again], t[again], some._replace(prev=once)))
            goal[inner] += (1 - 1 / w[again])[:, None, None] * (twice - once)

        error = guess - goal
        if self.error == "velocity":
            error = path.velocity(z[told], guess, t[told]) - path.velocity(z[told], goal, t[told])
        square = ((error**2).mean(-1) * valid[told]).sum()
        nll = net.nll(*asked(hidden[said], batch.ids[said], valid[said], counts is not None))
        losses = means(square, nll, valid, draws.decode)
        if net.head is None:
            return losses
        nll = net.token_nll(*asked(hidden[told], batch.ids[told], valid[told], counts is not None))
        return with_head(losses, nll, self.head_weight, valid, draws.decode)


def means(square: Tensor, nll: Tensor, valid: Tensor, decode: Tensor) -> dict[str, Tensor]:
    """Sums over denoising and decoding tokens -> the loss with one denominator, and each part's own mean."""
    said = (valid & decode[:, None]).sum()
    total = valid.sum()
    return {
        "loss": (square + nll) / total.clamp_min(1),
        "tokens": total,
        "l2": square.detach() / (total - said).clamp_min(1),
        "ce": nll.detach() / said.clamp_min(1),
    }


def with_head(
    losses: dict[str, Tensor], nll: Tensor, weight: float, valid: Tensor, decode: Tensor
) -> dict[str, Tensor]:
    """The losses with a commitment head's sum over denoising tokens, under the same denominator."""
    loss = losses["loss"] + weight * nll / valid.sum().clamp_min(1)
    return losses | {"loss": loss, "head": nll.detach() / (valid & ~decode[:, None]).sum().clamp_min(1)}
