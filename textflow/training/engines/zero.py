"""Zero: DeepSpeed's ZeRO, with the updates, EMA and checkpoints of one process."""

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, cast

import torch
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from torch import Tensor, nn

from textflow.training.engines.collectives import broadcast_buffers
from textflow.training.engines.compatibility import (
    refuse_clipping,
    refuse_optimizer,
    refuse_precision,
    refuse_tangents,
    refuse_weights_outside_net,
)
from textflow.training.engines.consolidated_checkpoint import ConsolidatedCheckpointMixin
from textflow.training.engines.deepspeed_module import DeepSpeedWrapper, EMASnapshot
from textflow.training.engines.layout import zero_shard_groups


class Zero(ConsolidatedCheckpointMixin, DeepSpeedStrategy):
    """ZeRO (arXiv 1910.02054): shard the training state over all processes, on GPUs or, over gloo, on CPUs.

    Weights are float32 in every precision (bf16-mixed is autocast), so an engine changes the memory, not the numbers.

    Args:
        stage: 1 shards the optimizer state, 2 also the gradients, 3 also the parameters and the EMA.
        bucket_size: maximum number of values sent at a time, capped at the number of trained parameters.
        overlap_comm: send gradients during the backward pass.
    """

    config: dict[str, Any]  # DeepSpeed's configuration

    def __init__(self, stage: Literal[1, 2, 3] = 2, bucket_size: int = 100_000_000, overlap_comm: bool = True) -> None:
        self.stage = stage
        self.ema_snapshot: EMASnapshot | None = None
        require_deepspeed()
        super().__init__(
            stage=stage,
            reduce_bucket_size=bucket_size,
            allgather_bucket_size=bucket_size,
            overlap_comm=overlap_comm,
            logging_batch_size_per_gpu=1,
        )
        if stage == 3:  # partition small parameters too, since their average would go stale; use torch's own linear
            self.config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
            self.config["zero_optimization"]["memory_efficient_linear"] = False

    @property
    def title(self) -> str:
        """Display name, such as ZeRO-2."""
        return f"ZeRO-{self.stage}"

    @property
    def precision_plugin(self) -> Any:
        return super().precision_plugin

    @precision_plugin.setter
    def precision_plugin(self, plugin: Any) -> None:
        if plugin is not None:
            refuse_precision(plugin.precision, self.title)
        self._precision_plugin = plugin and AutocastPrecision(plugin.precision)

    def _format_config(self) -> None:
        self._format_batch_size_and_grad_accum_config()
        if self.precision_plugin.precision == "bf16-mixed":
            autocast = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}  # float32 messages
            self.config["torch_autocast"] = autocast

    @property
    def on_cpu(self) -> bool:
        """True if the processes train on CPUs."""
        return super().root_device.type == "cpu"

    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu", 0) if self.on_cpu else super().root_device  # DeepSpeed needs an index

    def setup_environment(self) -> None:
        if not self.on_cpu:
            return super().setup_environment()
        configure_cpu()
        DDPStrategy.setup_environment(self)

    def setup_distributed(self) -> None:
        if not self.on_cpu:
            return super().setup_distributed()
        reset_seed()
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    def init_deepspeed(self) -> None:
        refuse_clipping(self.training_module.trainer, self.title)
        refuse_weights_outside_net(self.trainable, self.title)
        if self.stage == 3:
            refuse_tangents(self.trainable, self.title)
        super().init_deepspeed()

    def _init_optimizers(self) -> Any:
        optimizer, schedule = super()._init_optimizers()
        refuse_optimizer(optimizer, self.title)
        return optimizer, schedule

    def _setup_model_and_optimizer(self, model: nn.Module, optimizer: Any, lr_scheduler: Any = None) -> Any:
        model.to("cpu" if self.on_cpu else self.root_device)  # frozen modules too
        self.ema_snapshot = EMASnapshot(self.trainable.ema_net) if self.stage == 3 else None
        self._fit_bucket()
        return super()._setup_model_and_optimizer(DeepSpeedWrapper(model), optimizer, lr_scheduler)

    def _fit_bucket(self) -> None:
        """Cap the bucket size at the number of values to send, since DeepSpeed allocates whole buckets."""
        numel = sum(p.numel() for p in self.trainable.net.parameters() if p.requires_grad)
        zero = self.config["zero_optimization"]
        for key in ("reduce_bucket_size", "allgather_bucket_size"):
            zero[key] = min(zero[key], numel + numel % 2)  # DeepSpeed needs an even size

    def _initialize_deepspeed_train(self, model: nn.Module) -> None:
        super()._initialize_deepspeed_train(model)
        zero: Any = self.optimizers[0]
        self.set_optimizer(zero.optimizer, zero_shard_groups(zero))

    def eval_context(self) -> AbstractContextManager[None]:
        """Context in which the EMA weights are gathered, for `temporary_eval_mode`. Called on all ranks."""
        return self.ema_snapshot.swap_in(self.trainable) if self.ema_snapshot else nullcontext()

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        broadcast_buffers(self.trainable.net)
        return super().training_step(*args, **kwargs)


def require_deepspeed() -> None:
    """Require DeepSpeed, select its CPU accelerator without a GPU, and silence its optimizer warnings."""
    if find_spec("deepspeed") is None:
        raise ValueError("ZeRO needs DeepSpeed: pip install 'textflow[deepspeed]', or use recipes/strategy/fsdp.yaml")
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)


def configure_cpu() -> None:
    """Configure DeepSpeed for CPUs without a compiler."""
    accelerator, ops = (cast(Any, import_module(f"deepspeed.{name}")) for name in ("accelerator", "ops"))
    if accelerator.get_accelerator().device_name() != "cpu":
        raise ValueError("ZeRO on the CPUs of a machine with a GPU: set DS_ACCELERATOR=cpu in the environment")
    ops.__compatible_ops__["deepspeed_shm_comm"] = False  # a faster sum for inference that needs a compiler


class AutocastPrecision(DeepSpeedPrecision):
    """Leave inputs and weights unchanged; do not divide the loss by the accumulated batches a second time."""

    def convert_input(self, data: Any) -> Any:
        return data

    def backward(self, tensor: Tensor, model: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        super().backward(tensor, model, optimizer, *args, scale_wrt_gas=False, **kwargs)
