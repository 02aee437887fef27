"""FSDP: parameters, gradients, optimizer state and EMA in shards, by torch's fully_shard (FSDP2)."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeAlias

from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from textflow.training.engines.collectives import broadcast_buffers
from textflow.training.engines.compatibility import (
    refuse_clipping,
    refuse_optimizer,
    refuse_precision,
    refuse_weights_outside_net,
)
from textflow.training.engines.consolidated_checkpoint import ConsolidatedCheckpointMixin
from textflow.training.engines.layout import fsdp_shard
from textflow.training.engines.shards import ShardOwner

Method: TypeAlias = Callable[..., Any]
PARTS = ("codec", "readout")  # of a net, whose methods are called from outside it


class FSDP(ConsolidatedCheckpointMixin, ModelParallelStrategy):
    """Shard each block of the net and of its EMA by rows and gather it during compute; on GPUs or CPUs."""

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: Any) -> None:
        refuse_precision(trainer.precision, "FSDP")
        refuse_clipping(trainer, "FSDP")
        refuse_weights_outside_net(self.trainable, "FSDP")
        trainer.accelerator.setup(trainer)
        self.model = self.precision_plugin.convert_module(self.training_module)
        self.model_to_device()
        for net in (self.trainable.net, self.trainable.ema_net):
            shard_net(net, self.device_mesh["data_parallel"])
        self.barrier()
        if trainer.state.fn == TrainerFn.FITTING:
            self.setup_optimizers(trainer)
            self.prepare()
        self.setup_precision_plugin()

    def prepare(self) -> None:
        """Check the optimizer and describe its shards."""
        (optimizer,) = self.optimizers
        refuse_optimizer(optimizer, "FSDP")
        groups = [[ShardOwner(p, [fsdp_shard(p)]) for p in group["params"]] for group in optimizer.param_groups]
        self.set_optimizer(optimizer, groups)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        broadcast_buffers(self.trainable.net)
        loss = super().training_step(*args, **kwargs)
        self.trainable.ema_net.reshard()  # the net stays gathered until its backward pass is done
        return loss

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        with self.eval_context():
            return super().validation_step(*args, **kwargs)

    @contextmanager
    def eval_context(self) -> Iterator[None]:
        """Context that reshards the gathered weights on exit. Called on all ranks."""
        try:
            yield
        finally:
            for net in (self.trainable.net, self.trainable.ema_net):
                net.reshard()


def shard_net(net: nn.Module, mesh: DeviceMesh) -> None:
    """Shard each block of a ModuleList separately and the remaining parameters together; a sharded net is unchanged.

    The public methods of the net and of its `PARTS` gather its parameters, as its forward does.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    if isinstance(net, FSDPModule):
        return
    children = dict(net.named_children())
    owners = [net, *(children[name] for name in PARTS if name in children)]
    methods = [(owner, name) for owner in owners for name in public_methods(owner)]  # without FSDPModule's
    whole = set(children["readout"].modules()) if "readout" in children else set()  # it calls layers of its blocks
    for module in [m for m in net.modules() if isinstance(m, nn.ModuleList) and m not in whole]:
        for block in module:
            if any(block.children()):  # a single layer stays with the net, which may read its weights
                fully_shard(block, mesh=mesh)
    fully_shard(net, mesh=mesh, reshard_after_forward=False)
    running: list[str] = []
    net.forward = outermost(net.forward, net.forward, running)  # FSDP's hooks surround it
    for owner, name in methods:
        net.gathering = plain = getattr(owner, name)
        register_fsdp_forward_method(net, "gathering")
        setattr(owner, name, outermost(plain, vars(net).pop("gathering"), running))


def public_methods(module: nn.Module) -> list[str]:
    """Names of the public methods that a class adds to those of nn.Module."""
    names = [name for name, _ in inspect.getmembers(type(module), inspect.isfunction)]
    return [name for name in names if not name.startswith("_") and not hasattr(nn.Module, name)]


def outermost(plain: Method, gathering: Method, running: list[str]) -> Method:
    """A method that gathers a net's parameters unless one of its methods is running: FSDP shards them again at the end
    of the second of three nested calls.

    Args:
        plain: the method itself.
        gathering: the method, with a gather before it.
        running: names of the methods that run, changed in place; of all methods of the net.
    """

    @wraps(plain)
    def method(*args: Any, **kwargs: Any) -> Any:
        if running:
            return plain(*args, **kwargs)
        running.append(plain.__name__)
        try:
            return gathering(*args, **kwargs)
        finally:
            running.pop()

    return method
