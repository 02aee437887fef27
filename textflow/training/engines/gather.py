"""Tensors that are split over processes: the local part, or the full tensor."""

from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from textflow.runtime.distributed import rank_and_world_size


def local_tensor(tensor: Any) -> Tensor:
    """This process's part: the shard of a DTensor (FSDP2), the partition of a ZeRO-3 parameter, or the full tensor."""
    if hasattr(tensor, "to_local"):
        return tensor.to_local()
    if hasattr(tensor, "ds_tensor"):
        if tensor.ds_status.name == "AVAILABLE":  # a gathered copy would go stale
            tensor.partition()
        return tensor.ds_tensor
    return tensor


@torch.no_grad()
def full_tensor(tensor: Any) -> Tensor:
    """A full copy on the CPU of the first rank, empty on the others. Called on all ranks, in the same order."""
    with gather_zero3(tensor):
        tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        return cpu_copy_on_rank0(tensor.detach())


def cpu_copy_on_rank0(tensor: Tensor) -> Tensor:
    """A copy on the CPU of the first rank, an empty tensor on the others."""
    if rank_and_world_size()[0]:
        return tensor.new_empty(0, device="cpu")
    return tensor.to("cpu", copy=True).contiguous()


def gather_zero3(tensor: Any) -> AbstractContextManager[None]:
    """Context in which a ZeRO-3 parameter is gathered on every rank."""
    if not hasattr(tensor, "ds_tensor"):
        return nullcontext()
    deepspeed: Any = import_module("deepspeed")
    return deepspeed.zero.GatheredParameters([tensor])


def full_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of a module, in full on the CPU of the first rank. Called on all ranks."""
    return {name: full_tensor(tensor) for name, tensor in module.state_dict(keep_vars=True).items()}
