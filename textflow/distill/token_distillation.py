"""Token distillation: one pass of a student writes the texts that its teacher writes in groups [ours]."""

import torch
import torch.nn.functional as F
from torch import Tensor

from textflow.codecs.base import Codec
from textflow.distill.base import StudentObjective
from textflow.nets.base import Denoiser
from textflow.noise import LatentNoise
from textflow.objectives.base import Objective
from textflow.paths.base import ProbPath
from textflow.readouts import FromPosterior
from textflow.samplers import DenoiseFn, Euler, Grouped, Order
from textflow.types import Batch, Ids, Latents, Logits


class TokenDistillation(StudentObjective):
    """-log p(text | noise), a mean over all tokens, of texts that the teacher draws from the same noise.

    The teacher chooses tokens group after group, and its random choices are functions of the latents at the noisy end
    (`LatentNoise`), which both see: the text is a function of the noise, its law is the teacher's, and a student of
    one pass has something to learn. Training text sets only the number and length of the rows.

    Args:
        order: groups of positions of the teacher's text, one step each; those that `textflow order` finds cost least.
        temperature: temperature of the teacher's choices, above 0.
        teacher_objective: objective that the teacher was trained for.
    """

    steps = 1

    def __init__(
        self, order: Order = Grouped(), temperature: float = 1.0, teacher_objective: Objective | None = None
    ) -> None:
        super().__init__(None, teacher_objective)
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}; TokenDistillation needs choices, so one above 0")
        self.order, self.readout = order, FromPosterior(temperature)

    def forward(self, net: Denoiser, codec: Codec, path: ProbPath, batch: Batch, step: int) -> dict[str, Tensor]:
        if batch.prompt_mask is not None:
            raise ValueError("TokenDistillation trains on whole texts, but the data are pairs with a prompt")
        shape = len(batch.ids), codec.num_latents(batch.ids.shape[1]), codec.dim
        return self.loss(net, codec, path, torch.randn(shape, device=batch.ids.device))

    def loss(self, net: Denoiser, codec: Codec, path: ProbPath, eps: Latents) -> dict[str, Tensor]:
        """The loss for given noise, standard normal [B, S, d]."""
        z = path.mix(torch.zeros_like(eps), eps, path.t_min)
        ids = self.teacher_ids(codec, path, z, eps)
        nll = F.cross_entropy(self.student_logits(net, codec, path, z).float().flatten(0, 1), ids.flatten())
        return {"loss": nll, "tokens": torch.tensor(ids.numel(), device=ids.device)}

    @torch.no_grad()
    def teacher_ids(self, codec: Codec, path: ProbPath, z: Latents, eps: Latents) -> Ids:
        """The teacher's text [B, L] from latents at the noisy end z and their noise eps [B, S, d]."""
        net = self.require_teacher()
        assert isinstance(net, Denoiser)
        denoise, times = self.denoise_fn(net, codec, path), self.step_times(path)
        return self.order.sample(denoise, self.readout, Euler(), times, z, LatentNoise(eps)).ids

    def student_logits(self, net: Denoiser, codec: Codec, path: ProbPath, z: Latents) -> Logits:
        """Token logits of the only step from z to text [B, L, V]."""
        denoise, (start, end) = self.denoise_fn(net, codec, path), self.step_times(path)
        return self.readout.logits(denoise.view(z, start, denoise(z, start, None, end)))

    def denoise_fn(self, net: Denoiser, codec: Codec, path: ProbPath) -> DenoiseFn:
        """A network as sampling calls it."""
        return DenoiseFn(net, codec, path, self.readout, t_last=self.time_schedule.t_last)

    def step_times(self, path: ProbPath) -> list[float]:
        """Start and end of a step from noise to text, as in sampling."""
        return self.time_schedule.grid(1, t_min=path.t_min, t_max=path.t_max)
