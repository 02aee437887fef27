"""The prior of Cola-DLM: flow matching of each block of latents, given the clean blocks before it (2605.06548)."""

import torch

from textflow.codecs.base import Codec, encode_batch
from textflow.nets.base import Denoiser
from textflow.nets.cola import ColaDiT
from textflow.objectives.base import Draws, Objective
from textflow.paths.base import ProbPath
from textflow.schedules.base import TimeSchedule
from textflow.schedules.logit_normal import LogitNormal
from textflow.types import Batch, Latents, PositionMask, Times


class ColaObjective(Objective):
    """Squared error of the velocity x - eps, a mean over noisy latents (Cola-DLM, sec. 3.3 and its training scripts).

    A row has one time; in some blocks the first latents are clean, t = 1, and without loss, as a prompt that ends
    inside a block. Latents are drawn from the codec's distribution.

    Args:
        time_schedule: law of a row's time; default: logit-normal of mean -1, for latents of width 16 (loc 1 from text).
        prompt_prob: probability that a block begins with a simulated prompt, of 1 ... size - 1 latents.
        loss_on_padding: whether padding counts in the loss.
    """

    def __init__(
        self, time_schedule: TimeSchedule | None = None, prompt_prob: float = 0.05, loss_on_padding: bool = False
    ) -> None:
        super().__init__()
        if not 0 <= prompt_prob <= 1:
            raise ValueError(f"prompt_prob is {prompt_prob}; needs a probability in [0, 1]")
        self.time_schedule = time_schedule or LogitNormal(-1.0, 1.0)
        self.prompt_prob, self.loss_on_padding = prompt_prob, loss_on_padding

    def forward(self, net: Denoiser, codec: Codec, path: ProbPath, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        if not isinstance(net, ColaDiT):
            raise ValueError(
                f"ColaObjective trains a net that is causal over blocks (ColaDiT), not {type(net).__name__}"
            )
        x = encode_batch(codec, batch, draw=True)
        draws, clean = self.sample_draws(x), self.sample_prompts(x, net.block_size)
        valid = codec.latent_mask(batch.loss_mask(self.loss_on_padding))
        if batch.prompt_mask is not None:
            clean = clean | codec.latent_mask(batch.prompt_mask)
        return self.loss(net, path, x, valid, draws._replace(t=clean_times(draws.t, clean, path.t_max)))

    def sample_prompts(self, x: Latents, block_size: int) -> PositionMask:
        """True on the simulated prompts of blocks [B, S]."""
        rows, count = x.shape[:2]
        starts = torch.arange(0, count, block_size, device=x.device)
        sizes = (count - starts).clamp_max(block_size)
        some = torch.rand(rows, len(starts), device=x.device) < self.prompt_prob
        known = 1 + (torch.rand(rows, len(starts), device=x.device) * (sizes - 1)).long()
        known = torch.where(some & (sizes > 1), known, 0)  # [B, blocks]
        place = torch.arange(count, device=x.device)
        return place % block_size < known.repeat_interleave(block_size, 1)[:, :count]

    def loss(
        self, net: ColaDiT, path: ProbPath, x: Latents, valid: PositionMask, draws: Draws
    ) -> dict[str, torch.Tensor]:
        """The losses for given latents, noise and times [B, S]; a latent at the clean end has no loss.

        Args:
            net: denoiser to train.
            path: straight path of unit noise.
            x: clean latents [B, S, d].
            valid: True on latents in the loss [B, S].
            draws: noise, and a time a latent.
        """
        t = draws.t
        v = net.velocity_after(x, path.mix(x, draws.eps, t), t)
        mask = valid & (t < path.t_max)
        total = mask.sum()
        slope = path.mix(x, draws.eps, path.t_max) - path.mix(x, draws.eps, path.t_min)  # dz/dt of the straight path
        squared = ((v - slope / (path.t_max - path.t_min)) ** 2).mean(-1) * mask
        return {"loss": squared.sum() / total.clamp_min(1), "tokens": total}


def clean_times(t: Times, clean: PositionMask, t_max: float) -> Times:
    """A row's time [B] or its positions' [B, S] -> times [B, S], t_max on clean latents."""
    times = t if t.ndim == 2 else t[:, None].expand(clean.shape)
    return times.masked_fill(clean, t_max)
