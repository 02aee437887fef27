"""What a cheaper target costs, where the teacher is as smooth as a trained one."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.gaussian_clouds import DIM, LENGTH, codes
from textflow.diagnostics.target_error import target_error
from textflow.distill.step import StepDistillation
from textflow.distill.targets import Progressive
from textflow.nets import Denoiser
from textflow.objectives import ELFDraws, ELFObjective
from textflow.paths import LinearPath
from textflow.types import Conditioning, Latents, Posterior, Times


class Clouds(Denoiser):
    """The exact denoiser of tokens that are Gaussian clouds, in float32, which autocast lowers."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.words = DIM, codes().float()

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        t = t.float()[:, None, None]
        logits = t * (z.float() @ self.words.T) - t**2 * (self.words**2).sum(-1) / 2
        return Posterior(((logits / (4 * (1 - t) ** 2 + 0.1)).softmax(-1) @ self.words).to(z))


def test_the_cost_of_a_cheaper_target_is_told() -> None:
    torch.manual_seed(0)
    x, mask = codes()[torch.randint(16, (20, LENGTH))], torch.rand(20, LENGTH) < 0.8
    like = ELFObjective()
    draws = like.sample_draws(x)
    draws = ELFDraws(*(part.double() if part.is_floating_point() else part for part in draws))

    def cost(target: Progressive, **options: Any) -> dict[str, Tensor]:
        torch.manual_seed(0)
        made = StepDistillation(target, 2, like, **options)
        made.set_teacher(like, Clouds())
        return target_error(made, LinearPath(2.0), x, mask, draws, 16)

    assert float(cost(Progressive(16))["error"]) == 0
    torch.testing.assert_close(cost(Progressive(1))["relative_error"], torch.ones((), dtype=torch.float64))
    assert 0 < float(cost(Progressive(8))["error"]) < float(cost(Progressive(4))["error"])
    assert 0 < float(cost(Progressive(4, order=2))["error"]) < float(cost(Progressive(4))["error"])
    half = float(cost(Progressive(16), teacher_precision="bf16")["relative_error"])
    assert 0 < half < 0.2
    with pytest.raises(ValueError, match="divide"):
        cost(Progressive(5))
