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
UNSUPPORTED_STRATEGIES: dict[type, tuple[str, str]] = {  # the words that name a strategy begin so; its fault
    DeepSpeedStrategy: (
        "deepspeed",
        "Lightning's DeepSpeed divides the loss twice under accumulation and loses the average on a resume; use"
        " recipes/strategy/zero1.yaml, zero2.yaml or zero3.yaml",
    ),
    FSDPStrategy: ("fsdp", "it flattens matrices, which Muon needs whole; use recipes/strategy/fsdp.yaml"),
    ModelParallelStrategy: (
        "modelparallel",
        "it shards only what a model's configure_model shards, here nothing; use recipes/strategy/fsdp.yaml",
    ),
}


def refuse_optimizer(optimizer: Optimizer, engine: str) -> None:
    """Reject optimizers that are neither elementwise nor MuonAdam, since shards would change their update.

    Args:
        optimizer: optimizer of the recipe.
        engine: engine name, for the error message.
    """
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


def refuse_tangents(module: nn.Module, engine: str) -> None:
    """Reject targets with forward-mode derivatives, which the hooks that gather parameters do not support.

    Args:
        module: model whose submodules may hold a target.
        engine: engine name, for the error message.
    """
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
    kind = strategy_class(strategy)
    name = strategy.split(".")[-1] if isinstance(strategy, str) else kind.__name__
    for theirs, (word, fault) in UNSUPPORTED_STRATEGIES.items():
        if (
            name.lower().startswith(word)
            if kind is str
            else issubclass(kind, theirs) and not issubclass(kind, ConsolidatedCheckpointMixin)
        ):
            raise ValueError(f"strategy {name}: {fault}")


def strategy_class(strategy: Any) -> type:
    """The class of a strategy object, or the class given by class_path."""
    module, _, name = str(getattr(strategy, "class_path", "")).rpartition(".")
    return getattr(import_module(module), name) if module else type(strategy)
