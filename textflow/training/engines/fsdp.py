"""FSDP: parameters, gradients, optimizer state and average in shards, by torch's fully_shard (FSDP2)."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from textflow.training.engines.collectives import share_buffers
from textflow.training.engines.compatibility import refuse_clipping, refuse_optimizer, refuse_precision
from textflow.training.engines.consolidated_checkpoint import OneFile
from textflow.training.engines.distributed_muon import Exchange
from textflow.training.engines.layout import by_rows
from textflow.training.engines.shards import Holder
from textflow.training.optim import MuonAdam


class FSDP(OneFile, ModelParallelStrategy):
    """Every block of the net and of its average in shards of rows, gathered while it computes; on GPUs or CPUs."""

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: Any) -> None:
        refuse_precision(trainer.precision, "FSDP")
        refuse_clipping(trainer, "FSDP")
        trainer.accelerator.setup(trainer)
        self.model = self.precision_plugin.convert_module(self.trained)
        self.model_to_device()
        for net in (self.trained.net, self.trained.twin):
            shard(net, self.device_mesh["data_parallel"])
        self.barrier()
        if trainer.state.fn == TrainerFn.FITTING:
            self.setup_optimizers(trainer)
            self.prepare()
        self.setup_precision_plugin()

    def prepare(self) -> None:
        """The optimizer, once it is there."""
        (self.base,) = self.optimizers
        refuse_optimizer(self.base, "FSDP")
        self.groups = [[Holder(p, [by_rows(p)]) for p in group["params"]] for group in self.base.param_groups]
        if isinstance(self.base, MuonAdam):
            self.base.across = Exchange(holder for group in self.groups for holder in group)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        share_buffers(self.trained.net)
        loss = super().training_step(*args, **kwargs)
        self.trained.twin.reshard()  # the net is whole until its backward pass is done
        return loss

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        with self.looking():
            return super().validation_step(*args, **kwargs)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """What was gathered for a look is in shards again after it. Called on all ranks."""
        try:
            yield
        finally:
            for net in (self.trained.net, self.trained.twin):
                net.reshard()


def shard(net: nn.Module, mesh: DeviceMesh) -> None:
    """Each block of a list of blocks by itself, gathered for its own pass; the rest together, until it is told; once.

    Args:
        net: its public methods, which may call each other, gather what they need, as its forward does.
        mesh: of all ranks.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    if isinstance(net, FSDPModule):
        return
    names = methods(net)  # before it is given those of a FSDPModule
    for module in [m for m in net.modules() if isinstance(m, nn.ModuleList)]:
        for block in module:
            fully_shard(block, mesh=mesh)
    fully_shard(net, mesh=mesh, reshard_after_forward=False)
    for name in names:
        register_fsdp_forward_method(net, name)


def methods(net: nn.Module) -> list[str]:
    """The public methods that a net has of its own."""
    mine = inspect.getmembers(type(net), inspect.isfunction)
    return [name for name, _ in mine if not name.startswith("_") and not hasattr(nn.Module, name)]
