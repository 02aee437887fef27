"""Trainer: defaults, precision, strategies and use in a recipe."""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tests.helpers.bf16_cpu import SLOW, half
from tests.helpers.toy_run import fit
from textflow.training import FSDP, CheckpointCallback, MetricsCSVLogger, Trainer, WarmupLR, Zero, newton_schulz
from textflow.training.checkpoint_io import SafeCheckpointIO
from textflow.training.engines.compatibility import refuse_strategy
from textflow.training.trainer import auto_precision


def cpu_trainer(**settings: Any) -> Trainer:
    return Trainer(**{"max_steps": 1, "accelerator": "cpu", "precision": "32-true"} | settings)


def test_the_defaults_are_those_of_the_documentation() -> None:
    trainer = cpu_trainer(max_steps=5)
    assert trainer.max_steps == 5 and trainer.gradient_clip_val == 1.0 and trainer.num_sanity_val_steps == 0
    assert trainer.check_val_every_n_epoch is None and trainer.loggers == []
    assert isinstance(trainer.strategy.checkpoint_io, SafeCheckpointIO)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_steps", 0, "both need at least 1"),
        ("max_steps", -1, "both need at least 1"),
        ("accumulate_grad_batches", 0, "both need at least 1"),
        ("gradient_clip_val", float("nan"), "needs a norm"),
        ("precision", "bf16-true", "bf16-true under SingleDeviceStrategy: needs 32-true or bf16-mixed"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cpu_trainer(**{name: value})


@pytest.mark.integration
def test_a_bucket_is_no_larger_than_the_values_to_send_and_even(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Zero, "trainable", SimpleNamespace(net=torch.nn.Linear(2, 1)))
    strategy = Zero(2)
    strategy._fit_bucket()
    sizes = strategy.config["zero_optimization"]
    assert (sizes["reduce_bucket_size"], sizes["allgather_bucket_size"]) == (4, 4)


def test_matmul_precision_is_set_and_does_not_apply_to_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    precisions: list[str] = []

    def iterate(x: torch.Tensor, steps: int) -> torch.Tensor:
        precisions.append(torch.get_float32_matmul_precision())
        return x

    monkeypatch.setattr(newton_schulz, "iterate", iterate)
    try:
        cpu_trainer(matmul_precision="high")
        newton_schulz.orthogonalize(torch.eye(3))
        assert precisions == ["highest"] and torch.get_float32_matmul_precision() == "high"
        cpu_trainer()
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    ("flags", "precision"), [((True, False), "bf16-mixed"), ((False, True), "bf16-mixed"), ((False, False), "32-true")]
)
def test_automatic_precision_follows_the_cpu_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, flags: tuple[bool, bool], precision: str
) -> None:
    half(monkeypatch, *flags)
    with caplog.at_level("INFO"):
        assert cpu_trainer(precision="auto").precision == precision
    assert f"precision auto: {precision}" in caplog.text


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_on_slow_hardware_is_used_with_a_warning(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    half(monkeypatch, fast)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert cpu_trainer(precision="bf16-mixed").precision == "bf16-mixed"
    messages = [str(warning.message) for warning in caught if "bf16" in str(warning.message)]
    assert messages == ([] if fast else [f"precision bf16-mixed: {SLOW}; auto and 32-true are not"])


def test_automatic_precision_is_float32_for_a_missing_device_and_on_old_torch_versions(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for accelerator in ("cuda", "gpu", "mps"):
        with caplog.at_level("INFO"):
            assert auto_precision(accelerator) == "32-true"
        assert f"as {accelerator} has no fast bf16" in caplog.text
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert auto_precision("cpu") == "32-true"


def test_a_recipe_uses_short_class_names(tmp_path: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Trainer, "trainer")
    parser.add_argument("--schedule", type=Callable[[Optimizer], LRScheduler])
    checkpoints = {"class_path": "CheckpointCallback", "init_args": {"run": str(tmp_path), "every_n_steps": 3}}
    logger = {"class_path": "MetricsCSVLogger", "init_args": {"run": str(tmp_path)}}
    trainer = {"max_steps": 7, "limit_val_batches": 3, "accelerator": "cpu", "callbacks": [checkpoints]}
    schedule = {"class_path": "WarmupLR", "init_args": {"warmup_steps": 10}}
    recipe = parser.parse_object({"trainer": trainer | {"logger": [logger]}, "schedule": schedule})
    parts = parser.instantiate_classes(recipe)
    assert isinstance(parts.trainer, Trainer) and parts.trainer.limit_val_batches == 3
    assert isinstance(parts.trainer.checkpoint_callback, CheckpointCallback)
    assert [type(logger) for logger in parts.trainer.loggers] == [MetricsCSVLogger]
    scheduler = parts.schedule(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0))
    assert isinstance(scheduler, WarmupLR) and scheduler.warmup_steps == 10
    with pytest.raises(Exception, match="max_steps"):
        parser.parse_object({"schedule": None})


@pytest.mark.parametrize("kind", [DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy])
def test_unsupported_strategies_are_refused_in_every_form(kind: type) -> None:
    class Subclass(kind): ...  # type: ignore[misc]

    path, word = f"{kind.__module__}.{kind.__name__}", kind.__name__.removesuffix("Strategy").lower()
    forms = [Subclass.__new__(Subclass), Namespace(class_path=path), kind.__name__, path, word, f"{word}_stage_2"]
    for strategy in forms:
        with pytest.raises(ValueError, match=r"use recipes/strategy/(zero1|fsdp)\.yaml"):
            cpu_trainer(strategy=strategy)


def test_supported_strategies_are_not_refused() -> None:
    for kind in (Zero, FSDP):
        refuse_strategy(kind.__new__(kind))
        refuse_strategy(Namespace(class_path=f"{kind.__module__}.{kind.__name__}"))
    for word in ("auto", "ddp", None):
        refuse_strategy(word)


def test_a_fast_dev_run_trains_and_writes_nothing(tmp_path: Path) -> None:
    model, trainer = fit(tmp_path / "run", 50, fast_dev_run=2)
    assert len(model.train_losses) == 2 and trainer.global_step == 2
    assert not (tmp_path / "run").exists()


def test_bf16_keeps_float32_weights_and_the_ema_is_updated_before_the_checkpoint(tmp_path: Path) -> None:
    model, trainer = fit(tmp_path, 1, precision="bf16-mixed")
    assert all(p.dtype == torch.float32 for p in model.net.parameters())
    names = [type(callback).__name__ for callback in trainer.callbacks]
    assert names.index("EMA") < names.index("CheckpointCallback") == len(names) - 1
