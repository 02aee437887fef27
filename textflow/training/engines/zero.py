"""Zero: DeepSpeed's ZeRO with the numbers, the average and the checkpoints of one process."""

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

from textflow.training.engines.collectives import share_buffers
from textflow.training.engines.compatibility import refuse_clipping, refuse_optimizer, refuse_precision, refuse_tangents
from textflow.training.engines.consolidated_checkpoint import OneFile
from textflow.training.engines.deepspeed_module import Bare, Trained
from textflow.training.engines.distributed_muon import Exchange
from textflow.training.engines.layout import of_zero
from textflow.training.optim import MuonAdam


class Zero(OneFile, DeepSpeedStrategy):
    """ZeRO (arXiv 1910.02054): what one process keeps is shared out among all; on CPUs over gloo where there is no GPU.

    Weights are float32 in every precision (bf16-mixed is autocast), so an engine changes the memory, not the numbers.

    Args:
        stage: 1 shares the optimizer's state, 2 the gradients too, 3 the parameters and their average too.
        bucket: numbers that are sent at a time; no more than are trained.
        overlap: send gradients while the backward pass goes on.
    """

    config: dict[str, Any]  # DeepSpeed's

    def __init__(self, stage: Literal[1, 2, 3] = 2, bucket: int = 100_000_000, overlap: bool = True) -> None:
        self.stage = stage
        self.bare: Bare | None = None
        awake()
        super().__init__(
            stage=stage,
            reduce_bucket_size=bucket,
            allgather_bucket_size=bucket,
            overlap_comm=overlap,
            logging_batch_size_per_gpu=1,
        )
        if stage == 3:  # no small parameter stays whole, where its average would go stale; torch keeps its own linear
            self.config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
            self.config["zero_optimization"]["memory_efficient_linear"] = False

    @property
    def title(self) -> str:
        """As people write it."""
        return f"ZeRO-{self.stage}"

    @property
    def precision_plugin(self) -> Any:
        return super().precision_plugin

    @precision_plugin.setter
    def precision_plugin(self, plugin: Any) -> None:
        if plugin is not None:
            refuse_precision(plugin.precision, self.title)
        self._precision_plugin = plugin and Autocast(plugin.precision)

    def _format_config(self) -> None:
        self._format_batch_size_and_grad_accum_config()
        if self.precision_plugin.precision == "bf16-mixed":
            autocast = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}  # sent in float32
            self.config["torch_autocast"] = autocast

    @property
    def on_cpu(self) -> bool:
        """Whether the processes are CPU processes."""
        return super().root_device.type == "cpu"

    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu", 0) if self.on_cpu else super().root_device  # DeepSpeed wants a number

    def setup_environment(self) -> None:
        if not self.on_cpu:
            return super().setup_environment()
        without_gpu()
        DDPStrategy.setup_environment(self)

    def setup_distributed(self) -> None:
        if not self.on_cpu:
            return super().setup_distributed()
        reset_seed()
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    def init_deepspeed(self) -> None:
        refuse_clipping(self.trained.trainer, self.title)
        if self.stage == 3:
            refuse_tangents(self.trained, self.title)
        super().init_deepspeed()

    def _init_optimizers(self) -> Any:
        optimizer, schedule = super()._init_optimizers()
        refuse_optimizer(optimizer, self.title)
        return optimizer, schedule

    def _setup_model_and_optimizer(self, model: nn.Module, optimizer: Any, lr_scheduler: Any = None) -> Any:
        model.to("cpu" if self.on_cpu else self.root_device)  # what is frozen too
        self.bare = Bare(self.trained.twin) if self.stage == 3 else None
        self._fit_bucket()
        return super()._setup_model_and_optimizer(Trained(model), optimizer, lr_scheduler)

    def _fit_bucket(self) -> None:
        """DeepSpeed takes the memory of a whole bucket, or of two, however few numbers there are to send."""
        sent = sum(p.numel() for p in self.trained.net.parameters() if p.requires_grad)
        sent += sent % 2  # as it wants
        for key in ("reduce_bucket_size", "allgather_bucket_size"):
            self.config["zero_optimization"][key] = min(self.config["zero_optimization"][key], sent)

    def _initialize_deepspeed_train(self, model: nn.Module) -> None:
        super()._initialize_deepspeed_train(model)
        zero: Any = self.optimizers[0]
        self.base, self.groups = zero.optimizer, of_zero(zero)
        if isinstance(self.base, MuonAdam):
            self.base.across = Exchange(holder for group in self.groups for holder in group)

    def looking(self) -> AbstractContextManager[None]:
        """The average is whole: what `still` looks at. Called on all ranks."""
        return self.bare.instead(self.trained) if self.bare else nullcontext()

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        share_buffers(self.trained.net)
        return super().training_step(*args, **kwargs)


def awake() -> None:
    """DeepSpeed is there; it asks once which hardware there is, and warns of optimizers that it has not tried."""
    if find_spec("deepspeed") is None:
        raise ValueError("ZeRO needs DeepSpeed: pip install 'textflow[deepspeed]', or take recipes/on/fsdp.yaml")
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)


def without_gpu() -> None:
    """DeepSpeed runs on CPUs, without a compiler."""
    accelerator, ops = (cast(Any, import_module(f"deepspeed.{name}")) for name in ("accelerator", "ops"))
    if accelerator.get_accelerator().device_name() != "cpu":
        raise ValueError("ZeRO on the CPUs of a machine with a GPU: set DS_ACCELERATOR=cpu in the environment")
    ops.__compatible_ops__["deepspeed_shm_comm"] = False  # a faster sum for inference, to be compiled


class Autocast(DeepSpeedPrecision):
    """Inputs and weights as they are; the loss, which Lightning divided by the accumulated batches, not divided again.

    Args:
        precision: Lightning's word.
    """

    def convert_input(self, data: Any) -> Any:
        return data

    def backward(self, tensor: Tensor, model: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        super().backward(tensor, model, optimizer, *args, scale_wrt_gas=False, **kwargs)
