"""Flow maps distilled from an ELF teacher: rows, gradients, and the distance of a student's map from its teacher's."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.sampling import GivenLatents
from textflow.codecs import LatentSpace
from textflow.distill import FlowMap, FlowMapDistillation
from textflow.distill.base import mean_only
from textflow.distill.flow_map import sample_time_pairs
from textflow.distill.targets import Eulerian, Lagrangian, MeanFlow, SemiGroup, Target, TeacherFlowMap
from textflow.distill.targets.base import TargetInput
from textflow.nets import ELF
from textflow.objectives import ELFObjective
from textflow.objectives.row_indices import no_rows
from textflow.paths import LinearPath
from textflow.schedules import LogitNormal
from textflow.types import Batch, Conditioning, Latents

ROWS, LENGTH, DIM, VOCAB, PATH = 16, 4, 6, 11, LinearPath(1.0, 0.05)
TARGETS = [SemiGroup(), Eulerian(min_one_minus_t=0.3), Lagrangian(project_to_simplex=False), MeanFlow()]
NO_ROW = torch.zeros(ROWS, dtype=torch.bool)


def elf(seed: int, **options: Any) -> ELF:
    torch.manual_seed(seed)
    net = ELF(LatentSpace(DIM, VOCAB), width=16, depth=1, heads=2, bottleneck=8, **options)
    nn.init.normal_(net.out.weight, std=0.5)
    return net


def text() -> tuple[Latents, Batch]:
    torch.manual_seed(3)
    mask = torch.arange(LENGTH) < torch.randint(1, LENGTH + 1, (ROWS, 1))
    return torch.randn(ROWS, LENGTH, DIM), Batch(torch.randint(VOCAB, (ROWS, LENGTH)), mask)


def student_of_elf(target: Target | None = None, **options: Any) -> tuple[FlowMapDistillation, ELF]:
    """The objective and a student that starts from its teacher's weights."""
    objective = FlowMapDistillation(target, ELFObjective(LogitNormal(0.0, 1.0)), **options)
    teacher, student = elf(1), elf(2, two_time=True)
    objective.set_teacher(ELFObjective(), teacher)
    student.init_from(teacher.state_dict())
    return objective, student


def test_on_rows_of_length_zero_the_initial_student_is_its_teacher() -> None:
    objective, student = student_of_elf(diagonal_prob=1.0)
    x, batch = text()
    losses = objective(student, GivenLatents(x), PATH, batch, 0)
    assert float(losses["mse"]) < 1e-10 and float(losses["decode_ce"]) > 0.5


def test_decoding_rows_learn_tokens_and_denoising_rows_the_map() -> None:
    objective, student = student_of_elf(diagonal_prob=0.0)
    x, batch = text()
    draws = objective.teacher_objective.sample_draws(x)
    pairs = sample_time_pairs(x, objective.time_schedule, 0.0, 0.5)
    for decode, name in ((NO_ROW, "mse"), (~NO_ROW, "decode_ce")):
        losses = objective.loss(student, PATH, x, batch, draws._replace(decode=decode), pairs)
        torch.testing.assert_close(losses["loss"].detach(), losses[name])
        assert float(losses[name]) > 1e-4


def test_an_adaptive_weight_divides_each_row_by_its_own_error() -> None:
    x, batch = text()
    plain, student = student_of_elf(diagonal_prob=0.0)
    adaptive, _ = student_of_elf(diagonal_prob=0.0, adaptive_weight_power=1.0, eps=1e-9)
    draws = plain.teacher_objective.sample_draws(x)._replace(decode=NO_ROW)
    pairs = sample_time_pairs(x, plain.time_schedule, 0.0, 0.5)
    one, other = (objective.loss(student, PATH, x, batch, draws, pairs) for objective in (plain, adaptive))
    torch.testing.assert_close(one["mse"], other["mse"])
    torch.testing.assert_close(other["loss"], torch.ones(()), rtol=1e-3, atol=0)


@pytest.mark.parametrize("target", TARGETS[1:], ids=lambda target: type(target).__name__)
def test_the_forward_mode_pass_carries_the_gradient_of_the_net(target: Target) -> None:
    net, teacher = elf(5, two_time=True).double(), elf(1).double()
    nn.init.normal_(net.end_t_embed.mlp[-1].weight, std=0.3)  # type: ignore[union-attr]
    z, s = torch.randn(3, LENGTH, DIM).double(), torch.tensor([0.2, 0.4, 0.6]).double()
    u, cond = s + 0.2, Conditioning(torch.randn(3, LENGTH, DIM).double(), torch.ones(3).double())
    times = torch.stack([s, u], 1)
    output = target(TargetInput(mean_only(teacher), mean_only(net), PATH, z, times, cond, no_rows(z)))
    assert output.prediction is not None and not output.x0_target.requires_grad
    means = (output.prediction.mean, net(z, s, cond._replace(end_time=u)).mean)
    torch.testing.assert_close(*means, rtol=1e-9, atol=1e-9)
    ours, expected = (torch.autograd.grad(mean.square().sum(), list(net.blocks.parameters())) for mean in means)
    torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-9)


@torch.no_grad()
def map_error(student: ELF, objective: FlowMapDistillation) -> float:
    """Root mean square distance of steps of length 0.55 from where 32 Euler steps of the teacher end."""
    (x, _), s = text(), torch.linspace(0.02, 0.35, ROWS)
    torch.manual_seed(9)
    z = end = PATH.mix(x, torch.randn_like(x), s)
    cond = Conditioning(torch.zeros_like(z), torch.ones(ROWS))
    for i in range(32):
        t, t_next = (s + 0.55 * k / 32 for k in (i, i + 1))
        end = PATH.step(end, objective.teacher.module(end, t, cond).mean, t, t_next)  # type: ignore[union-attr]
    mean = student(z, s, cond._replace(end_time=s + 0.55)).mean
    return float((PATH.step(z, mean, s, s + 0.55) - end).square().mean().sqrt())


SLOW = (Eulerian, MeanFlow)  # Lagrangian also learns from derivatives along the path


@pytest.mark.integration
@pytest.mark.parametrize(
    "target",
    [pytest.param(target, marks=pytest.mark.slow if isinstance(target, SLOW) else ()) for target in TARGETS],
    ids=lambda target: type(target).__name__,
)
def test_training_moves_the_students_map_towards_its_teachers(target: Target) -> None:
    objective, student = student_of_elf(target, diagonal_prob=0.3)
    x, batch = text()
    before = map_error(student, objective)
    optimizer = torch.optim.Adam(student.parameters(), lr=8e-3)
    for step in range(25):
        torch.manual_seed(step)
        optimizer.zero_grad()
        objective(student, GivenLatents(x), PATH, batch, step)["loss"].backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
    assert map_error(student, objective) < 0.8 * before  # measured: .71, .67, .53, .66


def test_a_net_that_cannot_be_a_student_is_an_error() -> None:
    x, batch = text()
    objective, _ = student_of_elf()
    with pytest.raises(ValueError, match="two_time: true"):
        objective(elf(2), GivenLatents(x), PATH, batch, 0)
    with pytest.raises(ValueError, match="without a commitment head"):
        objective(elf(2, two_time=True, commitment_head=True), GivenLatents(x), PATH, batch, 0)
    with pytest.raises(ValueError, match="no teacher"):
        FlowMapDistillation()(elf(2, two_time=True), GivenLatents(x), PATH, batch, 0)


def test_the_flow_map_of_a_teacher_without_ends_is_no_target() -> None:
    for objective in (FlowMapDistillation(TeacherFlowMap(), ELFObjective()), FlowMap(TeacherFlowMap())):
        with pytest.raises(ValueError, match=r"TeacherFlowMap needs a teacher .* and this ELF is not; use SemiGroup"):
            objective.set_teacher(ELFObjective(), elf(1))
        objective.set_teacher(ELFObjective(), elf(1, two_time=True))
