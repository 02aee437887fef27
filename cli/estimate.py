"""What a run takes: tokens, bytes, devices."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from textflow.nets import Frozen


def tokens_a_step(rows: int, length: int, accumulate: int = 1, devices: int = 1, nodes: int = 1) -> int:
    """Tokens of one optimizer step.

    Args:
        rows: of a batch on each device.
        length: tokens a row.
        accumulate: batches a step.
        devices: of a node.
        nodes: machines.
    """
    return rows * length * accumulate * devices * nodes


def places(devices: int | str | list[int]) -> int:
    """How many devices Lightning's word stands for; `auto` and -1 are all GPUs here, or one CPU."""
    if isinstance(devices, list):
        return len(devices)
    word = str(devices)
    if word in ("auto", "-1"):
        return max(torch.cuda.device_count(), 1)
    return len([part for part in word.split(",") if part.strip()]) if "," in word else int(word)


def size(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def count(module: nn.Module) -> int:
    """Parameters of a module."""
    return sum(p.numel() for p in module.parameters())


def state_size(optimizer: Optimizer) -> int:
    """Bytes that an optimizer keeps, once it has taken a step."""
    return size(value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor))


def with_frozen(module: nn.Module) -> list[nn.Module]:
    """A module and what `Frozen` hides in it."""
    return [module, *(m.module for m in module.modules() if isinstance(m, Frozen))]


@contextmanager
def saved(model: nn.Module) -> Iterator[dict[int, int]]:
    """Bytes that a forward pass keeps for the way back, by storage; weights do not count.

    Args:
        model: whose parameters and buffers are left out.
    """
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def readable(amount: int) -> str:
    """Bytes in MB or GB (of 1000)."""
    return f"{amount / 1e9:.1f} GB" if amount >= 1e9 else f"{amount / 1e6:.1f} MB"


def free_memory() -> int:
    """Bytes of main memory that are free; where the system does not say, more than any."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return sys.maxsize
