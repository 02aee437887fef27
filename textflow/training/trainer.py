"""Trainer: Lightning's, with the defaults of this house."""

import logging
import math
from collections.abc import Iterable
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn

from textflow.runtime.device import fast_bf16, named, slow_bf16
from textflow.training.checkpoint_io import StateIO
from textflow.training.engines import refuse_strategy
from textflow.training.engines.compatibility import refuse_precision


class Trainer(L.Trainer):
    """Lightning's Trainer, counting optimizer steps; every other argument of it is accepted too.

    Args:
        max_steps: optimizer steps of the run, at least 1.
        precision: `auto` is bf16-mixed where the hardware multiplies bf16 fast and 32-true elsewhere; or any of
            Lightning's.
        matmul: precision of float32 products, torch's word: `highest`, or `high`, which on a GPU is TF32: several times
            faster where the net stays in float32 (its ways in and out do under bf16-mixed). Muon's keep float32.
        gradient_clip_val: greatest norm of all gradients together; null for no clipping.
        val_check_interval: training batches between validations; a fraction of an epoch if below 1.
        check_val_every_n_epoch: null counts val_check_interval over epochs.
        num_sanity_val_steps: validation batches before the first step.
        use_distributed_sampler: the data module already shares its rows among the ranks.
        logger: false, or loggers; a run has its metrics.csv and Weights & Biases besides.
        plugins: as Lightning's; training states are read as plain data unless a CheckpointIO is among them.
    """

    def __init__(
        self,
        *,
        max_steps: int,
        precision: str = "auto",
        matmul: Literal["highest", "high"] = "highest",
        gradient_clip_val: int | float | None = 1.0,
        val_check_interval: int | float | None = None,
        check_val_every_n_epoch: int | None = None,
        num_sanity_val_steps: int = 0,
        use_distributed_sampler: bool = False,
        logger: Logger | Iterable[Logger] | bool | None = False,
        plugins: Any = None,
        **kwargs: Any,
    ) -> None:
        logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_advert)
        refuse_strategy(kwargs.get("strategy"))
        if max_steps < 1 or kwargs.get("accumulate_grad_batches", 1) < 1:
            raise ValueError(
                f"max_steps {max_steps}, accumulate_grad_batches {kwargs.get('accumulate_grad_batches', 1)}: both need"
                " at least 1; for a run as long as a time give max_time and many steps"
            )
        if gradient_clip_val is not None and not 0 <= gradient_clip_val < math.inf:
            raise ValueError(f"gradient_clip_val is {gradient_clip_val}: needs a norm, >= 0, or null for no clipping")
        if val_check_interval is not None and val_check_interval <= 0:
            raise ValueError(
                f"val_check_interval is {val_check_interval}: needs batches, >= 1, or a fraction of an epoch; "
                "limit_val_batches: 0 leaves validation out"
            )
        torch.set_float32_matmul_precision(matmul)
        if precision == "auto":
            precision = fast_precision(str(kwargs.get("accelerator", "auto")))
        plugins = list(plugins) if isinstance(plugins, (list, tuple)) else [plugins] if plugins is not None else []
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(StateIO())
        super().__init__(
            max_steps=max_steps,
            precision=precision,  # type: ignore[arg-type]
            gradient_clip_val=gradient_clip_val,
            val_check_interval=val_check_interval,
            check_val_every_n_epoch=check_val_every_n_epoch,
            num_sanity_val_steps=num_sanity_val_steps,
            use_distributed_sampler=use_distributed_sampler,
            logger=logger,
            plugins=plugins,
            **kwargs,
        )
        if self.precision in ("bf16-true", "16-true"):
            refuse_precision(self.precision, type(self.strategy).__name__)
        if self.precision == "bf16-mixed" and (slow := slow_bf16(self.strategy.root_device.type)):
            rank_zero_warn(f"precision bf16-mixed: {slow}; auto and 32-true are not")


def fast_precision(accelerator: str = "auto") -> str:
    """bf16-mixed where the hardware multiplies bf16 fast, else 32-true; says which.

    Args:
        accelerator: Lightning's word: auto, cpu, gpu, cuda, mps, …
    """
    if accelerator != "cpu" and torch.cuda.is_available():
        device = "cuda"
    else:
        device = "cpu" if accelerator == "auto" else accelerator
    fast = fast_bf16(device)
    chosen = "bf16-mixed" if fast else "32-true"
    rank_zero_info(f"precision auto: {chosen}, as {named(device)} {'has' if fast else 'has no'} fast bf16")
    return chosen


def _no_advert(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()
