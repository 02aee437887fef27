"""FMLM in two stages: the published formulas against recorded tensors, and ours against those formulas."""

from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers.flm_nets import Knots, Shifted, dit, dit_name
from tests.helpers.recordings import error, part, recorded
from textflow.distill.flow_map import FlowMap, TimePairs
from textflow.distill.targets import SemiGroup, TeacherFlowMap
from textflow.nets import Frozen
from textflow.nets.dit import DiT, ResidualFlowMap
from textflow.paths import LinearPath
from textflow.schedules import TimeSchedule
from textflow.types import Batch, Conditioning

pytestmark = pytest.mark.parity


class Two(NamedTuple):
    data: dict[str, Tensor]
    batch: Batch
    x: Tensor

    def flow(self, clock: TimeSchedule | None) -> DiT:
        return dit(part(self.data, "flm.weights."), time_schedule=clock)

    def spans(self, stage: str, u: Tensor) -> tuple[TimePairs, Tensor]:
        own = part(self.data, f"{stage}.")
        never = torch.zeros(len(u), dtype=torch.bool)
        return TimePairs(own["s"], u, own["draw.eps"], never), torch.stack([own["s"], u], 1)


@pytest.fixture(scope="module")
def two() -> Two:
    data, meta = recorded("flm")
    return Two(data, Batch(data["ids"], data["valid"] > 0), F.one_hot(data["ids"], meta["config"]["V"]).float())


def knots(own: dict[str, Tensor]) -> Knots:
    """The clock at a recorded start s, middle u and end t."""
    tau, length = own["tau_s"], own["d"]
    return Knots(torch.cat([own["s"], own["u"], own["t"]]), torch.cat([tau, tau + length / 2, tau + length]))


def published(two: Two, own: dict[str, Tensor], net: DiT, flow: DiT, eps: float) -> dict[str, Any]:
    """Stage 1 as it is published, with velocities over 1 - s + eps."""
    s, u, t = (own[name][:, None, None] for name in ("s", "u", "t"))
    bend = {"su": Conditioning(end_time=own["u"]), "ut": Conditioning(end_time=own["t"])}
    z = (1 - s) * own["draw.eps"] + s * two.x
    with torch.no_grad():
        p = flow(z, own["s"]).mean
        v, g = (p - z) / (1 - s + eps), net.forward_logits(z, own["s"], bend["su"])
        ahead = z + (u - s) * v + (u - s) ** 2 / 2 * g
        later = (flow(ahead, own["u"]).mean - ahead) / (1 - u + eps)
        mean = (
            (u - s) * (v + (u - s) / 2 * g)
            + (t - u) * (later + (t - u) / 2 * net.forward_logits(ahead, own["u"], bend["ut"]))
        ) / (t - s)
    guess = p + (t - s) * (1 - s) / 2 * net.forward_logits(z, own["s"], Conditioning(end_time=own["t"]))
    goal, w = z + (1 - s) * mean, net.log_expected_error(own["s"])[:, None]
    each = torch.exp(-w) * ((goal - guess) ** 2).sum(-1) + w
    loss = (each * two.batch.mask).sum() / two.batch.mask.sum()
    return {"x_u": ahead, "x_boot": goal, "f_final": guess, "loss_per_token": each, "loss": loss}


def test_stage_one_by_the_published_formulas_is_the_recorded_one(two: Two) -> None:
    own = part(two.data, "stage1.")
    net = dit(part(own, "weights."), time_schedule=knots(own))
    found = published(two, own, net, two.flow(knots(own)), 1e-5)
    for name, value in found.items():
        assert error(value, own[name]) < 1e-5, name
    found["loss"].backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    for name, grad in part(own, "grad.").items():
        assert error(grads[dit_name(name)], grad) < 2e-4, name


def test_stage_one_is_the_semigroup_of_a_teacher_with_a_learned_bend(two: Two) -> None:
    """The published formulas without their eps, which is the only difference: it is worth up to 1e-3 near the text."""
    own = part(two.data, "stage1.")
    nets = [dit(part(own, "weights."), time_schedule=knots(own)) for _ in range(2)]
    there = published(two, own, nets[0], two.flow(knots(own)), 0.0)
    path = LinearPath(1.0, 1e-8)
    student = ResidualFlowMap(two.flow(knots(own)), nets[1], path)
    objective = FlowMap(SemiGroup(), offdiagonal_loss="square")
    spans, _ = two.spans("stage1", own["t"])
    times = torch.stack([own["s"], own["u"], own["t"]], 1)
    lesson = objective.target_output(student, path, own["x_s"], times)
    assert error(lesson.x0_target, there["x_boot"]) < 1e-5
    losses = objective.loss(student, path, two.x, two.batch, spans, times)
    assert error(losses["loss"], there["loss"]) < 1e-5
    assert error(losses["loss"], own["loss"]) < 1e-3
    there["loss"].backward()
    losses["loss"].backward()
    for (name, theirs), ours in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        assert theirs.grad is not None, name
        assert error(ours.grad, theirs.grad) < 2e-4 or float(theirs.grad.abs().max()) < 1e-7, name
    assert not [p for p in student.teacher.module.parameters() if p.requires_grad]


def test_stage_two_is_the_recorded_one(two: Two) -> None:
    own, first = part(two.data, "stage2."), part(two.data, "stage1.weights.")
    end = own["s"] + own["dt"]
    clock = Knots(torch.cat([own["s"], end]), torch.cat([own["tau_s"], own["tau_s"] + own["d"]]))
    student, path = dit(part(own, "weights."), time_schedule=clock), Shifted()
    student.loss_weighting = None  # it is there, and not used
    objective = FlowMap(TeacherFlowMap(), offdiagonal_loss="square", rescale=True)
    objective.teacher = Frozen(ResidualFlowMap(two.flow(clock), dit(first, time_schedule=clock), path))
    spans, times = two.spans("stage2", end)
    goal = objective.target_output(student, path, own["x_s"], times).x0_target
    assert error(path.step(own["x_s"], goal, own["s"], end), own["target"]) < 1e-5
    with torch.no_grad():
        guess = student(own["x_s"], own["s"], Conditioning(end_time=end)).mean
    assert error(path.step(own["x_s"], guess, own["s"], end), own["pred"]) < 1e-5
    losses = objective.loss(student, path, two.x, two.batch, spans, times)
    assert error(losses["loss"], own["loss"]) < 1e-5
    losses["loss"].backward()
    grads = {name: p.grad for name, p in student.named_parameters()}
    for name, grad in part(own, "grad.").items():
        assert error(grads[dit_name(name)], grad) < 2e-4, name


def test_the_flow_of_stage_zero_is_the_recorded_one(two: Two) -> None:
    """Instant rows alone are FLM itself."""
    own = part(two.data, "flm.")
    net = two.flow(Knots(own["t"], own["tau"]))
    assert error(net(own["x_t"], own["t"]).logits, own["logp"]) < 1e-5
    every = torch.ones(len(own["t"]), dtype=torch.bool)
    spans = TimePairs(own["t"], own["t"], own["draw.eps"], every)
    losses = FlowMap(diagonal_prob=1.0).loss(
        net, LinearPath(1.0), two.x, two.batch, spans, torch.stack([own["t"]] * 3, 1)
    )
    assert error(losses["loss"], own["loss"]) < 1e-5
    losses["loss"].backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    for name, grad in part(own, "grad.").items():
        assert error(grads[dit_name(name)], grad) < 2e-4, name
