"""The objective of LangFlow (2604.11748): cross-entropy on learned embeddings, under a schedule that it learns too."""

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.codecs.base import Codec, encode_batch
from textflow.nets.base import Denoiser
from textflow.nets.langflow import LangFlow
from textflow.objectives.base import Draws
from textflow.objectives.cross_entropy import CrossEntropy
from textflow.objectives.self_conditioning import SelfConditioning
from textflow.paths.base import ProbPath
from textflow.schedules.base import TimeSchedule
from textflow.schedules.gumbel import Gumbel
from textflow.types import Batch, Latents, Mask, Times


class LangFlowObjective(CrossEntropy):
    """-log p(token | z_t), a mean over valid tokens, computed in chunks; its gradient reaches net and embeddings.

    A trainable Gumbel schedule learns H(gamma), the mean cross-entropy of a row at its noise level, by the squared
    error of `expected_nll`: it sees neither's gradient, and net and embeddings do not see its own.

    Args:
        time_schedule: law of training times; default: the published one for OpenWebText, fixed.
        self_cond_prob: probability that a row is conditioned on its own prediction.
        ramp_steps: steps over which the likelihood in the net's logits is raised from 0 to 1; 0 has it in full.
        schedule_loss_weight: weight of the schedule's loss. Adam's steps do not depend on it; a small one keeps the
            large first errors out of the norm at which the net's gradient is clipped [ours] (LangFlow: 1).
        loss_on_padding: whether padding counts in the loss.
        per_position_prob: probability that each position of a row has a time of its own, instead of one for the row.
        self_conditioning: times of the text and of the predictions that it is conditioned on.
        known_prob: probability that a row has a random share of its positions at the clean end of the law, and the
            others at its noisy end or, in 3 of 10 such rows, at one time [ours].
    """

    def __init__(
        self,
        time_schedule: TimeSchedule | None = None,
        self_cond_prob: float = 0.25,
        ramp_steps: int = 5000,
        schedule_loss_weight: float = 1e-3,
        loss_on_padding: bool = False,
        per_position_prob: float = 0.0,
        self_conditioning: SelfConditioning = SelfConditioning(),
        known_prob: float = 0.0,
    ) -> None:
        schedule = time_schedule or Gumbel(4.723, 0.852, 7.02)
        super().__init__(schedule, self_cond_prob, per_position_prob, loss_on_padding, self_conditioning, known_prob)
        self.ramp_steps, self.schedule_loss_weight = ramp_steps, schedule_loss_weight

    def forward(self, net: Denoiser, codec: Codec, path: ProbPath, batch: Batch, step: int) -> dict[str, Tensor]:
        if not isinstance(net, LangFlow):
            raise ValueError(
                f"LangFlowObjective trains the net LangFlow, not {type(net).__name__}: use the objective CrossEntropy"
            )
        if self.training:
            net.ramp.fill_(min((step + 1) / self.ramp_steps, 1.0) if self.ramp_steps else 1.0)
        x = encode_batch(codec, batch)
        return self.loss(net, path, x, batch, self.sample_draws(x))

    def loss(self, net: Denoiser, path: ProbPath, x: Latents, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        assert isinstance(net, LangFlow), "forward has checked it"
        z, t, cond = self.noisy_input(net, path, x, batch, draws)
        valid = batch.loss_mask(self.loss_on_padding)
        nll, terms = net.token_nll(net.features(z, t, cond)[valid], batch.ids[valid])
        total = valid.sum()
        losses = {"loss": nll / total.clamp_min(1), "tokens": total}
        return losses | self.schedule_losses(losses["loss"], row_means(terms, valid), t, valid)

    def schedule_losses(self, ce: Tensor, row_ce: Float[Tensor, " B"], t: Times, valid: Mask) -> dict[str, Tensor]:
        """The loss with that of a trainable schedule, and both by themselves.

        Args:
            ce: mean cross-entropy of the batch, nats per token.
            row_ce: mean cross-entropy of each row, without gradient; NaN without a token.
            t: times of the rows, or of their positions.
            valid: positions that count in the cross-entropies.
        """
        schedule = self.time_schedule
        if not (isinstance(schedule, Gumbel) and schedule.trainable):
            return {}
        expected = schedule.expected_nll(t)
        expected = row_means(expected[valid], valid) if t.ndim == 2 else expected
        square = (row_ce - expected).square()
        error = torch.where(row_ce.isfinite(), square, 0.0).sum() / row_ce.isfinite().sum().clamp_min(1)
        values = {"ce": ce.detach(), "schedule_mse": error.detach(), "gamma_loc": schedule.loc.detach()}
        return {"loss": ce + self.schedule_loss_weight * error, "gamma_scale": schedule.scale.detach()} | values


def row_means(terms: Float[Tensor, " n"], valid: Mask) -> Float[Tensor, " B"]:
    """Mean over each row's valid tokens of their terms, in order; NaN in a row without one."""
    spread = torch.zeros(valid.shape, dtype=terms.dtype, device=terms.device).masked_scatter(valid, terms)
    return spread.sum(1) / valid.sum(1)
