"""FMLM's targets, losses and gradients against recorded tensors."""

from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers.flm_nets import Told, dit, dit_name
from tests.helpers.recordings import error, part, recorded
from textflow.distill.flow_map import FlowMap, TimePairs
from textflow.distill.targets import Eulerian, Lagrangian, SemiGroup
from textflow.nets import Frozen
from textflow.nets.dit import DiT
from textflow.paths import LinearPath
from textflow.types import Batch

pytestmark = pytest.mark.parity

PATH = LinearPath(1.0, 1e-8)
CASES: dict[str, dict[str, Any]] = recorded("fmlm")[1]["config"]["cases"]


def made(said: dict[str, Any]) -> FlowMap:
    """The objective of a case."""
    if said["distillation_method"] == "ESD":
        return FlowMap(Eulerian(), offdiagonal_loss="square")
    if said["distillation_method"] == "LSD":
        return FlowMap(Lagrangian())
    error = "square" if said["use_mse_loss_psd"] else "cross_entropy"
    return FlowMap(SemiGroup(), offdiagonal_loss=error, diagonal_loss=error, rescale=said["rescale_offdiag_loss_psd"])


class Step(NamedTuple):
    own: dict[str, Tensor]
    objective: FlowMap
    net: DiT
    told: Told
    arguments: tuple[Any, ...]  # of the loss, after the net


def clock(method: str, own: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Times, what the net is told there, and the slope between them."""
    s, u, tau_s, tau_u = (own[name].clone() for name in ("s", "t", "tau_s", "tau_t"))
    off = own["idx_offdiag"]
    slopes = torch.zeros(2, len(s))
    if method == "ESD":
        instant = own["idx_diag"]
        tau_s[instant], tau_u[instant] = s[instant], u[instant]  # as upstream does
        slopes[0, off] = own["dtau_ds"]
    if method == "LSD":
        slopes[1, off] = own["dtau_dt"]
    middle = own.get("u", s)
    return torch.cat([s, u, middle]), torch.cat([tau_s, tau_u, (tau_s + tau_u) / 2]), torch.cat([*slopes, 0 * s])


@pytest.fixture(scope="module", params=CASES)
def step(request: pytest.FixtureRequest) -> Step:
    data, meta = recorded("fmlm")
    own, said = part(data, f"{request.param}."), CASES[request.param]
    objective = made(said)
    net = dit(part(data, "weights."), logit_softcap=30.0)
    told = Told(net, *clock(said["distillation_method"], own))
    if said.get("teacher"):
        objective.teacher = Frozen(Told(dit(part(data, "teacher."), logit_softcap=30.0), own["s"], own["tau_s"]))
    x = F.one_hot(data["ids"], meta["config"]["V"]).float()
    instant = torch.zeros(len(x), dtype=torch.bool).index_fill(0, own["idx_diag"], True)
    spans = TimePairs(own["s"], own["t"], own["draw.eps"], instant)
    times = torch.stack([own["s"], own["u"], own["t"]] if "u" in own else [own["s"], own["t"]], 1)
    batch = Batch(data["ids"], torch.ones_like(data["ids"], dtype=torch.bool))
    return Step(own, objective, net, told, (PATH, x, batch, spans, times))


def test_what_is_noised_is_the_recorded_one(step: Step) -> None:
    path, x, _, spans, _ = step.arguments
    assert error(path.mix(x, spans.eps, spans.s), step.own["x_s"]) < 1e-6


def test_the_target_is_the_recorded_one(step: Step) -> None:
    *_, times = step.arguments
    rows = step.own["idx_offdiag"]
    lesson = step.objective.target_output(step.told, PATH, step.own["x_s"][rows], times[rows])
    tolerance = 1e-5 if isinstance(step.objective.target, SemiGroup) else 2e-4
    assert error(lesson.x0_target, step.own["offdiag_target"]) < tolerance


def test_the_loss_and_its_gradients_are_the_recorded_ones(step: Step) -> None:
    step.net.zero_grad()
    losses = step.objective.loss(step.told, *step.arguments)
    assert error(losses["loss"], step.own["loss"]) < 1e-5
    each = step.own["loss_per_token"]
    assert error(losses["diagonal_loss"], each[step.own["idx_diag"]].mean()) < 1e-5
    assert error(losses["offdiagonal_loss"], each[step.own["idx_offdiag"]].mean()) < 2e-5
    losses["loss"].backward()
    grads = {name: p.grad for name, p in step.net.named_parameters()}
    for name, grad in part(step.own, "grad.").items():
        assert error(grads[dit_name(name)], grad) < 2e-4, name
