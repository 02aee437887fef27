"""Device names and bf16 support."""

import torch


def has_fast_bf16(device: str) -> bool:
    """True if the device has bf16 matmul instructions; otherwise torch emulates them, slower than fp32.

    Args:
        device: torch device type; False for types other than cpu and cuda, whose support is unknown.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and any(_flag(name) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def bf16_warning(device: str) -> str | None:
    """Warning for bf16 on a CPU or GPU without bf16 instructions; None if the device has or may have them.

    Args:
        device: torch device type, such as cpu or cuda.
    """
    if device not in ("cpu", "cuda") or has_fast_bf16(device):
        return None
    return f"{device_name(device)} has no fast bf16: its products are emulated, slower than fp32"


def device_name(device: str) -> str:
    """Name of a device for messages.

    Args:
        device: torch device type, such as cpu or cuda.
    """
    if device == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "this CPU" if device == "cpu" else device


def _flag(name: str) -> bool:
    return bool(getattr(torch.cpu, name, lambda: False)())
