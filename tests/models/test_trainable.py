"""Trainable: moving average, weights and losses."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, PolynomialLR
from torch.testing import assert_close

from tests.helpers.toy_run import RowData, Toy, fit, trainer
from textflow.discrete import DuoObjective
from textflow.layers.frozen import Frozen
from textflow.models import base
from textflow.objectives import LangFlowObjective
from textflow.training import latest_state
from textflow.training.ema import update_ema


@pytest.mark.integration
def test_the_moving_average_follows_optimizer_steps_and_no_other_batch(tmp_path: Path) -> None:
    history: list[list[torch.Tensor]] = []
    model = Toy(after=lambda toy: history.append([p.detach().clone() for p in toy.net.parameters()]))
    expected = [p.clone() for p in model.ema_net.parameters()]
    fit(tmp_path, 4, model, accumulate_grad_batches=3)
    assert len(history) == 12
    for parameters in history[3::3] + [list(model.net.parameters())]:  # the net after each of the four steps
        expected = [0.9 * old + 0.1 * new for old, new in zip(expected, parameters, strict=True)]
    assert_close([p.data for p in model.ema_net.parameters()], [p.detach() for p in expected], atol=1e-6, rtol=1e-6)
    assert_close(list(model.ema_net.buffers()), list(model.net.buffers()), atol=0, rtol=0)


def test_a_frozen_part_is_shared_and_a_part_without_gradients_does_not_change() -> None:
    net = nn.ModuleDict({"frozen": Frozen(nn.Linear(2, 2)), "fixed": nn.Linear(2, 2).requires_grad_(False)})
    net["trained"] = nn.Linear(2, 2)
    model = Toy()
    model.set_net(net)
    assert isinstance(model.ema_net, nn.ModuleDict)
    assert model.ema_net["frozen"].module is net["frozen"].module
    assert not any(p.requires_grad for p in model.ema_net.parameters())
    assert net["trained"].weight.requires_grad
    before = net["fixed"].weight.clone()
    net["trained"].weight.data += 1
    update_ema(net, model.ema_net, 0.5)
    assert torch.equal(model.ema_net["fixed"].weight, before)
    assert_close(model.ema_net["trained"].weight + 0.5, net["trained"].weight.data)
    names = [name for group in model.configure_optimizers()["optimizer"].param_groups for name in group["param_names"]]
    assert names == ["trained.weight", "trained.bias"]
    assert not any("frozen" in name for name in model.weights())


def test_weights_are_the_moving_average_with_the_names_of_the_net(tmp_path: Path) -> None:
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
        (lambda w: w["net.1.bias"][1:2].fill_(torch.nan), r"net\.1\.bias has 1 of 8 values that are not finite"),
        *(
            (lambda w, change=change: w.update({"net.1.bias": change(w["net.1.bias"])}), rf"net\.1\.bias {message}")
            for change, message in (
                (lambda t: torch.full_like(t, -torch.inf), "has 8 of 8 values"),
                (lambda t: torch.full_like(t, 1e300, dtype=torch.float64), "has 8 of 8 values"),
                (lambda t: t.int(), "is int32, where the model needs floating point"),
                (lambda t: t.to(torch.complex64), "is complex64, where the model needs floating point"),
                (lambda t: t.to(torch.float8_e4m3fn), "is float8_e4m3fn, where the model needs"),
                (lambda t: t.bool(), "is bool, where"),
                (lambda t: t.to_sparse(), "is sparse, where the model needs plain values"),
            )
        ),
    ],
)
def test_wrong_weights_are_named_in_the_error_and_nothing_is_loaded(change: Any, message: str) -> None:
    model, weights = Toy(), {name: tensor.detach().clone() for name, tensor in Toy().weights().items()}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    change(weights)
    with pytest.raises(ValueError, match=message):
        model.load_weights(weights)
    assert_close(dict(model.state_dict()), before, atol=0, rtol=0)


def test_half_precision_integers_and_unfitted_schedules_load() -> None:
    model = Toy()
    model.codec.register_buffer("cdf", torch.full((3,), torch.nan))
    model.codec.register_buffer("steps", torch.tensor(0))
    weights = model.weights() | {"codec.steps": torch.tensor(7)}
    model.load_weights({n: t.bfloat16() if t.is_floating_point() else t for n, t in weights.items()})
    assert model.codec.steps == 7 and model.codec.cdf.isnan().all()
    with pytest.raises(ValueError, match="codec.steps is float32, where the model needs int64"):
        model.load_weights(weights | {"codec.steps": torch.tensor(7.0)})
    with pytest.raises(ValueError, match="codec.cdf has 1 of 3 values"):
        model.load_weights(weights | {"codec.cdf": torch.tensor([0.0, torch.nan, 1.0])})


@pytest.mark.integration
@pytest.mark.parametrize(
    ("num_batches", "message"),
    [(6, "the loss of step 6 is nan"), (8, r"net\.0\.weight is no longer finite at step 8|net\.1\.weight")],
)
def test_a_loss_or_weight_that_is_not_finite_stops_the_run_and_is_not_saved(
    tmp_path: Path, num_batches: int, message: str
) -> None:
    def spoil(toy: Toy) -> None:
        if len(toy.train_losses) == num_batches:
            toy.net[1].weight.data.fill_(float("nan"))  # type: ignore[index]

    with pytest.raises(ValueError, match=message):
        fit(tmp_path, 9, Toy(after=spoil))
    assert latest_state(tmp_path) == tmp_path / "state" / "step-00000004" / "state.pt"


@pytest.mark.integration
def test_a_training_that_ends_within_a_phase_of_its_objective_names_both(tmp_path: Path, monkeypatch: Any) -> None:
    lines: list[str] = []
    monkeypatch.setattr(base, "rank_zero_info", lines.append)
    for objective in (DuoObjective(curriculum_steps=4000), LangFlowObjective(ramp_steps=3), LangFlowObjective()):
        toy = Toy()
        object.__setattr__(toy, "objective", objective)
        fit(tmp_path / f"{id(objective)}", 3, toy)
    end = "the training ends at step 3, before its"
    assert [line for line in lines if "Objective" in line] == [
        f"DuoObjective: {end} curriculum_steps (4,000) are over",
        f"LangFlowObjective: {end} ramp_steps (5,000) are over",
    ]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("make", "lines"),
    [
        (lambda optimizer: CosineAnnealingLR(optimizer, T_max=2), ["CosineAnnealingLR: its T_max is 2"]),
        (lambda optimizer: PolynomialLR(optimizer, total_iters=1), ["PolynomialLR: its total_iters is 1"]),
        (lambda optimizer: OneCycleLR(optimizer, 0.1, total_steps=9), []),
        (lambda optimizer: CosineAnnealingLR(optimizer, T_max=3), []),
    ],
)
def test_a_schedule_of_torch_that_is_over_before_the_training_is_named(
    make: Any, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []
    monkeypatch.setattr(base, "rank_zero_info", printed.append)
    toy = Toy()
    toy.lr_scheduler = make
    fit(tmp_path, 3, toy)
    assert [line.partition(",")[0] for line in printed if "training takes 3 steps" in line] == lines


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_out_of_range_is_an_error(decay: float) -> None:
    with pytest.raises(ValueError, match="needs a decay"):
        Toy(ema_decay=decay)


def test_validation_scores_the_moving_average_with_the_same_random_numbers_each_time(tmp_path: Path) -> None:
    model, fitter = Toy(), trainer(tmp_path, 1)
    first = fitter.validate(model, datamodule=RowData(), verbose=False)
    torch.randn(7)
    model.net[1].weight.data += 1  # type: ignore[index]
    assert fitter.validate(model, datamodule=RowData(), verbose=False) == first
    model.ema_net[1].weight.data += 1  # type: ignore[index]
    assert fitter.validate(model, datamodule=RowData(), verbose=False) != first
