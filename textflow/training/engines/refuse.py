"""What a sharded engine would train wrongly is refused before the first step."""

from typing import Any

import torch
from torch.optim import Optimizer

from ..optim import MuonAdam

ELEMENTWISE = (
    torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax,
    torch.optim.Adagrad, torch.optim.Adadelta, torch.optim.RMSprop, torch.optim.Rprop, torch.optim.ASGD,
)  # fmt: skip


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


def refuse_strategy(strategy: Any) -> None:
    """Lightning's own sharded strategies have faults that ours mend.

    Args:
        strategy: of the trainer, a word or an object.
    """
    word = strategy.lower() if isinstance(strategy, str) else ""
    if word.startswith("deepspeed"):
        raise ValueError(
            f"strategy {word}: Lightning's DeepSpeed divides the loss twice under accumulation and loses the average on"
            " a resume; use recipes/on/zero1.yaml, zero2.yaml or zero3.yaml"
        )
    if word.startswith("fsdp"):
        raise ValueError(f"strategy {word}: it flattens matrices, which Muon needs whole; use recipes/on/fsdp.yaml")
