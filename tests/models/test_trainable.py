"""Trainable: its average, its weights, its losses."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.helpers.toy_run import Data, Toy, fit, trainer
from textflow.layers.frozen import Frozen
from textflow.training import latest_state
from textflow.training.ema import update_ema


def test_the_twin_follows_every_optimizer_step_and_no_other_batch(tmp_path: Path) -> None:
    history: list[list[torch.Tensor]] = []
    model = Toy(after=lambda toy: history.append([p.detach().clone() for p in toy.net.parameters()]))
    start = [p.clone() for p in model.ema_net.parameters()]
    fit(tmp_path, 4, model, accumulate_grad_batches=3)
    assert len(history) == 12
    after = history[3::3] + [list(model.net.parameters())]  # the net after each of the four steps
    expected = start
    for step in after:
        expected = [0.9 * old + 0.1 * new for old, new in zip(expected, step, strict=True)]
    for found, wanted in zip(model.ema_net.parameters(), expected, strict=True):
        assert_close(found.data, wanted.detach(), atol=1e-6, rtol=1e-6)
    for found, wanted in zip(model.ema_net.buffers(), model.net.buffers(), strict=True):
        assert torch.equal(found, wanted)


def test_a_frozen_part_is_shared_not_copied_and_an_untrained_one_stays() -> None:
    net = nn.ModuleDict({"held": Frozen(nn.Linear(2, 2)), "still": nn.Linear(2, 2).requires_grad_(False)})
    net["moving"] = nn.Linear(2, 2)
    model = Toy()
    model.set_net(net)
    assert isinstance(model.ema_net, nn.ModuleDict)
    assert model.ema_net["held"].module is net["held"].module
    assert not any(p.requires_grad for p in model.ema_net.parameters())
    assert net["moving"].weight.requires_grad
    before = net["still"].weight.clone()
    net["moving"].weight.data += 1
    update_ema(net, model.ema_net, 0.5)
    assert torch.equal(model.ema_net["still"].weight, before)
    assert_close(model.ema_net["moving"].weight + 0.5, net["moving"].weight.data)
    names = [name for group in model.configure_optimizers()["optimizer"].param_groups for name in group["param_names"]]
    assert names == ["moving.weight", "moving.bias"]
    assert not any("held" in name for name in model.weights())


def test_a_net_without_anything_to_train_is_refused() -> None:
    model = Toy()
    model.net.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        model.configure_optimizers()


def test_weights_are_the_twin_under_the_names_of_the_net(tmp_path: Path) -> None:
    model, _ = fit(tmp_path, 3)
    weights = model.weights()
    assert not any(name.startswith("ema_net.") for name in weights)
    assert torch.equal(weights["net.1.weight"], model.ema_net[1].weight)  # type: ignore[index]
    assert not torch.equal(weights["net.1.weight"], model.net[1].weight)  # type: ignore[index]
    assert "codec.weight" in weights
    other = Toy()
    other.codec.weight.data.zero_()
    other.load_weights(weights)
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, weights[name.replace("ema_net.", "net.")]), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("net.1.bias"), r"1 missing \(net.1.bias\)"),
        (lambda w: w.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (lambda w: w.update({"net.1.bias": torch.zeros(9)}), r"1 misshaped \(net.1.bias is \(9,\), needs \(8,\)\)"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: Any, message: str) -> None:
    weights = Toy().weights()
    change(weights)
    with pytest.raises(ValueError, match=message):
        Toy().load_weights(weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.index_fill(0, torch.tensor([1]), torch.nan),
            r"net\.1\.bias has 1 of 8 values that are not finite",
        ),
        (lambda t: torch.full_like(t, -torch.inf), r"net\.1\.bias has 8 of 8 values"),
        (lambda t: torch.full_like(t, 1e300, dtype=torch.float64), r"net\.1\.bias has 8 of 8 values"),
        (lambda t: t.int(), r"net\.1\.bias is int32, where the model needs floating point"),
        (lambda t: t.to(torch.complex64), r"net\.1\.bias is complex64, where the model needs floating point"),
        (lambda t: t.to(torch.float8_e4m3fn), r"net\.1\.bias is float8_e4m3fn, where the model needs"),
        (lambda t: t.bool(), r"net\.1\.bias is bool, where"),
        (lambda t: t.to_sparse(), r"net\.1\.bias is sparse, where the model needs plain values"),
    ],
)
def test_weights_that_no_model_can_take_are_named_and_nothing_is_loaded(change: Any, message: str) -> None:
    model, weights = Toy(), Toy().weights()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    weights["net.1.bias"] = change(weights["net.1.bias"].detach())
    with pytest.raises(ValueError, match=message):
        model.load_weights(weights)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_half_precision_whole_numbers_and_laws_that_wait_to_be_measured_are_loaded() -> None:
    model = Toy()
    model.codec.register_buffer("law", torch.full((3,), torch.nan))
    model.codec.register_buffer("steps", torch.tensor(0))
    weights = model.weights() | {"codec.steps": torch.tensor(7)}
    model.load_weights({n: t.bfloat16() if t.is_floating_point() else t for n, t in weights.items()})
    assert model.codec.steps == 7 and model.codec.law.isnan().all()
    with pytest.raises(ValueError, match="codec.steps is float32, where the model needs int64"):
        model.load_weights(weights | {"codec.steps": torch.tensor(7.0)})
    with pytest.raises(ValueError, match="codec.law has 1 of 3 values"):
        model.load_weights(weights | {"codec.law": torch.tensor([0.0, torch.nan, 1.0])})


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path: Path) -> None:
    def spoil(toy: Toy) -> None:
        if len(toy.seen) == 6:
            toy.net[1].weight.data.fill_(float("nan"))  # type: ignore[index]

    with pytest.raises(ValueError, match="the loss of step 6 is nan"):
        fit(tmp_path, 8, Toy(after=spoil))
    assert latest_state(tmp_path) == tmp_path / "state" / "step-00000004" / "state.pt"


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    def spoil(toy: Toy) -> None:
        if len(toy.seen) == 8:
            toy.net[1].weight.data.fill_(float("nan"))  # type: ignore[index]

    with pytest.raises(ValueError, match=r"net\.0\.weight is no longer finite at step 8|net\.1\.weight"):
        fit(tmp_path, 9, Toy(after=spoil))
    assert latest_state(tmp_path) == tmp_path / "state" / "step-00000004" / "state.pt"


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="needs a decay"):
        Toy(ema_decay=decay)


def test_validation_judges_the_twin_on_the_same_streams_each_time(tmp_path: Path) -> None:
    model = Toy()
    coach = trainer(tmp_path, 1)
    first = coach.validate(model, datamodule=Data(), verbose=False)
    torch.randn(7)
    model.net[1].weight.data += 1  # type: ignore[index]
    assert coach.validate(model, datamodule=Data(), verbose=False) == first
    model.ema_net[1].weight.data += 1  # type: ignore[index]
    assert coach.validate(model, datamodule=Data(), verbose=False) != first
