"""Presets of samplers, sweeps and devices."""

import pytest
import torch

from tests.helpers.user_errors import refused
from textflow.cli.options import configure_sampling, parse_sweep, require_positive, resolve_devices, set_sampler
from textflow.escapes import Commit, NoEscape
from textflow.oracle import ORACLE_TASKS
from textflow.samplers import Ancestral, Euler, Heun, Reinject


def test_a_preset_sets_escape_and_sampler_but_not_of_a_model_with_its_own() -> None:
    model = ORACLE_TASKS["chain"](0).make_generator(escape=Commit(), sampler=Ancestral())
    set_sampler(model, "recipe", None)
    assert isinstance(model.escape, Commit) and model.sampler == Ancestral()
    set_sampler(model, "ode", None)
    assert isinstance(model.escape, NoEscape) and model.sampler == Euler()
    set_sampler(model, "reinject", 0.5)
    assert model.sampler == Reinject(0.5)
    set_sampler(model, "reinject", None)
    assert model.sampler == Reinject(1.5)
    set_sampler(model, "mode-commit", None)
    assert isinstance(model.escape, Commit) and model.sampler == Ancestral()
    set_sampler(torch.nn.Linear(1, 1), "recipe", None)
    with pytest.raises(ValueError, match="a Linear has a sampler of its own; leave --sampler ode out"):
        set_sampler(torch.nn.Linear(1, 1), "ode", None)


def test_a_sweep_sets_the_guidance_the_sampler_or_the_escape_and_nothing_unknown() -> None:
    model = ORACLE_TASKS["chain"](0).make_generator(escape=Commit("sample"), sampler=Reinject(1.0))
    configure_sampling(model, "recipe", None, {"w": 3.0, "gamma": 0.25, "temperature": 0.5})
    assert model.self_cond_guidance == 3.0 and model.sampler == Reinject(0.25) and model.escape.temperature == 0.5
    configure_sampling(model, "reinject", 1.5, {})
    assert model.sampler == Reinject(1.5)
    model = ORACLE_TASKS["chain"](0).make_generator(sampler=Heun())
    for key in ("gamma", "temperature", "forward", "x"):
        with pytest.raises(ValueError, match=f"sweep over '{key}': Heun and NoEscape .*--sampler reinject"):
            configure_sampling(model, "recipe", None, {key: 1.0})


def test_a_sweep_includes_its_ends_and_an_invalid_or_too_long_one_is_refused() -> None:
    assert parse_sweep("gamma=0:2:.5") == [{"gamma": value} for value in (0.0, 0.5, 1.0, 1.5, 2.0)]
    assert parse_sweep("w=1,2,4") == [{"w": 1.0}, {"w": 2.0}, {"w": 4.0}]
    assert [row["t"] for row in parse_sweep("t=0:.3:.1")] == [0.0, 0.1, 0.2, 0.3]
    assert [row["t"] for row in parse_sweep("t=0:1:.4")] == [0.0, 0.4, 0.8]
    assert len(parse_sweep("gamma=1:1000:1")) == 1000
    assert parse_sweep(None) == [{}]
    for wrong in ("gamma=0:1e9:1e-9", "gamma=0:1000:1", "w=" + ",".join("1" * 1001)):
        refused(r"sweep is '.*more than 1,000 values; take a larger step", parse_sweep, wrong)
    texts = ("gamma", "gamma=", "gamma=1", "=0:1:.5", "g=0:1:0", "g=0:1", "g=a,b", "g=1:0:.5")
    for wrong in (*texts, "g=0:inf:1", "g=0:1:nan", "g=0,inf", "g=nan,1", "g=0:1e300:1e-300"):
        refused("first:last:step", parse_sweep, wrong)


def test_processes_share_a_cpu_and_numbers_below_1_and_an_unused_gamma_are_refused() -> None:
    assert resolve_devices("cpu", None) == ["cpu"] and resolve_devices("cpu", 3) == ["cpu"] * 3
    refused("devices is 0", resolve_devices, "cpu", 0)
    require_positive(n=None, steps=1)
    refused(r"--batch-size is 0; at least 1", require_positive, n=3, batch_size=0)
    refused(r"-n is -2; at least 1", require_positive, n=-2)
    refused(r"--gamma 9\.0 is the strength of --sampler reinject, not of ode", set_sampler, None, "ode", 9.0)
