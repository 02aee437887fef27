"""Flow maps: one net for steps from any s to any u (FMLM, 2602.16813)."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from textflow.codecs.base import Codec, encode_batch, latent_batch
from textflow.distill.base import FlowObjective
from textflow.distill.targets.base import PredictFn, Target, TargetInput, TargetOutput, TimeGrid, step_coefficients
from textflow.distill.targets.flow_map import SemiGroup
from textflow.nets.base import Denoiser
from textflow.objectives.row_indices import is_distributed, no_rows, row_indices
from textflow.paths.base import ProbPath
from textflow.schedules.base import TimeSchedule, stratified_uniform
from textflow.schedules.uniform import Uniform
from textflow.types import Batch, Conditioning, Latents, Posterior, RowMask, Times

LossName = Literal["cross_entropy", "square"]


class TimePairs(NamedTuple):
    """The random numbers of one step.

    Args:
        s: start of each row's step [B].
        u: end of each row's step [B]; s on diagonal rows.
        eps: standard normal noise [B, S, d].
        diagonal: True on rows of length 0, which train the denoiser itself [B].
        num_diagonal: number of diagonal rows; if it is given, the host does not wait for a GPU.
    """

    s: Times
    u: Times
    eps: Latents
    diagonal: RowMask
    num_diagonal: int | None = None


class FlowMap(FlowObjective):
    """Diagonal rows train the denoiser, from the data or a teacher; the others train on `target`.

    Args:
        target: target of steps with a length (off the diagonal).
        time_schedule: schedule of starts, ends and midpoints.
        diagonal_prob: fraction of rows of length 0, in [0, 1].
        full_interval_prob: fraction of the others that go from 0 to 1, in [0, 1].
        offdiagonal_loss: loss off the diagonal: `cross_entropy` of token distributions, or `square` of the clean
            predictions' error, summed over the latent's width.
        diagonal_loss: loss of diagonal rows: `cross_entropy` of token distributions, or `square` of the clean
            predictions' error, summed over the latent's width.
        rescale: whether the error off the diagonal is that of the step's end, rather than of its clean prediction.
    """

    def __init__(
        self,
        target: Target | None = None,
        time_schedule: TimeSchedule | None = None,
        diagonal_prob: float = 0.5,
        full_interval_prob: float = 1 / 32,
        offdiagonal_loss: LossName = "cross_entropy",
        diagonal_loss: LossName = "cross_entropy",
        rescale: bool = False,
    ) -> None:
        super().__init__(target or SemiGroup())
        self.time_schedule = time_schedule or Uniform()
        self.diagonal_prob, self.full_interval_prob, self.rescale = diagonal_prob, full_interval_prob, rescale
        self.offdiagonal_loss, self.diagonal_loss = offdiagonal_loss, diagonal_loss

    def forward(self, net: Denoiser, codec: Codec, path: ProbPath, batch: Batch, step: int) -> dict[str, Tensor]:
        x, batch = encode_batch(codec, batch), latent_batch(codec, batch)
        pairs = self.sample_pairs(x)
        return self.loss(net, path, x, batch, pairs, self.target.times(pairs.s, pairs.u, self.time_schedule))

    def sample_pairs(self, x: Latents) -> TimePairs:
        """Random numbers of one step, for latents of x's shape."""
        return sample_time_pairs(x, self.time_schedule, self.diagonal_prob, self.full_interval_prob)

    def loss(
        self, net: Denoiser, path: ProbPath, x: Latents, batch: Batch, pairs: TimePairs, times: TimeGrid
    ) -> dict[str, Tensor]:
        """The losses for given draws: a token mean over both kinds of rows.

        Args:
            net: student, conditioned on the end of its step.
            path: probability path that the latents follow.
            x: clean latents [B, S, d].
            batch: masks of the latents (`latent_batch`).
            pairs: random numbers of this step.
            times: times of each row's rollout, from s to u.
        """
        z, valid, each, losses = path.mix(x, pairs.eps, pairs.s), batch.mask, x.new_zeros(x.shape[:2]), {}
        diagonal = row_indices(pairs.diagonal, pairs.num_diagonal)
        others = row_indices(~pairs.diagonal, len(x) - len(diagonal))
        for name, rows in (("diagonal_loss", diagonal), ("offdiagonal_loss", others)):
            if not len(rows) and not is_distributed():
                continue
            if name == "diagonal_loss":
                loss = self._diagonal_loss(net, x[rows], z[rows], pairs.s[rows])
            else:
                loss = self._offdiagonal_loss(net, path, z[rows], times[rows])
            each = each.index_put((rows,), loss)
            if len(rows):
                losses[name] = (loss.detach() * valid[rows]).sum() / valid[rows].sum().clamp_min(1)
        each = uncertainty_weighted(net, each, pairs.s)
        return {"loss": (each * valid).sum() / valid.sum().clamp_min(1), "tokens": valid.sum(), **losses}

    def _diagonal_loss(self, net: Denoiser, x: Latents, z: Latents, t: Times) -> Tensor:
        with torch.no_grad():
            x0_target = self.teacher_or_data(x)(z, t).mean
        return regression_loss(net(z, t, Conditioning(end_time=t)), x0_target, self.diagonal_loss)

    def _offdiagonal_loss(self, net: Denoiser, path: ProbPath, z: Latents, times: TimeGrid) -> Tensor:
        output, s, u = self.target_output(net, path, z, times), times[:, 0], times[:, -1]
        error = regression_loss(
            output.prediction or net(z, s, Conditioning(end_time=u)), output.x0_target.detach(), self.offdiagonal_loss
        )
        return error * step_coefficients(path, s, u)[1][..., 0].to(error) ** 2 if self.rescale else error

    def target_output(self, net: PredictFn, path: ProbPath, z: Latents, times: TimeGrid) -> TargetOutput:
        """Targets off the diagonal; without a teacher, from the net's own diagonal prediction."""

        def own(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
            return net(z, t, cond._replace(end_time=t))

        return self.target(TargetInput(self.teacher or own, net, path, z, times, Conditioning(), no_rows(z)))


def sample_time_pairs(
    x: Latents,
    time_schedule: TimeSchedule,
    diagonal_prob: float,
    full_interval_prob: float,
    num_diagonal: int | None = None,
) -> TimePairs:
    """Steps whose start and end are stratified in a time schedule.

    Args:
        x: latents whose shape is used [B, S, d].
        time_schedule: schedule of starts and ends.
        diagonal_prob: fraction of rows of length 0, in [0, 1]; an integer number of rows sets `num_diagonal`.
        full_interval_prob: fraction of the others that go from 0 to 1, in [0, 1].
        num_diagonal: number of rows of length 0, in place of diagonal_prob.
    """
    coin, full_coin, start, length = (stratified_uniform(len(x), x.device) for _ in range(4))
    diagonal = coin < diagonal_prob if num_diagonal is None else coin.argsort().argsort() < num_diagonal
    low, full_interval = start * (1 - length), full_coin < full_interval_prob
    low, high = torch.where(full_interval, 0.0, low), torch.where(full_interval, 1.0, low + length)
    s, u = (time_schedule.icdf(torch.where(diagonal, start, q)).float() for q in (low, high))
    count = diagonal_prob * len(x) if num_diagonal is None else num_diagonal
    return TimePairs(s, u, torch.randn_like(x), diagonal, int(count) if count == int(count) else None)


def regression_loss(belief: Posterior, x0_target: Latents, loss: LossName) -> Tensor:
    """-sum x log p, or sum (x - mean)^2, over the last axis, x the target [B, S]."""
    if loss == "square":
        return ((x0_target - belief.mean) ** 2).sum(-1)
    if belief.logits is None:
        raise ValueError(
            "FlowMap(offdiagonal_loss=cross_entropy) needs a net that gives logits; use offdiagonal_loss=square"
        )
    return -(x0_target * belief.logits.log_softmax(-1)).sum(-1)


def uncertainty_weighted(net: Denoiser, error: Tensor, s: Times) -> Tensor:
    """exp(-w) error + w, if the net learns w, the logarithm of the expected error at s (FLM, stage 1; 2312.02696)."""
    expected = getattr(net, "log_expected_error", None)
    w = None if expected is None else expected(s)
    return error if w is None else torch.exp(-w)[:, None] * error + w[:, None]
