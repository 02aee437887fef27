"""What several verbs let their user choose: the device and the way to sample."""

from typing import Any, Literal

SamplerName = Literal["recipe", "ode", "heun", "multistep", "reinject", "commit", "tube"]


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


def take(model: Any, name: SamplerName, gamma: float) -> None:
    """Make a model sample in one of the usual ways, each a pair of escape and sampler.

    Args:
        model: loaded.
        name: ode, heun, multistep, reinject: without an escape; commit, tube: with one; recipe changes nothing.
        gamma: strength of reinject.
    """
    if name == "recipe":
        return
    from textflow.escapes import Commit, Escape, Soft, Tube
    from textflow.generator import Generator
    from textflow.samplers import Euler, Heun, Multistep, Reinject, Renoise, Sampler

    if not isinstance(model, Generator):
        raise ValueError(f"a {type(model).__name__} samples in its own way alone; leave --sampler {name} out")
    ways: dict[str, tuple[Escape, Sampler]] = {
        "ode": (Soft(), Euler()),
        "heun": (Soft(), Heun()),
        "multistep": (Soft(), Multistep()),
        "reinject": (Soft(), Reinject(gamma)),
        "commit": (Commit(), Renoise()),
        "tube": (Commit(gate=Tube()), Renoise(1.0, 0.0)),
    }
    model.escape, model.sampler = ways[name]
