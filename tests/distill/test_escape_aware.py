"""Students of a teacher that chooses, re-injects or believes earlier; what such a target costs is told."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.gaussian_clouds import DIM, FREE, LENGTH, ROWS, codes, exact, some, start
from tests.helpers.sampling import GivenLatents, one_step
from textflow.codecs import LatentSpace
from textflow.diagnostics.target_error import target_error
from textflow.distill.step import StepDistillation
from textflow.distill.targets import Progressive, SalimansHo
from textflow.distill.targets.progressive import invert_step
from textflow.escapes import ConfidenceSchedule, Everywhere, HighConfidence, LowConfidence
from textflow.escapes.logit_adjustment import adjust_logits
from textflow.nets import ELF, Frozen
from textflow.noise import Noise
from textflow.objectives import ELFObjective
from textflow.objectives.row_indices import row_indices
from textflow.paths import LinearPath
from textflow.samplers import Reinject
from textflow.types import Batch, Conditioning, Ids, Latents, Logits, Posterior, Times

VOCAB = 16


class Cloudy(ELF):
    """An ELF whose guess and whose tokens are those of the clouds."""

    def __init__(self) -> None:
        super().__init__(LatentSpace(DIM, VOCAB), width=16, depth=1, heads=2, bottleneck=8)
        self.reads: list[Latents] = []

    def forward_hidden(self, z: Latents, t: Times, cond: Conditioning, decode: Tensor | None = None) -> Tensor:
        return exact(z, t, cond._replace(self_cond=None)).mean

    def predict_x0(self, hidden: Tensor) -> Tensor:
        return hidden

    def decode_logits(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Logits:
        self.reads.append(z)
        return z @ codes().T - (codes() ** 2).sum(-1) / 2


def embed(ids: Ids) -> Latents:
    return codes()[ids]


def taught(teacher: ELF | None = None, **options: Any) -> StepDistillation:
    made = StepDistillation(options.pop("target", Progressive(4, "quantile")), options.pop("steps", 2), **options)
    made.set_teacher(ELFObjective(), teacher or Cloudy())
    made.embed = embed
    return made


def goal(made: StepDistillation, z: Latents, times: Tensor) -> Latents:
    return made.target_output(made.teacher, FREE, z, times, Conditioning(), row_indices(some())).x0_target  # type: ignore[arg-type]


def near_a_code(x: Latents) -> Tensor:
    return (torch.cdist(x, codes()).amin(-1) < 1e-9).double().mean()


def test_a_teacher_that_chooses_teaches_codes_where_the_plain_one_teaches_their_mean() -> None:
    z, s, u = start(1.0)
    times = Progressive(4, "quantile").times(s, u, ELFObjective().time_schedule)
    assert float(near_a_code(goal(taught(), z, times))) == 0
    assert float(near_a_code(goal(taught(commit_gate=Everywhere()), z, times))) == 1
    part = float(near_a_code(goal(taught(commit_gate=HighConfidence(0.9)), z, times)))
    assert part > 0 and float(near_a_code(goal(taught(commit_gate=LowConfidence(0.0)), z, times))) == 0


def test_tokens_are_read_at_the_share_of_text_that_decoding_was_trained_with() -> None:
    teacher = Cloudy()
    made, t = taught(teacher, commit_gate=Everywhere()), torch.linspace(0.1, 0.9, ROWS).double()
    z = start()[0]
    made.teacher_denoiser(FREE)(z, t)
    scale = made.teacher_objective.decode_noise_scale
    share = scale / (scale * t + 2 * (1 - t))
    torch.testing.assert_close(teacher.reads[-1], share[:, None, None] * z)


def test_a_fair_teacher_chooses_what_the_escape_would() -> None:
    z, t = start()[0], torch.full((ROWS,), 0.6).double()
    plain, held = (
        taught(commit_gate=Everywhere()),
        taught(teacher := Cloudy(), commit_gate=Everywhere(), logit_adjustment=0.9),
    )
    found = held.teacher_denoiser(FREE)(z, t).mean
    wanted = adjust_logits(Cloudy().decode_logits(teacher.reads[-1], t), 0.9).argmax(-1)
    torch.testing.assert_close(found, embed(wanted))
    assert float((found != plain.teacher_denoiser(FREE)(z, t).mean).double().mean()) > 0.01
    for wrong in ({"logit_adjustment": 0.3}, {"commit_gate": Everywhere(), "logit_adjustment": 1.0}):
        with pytest.raises(ValueError, match="a commit_gate such as Everywhere"):
            taught(**wrong)


def test_nothing_is_chosen_where_z_tells_nothing() -> None:
    made, z = taught(commit_gate=Everywhere()), start()[0]
    early = torch.full((ROWS,), 1e-3).double()
    torch.testing.assert_close(made.teacher_denoiser(FREE)(z, early).mean, made.teacher.module(z, early).mean)  # type: ignore


def test_a_gate_that_looks_at_the_time_or_a_teacher_without_tokens_is_refused() -> None:
    z, s, u = start()
    with pytest.raises(ValueError, match="use Everywhere or LowConfidence"):
        goal(taught(commit_gate=ConfidenceSchedule()), z, torch.stack([s, u], 1))
    made = taught(commit_gate=Everywhere())
    made.embed = None
    with pytest.raises(ValueError, match="a codec that embeds"):
        goal(made, z, torch.stack([s, u], 1))


def deaf(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
    return exact(z, t)


@pytest.mark.parametrize("end", [0.9, 1.0])
def test_a_re_injected_walk_is_the_samplers_but_for_the_noise(end: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all noise 0 the folded form is the inversion of where the sampler's steps end, to the last digit."""
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    monkeypatch.setattr(Noise, "normal_like", lambda self, z: torch.zeros_like(z))
    z, s, u = start(end)
    times = Progressive(4, "quantile").times(s, u, ELFObjective().time_schedule)
    for row in range(ROWS):
        there, path = z[row : row + 1], FREE
        for t, then in zip(times[row, :-1].tolist(), times[row, 1:].tolist(), strict=True):
            ask = lambda z, t, self_cond=None, *_: exact(z, torch.full((1,), t, dtype=torch.float64))  # noqa: E731
            there = one_step(Reinject(1.5), ask, path, there, t, then, None, Noise([0]))[0]
        own = slice(row, row + 1)
        given, never = Conditioning(), torch.zeros(1, dtype=torch.bool)
        found = Progressive(4, gamma=1.5)(deaf, deaf, path, z[own], times[own], given, row_indices(never)).x0_target
        torch.testing.assert_close(found, invert_step(path, z[own], there, s[own], u[own]), rtol=1e-9, atol=1e-9)


def test_re_injection_draws_fresh_noise_and_without_strength_none() -> None:
    z, s, u = start(0.9)
    times = Progressive(4, "quantile").times(s, u, ELFObjective().time_schedule)
    goals = {}
    for gamma in (0.0, 1.5):
        for seed in (0, 1):
            torch.manual_seed(seed)
            goals[gamma, seed] = Progressive(4, gamma=gamma)(
                deaf, deaf, FREE, z, times, Conditioning(), row_indices(some())
            ).x0_target
    assert torch.equal(goals[0.0, 0], goals[0.0, 1])
    assert float((goals[1.5, 0] - goals[1.5, 1]).abs().max()) > 1e-3


def test_an_earlier_self_condition_is_a_step_of_the_student_before() -> None:
    z, s, u = start()
    asked: list[Tensor] = []

    def teacher(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        asked.append(t)
        return exact(z, t, cond)

    times = torch.stack([s, u], 1)
    lesson = Progressive(1, self_cond_shift=1.0)(teacher, teacher, FREE, z, times, Conditioning(), row_indices(some()))
    torch.testing.assert_close(asked[0], torch.where(some(), (s - (u - s)).clamp_min(0), s))
    torch.testing.assert_close(asked[1], s[some()])
    plain = Progressive(1)(exact, exact, FREE, z, times, Conditioning(), row_indices(some()))
    same = [torch.isclose(a, b).all(-1).all(-1) for a, b in zip(lesson[:2], plain[:2], strict=True)]
    assert torch.equal(same[0], ~some()) and torch.equal(same[1], ~some())


def error(made: StepDistillation, substeps: int = 16, teacher: ELF | None = None) -> float:
    torch.manual_seed(0)
    x, mask = codes()[torch.randint(16, (20, LENGTH))], torch.rand(20, LENGTH) < 0.8
    draws = made.teacher_objective.sample_draws(x)
    draws = type(draws)(*(part.double() if part.is_floating_point() else part for part in draws))
    return float(target_error(made, LinearPath(2.0), x, mask, draws, substeps, None, teacher)["relative_error"])


def test_what_every_change_of_the_target_costs_is_told() -> None:
    plain = error(taught(target=Progressive(16)))
    assert plain == 0
    changes = [{"commit_gate": Everywhere()}, {"target": Progressive(16, gamma=1.5)}, {"target": SalimansHo()}]
    costs = [error(taught(**({"target": Progressive(16)} | change))) for change in changes]
    assert min(costs) > 0.02 and costs[2] < 0.5, f"two even steps stand for 16 Euler steps: {costs}"
    other = Cloudy()
    nn.init.zeros_(other.out.weight)
    assert error(taught(target=Progressive(16)), 16, other) == 0, "the same guesses by another net"


class Precise(nn.Linear):
    """Notes in which precision it multiplies."""

    seen: list[torch.dtype]

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        self.seen.append(out.dtype)
        return out


@pytest.mark.parametrize(("precision", "kind"), [("same", torch.float32), ("bf16", torch.bfloat16)])
def test_the_teacher_alone_computes_in_bf16(precision: Any, kind: torch.dtype) -> None:
    def elf(seed: int) -> ELF:
        torch.manual_seed(seed)
        net = ELF(LatentSpace(DIM, VOCAB), width=16, depth=1, heads=2, bottleneck=8)
        net.blocks[0].attn.proj.__class__ = Precise
        net.blocks[0].attn.proj.seen = []  # type: ignore[union-attr]
        return net

    teacher, student = elf(0), elf(1)
    made = taught(teacher, teacher_precision=precision)
    ids = torch.randint(VOCAB, (ROWS, LENGTH))
    batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool))
    made(student, GivenLatents(torch.randn(ROWS, LENGTH, DIM)), LinearPath(), batch, 0)["loss"].backward()
    assert {*teacher.blocks[0].attn.proj.seen} == {kind} and {*student.blocks[0].attn.proj.seen} == {torch.float32}  # type: ignore
    assert all(p.dtype == torch.float32 for p in teacher.parameters()) and isinstance(made.teacher, Frozen)
