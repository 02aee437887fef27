"""Options that several verbs share: the device, the sampler and a sweep over sampling settings."""

from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

from .parsing import option_name

if TYPE_CHECKING:
    import torch

SamplerName = Literal["recipe", "ode", "heun", "dpmpp-2m", "reinject", "mode-commit", "tube-commit"]
MAX_SWEEP_VALUES = 1000  # largest number of values in a sweep


def resolve_device(device: str = "auto") -> "torch.device":
    """Resolve a device name (cpu, cuda, cuda:1, mps); auto is the GPU if one is available."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.zeros((), device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"no device {device!r} on this machine ({reason}); use --device cpu") from error


def require_positive(seed: int = 0, **numbers: int | None) -> None:
    """Raise a ValueError for a negative seed, or an option below 1; None stands for its default."""
    if seed < 0:
        raise ValueError(f"--seed is {seed}; at least 0 is needed")
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{option_name(name)} is {number}; at least 1 is needed")


def set_sampler(model: Any, name: SamplerName, gamma: float | None) -> None:
    """Set a model's escape and sampler by the name of a preset; recipe changes nothing. gamma is for reinject only."""
    if gamma is not None and name != "reinject":
        raise ValueError(f"--gamma {gamma} is the strength of --sampler reinject, not of {name}: give both, or neither")
    if name == "recipe":
        return
    from textflow.escapes import Commit, Escape, LowConfidence, NoEscape
    from textflow.models.generator import Generator
    from textflow.samplers import Ancestral, DPMSolverPP2M, Euler, Heun, Reinject, Sampler

    if not isinstance(model, Generator):
        raise ValueError(f"a {type(model).__name__} has a sampler of its own; leave --sampler {name} out")
    presets: dict[str, tuple[Escape, Sampler]] = {
        "ode": (NoEscape(), Euler()),
        "heun": (NoEscape(), Heun()),
        "dpmpp-2m": (NoEscape(), DPMSolverPP2M()),
        "reinject": (NoEscape(), Reinject() if gamma is None else Reinject(gamma)),
        "mode-commit": (Commit(), Ancestral()),
        "tube-commit": (Commit(gate=LowConfidence()), Ancestral(1.0, 0.0)),
    }
    model.escape, model.sampler = presets[name]


def configure_sampling(model: Any, name: SamplerName, gamma: float | None, sweep: Mapping[str, float]) -> None:
    """Set a model's escape and sampler by the name of a preset, then the settings of a sweep."""
    set_sampler(model, name, gamma)
    for key, value in sweep.items():
        set_sampling_value(model, key, value)


def set_sampling_value(model: Any, key: str, value: float) -> None:
    """Set one sampling setting of a model: w (self_cond_guidance), or a field of its sampler or its escape."""
    sampler, escape = getattr(model, "sampler", None), getattr(model, "escape", None)
    if key == "w" and hasattr(model, "self_cond_guidance"):
        model.self_cond_guidance = value
    elif is_dataclass(sampler) and hasattr(sampler, key):
        model.sampler = replace(sampler, **{key: value})  # type: ignore[type-var]
    elif escape is not None and isinstance(getattr(escape, key, None), float):
        setattr(escape, key, value)
    else:
        parts = " and ".join(type(part).__name__ for part in (sampler, escape) if part is not None)
        raise ValueError(
            f"sweep over {key!r}: {parts} of this run have no such setting; sweep w, or choose --sampler reinject for "
            "gamma, an overlay such as recipes/escape/commit_sampled.yaml for temperature"
        )


def parse_sweep(text: str | None) -> list[dict[str, float]]:
    """Parse a sweep, gamma=0:2:.5 or gamma=0,1,3, into the settings of each row; None is one row without any."""
    if text is None:
        return [{}]
    key, _, values = text.partition("=")
    try:
        numbers = [float(number) for number in values.split(":" if ":" in values else ",")]
        if ":" in values:
            first, last, step = numbers
            count = int((last - first) / step + 1.000001)
            numbers = [round(first + step * i, 10) for i in range(min(count, MAX_SWEEP_VALUES + 1))]
    except (ValueError, ZeroDivisionError, OverflowError):
        numbers = []
    if len(numbers) > MAX_SWEEP_VALUES:
        advice = "take a larger step, or list fewer values"
        raise ValueError(f"--sweep is {text[:80]!r}: more than {MAX_SWEEP_VALUES:,} values; {advice}")
    if not key or len(numbers) < 2 or not all(map(isfinite, numbers)):
        raise ValueError(f"--sweep is {text!r}; needs name=first:last:step such as gamma=0:2:.5, or name=0,1,3")
    return [{key: number} for number in numbers]


def resolve_devices(device: str, count: int | None) -> list[str]:
    """List the devices to use in parallel; by default every GPU, or one."""
    import torch

    first = str(resolve_device(device))
    kind = first.split(":")[0]
    num_devices = torch.cuda.device_count() if kind == "cuda" else 1
    count = (num_devices if device in ("auto", "cuda") else 1) if count is None else count
    available = num_devices if kind == "cuda" else max(count, 1)
    if not 1 <= count <= available:
        raise ValueError(f"--devices is {count}; needs 1 to {available} ({kind} devices here)")
    return [first] if count == 1 else [f"{kind}:{i}" if kind == "cuda" else kind for i in range(count)]
