"""Tokens whose latents are Gaussian clouds: the denoiser is exact, by Bayes' rule; and students of it."""

from typing import Any

import torch
from torch import Tensor

from textflow.codecs import LatentSpace
from textflow.distill.step import StepDistillation
from textflow.distill.targets import PredictFn, Progressive, Target, TargetOutput
from textflow.distill.targets.base import TargetInput
from textflow.nets import ELF, Denoiser
from textflow.objectives import ELFObjective
from textflow.objectives.row_indices import row_indices
from textflow.paths import LinearPath
from textflow.types import Conditioning, Ids, Latents, Logits, Posterior, RowMask, Times

ROWS, LENGTH, DIM, VOCAB = 5, 6, 8, 16
FREE, CLAMPED = LinearPath(2.0, 1e-9), LinearPath(2.0, 0.3)
SELF_COND = torch.tensor([True, False, True, False, False])  # rows that are conditioned on their own prediction


def codes() -> Tensor:
    """Centres of the clouds."""
    torch.manual_seed(0)
    return torch.randn(16, DIM, dtype=torch.float64)


def exact(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
    """E[x | z_t] of clouds of width .3, a little nearer to the self-condition if there is one."""
    t, centres = t.double()[:, None, None], codes()
    var = (t * 0.3) ** 2 + (2 * (1 - t)) ** 2
    middle = ((t * (z @ centres.T) - t**2 * (centres**2).sum(-1) / 2) / var).softmax(-1) @ centres
    mean = middle + t * 0.09 / var * (z - t * middle)
    return Posterior(mean if cond.self_cond is None else mean + 0.1 * cond.self_cond)


def exact_blind(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
    """`exact` without a self-condition."""
    return exact(z, t)


class RowCounter:
    """A denoiser that counts the rows of its calls."""

    def __init__(self, denoiser: PredictFn) -> None:
        self.denoiser, self.rows = denoiser, 0

    def __call__(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        self.rows += len(z)
        return self.denoiser(z, t, cond)


class CloudELF(ELF):
    """An ELF whose predictions and tokens are those of the clouds; it records the latents that it decodes."""

    def __init__(self) -> None:
        super().__init__(LatentSpace(DIM, VOCAB), width=16, depth=1, heads=2, bottleneck=8)
        self.decoded: list[Latents] = []

    def forward_hidden(self, z: Latents, t: Times, cond: Conditioning, decode: Tensor | None = None) -> Tensor:
        return exact(z, t, cond._replace(self_cond=None)).mean

    def predict_x0(self, hidden: Tensor) -> Tensor:
        return hidden

    def decode_logits(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Logits:
        self.decoded.append(z)
        return z @ codes().T - (codes() ** 2).sum(-1) / 2


def embed(ids: Ids) -> Latents:
    """The centre of each token's cloud."""
    return codes()[ids]


def student_of(teacher: Denoiser | None = None, target: Any = Progressive(4, "quantile"), **options: Any) -> Any:
    """A two-step student of a teacher, by default of the clouds' ELF."""
    objective = StepDistillation(target, 2, **options)
    objective.set_teacher(ELFObjective(), teacher or CloudELF())
    objective.embed = embed
    return objective


def start(end: float | None = None, path: LinearPath = FREE) -> tuple[Latents, Times, Times]:
    """z at s, s, and u: a quarter later, or `end`."""
    torch.manual_seed(1)
    s = 0.1 + 0.5 * torch.rand(ROWS, dtype=torch.float64)
    u = s + 0.25 if end is None else torch.full_like(s, end)
    x = codes()[torch.randint(16, (ROWS, LENGTH))]
    return path.mix(x, torch.randn_like(x), s), s, u


def output_of(
    target: Target,
    z: Latents,
    times: Tensor,
    teacher: PredictFn = exact,
    student: PredictFn = exact,
    path: LinearPath = FREE,
    cond: Conditioning = Conditioning(),
    self_cond: RowMask = SELF_COND,
) -> TargetOutput:
    """The output of a target for one step of the student."""
    return target(TargetInput(teacher, student, path, z, times, cond, row_indices(self_cond)))
