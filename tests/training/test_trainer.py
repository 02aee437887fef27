"""Trainer: its defaults, its precision, its place in a recipe; W&B."""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tests.helpers.bf16_cpu import SLOW, half
from tests.helpers.toy_run import Toy, fit
from textflow.training import (
    CheckpointCallback,
    MetricsCSVLogger,
    Trainer,
    WarmupLR,
    make_loggers,
    make_wandb_logger,
    newton_schulz,
)
from textflow.training import trainer as room
from textflow.training.checkpoint_io import SafeCheckpointIO
from textflow.training.engines import FSDP, Zero, refuse_strategy


def test_defaults_are_those_of_the_house() -> None:
    coach = Trainer(max_steps=5, accelerator="cpu", precision="32-true")
    assert coach.max_steps == 5 and coach.gradient_clip_val == 1.0 and coach.num_sanity_val_steps == 0
    assert coach.check_val_every_n_epoch is None and coach.loggers == []
    assert isinstance(coach.strategy.checkpoint_io, SafeCheckpointIO)


@pytest.mark.parametrize(
    "wrong", [{"max_steps": 0}, {"max_steps": -1}, {"accumulate_grad_batches": 0}, {"gradient_clip_val": float("nan")}]
)
def test_numbers_that_would_train_nothing_or_for_ever_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"both need at least 1|needs a norm"):
        Trainer(**{"max_steps": 1, "accelerator": "cpu", "precision": "32-true"} | wrong)


def test_half_precision_weights_which_an_average_cannot_follow_are_refused_everywhere() -> None:
    with pytest.raises(ValueError, match=r"bf16-true under SingleDeviceStrategy: needs 32-true or bf16-mixed"):
        Trainer(max_steps=1, accelerator="cpu", precision="bf16-true")


def test_a_bucket_holds_no_more_than_is_sent_and_an_even_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Zero, "trainable", SimpleNamespace(net=torch.nn.Linear(2, 1)))
    strategy = Zero(2)
    strategy._fit_bucket()
    sizes = strategy.config["zero_optimization"]
    assert (sizes["reduce_bucket_size"], sizes["allgather_bucket_size"]) == (4, 4)


def test_products_may_be_coarser_and_those_of_muon_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def spy(x: torch.Tensor, steps: int) -> torch.Tensor:
        seen.append(torch.get_float32_matmul_precision())
        return x

    monkeypatch.setattr(newton_schulz, "iterate", spy)
    try:
        Trainer(max_steps=1, accelerator="cpu", precision="32-true", matmul_precision="high")
        newton_schulz.orthogonalize(torch.eye(3))
        assert seen == ["highest"] and torch.get_float32_matmul_precision() == "high"
        Trainer(max_steps=1, accelerator="cpu", precision="32-true")
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    ("flags", "chosen"), [((True, False), "bf16-mixed"), ((False, True), "bf16-mixed"), ((False, False), "32-true")]
)
def test_precision_follows_the_cpu_and_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, flags: tuple[bool, bool], chosen: str
) -> None:
    half(monkeypatch, *flags)
    with caplog.at_level("INFO"):
        assert Trainer(max_steps=1, accelerator="cpu").precision == chosen
    assert f"precision auto: {chosen}" in caplog.text


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_asked_for_where_it_is_slow_is_done_and_said(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    half(monkeypatch, fast)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert Trainer(max_steps=1, accelerator="cpu", precision="bf16-mixed").precision == "bf16-mixed"
    said = [str(one.message) for one in told if "bf16" in str(one.message)]
    assert said == ([] if fast else [f"precision bf16-mixed: {SLOW}; auto and 32-true are not"])


def test_precision_without_the_flags_of_a_new_torch_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert room.auto_precision("cpu") == "32-true"


@pytest.mark.parametrize("accelerator", ["cuda", "gpu", "mps"])
def test_precision_of_a_device_that_is_not_here_is_full(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, accelerator: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level("INFO"):
        assert room.auto_precision(accelerator) == "32-true"
    assert f"as {accelerator} has no fast bf16" in caplog.text


def test_a_recipe_can_name_everything_by_short_names(tmp_path: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Trainer, "trainer")
    parser.add_argument("--schedule", type=Callable[[Optimizer], LRScheduler])
    config = parser.parse_object(
        {
            "trainer": {
                "max_steps": 7,
                "limit_val_batches": 3,
                "accelerator": "cpu",
                "callbacks": [
                    {"class_path": "CheckpointCallback", "init_args": {"run": str(tmp_path), "every_n_steps": 3}}
                ],
            },
            "schedule": {"class_path": "WarmupLR", "init_args": {"warmup_steps": 10}},
        }
    )
    made = parser.instantiate_classes(config)
    assert isinstance(made.trainer, Trainer) and made.trainer.limit_val_batches == 3
    assert isinstance(made.trainer.checkpoint_callback, CheckpointCallback)
    schedule = made.schedule(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0))
    assert isinstance(schedule, WarmupLR) and schedule.warmup_steps == 10
    with pytest.raises(Exception, match="max_steps"):
        parser.parse_object({"schedule": None})


@pytest.mark.parametrize("kind", [DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy])
@pytest.mark.parametrize("form", ["object", "class_path", "word", "dotted"])
def test_strategies_that_ours_mend_are_refused_in_every_form(kind: type, form: str) -> None:
    class Mine(kind): ...  # type: ignore[misc]

    path = f"{kind.__module__}.{kind.__name__}"
    forms = {"class_path": Namespace(class_path=path), "word": kind.__name__, "dotted": path}
    strategy = Mine.__new__(Mine) if form == "object" else forms[form]
    with pytest.raises(ValueError, match=r"use recipes/strategy/(zero1|fsdp)\.yaml"):
        Trainer(max_steps=1, strategy=strategy, accelerator="cpu", precision="32-true")


@pytest.mark.parametrize("kind", [Zero, FSDP])
def test_our_own_strategies_are_not_refused(kind: type) -> None:
    refuse_strategy(kind.__new__(kind))
    refuse_strategy(Namespace(class_path=f"{kind.__module__}.{kind.__name__}"))
    for word in ("auto", "ddp", None):
        refuse_strategy(word)


def test_a_recipe_names_a_logger_and_gets_it(tmp_path: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Trainer, "trainer")
    named = {"class_path": "MetricsCSVLogger", "init_args": {"run": str(tmp_path)}}
    made = parser.instantiate_classes(parser.parse_object({"trainer": {"max_steps": 1, "logger": [named]}}))
    assert [type(logger) for logger in made.trainer.loggers] == [MetricsCSVLogger]


def test_a_fast_dev_run_goes_through_and_writes_nothing(tmp_path: Path) -> None:
    model, coach = fit(tmp_path / "run", 50, fast_dev_run=2)
    assert len(model.seen) == 2 and coach.global_step == 2
    assert not (tmp_path / "run").exists()


def test_the_average_comes_before_the_checkpoint(tmp_path: Path) -> None:
    _, coach = fit(tmp_path, 1)
    order = [type(callback).__name__ for callback in coach.callbacks]
    assert order.index("EMA") < order.index("CheckpointCallback") == len(order) - 1


def test_bf16_trains_and_saves(tmp_path: Path) -> None:
    model, _ = fit(tmp_path, 4, precision="bf16-mixed")
    assert all(p.dtype == torch.float32 for p in model.net.parameters())


def test_wandb_is_offline_without_a_key_and_a_resumed_run_keeps_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with caplog.at_level("INFO"):
        fit(tmp_path, 3, Toy(), logger=make_loggers(tmp_path))
    assert "W&B is offline" in caplog.text
    identity = (tmp_path / "wandb_id").read_text().strip()
    _, coach = fit(tmp_path, 6, Toy(), logger=make_loggers(tmp_path))
    assert coach.loggers[1].version == identity
    runs = [p for p in (tmp_path / "wandb").iterdir() if p.name.startswith("offline-run-")]
    assert len(runs) == 2 and all(p.name.split("-")[3] == identity for p in runs)  # W&B counts runs of one second: -1
    tables = list((tmp_path / "wandb").rglob("*.table.json"))
    assert any('"text 1"' in table.read_text() for table in tables)


def test_wandb_goes_online_with_a_key_and_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password abc\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert make_wandb_logger(tmp_path)._wandb_init["mode"] == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert make_wandb_logger(tmp_path)._wandb_init["mode"] == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "abc")
    assert make_wandb_logger(tmp_path)._wandb_init["mode"] == "online"
    assert make_wandb_logger(tmp_path, mode="disabled")._wandb_init["mode"] == "disabled"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert make_wandb_logger(tmp_path)._wandb_init["mode"] == "offline"


def test_without_wandb_there_is_the_csv_alone(tmp_path: Path) -> None:
    assert [type(logger) for logger in make_loggers(tmp_path, wandb=False)] == [MetricsCSVLogger]
    assert not (tmp_path / "wandb_id").exists()
