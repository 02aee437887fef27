"""The error of a cheaper or changed target, and the precision of the teacher."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.gaussian_clouds import DIM, LENGTH, ROWS, VOCAB, CloudELF, codes, student_of
from tests.helpers.sampling import GivenLatents
from textflow.codecs import LatentSpace
from textflow.diagnostics.target_error import target_error
from textflow.distill.targets import Progressive, SalimansHo, Target
from textflow.escapes import Everywhere
from textflow.nets import ELF, Denoiser, Frozen
from textflow.objectives import ELFDraws
from textflow.paths import LinearPath
from textflow.types import Batch, Conditioning, Latents, Posterior, Times


class SmoothClouds(Denoiser):
    """A denoiser of wide clouds, as smooth as a trained one, in float32, which autocast lowers."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.centres = DIM, codes().float()

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        t = t.float()[:, None, None]
        logits = t * (z.float() @ self.centres.T) - t**2 * (self.centres**2).sum(-1) / 2
        return Posterior(((logits / (4 * (1 - t) ** 2 + 0.1)).softmax(-1) @ self.centres).to(z))


def errors(teacher: Denoiser, target: Target, reference: Denoiser | None = None, **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    x, mask = codes()[torch.randint(16, (20, LENGTH))], torch.rand(20, LENGTH) < 0.8
    objective = student_of(teacher, target, **options)
    draws = objective.teacher_objective.sample_draws(x)
    draws = ELFDraws(*(part.double() if part.is_floating_point() else part for part in draws))
    return target_error(objective, LinearPath(2.0), x, mask, draws, 16, None, reference)


def test_the_error_of_a_cheaper_target_falls_with_substeps_and_order() -> None:
    teacher = SmoothClouds()
    assert errors(teacher, Progressive(16))["error"] == 0
    assert float(errors(teacher, Progressive(1))["relative_error"]) == pytest.approx(1)
    targets = Progressive(8), Progressive(4), Progressive(4, order=2)
    eight, four, second = (errors(teacher, target)["error"] for target in targets)
    assert 0 < eight < four and 0 < second < four
    assert 0 < errors(teacher, Progressive(16), teacher_precision="bf16")["relative_error"] < 0.2
    with pytest.raises(ValueError, match="divide"):
        errors(teacher, Progressive(5))


@pytest.mark.integration
def test_the_error_of_a_changed_target_is_that_of_the_change() -> None:
    plain, other = Progressive(16), CloudELF()
    nn.init.zeros_(other.out.weight)
    assert errors(CloudELF(), plain)["relative_error"] == 0
    assert errors(CloudELF(), plain, other)["relative_error"] == 0, "another net with the same predictions"
    changes = [
        errors(CloudELF(), plain, commit_gate=Everywhere()),
        errors(CloudELF(), Progressive(16, gamma=1.5)),
        errors(CloudELF(), SalimansHo()),
    ]
    relative = [float(change["relative_error"]) for change in changes]
    assert min(relative) > 0.02 and relative[2] < 0.5, f"two even steps replace 16 Euler steps: {relative}"


class DtypeRecorder(nn.Linear):
    """A layer that records the dtype of its outputs."""

    dtypes: set[torch.dtype]

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        self.dtypes.add(out.dtype)
        return out


@pytest.mark.parametrize(("precision", "dtype"), [("same", torch.float32), ("bf16", torch.bfloat16)])
def test_the_teacher_alone_computes_in_bf16(precision: str, dtype: torch.dtype) -> None:
    nets = [ELF(LatentSpace(DIM, VOCAB), width=16, depth=1, heads=2, bottleneck=8) for _ in range(2)]
    layers: list[Any] = [net.blocks[0].attn.proj for net in nets]
    for layer in layers:
        layer.__class__, layer.dtypes = DtypeRecorder, set()
    objective = student_of(nets[0], teacher_precision=precision)
    ids = torch.randint(VOCAB, (ROWS, LENGTH))
    codec = GivenLatents(torch.randn(ROWS, LENGTH, DIM))
    objective(nets[1], codec, LinearPath(), Batch(ids, ids >= 0), 0)["loss"].backward()
    assert [layer.dtypes for layer in layers] == [{dtype}, {torch.float32}]
    assert all(p.dtype == torch.float32 for p in nets[0].parameters()) and isinstance(objective.teacher, Frozen)
