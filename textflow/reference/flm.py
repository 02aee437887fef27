"""FLM's training step and sampler as published: the oracle for tests and the baseline for benchmarks."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from textflow.nets.dit import DiT
from textflow.types import Batch, Latents, Times


def reference_flm_loss(net: DiT, batch: Batch, t: Times, eps: Latents) -> dict[str, Tensor]:
    """`FLMObjective.loss` with states and noise as wide as the vocabulary (FLM, released code).

    Args:
        net: denoiser.
        batch: token ids and masks.
        t: time of each row [B].
        eps: standard normal noise [B, L, V].
    """
    time = t[:, None, None]
    z = (1 - time) * eps + time * F.one_hot(batch.ids, net.vocab_size).float()
    log_probs = net.forward_logits(z, t).log_softmax(-1)
    nll = -log_probs.gather(-1, batch.ids[..., None])[..., 0]
    total = batch.mask.sum()
    return {"loss": (nll * batch.mask).sum() / total.clamp_min(1), "tokens": total}


@torch.no_grad()
def reference_flm_sample(net: DiT, z: Latents, times: list[float]) -> Iterator[tuple[Latents, Latents]]:
    """Euler's state before each step, and the predicted probabilities, whose last are the sample (FLM, released code).

    Args:
        net: denoiser.
        z: standard normal noise [B, L, V].
        times: increasing grid from 0 to 1.
    """
    for t, t_next in zip(times[:-1], times[1:], strict=True):
        p = net.forward_logits(z, z.new_full((len(z),), t)).softmax(-1)
        yield z, p
        z = z + (t_next - t) * (p - z) / (1 - t + 1e-5)
