"""Flow maps and mean flows on a small net: each target teaches, and draws are what they say."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from textflow.codecs import OneHot
from textflow.distill.flow_map import FlowMap
from textflow.distill.mean_flow import MeanFlowObjective
from textflow.distill.targets import Eulerian, Lagrangian, SemiGroup
from textflow.nets.dit import DiT
from textflow.objectives import ELFObjective
from textflow.paths import LinearPath
from textflow.schedules import LogitNormal
from textflow.types import Batch

VOCAB = 11


def dit(seed: int, spans: bool) -> DiT:
    torch.manual_seed(seed)
    net = DiT(OneHot(VOCAB), width=16, depth=1, heads=2, cond_width=8, two_time=spans, time_schedule=LogitNormal())
    nn.init.normal_(net.out.weight, std=0.3)
    return net


FLOWS: list[Callable[[], FlowMap | MeanFlowObjective]] = [
    lambda: FlowMap(SemiGroup(), LogitNormal(), full_interval_prob=0.2),
    lambda: FlowMap(Eulerian(min_one_minus_t=0.2), LogitNormal(), offdiagonal_loss="square"),
    lambda: FlowMap(Lagrangian(), LogitNormal()),
    lambda: MeanFlowObjective(LogitNormal(-0.5, 1.0), LogitNormal(1.0, 1.0)),
]


@pytest.mark.parametrize("make", FLOWS)
@pytest.mark.parametrize("taught", [False, True])
def test_flow_maps_learn(make: Callable[[], FlowMap | MeanFlowObjective], taught: bool) -> None:
    made, net = make(), dit(0, True)
    if taught:
        made.set_teacher(ELFObjective(), dit(1, False))
    ids = torch.arange(3 * 5).view(3, 5).repeat(4, 1) % 3
    batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    found = []
    for step in range(15):
        optimizer.zero_grad()
        losses = made(net, OneHot(VOCAB), LinearPath(1.0, 1e-3), batch, step)
        losses["loss"].backward()
        optimizer.step()
        found.append(float(losses.get("diagonal_loss", losses.get("velocity_mse")).detach()))
    assert sum(found[-4:]) < 0.9 * sum(found[:4])


def test_draws_of_flow_maps_are_what_they_say() -> None:
    torch.manual_seed(0)
    x = torch.zeros(640, 1, 1)
    spans = FlowMap(time_schedule=LogitNormal(), diagonal_prob=0.25, full_interval_prob=0.1).sample_pairs(x)
    assert int(spans.diagonal.sum()) == 160
    assert torch.equal(spans.s[spans.diagonal], spans.u[spans.diagonal])
    steps = ~spans.diagonal
    assert bool((spans.u >= spans.s).all()) and bool((spans.u[steps] > spans.s[steps]).all())
    whole = (spans.s[steps] == 0) & (spans.u[steps] == 1)
    assert 20 < int(whole.sum()) < 80  # 48 expected
    instant = spans.s[spans.diagonal].double()
    logit = (torch.logit(instant) + 1.5) / 0.8
    assert abs(float(logit.mean())) < 0.25 and abs(float(logit.std()) - 1) < 0.2
