"""The usual ways to sample, by name."""

import pytest
import torch

from textflow.cli.options import at_least_one, devices_of, sample_by, swept, take
from textflow.escapes import Commit, Soft
from textflow.oracle import WORLDS
from textflow.samplers import Euler, Heun, Reinject, Renoise


def test_a_name_sets_escape_and_sampler_both() -> None:
    model = WORLDS["chain"](0).generator(escape=Commit(), sampler=Renoise())
    take(model, "recipe", None)
    assert isinstance(model.escape, Commit) and model.sampler == Renoise()
    take(model, "ode", None)
    assert isinstance(model.escape, Soft) and model.sampler == Euler()
    take(model, "reinject", 0.5)
    assert model.sampler == Reinject(0.5)
    take(model, "commit", None)
    assert isinstance(model.escape, Commit) and model.sampler == Renoise()


def test_a_model_with_its_own_way_refuses_a_name() -> None:
    take(torch.nn.Linear(1, 1), "recipe", None)
    with pytest.raises(ValueError, match="a Linear samples in its own way alone; leave --sampler ode out"):
        take(torch.nn.Linear(1, 1), "ode", None)


def test_a_sweep_sets_a_number_of_the_guidance_the_sampler_or_the_escape() -> None:
    model = WORLDS["chain"](0).generator(escape=Commit("sample"), sampler=Reinject(1.0))
    sample_by(model, "recipe", None, {"w": 3.0, "gamma": 0.25, "temperature": 0.5})
    assert model.guidance == 3.0 and model.sampler == Reinject(0.25) and model.escape.temperature == 0.5
    sample_by(model, "reinject", 1.5, {})
    assert model.sampler == Reinject(1.5)


def test_a_sweep_over_what_is_not_there_names_the_way_out() -> None:
    model = WORLDS["chain"](0).generator(sampler=Heun())
    for key in ("gamma", "temperature", "forward", "x"):
        with pytest.raises(ValueError, match=f"sweep over '{key}': Heun and Soft .*--sampler reinject"):
            sample_by(model, "recipe", None, {key: 1.0})


def test_a_range_includes_its_ends() -> None:
    assert swept("gamma=0:2:.5") == ("gamma", [0.0, 0.5, 1.0, 1.5, 2.0]) and swept("w=1,2,4") == ("w", [1.0, 2.0, 4.0])
    assert swept("t=0:.3:.1") == ("t", [0.0, 0.1, 0.2, 0.3]) and swept("t=0:1:.4") == ("t", [0.0, 0.4, 0.8])
    for wrong in ("gamma", "gamma=", "gamma=1", "=0:1:.5", "g=0:1:0", "g=0:1", "g=a,b", "g=1:0:.5"):
        with pytest.raises(ValueError, match="first:last:step"):
            swept(wrong)


def test_a_range_has_an_end() -> None:
    assert len(swept("gamma=1:1000:1")[1]) == 1000
    for wrong in ("gamma=0:1e9:1e-9", "gamma=0:1000:1", "w=" + ",".join("1" * 1001)):
        with pytest.raises(ValueError, match=r"sweep is '.*more than 1,000 values; take a larger step"):
            swept(wrong)
    for wrong in ("g=0:inf:1", "g=0:1:nan", "g=0,inf", "g=nan,1", "g=0:1e300:1e-300"):
        with pytest.raises(ValueError, match="first:last:step"):
            swept(wrong)


def test_several_processes_on_a_cpu_and_never_more_gpus_than_there_are() -> None:
    assert devices_of("cpu", None) == ["cpu"] and devices_of("cpu", 3) == ["cpu"] * 3
    with pytest.raises(ValueError, match="devices is 0"):
        devices_of("cpu", 0)


def test_what_nothing_uses_and_numbers_below_1_are_refused() -> None:
    at_least_one(n=None, steps=1)
    with pytest.raises(ValueError, match=r"--batch-size is 0; at least 1"):
        at_least_one(n=3, batch_size=0)
    with pytest.raises(ValueError, match=r"-n is -2; at least 1"):
        at_least_one(n=-2)
    with pytest.raises(ValueError, match=r"--gamma 9\.0 is the strength of --sampler reinject, not of ode"):
        take(None, "ode", 9.0)
