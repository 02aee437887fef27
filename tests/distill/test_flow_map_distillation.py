"""Flow maps of an ELF teacher: rows, draws and gradients; a student of every target nears the map of its teacher."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.sampling import GivenLatents
from textflow.codecs import LatentSpace
from textflow.distill import FlowMapDistillation
from textflow.distill.base import mean_only
from textflow.distill.flow_map import TimePairs, sample_time_pairs
from textflow.distill.targets import Eulerian, Lagrangian, MeanFlow, SemiGroup, Target
from textflow.nets import ELF
from textflow.objectives import ELFObjective
from textflow.objectives.row_indices import row_indices
from textflow.paths import LinearPath
from textflow.schedules import LogitNormal
from textflow.types import Batch, Conditioning, Latents

ROWS, LENGTH, DIM, VOCAB, PATH = 16, 4, 6, 11, LinearPath(1.0, 0.05)
TARGETS = [SemiGroup(), Eulerian(min_one_minus_t=0.3), Lagrangian(project_to_simplex=False), MeanFlow()]


def elf(seed: int, **options: Any) -> ELF:
    torch.manual_seed(seed)
    net = ELF(LatentSpace(DIM, VOCAB), width=16, depth=1, heads=2, bottleneck=8, **options)
    nn.init.normal_(net.out.weight, std=0.5)
    return net


def text() -> tuple[Latents, Batch]:
    torch.manual_seed(3)
    mask = torch.arange(LENGTH) < torch.randint(1, LENGTH + 1, (ROWS, 1))
    return torch.randn(ROWS, LENGTH, DIM), Batch(torch.randint(VOCAB, (ROWS, LENGTH)), mask)


def taught(target: Target | None = None, **options: Any) -> tuple[FlowMapDistillation, ELF]:
    made, teacher, student = (
        FlowMapDistillation(target, ELFObjective(LogitNormal(0.0, 1.0)), **options),
        elf(1),
        elf(2, two_time=True),
    )
    made.set_teacher(ELFObjective(), teacher)
    student.init_from(teacher.state_dict())
    return made, student


def test_rows_of_no_length_are_the_teachers_from_the_start() -> None:
    made, student = taught(diagonal_prob=1.0)
    x, batch = text()
    losses = made(student, GivenLatents(x), PATH, batch, 0)
    assert float(losses["mse"]) < 1e-10 and float(losses["decode_ce"]) > 0.5


def test_decoding_rows_learn_tokens_and_denoising_rows_the_map() -> None:
    made, student = taught(diagonal_prob=0.0)
    x, batch = text()
    draws = made.teacher_objective.sample_draws(x)
    spans = sample_time_pairs(x, made.time_schedule, 0.0, 0.5)
    for decode, part in ((torch.zeros(ROWS).bool(), "mse"), (torch.ones(ROWS).bool(), "decode_ce")):
        losses = made.loss(student, PATH, x, batch, draws._replace(decode=decode), spans)
        torch.testing.assert_close(losses["loss"].detach(), losses[part])
        assert float(losses[part]) > 1e-4


def test_a_power_divides_each_row_by_its_own_error() -> None:
    x, batch = text()
    plain, student = taught(diagonal_prob=0.0)
    scaled, _ = taught(diagonal_prob=0.0, adaptive_weight_power=1.0, eps=1e-9)
    draws, spans = plain.teacher_objective.sample_draws(x), sample_time_pairs(x, plain.time_schedule, 0.0, 0.5)
    draws = draws._replace(decode=torch.zeros(ROWS).bool())
    one, other = (made.loss(student, PATH, x, batch, draws, spans) for made in (plain, scaled))
    torch.testing.assert_close(one["mse"], other["mse"])
    torch.testing.assert_close(other["loss"], torch.ones(()), rtol=1e-3, atol=0)


@pytest.mark.parametrize("target", TARGETS[1:], ids=lambda target: type(target).__name__)
def test_the_pass_that_differentiates_carries_the_nets_own_gradient(target: Target) -> None:
    net, teacher = elf(5, two_time=True).double(), elf(1).double()
    assert net.end_t_embed is not None
    nn.init.normal_(net.end_t_embed.mlp[-1].weight, std=0.3)
    z, s = torch.randn(3, LENGTH, DIM).double(), torch.tensor([0.2, 0.4, 0.6]).double()
    u, given = s + 0.2, Conditioning(torch.randn(3, LENGTH, DIM).double(), torch.ones(3).double())
    lesson = target(
        mean_only(teacher), mean_only(net), PATH, z, torch.stack([s, u], 1), given, row_indices(torch.zeros(3).bool())
    )
    assert lesson.prediction is not None and not lesson.x0_target.requires_grad
    guesses = (lesson.prediction.mean, net(z, s, given._replace(end_time=u)).mean)
    torch.testing.assert_close(*guesses, rtol=1e-9, atol=1e-9)
    ours, own = (torch.autograd.grad(g.square().sum(), list(net.blocks.parameters())) for g in guesses)
    for a, b in zip(ours, own, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def spans() -> TimePairs:
    """Steps of half of the way and more."""
    s = torch.linspace(0.02, 0.35, ROWS)
    torch.manual_seed(9)
    return TimePairs(s, s + 0.55, torch.randn(ROWS, LENGTH, DIM), torch.zeros(ROWS).bool())


@torch.no_grad()
def miss(student: ELF, made: FlowMapDistillation) -> Tensor:
    """Root mean square distance from where 64 Euler steps of the teacher end."""
    x, where = text()[0], spans()
    assert made.teacher is not None
    z = end = PATH.mix(x, where.eps, where.s)
    given = Conditioning(torch.zeros_like(z), torch.ones(ROWS))
    for i in range(64):
        t, u = (where.s + (where.u - where.s) * k / 64 for k in (i, i + 1))
        end = PATH.step(end, made.teacher.module(end, t, given).mean, t, u)
    guess = student(z, where.s, given._replace(end_time=where.u)).mean
    return (PATH.step(z, guess, where.s, where.u) - end).square().mean().sqrt()


SLOW = {Eulerian, MeanFlow}  # Lagrangian learns from derivatives along the path, too


@pytest.mark.parametrize(
    "target",
    [pytest.param(target, marks=pytest.mark.slow if type(target) in SLOW else ()) for target in TARGETS],
    ids=lambda target: type(target).__name__,
)
def test_a_student_of_every_target_nears_its_teachers_map(target: Target) -> None:
    made, student = taught(target, diagonal_prob=0.3)
    x, batch = text()
    before = miss(student, made)
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)
    for step in range(150):
        torch.manual_seed(step)
        optimizer.zero_grad()
        made(student, GivenLatents(x), PATH, batch, step)["loss"].backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
    assert float(miss(student, made)) < 0.8 * float(before)  # measured: .64, .72, .49, .53


def test_a_net_that_cannot_be_taught_so_is_refused() -> None:
    x, batch = text()
    made, _ = taught()
    with pytest.raises(ValueError, match="two_time: true"):
        made(elf(2), GivenLatents(x), PATH, batch, 0)
    with pytest.raises(ValueError, match="without a commitment head"):
        made(elf(2, two_time=True, commitment_head=True), GivenLatents(x), PATH, batch, 0)
    with pytest.raises(ValueError, match="no teacher"):
        FlowMapDistillation()(elf(2, two_time=True), GivenLatents(x), PATH, batch, 0)
