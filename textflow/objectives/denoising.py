"""Parts shared by objectives of one denoising pass: times, self-conditioning, and a prompt that stays clean."""

from abc import ABC

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.nets.base import Denoiser
from textflow.objectives.base import Draws, Objective
from textflow.objectives.row_indices import row_indices
from textflow.objectives.self_conditioning import NoisyText, SelfConditioning, self_condition
from textflow.paths.base import ProbPath
from textflow.schedules.base import TimeSchedule
from textflow.schedules.uniform import Uniform
from textflow.types import Batch, Conditioning, Latents, Times

BLANK_SHARE = 0.7  # share of the rows with known positions whose others are noise


class DenoisingObjective(Objective, ABC):
    """A loss of the belief about noisy latents, in some rows conditioned on the net's own prediction.

    Args:
        time_schedule: law of training times; default: uniform.
        self_cond_prob: probability that a row is conditioned on its own prediction.
        per_position_prob: probability that each position of a row has a time of its own, instead of one for the row
            (diffusion forcing, 2407.01392, at 1; a share of the rows [ours]).
        known_prob: probability that a row has a random share of its positions at the clean end of the law, and the
            others at its noisy end or, in 3 of 10 such rows, at one time [ours]: what the order Grouped needs.
        loss_on_padding: whether padding counts in the loss.
        self_conditioning: times of the text and of the predictions that it is conditioned on.
    """

    def __init__(
        self,
        time_schedule: TimeSchedule | None = None,
        self_cond_prob: float = 0.0,
        per_position_prob: float = 0.0,
        loss_on_padding: bool = False,
        self_conditioning: SelfConditioning = SelfConditioning(),
        known_prob: float = 0.0,
    ) -> None:
        super().__init__()
        self.time_schedule = time_schedule or Uniform()
        probs = {"self_cond_prob": self_cond_prob, "per_position_prob": per_position_prob, "known_prob": known_prob}
        for name, value in probs.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} = {value}: {type(self).__name__} needs a probability in [0, 1]")
        self.self_cond_prob, self.per_position_prob = self_cond_prob, per_position_prob
        self.known_prob, self.loss_on_padding, self.self_conditioning = known_prob, loss_on_padding, self_conditioning

    def sample_draws(self, x: Latents) -> Draws:
        rows = torch.rand(len(x), device=x.device) < self.self_cond_prob
        return Draws(self.sample_times(x), torch.randn_like(x), self_cond=rows)

    def sample_times(self, x: Latents) -> Times:
        """Times of the rows [B]; of their positions [B, S], if some rows have a time for each."""
        t = self.time_schedule.sample(len(x), device=x.device)
        if self.per_position_prob:
            each = torch.rand(len(x), 1, device=x.device) < self.per_position_prob
            t = torch.where(each, self.time_schedule.sample(*x.shape[:2], device=x.device), t[:, None])
        return self.set_known(t, *x.shape[:2]) if self.known_prob else t

    def set_known(self, t: Times, rows: int, positions: int) -> Float[Tensor, "B S"]:
        """Times with a random share of the positions of some rows at the clean end of the law."""

        def chance(probability: float | Tensor, count: int = 1) -> Tensor:
            return torch.rand(rows, count, device=t.device) < probability

        t = t.reshape(rows, -1).expand(rows, positions)
        noisy, clean = self.time_schedule.icdf(torch.tensor([0.0, 1.0], dtype=torch.float64, device=t.device)).to(t)
        others = torch.where(chance(BLANK_SHARE), noisy, self.time_schedule.sample(rows, 1, device=t.device))
        known = chance(torch.rand(rows, 1, device=t.device), positions)
        return torch.where(chance(self.known_prob), torch.where(known, clean, others), t)

    def noisy_input(
        self, net: Denoiser, path: ProbPath, x: Latents, batch: Batch, draws: Draws
    ) -> tuple[Latents, Times, Conditioning]:
        """Noisy latents with a clean prompt, their times, and the conditioning, in some rows on the net's own mean."""
        cond = Conditioning(prompt=None if batch.prompt_mask is None else x, prompt_mask=batch.prompt_mask)
        text = NoisyText(path, x, draws.eps, cond)

        def predict(z: Latents, t: Times, cond: Conditioning) -> Latents:
            return net(z, t, cond).mean

        t = self.self_conditioning.noise_times(predict, text, draws.t)
        z = text.at(t)
        if draws.self_cond is not None and self.self_cond_prob:
            state = self.self_conditioning.prediction_state(text, z, t)
            cond = cond._replace(self_cond=self_condition(predict, *state, cond, row_indices(draws.self_cond))[0])
        return z, t, cond
