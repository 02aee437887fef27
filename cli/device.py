"""Which device a command runs on."""

import torch


def best(device: str = "auto") -> torch.device:
    """The device of this name; auto is the GPU where there is one.

    Args:
        device: cpu, cuda, cuda:1, mps or auto.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.zeros((), device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"no device {device!r} here ({str(error).splitlines()[0]}); use --device cpu") from error
