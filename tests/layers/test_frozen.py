"""Frozen modules: used, but not trained or saved."""

from copy import deepcopy

import torch
from torch import nn

from textflow.nets import Frozen


class Owner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own, self.held = nn.Linear(2, 2), Frozen(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))


def test_nothing_of_it_is_trained_or_saved() -> None:
    owner = Owner()
    assert list(owner.held.parameters()) == [] and list(owner.held.buffers()) == []
    assert set(owner.state_dict()) == {"own.weight", "own.bias"}
    assert not any(p.requires_grad for p in owner.held.module.parameters())


def test_it_follows_its_owner_to_another_type_and_device() -> None:
    owner = Owner().double()
    assert {p.dtype for p in owner.held.module.parameters()} == {torch.float64}
    assert all(p.is_meta for p in owner.to("meta").held.module.parameters())


def test_it_and_a_copy_stay_in_eval_mode_and_compute_as_the_module() -> None:
    owner, x = Owner().train(), torch.randn(4, 2)
    assert not owner.held.module.training
    assert torch.equal(owner.held(x), owner.held.module(x)) and not owner.held(x).requires_grad
    assert torch.equal(deepcopy(owner).held(x), owner.held(x))
