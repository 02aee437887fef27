"""FMLM's targets, losses and gradients against recorded tensors; training and draws of small flow maps."""

from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.flm_nets import AtRecordedTau, dit
from tests.helpers.recordings import constant, error, part, recorded
from textflow.codecs import OneHot
from textflow.convert.dit_layout import map_name
from textflow.distill.flow_map import FlowMap, TimePairs
from textflow.distill.mean_flow import MeanFlowObjective
from textflow.distill.targets import Eulerian, Lagrangian, SemiGroup
from textflow.nets import Frozen
from textflow.nets.dit import DiT
from textflow.objectives import ELFObjective
from textflow.paths import LinearPath
from textflow.schedules import LogitNormal
from textflow.types import Batch

PATH = LinearPath(1.0, 1e-8)
CASES: dict[str, dict[str, Any]] = recorded("fmlm")[1]["config"]["cases"]


class Case(NamedTuple):
    own: dict[str, Tensor]
    objective: FlowMap
    net: DiT
    timed_net: AtRecordedTau  # with the recorded times of the schedule
    arguments: tuple[Any, ...]  # of the loss, after the net


def objective_of(config: dict[str, Any]) -> FlowMap:
    if config["distillation_method"] == "ESD":
        return FlowMap(Eulerian(), offdiagonal_loss="square")
    if config["distillation_method"] == "LSD":
        return FlowMap(Lagrangian())
    loss = "square" if config.get("use_mse_loss_psd") else "cross_entropy"
    rescale = config.get("rescale_offdiag_loss_psd", False)
    return FlowMap(SemiGroup(), offdiagonal_loss=loss, diagonal_loss=loss, rescale=rescale)


def network_times(method: str, own: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Times, the network's times there, and the slope between them."""
    s, u, tau_s, tau_u = (own[name].clone() for name in ("s", "t", "tau_s", "tau_t"))
    slopes = torch.zeros(3, len(s))
    if method == "ESD":
        diagonal = own["idx_diag"]
        tau_s[diagonal], tau_u[diagonal] = s[diagonal], u[diagonal]  # as upstream does
        slopes[0, own["idx_offdiag"]] = own["dtau_ds"]
    if method == "LSD":
        slopes[1, own["idx_offdiag"]] = own["dtau_dt"]
    return torch.cat([s, u, own.get("u", s)]), torch.cat([tau_s, tau_u, (tau_s + tau_u) / 2]), slopes.flatten()


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    data, meta = recorded("fmlm")
    own, config = part(data, f"{request.param}."), CASES[request.param]
    softcap = constant(meta["config"], "logit_softcap")
    objective, net = objective_of(config), dit(part(data, "weights."), logit_softcap=softcap)
    if config.get("teacher"):
        ends = (torch.cat([own[start], own[end]]) for start, end in (("s", "t"), ("tau_s", "tau_t")))
        objective.teacher = Frozen(AtRecordedTau(dit(part(data, "teacher."), logit_softcap=softcap), *ends))
    ids = data["ids"]
    x = F.one_hot(ids, meta["config"]["V"]).float()
    diagonal = torch.zeros(len(x), dtype=torch.bool).index_fill(0, own["idx_diag"], True)
    pairs = TimePairs(own["s"], own["t"], own["draw.eps"], diagonal)
    times = torch.stack([own[name] for name in ("s", "u", "t") if name in own], 1)
    timed_net = AtRecordedTau(net, *network_times(config["distillation_method"], own))
    return Case(own, objective, net, timed_net, (PATH, x, Batch(ids, ids >= 0), pairs, times))


@pytest.mark.parity
def test_noised_latents_and_targets_are_the_recorded_ones(case: Case) -> None:
    path, x, _, pairs, times = case.arguments
    assert error(path.mix(x, pairs.eps, pairs.s), case.own["x_s"]) < 1e-6
    rows = case.own["idx_offdiag"]
    output = case.objective.target_output(case.timed_net, PATH, case.own["x_s"][rows], times[rows])
    tolerance = 1e-5 if isinstance(case.objective.target, SemiGroup) else 2e-4
    assert error(output.x0_target, case.own["offdiag_target"]) < tolerance


@pytest.mark.parity
def test_losses_and_gradients_are_the_recorded_ones(case: Case) -> None:
    case.net.zero_grad()
    losses, own = case.objective.loss(case.timed_net, *case.arguments), case.own
    assert error(losses["loss"], own["loss"]) < 1e-5
    assert error(losses["diagonal_loss"], own["loss_per_token"][own["idx_diag"]].mean()) < 1e-5
    assert error(losses["offdiagonal_loss"], own["loss_per_token"][own["idx_offdiag"]].mean()) < 2e-5
    losses["loss"].backward()
    for name, grad in part(own, "grad.").items():
        assert error(case.net.get_parameter(map_name(name)).grad, grad) < 2e-4, name


def small_dit(seed: int, two_time: bool) -> DiT:
    torch.manual_seed(seed)
    net = DiT(OneHot(11), width=16, depth=1, heads=2, cond_width=8, two_time=two_time, time_schedule=LogitNormal())
    nn.init.normal_(net.out.weight, std=0.3)
    return net


@pytest.mark.integration
@pytest.mark.parametrize(
    ("objective", "has_teacher"),
    [
        (FlowMap(SemiGroup(), LogitNormal(), full_interval_prob=0.2), True),
        (FlowMap(Eulerian(min_one_minus_t=0.2), LogitNormal(), offdiagonal_loss="square"), False),
        (FlowMap(Lagrangian(), LogitNormal()), True),
        (MeanFlowObjective(LogitNormal(-0.5, 1.0), LogitNormal(1.0, 1.0)), False),
        (MeanFlowObjective(LogitNormal(-0.5, 1.0), LogitNormal(1.0, 1.0)), True),
    ],
    ids=lambda part: str(part) if isinstance(part, bool) else type(part.target).__name__,
)
def test_training_lowers_the_loss(objective: FlowMap | MeanFlowObjective, has_teacher: bool) -> None:
    net = small_dit(0, True)
    if has_teacher:
        objective.set_teacher(ELFObjective(), small_dit(1, False))
    ids = torch.arange(3 * 5).view(3, 5).repeat(4, 1) % 3
    optimizer, history = torch.optim.Adam(net.parameters(), lr=2e-2), []
    for step in range(10):
        optimizer.zero_grad()
        losses = objective(net, OneHot(11), LinearPath(1.0, 1e-3), Batch(ids, ids >= 0), step)
        losses["loss"].backward()
        optimizer.step()
        history.append(float(losses.get("diagonal_loss", losses.get("velocity_mse")).detach()))
    assert sum(history[-4:]) < 0.9 * sum(history[:4]), history


def test_time_pairs_have_their_stated_distribution() -> None:
    torch.manual_seed(0)
    pairs = FlowMap(time_schedule=LogitNormal(), diagonal_prob=0.25, full_interval_prob=0.1).sample_pairs(
        torch.zeros(640, 1, 1)
    )
    s, u, diagonal = pairs.s, pairs.u, pairs.diagonal
    assert int(diagonal.sum()) == 160 and torch.equal(s[diagonal], u[diagonal])
    assert bool((u >= s).all()) and bool((u[~diagonal] > s[~diagonal]).all())
    assert 20 < int(((s == 0) & (u == 1))[~diagonal].sum()) < 80  # 48 expected
    logit = (torch.logit(s[diagonal].double()) + 1.5) / 0.8
    assert abs(float(logit.mean())) < 0.25 and abs(float(logit.std()) - 1) < 0.2
