"""What the hardware does fast."""

import torch


def fast_bf16(device: str) -> bool:
    """Whether it has instructions for products in bf16; without them torch emulates these, slower than fp32.

    Args:
        device: torch's word: cpu, cuda, …; of another than these two it is not known, and False.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and any(_flag(name) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def slow_bf16(device: str) -> str | None:
    """What is said where bf16 is asked of a CPU or a GPU that has no such instructions; None where it has or may have.

    Args:
        device: torch's word.
    """
    if device not in ("cpu", "cuda") or fast_bf16(device):
        return None
    return f"{named(device)} has no fast bf16: its products are emulated, slower than fp32"


def named(device: str) -> str:
    """A device as it is told.

    Args:
        device: torch's word.
    """
    if device == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "this CPU" if device == "cpu" else device


def _flag(name: str) -> bool:
    return bool(getattr(torch.cpu, name, lambda: False)())
