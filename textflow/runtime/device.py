"""Device names and bf16 support."""

import torch


def has_fast_bf16(device: str) -> bool:
    """True if the device has bf16 matmul instructions; otherwise torch emulates them, slower than fp32.

    Args:
        device: torch device type; False for types other than cpu and cuda, whose support is unknown.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # missing in other versions of torch
    return device == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in names)


def bf16_warning(device: str) -> str | None:
    """Warning for bf16 on a CPU or GPU without bf16 instructions; None if the device type has or may have them."""
    if device not in ("cpu", "cuda") or has_fast_bf16(device):
        return None
    return f"{device_name(device)} has no fast bf16: its products are emulated, slower than fp32"


def device_name(device: str) -> str:
    """Name of a device type, such as cpu or cuda, for messages."""
    if device == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "this CPU" if device == "cpu" else device
