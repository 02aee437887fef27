"""Squared error of the clean prediction, for latents that need not be one a token (Cosmos, DiLaDiff)."""

from torch import Tensor

from textflow.codecs.base import Codec, encode_batch, latent_batch
from textflow.nets.base import Denoiser
from textflow.objectives.base import Draws
from textflow.objectives.denoising import DenoisingObjective
from textflow.paths.base import ProbPath
from textflow.types import Batch, Latents


class SquaredError(DenoisingObjective):
    """|E[x | z_t] - x|^2, a mean over valid latents and their coordinates, of equal weight at all times (Cosmos,
    2506.21170; TEncDM, 2402.19097).

    Args:
        time_schedule: law of training times; default: uniform.
        self_cond_prob: probability that a row is conditioned on its own prediction (both papers: 0.5).
        per_position_prob: probability that each position of a row has a time of its own, for nets that take one.
        loss_on_padding: whether padding counts in the loss.
        self_conditioning: times of the latents and of the predictions that they are conditioned on.
    """

    def forward(self, net: Denoiser, codec: Codec, path: ProbPath, batch: Batch, step: int) -> dict[str, Tensor]:
        x = encode_batch(codec, batch, draw=True)
        return self.loss(net, path, x, latent_batch(codec, batch), self.sample_draws(x))

    def loss(self, net: Denoiser, path: ProbPath, x: Latents, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """The losses for given draws and clean latents x; a prompt is clean in z and has no loss.

        Args:
            net: denoiser to train.
            path: how latents are noised.
            x: clean latents [B, S, d].
            batch: masks of the latents (`latent_batch`).
            draws: random numbers of this step.
        """
        z, t, cond = self.noisy_input(net, path, x, batch, draws)
        squared = (net(z, t, cond).mean - x).square().mean(-1)  # [B, S, d] -> [B, S]
        valid = batch.loss_mask(self.loss_on_padding)
        return {"loss": (squared * valid).sum() / valid.sum().clamp_min(1), "tokens": valid.sum()}
