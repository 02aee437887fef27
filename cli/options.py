"""What several verbs let their user choose: the device and the sampler."""

from typing import Any, Literal

SamplerName = Literal["recipe", "ode", "heun", "reinject"]


def best_device(device: str = "auto") -> Any:
    """The device of this name; auto is the GPU where there is one.

    Args:
        device: cpu, cuda, cuda:1, mps or auto.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.zeros((), device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"no device {device!r} here ({str(error).splitlines()[0]}); use --device cpu") from error


def sampler_of(name: SamplerName, gamma: float) -> Any:
    """The sampler of this name; None is the recipe's own.

    Args:
        name: ode (Euler), heun, reinject, or recipe.
        gamma: strength of reinject.
    """
    from textflow.samplers import Euler, Heun, Reinject

    return {"recipe": None, "ode": Euler(), "heun": Heun(), "reinject": Reinject(gamma)}[name]
