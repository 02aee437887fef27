"""Step distillation of small nets: the loss of the reference, fewest evaluations, and training of every target."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.sampling import GivenLatents
from textflow.codecs import LatentSpace
from textflow.distill.flow_map import FlowMap
from textflow.distill.step import StepDistillation
from textflow.distill.targets import Consistency, Progressive, SalimansHo, Target
from textflow.nets import ELF, DiT, Frozen
from textflow.objectives import ELFDraws, ELFObjective
from textflow.paths import LinearPath
from textflow.reference.distill import reference_distill_loss
from textflow.schedules import DecodeError
from textflow.types import Batch, Latents

pytestmark = pytest.mark.integration

ROWS, LENGTH, DIM, VOCAB = 9, 5, 6, 11
PATH = LinearPath(2.0, 0.05)
ROW = torch.arange(ROWS)


def elf(seed: int, **options: Any) -> ELF:
    torch.manual_seed(seed)
    net = ELF(LatentSpace(DIM, VOCAB), width=16, depth=1, heads=2, bottleneck=8, **options).double()
    nn.init.normal_(net.out.weight, std=0.3)
    return net


def text() -> tuple[Latents, Batch]:
    torch.manual_seed(3)
    mask = torch.arange(LENGTH) < torch.randint(1, LENGTH + 1, (ROWS, 1))
    return torch.randn(ROWS, LENGTH, DIM).double(), Batch(torch.randint(VOCAB, (ROWS, LENGTH)), mask)


class Setup:
    """An objective with a teacher, and a batch with draws, which may be replaced."""

    def __init__(self, target: Target | None = None, **draws: Tensor) -> None:
        self.x, self.batch = text()
        self.objective = StepDistillation(target or Progressive(4), 4)
        self.objective.teacher = Frozen(elf(1))
        made = self.objective.teacher_objective.sample_draws(self.x)
        made = ELFDraws(*(part.double() if part.is_floating_point() else part for part in made))
        self.draws = made._replace(**draws)
        self.times = self.objective.step_times(made.t)

    def losses(self, net: ELF, prompt_mask: Tensor | None = None, rows: slice = slice(None)) -> dict[str, Tensor]:
        batch = self.batch._replace(prompt_mask=prompt_mask).map(lambda part: part[rows])
        draws = ELFDraws(*(part[rows] for part in self.draws))
        return self.objective.loss(net, PATH, self.x[rows], batch, draws, self.times[rows])

    def reference_losses(self, net: ELF, teacher: Any, prompt_mask: Tensor | None = None) -> dict[str, Tensor]:
        arguments = self.x, self.batch._replace(prompt_mask=prompt_mask), self.draws, self.times
        return reference_distill_loss(self.objective, net, teacher, PATH, *arguments)


@pytest.mark.parametrize(
    ("decode", "has_prompt"), [(ROW % 3 == 0, True), (ROW % 3 == 0, False), (ROW < 0, True), (ROW >= 0, False)]
)
def test_loss_and_gradients_are_those_of_the_reference(decode: Tensor, has_prompt: bool) -> None:
    setup, net = Setup(decode=decode, self_cond=ROW % 2 == 0), elf(2)
    prompt_mask = torch.arange(LENGTH) < ROW[:, None] % 3 if has_prompt else None
    ours = setup.losses(net, prompt_mask)
    reference = setup.reference_losses(net, setup.objective.teacher, prompt_mask)
    for name in ("loss", "mse", "decode_ce"):
        torch.testing.assert_close(ours[name], reference[name], rtol=1e-10, atol=1e-12)
    parameters = list(net.parameters())
    grads, expected = (
        torch.autograd.grad(losses["loss"], parameters, allow_unused=True, materialize_grads=True)
        for losses in (ours, reference)
    )
    torch.testing.assert_close(grads, expected, rtol=1e-8, atol=1e-10)


def test_the_teacher_evaluates_denoising_rows_alone() -> None:
    setup, net = Setup(decode=ROW < 3, self_cond=ROW % 2 == 0), elf(2)
    teacher, rows = elf(1), []
    forward_hidden = teacher.forward_hidden
    teacher.forward_hidden = lambda z, *rest: rows.append(len(z)) or forward_hidden(z, *rest)  # type: ignore
    setup.objective.teacher = Frozen(teacher)
    setup.losses(net)
    assert sum(rows) == 6 * 4 + 3, "4 substeps of 6 rows, of which 3 have a blind prediction"
    rows.clear()
    setup.reference_losses(net, teacher)
    assert sum(rows) == 9 * 5, "the published step: every row, and a blind prediction of each"


def test_rows_have_equal_weights_whatever_their_length() -> None:
    setup, net = Setup(), elf(2)
    alone = [setup.losses(net, rows=slice(i, i + 1))["loss"] for i in range(ROWS)]
    torch.testing.assert_close(setup.losses(net)["loss"], torch.stack(alone).mean(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("target", [Progressive(3), Progressive(4, "quantile", 2), SalimansHo("snr+1"), Consistency()])
def test_training_lowers_the_error_of_a_student_that_starts_as_its_teacher(target: Target) -> None:
    setup, net = Setup(target), elf(1)
    optimizer = torch.optim.Adam(net.parameters(), lr=6e-3)
    history = []
    for _ in range(10):
        optimizer.zero_grad()
        losses = setup.losses(net)
        losses["loss"].backward()
        optimizer.step()
        history.append(float(losses["mse"].detach()))
    assert history[-1] < 0.7 * history[0], history


def test_consistency_evaluates_the_moving_average_if_there_is_one() -> None:
    setup, net = Setup(Consistency()), elf(2)
    alone = setup.losses(net)["mse"]
    setup.objective.ema_net = Frozen(elf(2))
    torch.testing.assert_close(setup.losses(net)["mse"], alone)
    setup.objective.ema_net = Frozen(elf(5))
    assert abs(setup.losses(net)["mse"] - alone) > 1e-3


def test_weights_of_rows_change_the_loss_and_not_the_mean_error() -> None:
    setup, net = Setup(SalimansHo("one"), decode=ROW < 0), elf(2)
    plain = setup.losses(net)
    setup.objective.target = SalimansHo("snr+1")
    weighted = setup.losses(net)
    torch.testing.assert_close(plain["mse"], weighted["mse"])
    assert weighted["loss"] > 1.01 * plain["loss"]


def test_a_commitment_head_learns_from_denoising_rows_and_the_teachers_is_unused() -> None:
    setup, net, teacher = Setup(decode=ROW < 3), elf(2, commitment_head=True), elf(1, commitment_head=True)
    teacher.commitment_head.forward = None  # type: ignore
    setup.objective.teacher = Frozen(teacher)
    losses = setup.losses(net)
    losses["loss"].backward()
    assert float(net.commitment_head.up.weight.grad.abs().max()) > 0  # type: ignore
    assert float(losses["commitment_head_ce"]) == pytest.approx(2.4, abs=0.6), f"about log {VOCAB}"


def test_the_teacher_is_required_and_neither_trained_nor_saved() -> None:
    x, batch = text()
    objective, net, codec = StepDistillation(Progressive(2), 16), elf(2).float(), GivenLatents(x.float())
    with pytest.raises(ValueError, match="no teacher"):
        objective(net, codec, PATH, batch, 0)
    objective.set_teacher(ELFObjective(), elf(1).float())
    losses = objective(net, codec, PATH, batch, 0)
    assert bool(torch.isfinite(losses["loss"])) and losses["loss"].requires_grad
    assert not list(objective.parameters()) and not [key for key in objective.state_dict() if "teacher" in key]
    assert objective.time_schedule is objective.teacher_objective.time_schedule


def test_wrong_teachers_steps_and_nets_are_errors() -> None:
    x, batch = text()
    with pytest.raises(ValueError, match="FlowMap"):
        StepDistillation(Progressive()).set_teacher(FlowMap(), elf(1))
    with pytest.raises(ValueError, match="at least 1"):
        StepDistillation(Progressive(), 0)
    with pytest.raises(ValueError, match="decode mode"):
        Setup().objective(DiT(LatentSpace(DIM, VOCAB), 16, 1, 2, 8), GivenLatents(x), PATH, batch, 0)


def test_a_student_takes_its_teachers_fitted_schedule_and_may_be_a_teacher() -> None:
    fitted = ELFObjective(DecodeError())
    fitted.time_schedule.cdf.copy_(torch.linspace(0, 1, 65).double() ** 2)
    first, second = (StepDistillation(SalimansHo(), 4, ELFObjective(DecodeError()), update_teacher=True) for _ in "12")
    first.set_teacher(fitted, elf(1))
    student = elf(7)
    second.set_teacher(first, student)
    for objective in (first, second):
        torch.testing.assert_close(objective.time_schedule.cdf, fitted.time_schedule.cdf)
    assert second.teacher is not None and second.teacher.module is student
