"""What a sharded engine would train wrongly is refused before the first step."""

from importlib import import_module
from typing import Any

import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn
from torch.optim import Optimizer

from textflow.training.engines.consolidated_checkpoint import OneFile
from textflow.training.optim import MuonAdam

ELEMENTWISE = (
    torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax,
    torch.optim.Adagrad, torch.optim.Adadelta, torch.optim.RMSprop, torch.optim.Rprop, torch.optim.ASGD,
)  # fmt: skip
MENDED: dict[type, tuple[str, str]] = {  # the words that name a strategy begin so; its fault
    DeepSpeedStrategy: (
        "deepspeed",
        "Lightning's DeepSpeed divides the loss twice under accumulation and loses the average on a resume; use"
        " recipes/on/zero1.yaml, zero2.yaml or zero3.yaml",
    ),
    FSDPStrategy: ("fsdp", "it flattens matrices, which Muon needs whole; use recipes/on/fsdp.yaml"),
    ModelParallelStrategy: (
        "modelparallel",
        "it shards only what a model's configure_model shards, here nothing; use recipes/on/fsdp.yaml",
    ),
}


def refuse_optimizer(optimizer: Optimizer, engine: str) -> None:
    """Only rules that look at one number at a time, and MuonAdam, see the same in a piece as in the whole.

    Args:
        optimizer: of the recipe.
        engine: its name.
    """
    if isinstance(optimizer, (MuonAdam, *ELEMENTWISE)) or getattr(optimizer, "elementwise", False):
        return
    raise ValueError(
        f"{type(optimizer).__name__} under {engine} would see flat pieces of the parameters, not matrices; use MuonAdam"
        " (whole matrices, clipped before they are orthogonalised), AdamW or another rule of torch.optim that takes"
        " each number by itself, or recipes/on/ddp.yaml"
    )


def refuse_precision(precision: str, engine: str) -> None:
    """Weights stay in float32, as in every engine: an average of .9999 moves by less than bfloat16 can hold."""
    if precision not in ("32-true", "bf16-mixed"):
        raise ValueError(f"precision {precision} under {engine}: needs 32-true or bf16-mixed (float32 weights)")


def refuse_clipping(trainer: Any, engine: str) -> None:
    """Clipping by value needs the whole gradients."""
    if trainer.gradient_clip_val and str(trainer.gradient_clip_algorithm or "norm") != "norm":
        raise ValueError(f"gradient_clip_algorithm {trainer.gradient_clip_algorithm} under {engine}: needs norm")


def refuse_tangents(module: nn.Module, engine: str) -> None:
    """Hooks that gather a parameter as it is used do not see forward-mode derivatives.

    Args:
        module: whose parts may hold a target.
        engine: its name.
    """
    for part in module.modules():
        if getattr(target := getattr(part, "target", None), "tangent", False):
            raise ValueError(
                f"{type(target).__name__} under {engine} differentiates a net whose parameters are not there; use"
                " recipes/on/zero2.yaml or fsdp.yaml"
            )


def refuse_strategy(strategy: Any) -> None:
    """Lightning's own sharded strategies have faults that ours mend.

    Args:
        strategy: of the trainer: a word, an object, or class_path and init_args.
    """
    kind = kind_of(strategy)
    name = strategy.split(".")[-1] if isinstance(strategy, str) else kind.__name__
    for theirs, (word, fault) in MENDED.items():
        if name.lower().startswith(word) if kind is str else issubclass(kind, theirs) and not issubclass(kind, OneFile):
            raise ValueError(f"strategy {name}: {fault}")


def kind_of(strategy: Any) -> type:
    """The class of a strategy: of the object, or the one that class_path names."""
    module, _, name = str(getattr(strategy, "class_path", "")).rpartition(".")
    return getattr(import_module(module), name) if module else type(strategy)
