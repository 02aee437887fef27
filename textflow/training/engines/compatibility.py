"""Reject settings that a sharded engine would train incorrectly, before the first step."""

from importlib import import_module
from typing import Any

import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn
from torch.optim import Optimizer

from textflow.training.engines.consolidated_checkpoint import ConsolidatedCheckpointMixin
from textflow.training.optim import MuonAdam

ELEMENTWISE = (
    torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax,
    torch.optim.Adagrad, torch.optim.Adadelta, torch.optim.RMSprop, torch.optim.Rprop, torch.optim.ASGD,
)  # fmt: skip
UNSUPPORTED_STRATEGIES: dict[type, str] = {  # reason
    DeepSpeedStrategy: "Lightning's DeepSpeed divides the loss twice under accumulation and loses the average on a"
    " resume; use recipes/strategy/zero1.yaml, zero2.yaml or zero3.yaml",
    FSDPStrategy: "it flattens matrices, which Muon needs whole; use recipes/strategy/fsdp.yaml",
    ModelParallelStrategy: "it shards only what a model's configure_model shards, here nothing; use"
    " recipes/strategy/fsdp.yaml",
}


def refuse_optimizer(optimizer: Optimizer, engine: str) -> None:
    """Reject optimizers that are neither elementwise nor MuonAdam, since shards would change their update."""
    if isinstance(optimizer, (MuonAdam, *ELEMENTWISE)) or getattr(optimizer, "elementwise", False):
        return
    raise ValueError(
        f"{type(optimizer).__name__} under {engine} would see flat pieces of the parameters, not matrices; use MuonAdam"
        " (whole matrices, clipped before they are orthogonalised), AdamW or another rule of torch.optim that takes"
        " each number by itself, or recipes/strategy/ddp.yaml"
    )


def refuse_precision(precision: str, engine: str) -> None:
    """Require float32 weights: bfloat16 cannot represent the updates of an EMA with decay 0.9999."""
    if precision not in ("32-true", "bf16-mixed"):
        raise ValueError(f"precision {precision} under {engine}: needs 32-true or bf16-mixed (float32 weights)")


def refuse_clipping(trainer: Any, engine: str) -> None:
    """Reject clipping by value, which needs unsharded gradients."""
    if trainer.gradient_clip_val and str(trainer.gradient_clip_algorithm or "norm") != "norm":
        raise ValueError(f"gradient_clip_algorithm {trainer.gradient_clip_algorithm} under {engine}: needs norm")


def refuse_weights_outside_net(module: Any, engine: str) -> None:
    """Reject weights that are trained but are not the net's, such as a schedule's, which the engine does not share."""
    inside = {name for name, _ in module.net.named_parameters()}
    if outside := next((name for name, _ in module.trained_parameters() if name not in inside), None):
        raise ValueError(f"{outside} under {engine} is not shared by the processes; use recipes/strategy/ddp.yaml")


def refuse_tangents(module: nn.Module, engine: str) -> None:
    """Reject targets with forward-mode derivatives, which the hooks that gather parameters do not support."""
    for part in module.modules():
        if getattr(target := getattr(part, "target", None), "needs_jvp", False):
            raise ValueError(
                f"{type(target).__name__} under {engine} differentiates a net whose parameters are not there; use"
                " recipes/strategy/zero2.yaml or fsdp.yaml"
            )


def refuse_strategy(strategy: Any) -> None:
    """Reject Lightning's own sharded strategies; textflow's replace them.

    Args:
        strategy: trainer strategy: a name, an object, or class_path and init_args.
    """
    module, _, class_name = str(getattr(strategy, "class_path", "")).rpartition(".")
    kind: type = getattr(import_module(module), class_name) if module else type(strategy)
    name = strategy.split(".")[-1] if isinstance(strategy, str) else kind.__name__
    for unsupported, reason in UNSUPPORTED_STRATEGIES.items():
        is_named = name.lower().startswith(unsupported.__name__.removesuffix("Strategy").lower())
        is_subclass = issubclass(kind, unsupported) and not issubclass(kind, ConsolidatedCheckpointMixin)
        if is_named if kind is str else is_subclass:
            raise ValueError(f"strategy {name}: {reason}")
