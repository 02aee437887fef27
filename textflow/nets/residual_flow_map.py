"""Stage 1 of a two-stage flow map: a frozen teacher and a learned correction of its steps."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from textflow.codecs import Codec
from textflow.nets.base import Denoiser
from textflow.nets.dit import DiT
from textflow.paths import LinearPath, ProbPath
from textflow.paths.base import broadcast_time
from textflow.types import Conditioning, Latents, Posterior, Times


class ResidualFlowMap(Denoiser):
    """D(z; s, u) = D_s + (u - s) / 2 (1 - s) g(z; s, u): a teacher's prediction D_s and a learned correction g (FMLM,
    stage 1 of two; its flow map is z + (u - s) v + (u - s)^2 / 2 g). The teacher is saved with it.

    `textflow distill` takes the nets and the path from the teacher's recipe. A student of a ResidualFlowMap whose
    recipe names no net is a DiT as `net`, without loss weighting, from the teacher's weights (stage 2).

    Args:
        codec: codec of the latents.
        teacher: denoiser that is conditioned on s alone; it stays frozen.
        net: network whose logits are g; it starts from the teacher's weights, with g = 0.
        path: probability path of both; default: LinearPath(1, 0).
    """

    def __init__(
        self,
        codec: Codec,
        teacher: Callable[[Codec], DiT] | None = None,
        net: Callable[[Codec], DiT] | None = None,
        path: ProbPath | None = None,
    ) -> None:
        super().__init__()
        if teacher is None or net is None:
            raise ValueError("ResidualFlowMap is a student: name its teacher, `textflow distill RECIPE --teacher RUN`")
        self.teacher, self.net = teacher(codec).requires_grad_(False).eval(), net(codec)
        self.path, self.dim = path or LinearPath(1.0, 0.0), self.net.dim

    @property
    def two_time(self) -> bool:
        return self.net.two_time

    def train(self, mode: bool = True) -> "ResidualFlowMap":
        """Set the training mode of the correction; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def init_from(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the weights of a DiT into the teacher and the correction, whose output is then 0."""
        for part in (self.teacher, self.net):
            part.init_from(weights)
        zero: list[nn.Module] = [self.net.out]
        if self.net.end_t_embed is not None:
            zero.append(self.net.end_t_embed.mlp[-1])
        for layer in zero:
            for p in layer.parameters():
                nn.init.zeros_(p)

    def student_weights(self) -> Mapping[str, Tensor]:
        """The teacher's."""
        return self.teacher.state_dict()

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        with torch.no_grad():
            x0 = self.teacher(z, t, cond._replace(end_time=None)).mean
        if cond.end_time is None:
            return Posterior(x0)
        zero = torch.zeros_like(z)
        rest = 1 / self.path.velocity(zero, zero + 1, t)  # 1 - s on the straight path
        return Posterior(x0 + broadcast_time(cond.end_time - t, z) / 2 * rest * self.net.forward_logits(z, t, cond))

    def log_expected_error(self, t: Times) -> Times | None:
        """The net's expected error."""
        return self.net.log_expected_error(t)
