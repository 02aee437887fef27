"""The usual ways to sample, by name."""

import pytest
import torch

from textflow.cli.options import take
from textflow.escapes import Commit, Soft
from textflow.oracle import WORLDS
from textflow.samplers import Euler, Reinject, Renoise


def test_a_name_sets_escape_and_sampler_both() -> None:
    model = WORLDS["chain"](0).generator(escape=Commit(), sampler=Renoise())
    take(model, "recipe", 1.5)
    assert isinstance(model.escape, Commit) and model.sampler == Renoise()
    take(model, "ode", 1.5)
    assert isinstance(model.escape, Soft) and model.sampler == Euler()
    take(model, "reinject", 0.5)
    assert model.sampler == Reinject(0.5)
    take(model, "commit", 1.5)
    assert isinstance(model.escape, Commit) and model.sampler == Renoise()


def test_a_model_with_its_own_way_refuses_a_name() -> None:
    take(torch.nn.Linear(1, 1), "recipe", 1.5)
    with pytest.raises(ValueError, match="a Linear samples in its own way alone; leave --sampler ode out"):
        take(torch.nn.Linear(1, 1), "ode", 1.5)
