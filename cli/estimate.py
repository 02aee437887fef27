"""Resources of a run: tokens, bytes and devices."""

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


def tokens_per_step(
    rows: int, length: int, accumulation_steps: int = 1, num_devices: int = 1, num_nodes: int = 1
) -> int:
    """Tokens of one optimizer step, from the rows of `length` tokens in a batch on each device."""
    return rows * length * accumulation_steps * num_devices * num_nodes


def device_count(devices: int | str | list[int]) -> int:
    """Number of devices in Lightning's notation; `auto` and -1 are all GPUs of this machine, or one CPU."""
    if isinstance(devices, list):
        return len(devices)
    text = str(devices)
    if text in ("auto", "-1"):
        return max(torch.cuda.device_count(), 1)
    return len([part for part in text.split(",") if part.strip()]) if "," in text else int(text)


def num_bytes(tensors: Iterable[Tensor]) -> int:
    """Total bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def num_parameters(module: nn.Module) -> int:
    """Number of parameters of a module."""
    return sum(p.numel() for p in module.parameters())


def largest_block_bytes(net: nn.Module) -> int:
    """Bytes of the largest block and of the parameters outside blocks, which are gathered at a time."""
    lists = [m for m in net.modules() if isinstance(m, nn.ModuleList)]
    blocks = [4 * num_parameters(block) for inner in lists for block in inner]
    return 4 * num_parameters(net) - sum(blocks) + max(blocks, default=0)


def optimizer_bytes(optimizer: Optimizer) -> int:
    """Bytes of an optimizer's state after a step."""
    values = (value for state in optimizer.state.values() for value in state.values())
    return num_bytes(value for value in values if isinstance(value, Tensor))


def include_frozen(module: nn.Module) -> list[nn.Module]:
    """List a module and the modules that `Frozen` hides in it."""
    return [module, *(m.module for m in module.modules() if isinstance(m, Frozen))]


@contextmanager
def count_saved_bytes(model: nn.Module) -> Iterator[dict[int, int]]:
    """Count the bytes saved for the backward pass, by storage, without the model's parameters and buffers.

    `_cdata` identifies a storage, since tensors have no address under FakeTensorMode.
    """
    own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no freed storage's id is reused

    def pack(tensor: Tensor) -> Tensor:
        if tensor._is_zerotensor():  # a derivative known to be zero has no storage
            return tensor
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


@dataclass(frozen=True)
class Engine:
    """Distributed training engine, which determines the memory per device.

    Args:
        name: ddp, zero1, zero2, zero3 or fsdp.
        num_devices: number of devices on all machines.
        bucket_size: number of elements that ZeRO communicates at a time.
        overlap_comm: True if ZeRO overlaps communication with gathering.
    """

    name: str
    num_devices: int
    bucket_size: int = 0
    overlap_comm: bool = True

    @staticmethod
    def from_strategy(strategy: Any, num_devices: int) -> "Engine":
        """Engine of a recipe's trainer.strategy, a name or class_path and init_args, on all machines' devices."""
        kind = str(getattr(strategy, "class_path", strategy)).split(".")[-1]
        if kind == "Zero":
            options = strategy.init_args
            return Engine(f"zero{options.stage}", num_devices, options.bucket_size, options.overlap_comm)
        return Engine("fsdp" if kind == "FSDP" else "ddp", num_devices)

    @property
    def title(self) -> str:
        """Display name, such as ZeRO-2."""
        return {"ddp": "DDP", "fsdp": "FSDP"}.get(self.name, f"ZeRO-{self.name[-1]}")

    def memory_per_device(self, sizes: Mapping[str, int], gathered_bytes: int) -> dict[str, int]:
        """Bytes per device by kind, in float32; `gathered_bytes` are gathered at a time if parameters are sharded."""
        sharded_by_engine = {"ddp": [], "zero1": ["optimizer"], "zero2": ["optimizer", "gradients"]}
        sharded = sharded_by_engine.get(self.name, ["optimizer", "gradients", "weights", "average"])
        memory = {key: -(-amount // self.num_devices) if key in sharded else amount for key, amount in sizes.items()}
        if self.name == "ddp":
            memory["buckets"] = sizes["gradients"] if self.num_devices > 1 else 0  # a copy for communication
        elif self.name in ("zero1", "zero2"):  # a flat copy of this device's weights; communication buffers
            memory["own weights"] = -(-sizes["weights"] // self.num_devices)
            memory["buckets"] = (2 if self.overlap_comm else 1) * min(4 * self.bucket_size, sizes["gradients"])
        elif self.name == "zero3":  # DeepSpeed keeps up to 1e9 elements gathered
            memory["gathered"] = min(4 * 10**9, sizes["weights"])
            memory["buckets"] = min(4 * self.bucket_size, sizes["gradients"])
        else:
            memory["gathered"] = 2 * gathered_bytes  # the current block and its gradient
        return memory


def format_bytes(amount: int) -> str:
    """Format bytes in MB or GB (powers of 1000)."""
    return f"{amount / 1e9:.1f} GB" if amount >= 1e9 else f"{amount / 1e6:.1f} MB"


def free_memory() -> int:
    """Bytes of free main memory; sys.maxsize if the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return sys.maxsize
