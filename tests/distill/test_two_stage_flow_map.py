"""FMLM in two stages: the published formulas against recorded tensors, and ours against those formulas."""

from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers.flm_nets import Knots, decode_error_schedule, dit, flm_path
from tests.helpers.recordings import error, part, recorded
from textflow.convert.dit_layout import map_name
from textflow.distill.flow_map import FlowMap, TimePairs
from textflow.distill.targets import SemiGroup, TeacherFlowMap
from textflow.nets import Denoiser, Frozen, ResidualFlowMap
from textflow.nets.dit import DiT
from textflow.paths import LinearPath
from textflow.schedules import TimeSchedule
from textflow.types import Batch, Conditioning

pytestmark = pytest.mark.parity


class RecordedBatch(NamedTuple):
    tensors: dict[str, Tensor]
    batch: Batch
    x: Tensor
    path: LinearPath

    def flow(self, schedule: TimeSchedule | None) -> DiT:
        return dit(part(self.tensors, "flm.weights."), time_schedule=schedule)

    def pairs(self, stage: str, u: Tensor) -> TimePairs:
        own = part(self.tensors, f"{stage}.")
        return TimePairs(own["s"], u, own["draw.eps"], torch.zeros(len(u), dtype=torch.bool))


@pytest.fixture(scope="module")
def data() -> RecordedBatch:
    tensors, meta = recorded("flm")
    ids, config = tensors["ids"], meta["config"]
    x = F.one_hot(ids, config["V"]).float()
    return RecordedBatch(tensors, Batch(ids, tensors["valid"] > 0), x, flm_path(config))


def knots(own: dict[str, Tensor]) -> Knots:
    """The schedule at a recorded start s, middle u and end t."""
    tau, length = own["tau_s"], own["d"]
    return Knots(torch.cat([own["s"], own["u"], own["t"]]), torch.cat([tau, tau + length / 2, tau + length]))


def residual(flow: DiT, net: DiT, path: LinearPath) -> ResidualFlowMap:
    return ResidualFlowMap(flow.token_codec, lambda _: flow, lambda _: net, path)


def assert_gradients(net: DiT, own: dict[str, Tensor]) -> None:
    for name, grad in part(own, "grad.").items():
        assert error(net.get_parameter(map_name(name)).grad, grad) < 2e-4, name


def published(data: RecordedBatch, own: dict[str, Tensor], net: DiT, flow: DiT, eps: float) -> dict[str, Any]:
    """Stage 1 as it is published, with velocities over 1 - s + eps."""
    s, u, t = (own[name][:, None, None] for name in ("s", "u", "t"))
    bend = {name: Conditioning(end_time=own[name]) for name in ("u", "t")}
    z = (1 - s) * own["draw.eps"] + s * data.x
    with torch.no_grad():
        p = flow(z, own["s"]).mean
        v, g = (p - z) / (1 - s + eps), net.forward_logits(z, own["s"], bend["u"])
        z_u = z + (u - s) * v + (u - s) ** 2 / 2 * g
        p_u = flow(z_u, own["u"]).mean
        v_u, g_u = (p_u - z_u) / (1 - u + eps), net.forward_logits(z_u, own["u"], bend["t"])
        velocity = ((u - s) * (v + (u - s) / 2 * g) + (t - u) * (v_u + (t - u) / 2 * g_u)) / (t - s)
    prediction = p + (t - s) * (1 - s) / 2 * net.forward_logits(z, own["s"], bend["t"])
    x0_target, w = z + (1 - s) * velocity, net.log_expected_error(own["s"])[:, None]
    each = torch.exp(-w) * ((x0_target - prediction) ** 2).sum(-1) + w
    loss = (each * data.batch.mask).sum() / data.batch.mask.sum()
    parts = {"teacher_p_s": p, "teacher_p_u": p_u, "g_su": g, "g_ut": g_u, "loss_weight": w[:, 0], "x_s": z, "x_u": z_u}
    return parts | {"x_boot": x0_target, "f_final": prediction, "loss_per_token": each, "loss": loss}


def test_stage_one_by_the_published_formulas_is_the_recorded_one(data: RecordedBatch) -> None:
    own = part(data.tensors, "stage1.")
    net = dit(part(own, "weights."), time_schedule=knots(own))
    values = published(data, own, net, data.flow(knots(own)), data.path.eps)
    for name, value in values.items():
        assert error(value, own[name]) < 1e-5, name
    values["loss"].backward()
    assert_gradients(net, own)


def test_stage_one_is_the_semigroup_of_a_teacher_with_a_learned_bend(data: RecordedBatch) -> None:
    """The published formulas without their eps, which is the only difference: up to 1e-3 near the text."""
    own, path = part(data.tensors, "stage1."), LinearPath(1.0, 1e-8)
    nets = [dit(part(own, "weights."), time_schedule=knots(own)) for _ in range(2)]
    reference = published(data, own, nets[0], data.flow(knots(own)), 0.0)
    student = residual(data.flow(knots(own)), nets[1], path)
    objective = FlowMap(SemiGroup(), offdiagonal_loss="square")
    times = torch.stack([own["s"], own["u"], own["t"]], 1)
    output = objective.target_output(student, path, own["x_s"], times)
    assert error(output.x0_target, reference["x_boot"]) < 1e-5
    losses = objective.loss(student, path, data.x, data.batch, data.pairs("stage1", own["t"]), times)
    assert error(losses["loss"], reference["loss"]) < 1e-5
    share = data.path.eps / float((1 - own["u"]).min())  # of eps in the smallest 1 - u
    assert error(losses["loss"], own["loss"]) < max(1e-3, 4 * share)
    reference["loss"].backward()
    losses["loss"].backward()
    for (name, expected), ours in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        assert expected.grad is not None, name
        assert error(ours.grad, expected.grad) < 2e-4 or float(expected.grad.abs().max()) < 1e-7, name
    assert not [p for p in student.teacher.parameters() if p.requires_grad]


def test_stage_two_is_the_recorded_one(data: RecordedBatch) -> None:
    own, stage_one = part(data.tensors, "stage2."), part(data.tensors, "stage1.weights.")
    end = own["s"] + own["dt"]
    schedule = Knots(torch.cat([own["s"], end]), torch.cat([own["tau_s"], own["tau_s"] + own["d"]]))
    student, path = dit(part(own, "weights."), time_schedule=schedule), data.path
    student.loss_weighting = None  # recorded, but not used
    objective = FlowMap(TeacherFlowMap(), offdiagonal_loss="square", rescale=True)
    objective.teacher = Frozen(residual(data.flow(schedule), dit(stage_one, time_schedule=schedule), path))
    times = torch.stack([own["s"], end], 1)
    x0_target = objective.target_output(student, path, own["x_s"], times).x0_target
    assert error(path.step(own["x_s"], x0_target, own["s"], end), own["target"]) < 1e-5
    with torch.no_grad():
        mean = student(own["x_s"], own["s"], Conditioning(end_time=end)).mean
    assert error(path.step(own["x_s"], mean, own["s"], end), own["pred"]) < 1e-5
    losses = objective.loss(student, path, data.x, data.batch, data.pairs("stage2", end), times)
    assert error(losses["loss"], own["loss"]) < 1e-5
    losses["loss"].backward()
    assert_gradients(student, own)


def test_the_flow_of_stage_zero_is_the_recorded_one(data: RecordedBatch) -> None:
    """Diagonal rows alone are FLM itself."""
    own = part(data.tensors, "flm.")
    net = data.flow(Knots(own["t"], own["tau"]))
    assert error(net(own["x_t"], own["t"]).logits, own["logp"]) < 1e-5
    pairs = TimePairs(own["t"], own["t"], own["draw.eps"], own["t"] >= 0)
    times = torch.stack([own["t"]] * 3, 1)
    losses = FlowMap(diagonal_prob=1.0).loss(net, LinearPath(1.0), data.x, data.batch, pairs, times)
    assert error(losses["loss"], own["loss"]) < 1e-5
    losses["loss"].backward()
    assert_gradients(net, own)


@torch.no_grad()
@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_samples_of_each_stage_are_the_recorded_ones(data: RecordedBatch, stage: str) -> None:
    _, meta = recorded("flm")
    schedule = decode_error_schedule(meta["config"])
    net = dit(part(data.tensors, f"{stage}.weights."), time_schedule=schedule)
    student: Denoiser = net if stage == "stage2" else residual(data.flow(schedule), net, data.path)
    for steps in meta["config"]["fsteps"]:
        own, times = part(data.tensors, f"{stage}.sample.{steps}."), schedule.grid(steps)
        z, rows = own["z0"], torch.ones(len(own["z0"]))
        for s, u in pairwise(times):
            mean = student(z, s * rows, Conditioning(end_time=u * rows)).mean
            z = mean if stage == "stage2" and u == times[-1] else data.path.step(z, mean, s, u)
        assert error(z, own["z1"]) < 1e-4, steps  # the times differ by up to 2e-6
        assert torch.equal(z.argmax(-1), own["ids"])
