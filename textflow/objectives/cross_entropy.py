"""Cross-entropy denoising: p(token | z_t) of every position (CDCD, 2211.15089; LangFlow; FLM, 2602.16813)."""

import torch.nn.functional as F
from torch import Tensor

from textflow.codecs.base import Codec, encode_batch
from textflow.nets.base import Denoiser
from textflow.objectives.base import Draws
from textflow.objectives.denoising import DenoisingObjective
from textflow.paths.base import ProbPath
from textflow.types import Batch, Latents


class CrossEntropy(DenoisingObjective):
    """-log p(token | z_t), a mean over valid tokens; the codec's embeddings get their gradient where they are trained.

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

    def forward(self, net: Denoiser, codec: Codec, path: ProbPath, batch: Batch, step: int) -> dict[str, Tensor]:
        x = encode_batch(codec, batch)
        return self.loss(net, path, x, batch, self.sample_draws(x))

    def loss(self, net: Denoiser, path: ProbPath, x: Latents, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """The losses for given draws and clean latents x; a prompt is clean in z and has no loss."""
        z, t, cond = self.noisy_input(net, path, x, batch, draws)
        logits = net(z, t, cond).logits
        if logits is None:
            raise ValueError(
                f"CrossEntropy needs a net that gives token logits; {type(net).__name__} gives only a mean: use the "
                "net DiT"
            )
        valid = batch.loss_mask(self.loss_on_padding)
        nll = F.cross_entropy(logits[valid].float(), batch.ids[valid], reduction="sum")  # [n, V] -> scalar
        total = valid.sum()
        return {"loss": nll / total.clamp_min(1), "tokens": total}
