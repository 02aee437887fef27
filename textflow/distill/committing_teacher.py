"""A teacher that commits: at a gate's positions its prediction becomes the latents of the likeliest tokens."""

from collections.abc import Callable

import torch

from textflow.escapes.base import Gate
from textflow.escapes.gates import ConfidenceSchedule
from textflow.escapes.logit_adjustment import adjust_logits
from textflow.nets.base import DecodingDenoiser
from textflow.paths.base import ProbPath, broadcast_time
from textflow.types import Conditioning, Ids, Latents, Logits, Posterior, Times

MIN_COMMIT_TIME = 0.01  # before that z is nearly pure noise, and no position commits


class CommittingTeacher:
    """mean <- embed(argmax p(token | z_t)) at the gate's positions: a denoiser that commits as the escape Commit does.

    Args:
        net: teacher; its commitment head gives the tokens, or else its decode mode (as the readout MatchedFromNet).
        gate: positions that commit; not a gate that depends on time.
        embed: token ids -> clean latents.
        path: probability path that the latents follow.
        decode_noise_scale: standard deviation of a decoding row's noise at clean fraction 0.
        tau: strength of the logit adjustment, in [0, 1), as in the escape LogitAdjustment.
    """

    def __init__(
        self,
        net: DecodingDenoiser,
        gate: Gate,
        embed: Callable[[Ids], Latents],
        path: ProbPath,
        decode_noise_scale: float,
        tau: float = 0.0,
    ) -> None:
        if isinstance(gate, ConfidenceSchedule):
            raise ValueError(
                "the gate ConfidenceSchedule needs one time for all rows, but a teacher has many; use Everywhere or "
                "LowConfidence"
            )
        self.net, self.gate, self.embed, self.path, self.decode_noise_scale = net, gate, embed, path, decode_noise_scale
        self.tau = tau

    def __call__(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        hidden = self.net.forward_hidden(z, t, cond)
        mean = self.net.predict_x0(hidden)
        logits = self.net.commitment_logits(hidden)
        if logits is None:
            logits = self.decode_logits(z, t, cond)
        if self.tau:
            logits = adjust_logits(logits, self.tau)
        committed = self.gate(logits, mean, 0.5) & (t > MIN_COMMIT_TIME)[:, None]
        return Posterior(torch.where(committed[..., None], self.embed(logits.argmax(-1)).to(mean), mean))

    def decode_logits(self, z: Latents, t: Times, cond: Conditioning) -> Logits:
        """Logits of p(token | z_t) in decode mode, at the signal-to-noise ratio that decoding was trained with."""
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        scale = broadcast_time(self.decode_noise_scale / (self.decode_noise_scale * alpha + sigma), z)
        return self.net.decode_logits(scale * z, torch.ones_like(t), cond._replace(self_cond=None, end_time=None))
