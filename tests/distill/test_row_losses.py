"""Distillation on small nets: the lean step is the plain one, at the least work; students of every target learn."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.sampling import GivenLatents
from textflow.codecs import LatentSpace
from textflow.distill.flow_map import FlowMap
from textflow.distill.step import StepDistillation
from textflow.distill.targets import Consistency, Progressive, SalimansHo, Target
from textflow.nets import ELF, Denoiser, Frozen
from textflow.objectives import ELFDraws, ELFObjective
from textflow.paths import LinearPath
from textflow.reference.distill import reference_distill_loss
from textflow.schedules import DecodeError
from textflow.types import Batch, Conditioning, Latents, Posterior, Times

ROWS, LENGTH, DIM, VOCAB = 9, 5, 6, 11
PATH = LinearPath(2.0, 0.05)


def elf(seed: int, **options: Any) -> ELF:
    torch.manual_seed(seed)
    net = ELF(LatentSpace(DIM, VOCAB), width=16, depth=1, heads=2, bottleneck=8, **options).double()
    nn.init.normal_(net.out.weight, std=0.3)
    return net


def text(seed: int = 3) -> tuple[Latents, Batch]:
    torch.manual_seed(seed)
    mask = torch.arange(LENGTH) < torch.randint(1, LENGTH + 1, (ROWS, 1))
    return torch.randn(ROWS, LENGTH, DIM).double(), Batch(torch.randint(VOCAB, (ROWS, LENGTH)), mask)


def wide(draws: ELFDraws) -> ELFDraws:
    return ELFDraws(*(part.double() if part.is_floating_point() else part for part in draws))


def objective(target: Target | None = None, steps: int = 4, **options: Any) -> StepDistillation:
    made = StepDistillation(target or Progressive(4), steps, **options)
    made.teacher = Frozen(elf(1))
    return made


def grads(net: nn.Module, loss: Tensor) -> list[Tensor]:
    net.zero_grad()
    loss.backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in net.parameters()]


class Counted(Denoiser):
    """A net that counts the rows that it is asked for."""

    def __init__(self, net: ELF) -> None:
        super().__init__()
        self.net, self.dim, self.rows = net, net.dim, 0

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        self.rows += len(z)
        return self.net(z, t, cond)


@pytest.mark.parametrize("decode", ["some", "none", "all"])
@pytest.mark.parametrize("prompt", [False, True])
def test_the_lean_step_is_the_plain_one(decode: str, prompt: bool) -> None:
    x, batch = text()
    made, net = objective(), elf(2)
    draws = wide(made.teacher_objective.sample_draws(x))
    chosen = {"some": torch.arange(ROWS) % 3 == 0, "none": torch.zeros(ROWS).bool(), "all": torch.ones(ROWS).bool()}
    draws = draws._replace(decode=chosen[decode], self_cond=torch.arange(ROWS) % 2 == 0)
    times = made.step_times(draws.t)
    fixed = torch.arange(LENGTH) < torch.arange(ROWS)[:, None] % 3 if prompt else None
    lean = made.loss(net, PATH, x, batch, draws, times, fixed)
    plain = reference_distill_loss(made, net, made.teacher, PATH, x, batch, draws, times, fixed)
    for name in ("loss", "mse", "decode_ce"):
        torch.testing.assert_close(lean[name], plain[name], rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(grads(net, lean["loss"]), grads(net, plain["loss"]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_the_teacher_is_asked_for_denoising_rows_alone() -> None:
    x, batch = text()
    made, net = objective(), elf(2)
    teacher = Counted(elf(1))
    made.teacher = Frozen(teacher)
    draws = wide(made.teacher_objective.sample_draws(x))._replace(
        decode=torch.arange(ROWS) < 3, self_cond=torch.arange(ROWS) % 2 == 0
    )
    times = made.step_times(draws.t)
    made.loss(net, PATH, x, batch, draws, times)
    assert teacher.rows == 6 * 4 + 3, "4 substeps of 6 rows, of which 3 see a blind guess"
    teacher.rows = 0
    reference_distill_loss(made, net, teacher, PATH, x, batch, draws, times)
    assert teacher.rows == 9 * 5, "the published step: every row, and a blind guess of each"


def test_rows_weigh_alike_whatever_their_length() -> None:
    x, batch = text()
    made, net = objective(), elf(2)
    draws = wide(made.teacher_objective.sample_draws(x))
    times = made.step_times(draws.t)
    singles = []
    for i in range(ROWS):
        one = slice(i, i + 1)
        own = ELFDraws(*(part[one] for part in draws))
        singles.append(
            made.loss(net, PATH, x[one], batch.map(lambda part, one=one: part[one]), own, times[one])["loss"]
        )
    together = made.loss(net, PATH, x, batch, draws, times)["loss"]
    torch.testing.assert_close(together, torch.stack(singles).mean(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("target", [Progressive(3), Progressive(4, "quantile", 2), SalimansHo("snr+1"), Consistency()])
def test_a_student_learns_what_it_is_taught(target: Target) -> None:
    torch.manual_seed(0)
    x, batch = text()
    made, net = objective(target), elf(1)  # starts as its teacher
    draws = wide(made.teacher_objective.sample_draws(x))
    times = made.step_times(draws.t)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    found = []
    for _ in range(20):
        optimizer.zero_grad()
        losses = made.loss(net, PATH, x, batch, draws, times)
        losses["loss"].backward()
        optimizer.step()
        found.append(float(losses["mse"].detach()))
    assert found[-1] < 0.7 * found[0]


def test_consistency_asks_the_average_where_there_is_one() -> None:
    x, batch = text()
    made, net = objective(Consistency()), elf(2)
    draws = wide(made.teacher_objective.sample_draws(x))
    times = made.step_times(draws.t)
    alone = made.loss(net, PATH, x, batch, draws, times)["mse"]
    made.ema_net = Frozen(elf(2))
    torch.testing.assert_close(made.loss(net, PATH, x, batch, draws, times)["mse"], alone)
    made.ema_net = Frozen(elf(5))
    assert abs(made.loss(net, PATH, x, batch, draws, times)["mse"] - alone) > 1e-3


def test_weights_of_rows_are_used() -> None:
    x, batch = text()
    net = elf(2)
    plain, weighed = objective(SalimansHo("one")), objective(SalimansHo("snr+1"))
    draws = wide(plain.teacher_objective.sample_draws(x))._replace(decode=torch.zeros(ROWS).bool())
    times = plain.step_times(draws.t)
    one, other = (o.loss(net, PATH, x, batch, draws, times) for o in (plain, weighed))
    torch.testing.assert_close(one["mse"], other["mse"])
    assert other["loss"] > 1.01 * one["loss"]


def test_a_commitment_head_learns_from_denoising_rows_and_the_teachers_is_not_asked() -> None:
    x, batch = text()
    made, net = objective(), elf(2, commitment_head=True)
    teacher = elf(1, commitment_head=True)
    made.teacher = Frozen(teacher)
    assert teacher.commitment_head is not None
    teacher.commitment_head.forward = None  # type: ignore[assignment]
    draws = wide(made.teacher_objective.sample_draws(x))._replace(decode=torch.arange(ROWS) < 3)
    losses = made.loss(net, PATH, x, batch, draws, made.step_times(draws.t))
    losses["loss"].backward()
    assert net.commitment_head is not None and net.commitment_head.up.weight.grad is not None
    assert float(net.commitment_head.up.weight.grad.abs().max()) > 0
    rows = ~draws.decode
    lengths = batch.mask[rows].sum(1)
    assert float(losses["commitment_head_ce"]) == pytest.approx(2.4, abs=0.6), (
        f"about log {VOCAB} in rows of {lengths.tolist()}"
    )


def test_it_runs_as_an_objective() -> None:
    x, batch = text()
    made = StepDistillation(Progressive(2), 16)
    net, teacher = elf(2).float(), elf(1).float()
    with pytest.raises(ValueError, match="no teacher"):
        made(net, GivenLatents(x.float()), PATH, batch, 0)
    made.set_teacher(ELFObjective(), teacher)
    losses = made(net, GivenLatents(x.float()), PATH, batch, 0)
    assert bool(torch.isfinite(losses["loss"])) and losses["loss"].requires_grad
    assert not list(made.parameters()), "the teacher is neither trained nor saved"
    assert made.time_schedule is made.teacher_objective.time_schedule
    assert not [key for key in made.state_dict() if "teacher" in key]


def test_another_teacher_is_refused() -> None:
    x, batch = text()
    with pytest.raises(ValueError, match="FlowMap"):
        StepDistillation(Progressive()).set_teacher(FlowMap(), elf(1))
    with pytest.raises(ValueError, match="at least 1"):
        StepDistillation(Progressive(), 0)
    with pytest.raises(ValueError, match="decode mode"):
        objective()(Counted(elf(1)), GivenLatents(x), PATH, batch, 0)


def test_a_teachers_measured_clock_is_taken_over_and_a_student_may_teach() -> None:
    like = ELFObjective(DecodeError())
    like.time_schedule.cdf.copy_(torch.linspace(0, 1, 65).double() ** 2)
    first, second = (
        StepDistillation(SalimansHo(), 4, ELFObjective(DecodeError()), update_teacher=True) for _ in range(2)
    )
    first.set_teacher(like, elf(1))
    student = elf(7)
    second.set_teacher(first, student)
    for made in (first, second):
        torch.testing.assert_close(made.time_schedule.cdf, like.time_schedule.cdf)
    assert second.teacher is not None and second.teacher.module is student
