"""Trainer: Lightning's Trainer with textflow's defaults."""

import logging
import math
from collections.abc import Iterable
from typing import Any, Literal

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO

from textflow.runtime.device import bf16_warning, device_name, has_fast_bf16
from textflow.runtime.rank_zero import rank_zero_info, rank_zero_warn
from textflow.training.checkpoint_io import SafeCheckpointIO
from textflow.training.engines.compatibility import refuse_precision, refuse_strategy
from textflow.training.module import TrainingModule


class Trainer(L.Trainer):
    """Lightning's Trainer with textflow's defaults; all other Lightning arguments are accepted too.

    Args:
        max_steps: number of optimizer steps, at least 1.
        precision: a Lightning precision, or `auto`: bf16-mixed on hardware with fast bf16, otherwise 32-true.
        matmul_precision: float32 matmul precision, `highest` or `high`; `high` uses TF32 on a GPU, several times
            faster for layers that stay in float32, such as the input and output layers under bf16-mixed. Muon always
            uses full float32.
        gradient_clip_val: maximum global gradient norm, >= 0; null for no clipping.
        val_check_interval: training batches between validations, or a fraction of an epoch (float in (0, 1]).
        check_val_every_n_epoch: epochs between validations; null counts val_check_interval across epochs.
        num_sanity_val_steps: number of validation batches before the first step.
        use_distributed_sampler: let Lightning shard the batches; false since the data module shards rows over ranks.
        logger: additional Lightning loggers, or false; metrics.csv and Weights & Biases are configured by `run`.
        plugins: Lightning plugins; training states are read as plain data unless a CheckpointIO is among them.
    """

    def __init__(
        self,
        *,
        max_steps: int,
        precision: str = "auto",
        matmul_precision: Literal["highest", "high"] = "highest",
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
        accumulated = kwargs.get("accumulate_grad_batches", 1)
        if max_steps < 1 or accumulated < 1:
            raise ValueError(
                f"max_steps {max_steps}, accumulate_grad_batches {accumulated}: both need at least 1; to limit the run"
                " by time, set max_time and a large max_steps"
            )
        if gradient_clip_val is not None and not 0 <= gradient_clip_val < math.inf:
            raise ValueError(f"gradient_clip_val is {gradient_clip_val}: needs a norm, >= 0, or null for no clipping")
        if val_check_interval is not None and val_check_interval <= 0:
            raise ValueError(
                f"val_check_interval is {val_check_interval}: needs batches, >= 1, or a fraction of an epoch; "
                "limit_val_batches: 0 disables validation"
            )
        torch.set_float32_matmul_precision(matmul_precision)
        if precision == "auto":
            precision = auto_precision(str(kwargs.get("accelerator", "auto")))
        plugins = list(plugins) if isinstance(plugins, (list, tuple)) else [plugins] if plugins is not None else []
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(SafeCheckpointIO())
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
        environment = self._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment):  # Lightning's handler writes states that textflow does not read
            environment.auto_requeue = False
        if self.precision in ("bf16-true", "16-true"):
            refuse_precision(self.precision, type(self.strategy).__name__)
        if self.precision == "bf16-mixed" and (slow := bf16_warning(self.strategy.root_device.type)):
            rank_zero_warn(f"precision bf16-mixed: {slow}; auto and 32-true are not")

    def fit(self, model: Any, *args: Any, **options: Any) -> None:
        """Train a `Trainable`, or a LightningModule; further arguments are Lightning's."""
        super().fit(as_lightning(model), *args, **options)

    def validate(self, model: Any = None, *args: Any, **options: Any) -> Any:
        """Validate a `Trainable`, or a LightningModule; further arguments are Lightning's."""
        return super().validate(as_lightning(model), *args, **options)


def as_lightning(model: Any) -> Any:
    """The TrainingModule of a `Trainable`; a LightningModule unchanged."""
    return model if model is None or isinstance(model, L.LightningModule) else TrainingModule(model)


def auto_precision(accelerator: str = "auto") -> str:
    """Choose and log the precision for a Lightning accelerator: bf16-mixed with fast bf16, otherwise 32-true."""
    device = "cpu" if accelerator == "auto" else accelerator
    if accelerator != "cpu" and torch.cuda.is_available():
        device = "cuda"
    precision, has = ("bf16-mixed", "has") if has_fast_bf16(device) else ("32-true", "has no")
    rank_zero_info(f"precision auto: {precision}, as {device_name(device)} {has} fast bf16")
    return precision


def _no_advert(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()
