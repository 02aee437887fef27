"""The usual ways to sample, by name."""

import pytest
import torch

from textflow.cli.options import devices_of, sample_by, swept, take
from textflow.escapes import Commit, Soft
from textflow.oracle import WORLDS
from textflow.samplers import Euler, Heun, Reinject, Renoise


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


def test_a_sweep_sets_a_number_of_the_guidance_the_sampler_or_the_escape() -> None:
    model = WORLDS["chain"](0).generator(escape=Commit("sample"), sampler=Reinject(1.0))
    sample_by(model, "recipe", 1.5, {"w": 3.0, "gamma": 0.25, "temperature": 0.5})
    assert model.guidance == 3.0 and model.sampler == Reinject(0.25) and model.escape.temperature == 0.5
    sample_by(model, "reinject", 1.5, {})
    assert model.sampler == Reinject(1.5)


def test_a_sweep_over_what_is_not_there_names_the_way_out() -> None:
    model = WORLDS["chain"](0).generator(sampler=Heun())
    for key in ("gamma", "temperature", "forward", "x"):
        with pytest.raises(ValueError, match=f"sweep over '{key}': Heun and Soft .*--sampler reinject"):
            sample_by(model, "recipe", 1.5, {key: 1.0})


def test_a_range_includes_its_ends() -> None:
    assert swept("gamma=0:2:.5") == ("gamma", [0.0, 0.5, 1.0, 1.5, 2.0]) and swept("w=1,2,4") == ("w", [1.0, 2.0, 4.0])
    assert swept("t=0:.3:.1") == ("t", [0.0, 0.1, 0.2, 0.3]) and swept("t=0:1:.4") == ("t", [0.0, 0.4, 0.8])
    for wrong in ("gamma", "gamma=", "gamma=1", "=0:1:.5", "g=0:1:0", "g=0:1", "g=a,b", "g=1:0:.5"):
        with pytest.raises(ValueError, match="first:last:step"):
            swept(wrong)


def test_several_processes_on_a_cpu_and_never_more_gpus_than_there_are() -> None:
    assert devices_of("cpu", None) == ["cpu"] and devices_of("cpu", 3) == ["cpu"] * 3
    with pytest.raises(ValueError, match="devices is 0"):
        devices_of("cpu", 0)
