"""Discrete consistency distillation (DCD; Duo, 2506.10892): a student of uniform diffusion skips a teacher's steps."""

from typing import Literal

import torch
from torch import Tensor

from textflow.discrete.base import DiscreteObjective
from textflow.discrete.denoiser import TokenDiT
from textflow.discrete.duo import DuoObjective, diffuse
from textflow.discrete.uniform import gaussian_survival
from textflow.layers.frozen import Frozen
from textflow.types import Batch, Logits


class DiscreteConsistency(DiscreteObjective):
    """KL divergence between the student's law of clean tokens at t and the teacher's at t + 1 / steps, both corruptions
    being argmax of one Gaussian trajectory; a token mean.

    Args:
        teacher_objective: objective that the teacher was trained for (from the teacher's recipe).
        steps: steps of the student from noise to text; the teacher is 1 / steps closer to text.
        update_teacher: whether the student of one round is the teacher of the next.
        gamma_min: log noise-to-signal ratio at t = 1.
        gamma_max: log noise-to-signal ratio at t = 0, above gamma_min.
        divergence: `backward` is KL(student || teacher), `forward` is KL(teacher || student).
    """

    teacher: Frozen | None

    def __init__(
        self,
        teacher_objective: DiscreteObjective | None = None,
        steps: int = 512,
        update_teacher: bool = True,
        gamma_min: float = -4.0,
        gamma_max: float = -1.0,
        divergence: Literal["backward", "forward"] = "backward",
    ) -> None:
        teacher_objective = teacher_objective or DuoObjective()
        require_uniform_diffusion(teacher_objective)
        super().__init__(teacher_objective.process, teacher_objective.sampling_eps, True, True)
        if steps < 2 or not gamma_min < gamma_max:
            raise ValueError(
                f"DiscreteConsistency got {steps} steps, gamma_min {gamma_min} and gamma_max {gamma_max}; it needs at "
                "least 2 steps and gamma_min < gamma_max"
            )
        self.steps, self.update_teacher, self.divergence, self.teacher = steps, update_teacher, divergence, None
        self.gamma_min, self.gamma_max = gamma_min, gamma_max

    def set_teacher(self, objective: DiscreteObjective, teacher: TokenDiT) -> None:
        require_uniform_diffusion(objective)
        self.teacher = Frozen(teacher)

    def forward(self, net: TokenDiT, batch: Batch, step: int) -> dict[str, Tensor]:
        t = self.sample_times(torch.rand(len(batch.ids), dtype=torch.float64, device=batch.ids.device))
        eps = torch.randn(*batch.ids.shape, net.vocab_size, device=batch.ids.device)
        return self.loss(net, batch, (t - 1 / self.steps).clamp_min(0), eps)

    def loss(self, net: TokenDiT, batch: Batch, t: Tensor, eps: Tensor) -> dict[str, Tensor]:
        """The loss for given draws.

        Args:
            net: student.
            batch: token ids and masks.
            t: time of the student [B], from 0 to 1 - 1 / steps.
            eps: standard normal numbers [B, L, N].
        """
        if self.teacher is None:
            raise ValueError(
                "DiscreteConsistency has no teacher: name its run, `textflow distill RECIPE --teacher RUN`"
            )
        student = self.log_law(net, batch, t, eps)
        with torch.no_grad():
            teacher = self.log_law(self.teacher.module, batch, t + 1 / self.steps, eps)  # type: ignore[arg-type]
        of, to = (student, teacher) if self.divergence == "backward" else (teacher, student)
        valid = batch.loss_mask()
        kl = (of.exp() * (of - to)).sum(-1)
        return {"loss": (kl * valid).sum() / valid.sum().clamp_min(1), "tokens": valid.sum()}

    def log_law(self, net: TokenDiT, batch: Batch, t: Tensor, eps: Tensor) -> Logits:
        """A network's law of clean tokens at t on the trajectory of eps [B, L, N]."""
        gamma = self.gamma_min + (1 - t) * (self.gamma_max - self.gamma_min)
        ids = diffuse(batch.ids, gamma, eps).argmax(-1)
        if batch.prompt_mask is not None:
            ids = torch.where(batch.prompt_mask, batch.ids, ids)
        return self.log_probs(net.lm_logits(net(ids, -gaussian_survival(gamma, net.vocab_size).log())), ids)


def require_uniform_diffusion(objective: DiscreteObjective) -> None:
    """Raise unless a teacher was trained by uniform diffusion."""
    if not isinstance(objective, DuoObjective | DiscreteConsistency):
        raise ValueError(
            f"DiscreteConsistency needs a teacher of uniform diffusion (DuoObjective), but this one was trained by "
            f"{type(objective).__name__}"
        )
