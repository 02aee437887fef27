"""FastDiSS (2604.05551): self-conditions as noisy as in sampling by few steps, and more noise where tokens are easy."""

from dataclasses import dataclass

import torch

from textflow.objectives.self_conditioning import NoisyText, Predict, SelfConditioning, self_condition
from textflow.types import Latents, Times


@dataclass(frozen=True)
class FastDiSS(SelfConditioning):
    """Text is conditioned on a prediction at a noisier time, t - u max_lag, u uniform in [0, 1] (self-conditioning
    perturbation). A position's time is t (1 - noise_scaling c), c = exp(-|E[x | z_t] - x|^2 / (2 d error_scale^2)) from
    a pass without self-condition: tokens that are predicted well get more noise (model-aware noise scaling).

    Times count from the path's noisy end, in units of its length. A prompt keeps its time, and no gradient passes
    through predictions and times. The paper's forms and constants were not found: these forms and constants are
    [ours]. The noisier latents are z_t with fresh noise: with that of z_t, both latents would give away the text, which
    no sampler has seen. Losses of one noise_scaling are not comparable with those of another; samples and bounds are.

    As c depends on the text, a time tells of it, and the law of least loss is not p(token | z_t). On two tokens at -1
    and 1 (straight path with noise 1, counted from 3 * 10^6 to 10^7 draws) its cross-entropy at equal times exceeds the
    posterior's by .5% for noise_scaling .1, and by 6 to 10% for .3: errors of the predictions feed back into the times,
    and counts of few draws drift further off at .1 too. Positions that are predicted well are not trained in the
    cleanest part noise_scaling of the path.

    With max_lag and noise_scaling 0 it is SelfConditioning.

    Args:
        max_lag: largest lead of the text over its prediction, in [0, 1]; 1 / K for samples of K equal steps. 0
            predicts at the text's own time.
        noise_scaling: part of its time that a perfectly predicted token loses, in [0, 1). 0 leaves all times; other
            values cost a pass of all rows, and need a net that takes one time per position.
        error_scale: root mean square error of a latent's entries at which c is exp(-1/2), above 0.
    """

    max_lag: float = 0.2
    noise_scaling: float = 0.3
    error_scale: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.max_lag <= 1 or not 0 <= self.noise_scaling < 1 or not self.error_scale > 0:
            raise ValueError(
                f"FastDiSS got max_lag {self.max_lag}, noise_scaling {self.noise_scaling} and error_scale "
                f"{self.error_scale}; it needs max_lag in [0, 1], noise_scaling in [0, 1) and an error_scale above 0"
            )

    @property
    def per_position(self) -> bool:
        return self.noise_scaling > 0

    def noise_times(self, predict: Predict, text: NoisyText, t: Times) -> Times:
        if not self.noise_scaling:
            return t
        rows = torch.arange(len(text.x), device=text.x.device)
        _, predicted = self_condition(predict, text.at(t), t, text.cond, rows)
        error = (predicted - text.x.detach()).float().square().mean(-1)  # [B, S]
        ease = (-error / (2 * self.error_scale**2)).exp().to(t.dtype)
        if text.cond.prompt_mask is not None:
            ease = ease.masked_fill(text.cond.prompt_mask, 0.0)
        each = t if t.ndim == 2 else t[:, None]
        return each - self.noise_scaling * ease * (each - text.path.t_min).clamp_min(0)

    def prediction_state(self, text: NoisyText, z: Latents, t: Times) -> tuple[Latents, Times]:
        if not self.max_lag:
            return z, t
        span = text.path.t_max - text.path.t_min
        lag = self.max_lag * span * torch.rand(len(t), device=t.device, dtype=t.dtype)
        earlier = torch.minimum(t, (t - lag.view(-1, *[1] * (t.ndim - 1))).clamp_min(text.path.t_min))
        return text.cond.restore_prompt(text.path.rewind(z, torch.randn_like(z), t, earlier)), earlier
