"""What a run takes: tokens, bytes, devices."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def largest_block(net: nn.Module) -> int:
    """Bytes of the largest block and of all that is in no block: what is gathered at a time."""
    lists = [m for m in net.modules() if isinstance(m, nn.ModuleList)]
    blocks = [4 * count(block) for inner in lists for block in inner]
    return 4 * count(net) - sum(blocks) + max(blocks, default=0)


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
        if tensor._is_zerotensor():  # a derivative known to be nothing has no bytes
            return tensor
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


@contextmanager
def kept_by(net: nn.Module) -> Iterator[dict[int, int]]:
    """As `saved`, of a pass that is not computed (under FakeTensorMode, where no tensor has an address).

    Args:
        net: whose parameters and buffers are left out.
    """
    own = {t.untyped_storage()._cdata for t in (*net.parameters(), *net.buffers())}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no storage takes another's number

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


@dataclass(frozen=True)
class Engine:
    """What a device holds of a job.

    Args:
        name: ddp, zero1, zero2, zero3 or fsdp.
        devices: of all machines.
        bucket: numbers that ZeRO sends at a time.
        overlap: whether ZeRO sends some while it gathers others.
    """

    name: str
    devices: int
    bucket: int = 0
    overlap: bool = True

    @staticmethod
    def of(strategy: Any, devices: int) -> "Engine":
        """The engine of a recipe's trainer.strategy.

        Args:
            strategy: a word, or class_path and init_args.
            devices: of all machines.
        """
        kind = str(getattr(strategy, "class_path", strategy)).split(".")[-1]
        if kind == "Zero":
            how = strategy.init_args
            return Engine(f"zero{how.stage}", devices, how.bucket, how.overlap)
        return Engine("fsdp" if kind == "FSDP" else "ddp", devices)

    @property
    def title(self) -> str:
        """As people write it."""
        return {"ddp": "DDP", "fsdp": "FSDP"}.get(self.name, f"ZeRO-{self.name[-1]}")

    def held(self, sizes: Mapping[str, int], gathered: int) -> dict[str, int]:
        """Bytes on a device, by what they hold; float32.

        Args:
            sizes: of weights, gradients, optimizer, average and activations, whole.
            gathered: bytes that are whole for a while where parameters are in shards.
        """
        cut = {"ddp": [], "zero1": ["optimizer"], "zero2": ["optimizer", "gradients"]}
        shared = cut.get(self.name, ["optimizer", "gradients", "weights", "average"])
        held = {key: -(-amount // self.devices) if key in shared else amount for key, amount in sizes.items()}
        if self.name == "ddp":
            held["buckets"] = sizes["gradients"] if self.devices > 1 else 0  # gradients are copied to be sent
        elif self.name in ("zero1", "zero2"):  # this device's weights once more, flat; and what is on its way
            held["own weights"] = -(-sizes["weights"] // self.devices)
            held["buckets"] = (2 if self.overlap else 1) * min(4 * self.bucket, sizes["gradients"])
        elif self.name == "zero3":  # DeepSpeed keeps up to 1e9 numbers gathered
            held["gathered"] = min(4 * 10**9, sizes["weights"])
            held["buckets"] = min(4 * self.bucket, sizes["gradients"])
        else:
            held["gathered"] = 2 * gathered  # of the block at work and of its gradient
        return held


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
