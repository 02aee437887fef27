"""What several verbs let their user choose: the device and the way to sample."""

from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from math import isfinite
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


def at_least_one(**numbers: int | None) -> None:
    """Refuses a number of things that is below 1; None stands for a default."""
    for name, number in numbers.items():
        if number is not None and number < 1:
            option = f"-{name}" if len(name) == 1 else "--" + name.replace("_", "-")
            raise ValueError(f"{option} is {number}; at least 1 is needed")


def take(model: Any, name: SamplerName, gamma: float | None) -> None:
    """Make a model sample in one of the usual ways, each a pair of escape and sampler.

    Args:
        model: loaded.
        name: ode, heun, multistep, reinject: without an escape; commit, tube: with one; recipe changes nothing.
        gamma: strength of reinject.
    """
    if gamma is not None and name != "reinject":
        raise ValueError(f"--gamma {gamma} is the strength of --sampler reinject, not of {name}: give both, or neither")
    if name == "recipe":
        return
    from textflow.escapes import Commit, Escape, Soft, Tube
    from textflow.models.generator import Generator
    from textflow.samplers import Euler, Heun, Multistep, Reinject, Renoise, Sampler

    if not isinstance(model, Generator):
        raise ValueError(f"a {type(model).__name__} samples in its own way alone; leave --sampler {name} out")
    ways: dict[str, tuple[Escape, Sampler]] = {
        "ode": (Soft(), Euler()),
        "heun": (Soft(), Heun()),
        "multistep": (Soft(), Multistep()),
        "reinject": (Soft(), Reinject() if gamma is None else Reinject(gamma)),
        "commit": (Commit(), Renoise()),
        "tube": (Commit(gate=Tube()), Renoise(1.0, 0.0)),
    }
    model.escape, model.sampler = ways[name]


def sample_by(model: Any, name: SamplerName, gamma: float | None, sweep: Mapping[str, float]) -> None:
    """Make a model sample in one of the usual ways, with some numbers of it set.

    Args:
        model: loaded.
        name: as of `take`.
        gamma: strength of reinject.
        sweep: w (guidance), or fields of the sampler or the escape, such as gamma and temperature.
    """
    take(model, name, gamma)
    for key, value in sweep.items():
        turn(model, key, value)


def turn(model: Any, key: str, value: float) -> None:
    """Set one number of how a model samples.

    Args:
        model: loaded.
        key: w (guidance), or a field of its sampler or its escape.
        value: of it.
    """
    sampler, escape = getattr(model, "sampler", None), getattr(model, "escape", None)
    if key == "w" and hasattr(model, "guidance"):
        model.guidance = value
    elif is_dataclass(sampler) and hasattr(sampler, key):
        model.sampler = replace(sampler, **{key: value})  # type: ignore[type-var]
    elif escape is not None and isinstance(getattr(escape, key, None), float):
        setattr(escape, key, value)
    else:
        parts = " and ".join(type(part).__name__ for part in (sampler, escape) if part is not None)
        raise ValueError(
            f"sweep over {key!r}: {parts} of this run have no such number; sweep w, or choose --sampler reinject for "
            "gamma, an overlay such as recipes/escape/commit_sampled.yaml for temperature"
        )


MOST = 1000  # values of a sweep


def swept(text: str) -> tuple[str, list[float]]:
    """gamma=0:2:.5 -> gamma and [0, .5, 1, 1.5, 2]; gamma=0,1,3 -> gamma and [0, 1, 3].

    Args:
        text: name=first:last:step, or name=value,value.
    """
    key, _, said = text.partition("=")
    try:
        numbers = [float(word) for word in said.split(":" if ":" in said else ",")]
        if ":" in said:
            first, last, step = numbers
            count = int((last - first) / step + 1.000001)
            numbers = [round(first + step * i, 10) for i in range(min(count, MOST + 1))]
    except (ValueError, ZeroDivisionError, OverflowError):
        numbers = []
    if len(numbers) > MOST:
        raise ValueError(f"sweep is {text[:80]!r}: more than {MOST:,} values; take a larger step, or name fewer")
    if not key or len(numbers) < 2 or not all(map(isfinite, numbers)):
        raise ValueError(f"sweep is {text!r}; needs name=first:last:step such as gamma=0:2:.5, or name=0,1,3")
    return key, numbers


def devices_of(device: str, count: int | None) -> list[str]:
    """The devices that work at the same time.

    Args:
        device: cpu, cuda, mps or auto.
        count: how many; default: every GPU, or one.
    """
    import torch

    first = str(best_device(device))
    kind = first.split(":")[0]
    every = torch.cuda.device_count() if kind == "cuda" else 1
    wanted = (every if device in ("auto", "cuda") else 1) if count is None else count
    there = every if kind == "cuda" else wanted
    if not 1 <= wanted <= there:
        raise ValueError(f"devices is {wanted}; needs at least 1 and at most the {every} of {kind} that are here")
    return [first] if wanted == 1 else [f"{kind}:{i}" if kind == "cuda" else kind for i in range(wanted)]
