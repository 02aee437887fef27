"""Token distillation: a student writes in one pass, or a few, the texts that its teacher writes in groups [ours]."""

from collections.abc import Sequence
from dataclasses import replace

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
from textflow.samplers import DenoiseFn, Euler, Grouped
from textflow.samplers.denoise_fn import TokenContext
from textflow.types import Batch, Ids, Latents, Logits, PositionMask


class TokenDistillation(StudentObjective):
    """-log p(text | noise), a mean over all tokens, of texts that the teacher draws from the same noise.

    The teacher chooses tokens group after group, and its random choices are functions of the latents at the noisy end
    (`LatentNoise`), which both see: the text is a function of the noise, its law is the teacher's, and a student has
    something to learn. A student of a few passes writes several of the teacher's groups in each, given the tokens of
    the passes before; it is sampled with the order Grouped(student_groups), one step per group. Training text sets only
    the number and length of the rows.

    Args:
        order: groups of positions of the teacher's text, one step each; those that `textflow order` finds cost least.
        student_groups: pass of the student in which each position is written, 0 first; positions of one group of the
            teacher share a pass, and later groups have no earlier one. Default: all in one pass.
        temperature: temperature of the teacher's choices, above 0.
        teacher_objective: objective that the teacher was trained for.
    """

    steps = 1  # of each group

    def __init__(
        self,
        order: Grouped = Grouped(),
        student_groups: Sequence[int] = (),
        temperature: float = 1.0,
        teacher_objective: Objective | None = None,
    ) -> None:
        super().__init__(None, teacher_objective)
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}; TokenDistillation needs choices, so one above 0")
        if student_groups:
            require_coarser(student_groups, order.groups)
        self.order, self.student_order, self.readout = order, Grouped(student_groups), FromPosterior(temperature)

    def forward(self, net: Denoiser, codec: Codec, path: ProbPath, batch: Batch, step: int) -> dict[str, Tensor]:
        if batch.prompt_mask is not None:
            raise ValueError("TokenDistillation trains on whole texts, but the data are pairs with a prompt")
        shape = len(batch.ids), codec.num_latents(batch.ids.shape[1]), codec.dim
        return self.loss(net, codec, path, torch.randn(shape, device=batch.ids.device))

    def loss(self, net: Denoiser, codec: Codec, path: ProbPath, eps: Latents) -> dict[str, Tensor]:
        """The loss for given noise, standard normal [B, S, d]."""
        z = path.mix(torch.zeros_like(eps), eps, path.t_min)
        ids = self.teacher_ids(codec, path, z, eps)
        own, context = self.student_pass(codec, path, z, ids)
        logits = self.student_logits(net, codec, path, z, context)
        nll = F.cross_entropy(logits[own].float(), ids[own], reduction="sum")
        return {"loss": nll * self.passes / ids.numel(), "tokens": torch.tensor(ids.numel(), device=ids.device)}

    @torch.no_grad()
    def teacher_ids(self, codec: Codec, path: ProbPath, z: Latents, eps: Latents) -> Ids:
        """The teacher's text [B, L] from latents at the noisy end z and their noise eps [B, S, d]."""
        net = self.require_teacher()
        assert isinstance(net, Denoiser)
        denoise, times = self.denoise_fn(net, codec, path), self.step_times(path)
        return self.order.sample(denoise, self.readout, Euler(), times, z, LatentNoise(eps)).ids

    @property
    def passes(self) -> int:
        """Number of the student's passes."""
        return max(self.student_order.groups, default=0) + 1

    def student_pass(self, codec: Codec, path: ProbPath, z: Latents, ids: Ids) -> tuple[PositionMask, TokenContext]:
        """True on the positions that each row's pass writes [B, L], and what it is given; the passes take turns in the
        rows, whose noise is independent."""
        group = self.student_order.group_of(z) if self.passes > 1 else torch.zeros_like(ids[0])
        turn = torch.arange(len(ids), device=ids.device)[:, None] % self.passes
        known = group < turn
        x = torch.where(known[..., None], codec.encode(ids, known), 0.0)
        return group == turn, TokenContext(x, known, group > turn, z, self.step_times(path)[0])

    def student_logits(self, net: Denoiser, codec: Codec, path: ProbPath, z: Latents, context: TokenContext) -> Logits:
        """Token logits of one step from z to text [B, L, V]; like the order Grouped, it is conditioned on the tokens
        that are given."""
        denoise, (start, end) = replace(self.denoise_fn(net, codec, path), context=context), self.step_times(path)
        return self.readout.logits(denoise.view(z, start, denoise(z, start, context.x, end)))

    def denoise_fn(self, net: Denoiser, codec: Codec, path: ProbPath) -> DenoiseFn:
        """A network as sampling calls it."""
        return DenoiseFn(net, codec, path, self.readout, t_last=self.time_schedule.t_last)

    def step_times(self, path: ProbPath) -> list[float]:
        """Start and end of a step from noise to text, as in sampling."""
        return self.time_schedule.grid(1, t_min=path.t_min, t_max=path.t_max)


def require_coarser(student: Sequence[int], teacher: Sequence[int]) -> None:
    """Raise a ValueError unless the groups of a student are unions of its teacher's, in the teacher's order."""
    pairs = sorted(set(zip(teacher, student, strict=False)))
    one_each = len(pairs) == len(set(teacher)) and len(student) == len(teacher)
    if not one_each or [own for _, own in pairs] != sorted(own for _, own in pairs):
        raise ValueError(
            f"student_groups are {list(student)}, which are not unions of the teacher's groups {list(teacher)} in "
            "their order; give each position the pass of its group, such as 0 for the first groups and 1 for the rest"
        )
