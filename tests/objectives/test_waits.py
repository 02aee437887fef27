"""A training step does not make the host wait for a GPU: counted by the operations that would."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from textflow.clocks import DecodeError
from textflow.nets import ELF
from textflow.objectives import ELFObjective
from textflow.objectives.distill import Distill
from textflow.objectives.plain import plain_loss
from textflow.paths import Linear
from textflow.targets import Progressive
from textflow.training import MuonAdam
from textflow.training.ema import follow
from textflow.types import Batch

ASK = {"_local_scalar_dense", "nonzero", "masked_select", "unique_consecutive", "_unique2", "equal", "is_nonzero"}
CHOOSE = {"index", "index_put", "index_put_", "_index_put_impl_"}  # by a mask they count its entries first


class Waits(TorchDispatchMode):
    """Counts the operations whose result's shape or value the host must know."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name in CHOOSE and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if name in ASK or masks:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def step(coins: str, padded: bool, taught: bool = False) -> list[str]:
    """What waits in a whole step: draws, loss, way back, clipping, update, average."""
    torch.manual_seed(0)
    net, twin, teacher = (ELF(8, 20, 16, 1, 2, 4) for _ in range(3))
    clock = DecodeError()
    clock.assume_uniform()
    objective = ELFObjective(clock, coins=coins)
    if taught:
        like, objective = objective, Distill(Progressive(2), 4, objective)
        objective.learn_from(like, teacher)
    optimizer = MuonAdam(net.named_parameters())
    x, ids = torch.randn(10, 6, 8), torch.randint(20, (10, 6))
    mask = torch.arange(6)[None] < torch.randint(1, 7, (10, 1)) if padded else torch.ones_like(ids, dtype=torch.bool)
    clock.draw(1)  # looked at once
    with Waits() as waits:
        objective(net, Linear(), x, Batch(ids, mask))["loss"].backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        follow(net, twin, 0.9)
    return waits.found


@pytest.mark.parametrize("padded", [False, True])
def test_a_step_with_stratified_coins_never_waits(padded: bool) -> None:
    assert step("stratified", padded) == []


def test_a_step_with_exact_coins_waits_for_what_its_coins_decide() -> None:
    assert len(step("exact", padded=True)) > 0


def test_a_distilling_step_waits_for_no_more_than_its_teachers_first_guess() -> None:
    assert step("stratified", padded=True, taught=True) == ["nonzero"]


@pytest.mark.parametrize("padded", [False, True])
def test_fixed_shapes_give_the_published_gradient(padded: bool) -> None:
    torch.manual_seed(0)
    net, objective = ELF(8, 20, 16, 1, 2, 4).double(), ELFObjective(coins="stratified")
    torch.nn.init.normal_(net.out.weight, std=0.1)
    x, ids = torch.randn(10, 6, 8, dtype=torch.float64), torch.randint(20, (10, 6))
    mask = torch.arange(6)[None] < torch.randint(1, 7, (10, 1)) if padded else torch.ones_like(ids, dtype=torch.bool)
    draws = objective.draw(x)
    draws = draws._replace(t=draws.t.double(), share=draws.share.double(), w=draws.w.double())
    found = []
    for loss in (objective.loss, lambda *parts: plain_loss(objective, *parts)):
        net.zero_grad()
        loss(net, Linear(), x, Batch(ids, mask), draws)["loss"].backward()
        found.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)
