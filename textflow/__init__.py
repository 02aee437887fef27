"""textflow trains, diagnoses and distils continuous-latent diffusion language models."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {  # public name -> module; imported when it is first used, so that `import textflow` does not import torch
    "load": "textflow.run_folder",
    "Generator": "textflow.models.generator",
    "Autoencoder": "textflow.models.autoencoder",
    "CausalLM": "textflow.models.causal_lm",
    "DiscreteDiffusion": "textflow.models.discrete_diffusion",
    "Batch": "textflow.types",
    "Conditioning": "textflow.types",
    "Posterior": "textflow.types",
    "Codec": "textflow.codecs",
    "ProbPath": "textflow.paths",
    "TimeSchedule": "textflow.schedules",
    "Denoiser": "textflow.nets",
    "Objective": "textflow.objectives",
    "Sampler": "textflow.samplers",
    "State": "textflow.samplers",
    "DenoiseFn": "textflow.samplers",
    "Escape": "textflow.escapes",
    "Readout": "textflow.readouts",
    "Noise": "textflow.noise",
}
__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """A public name, from its module."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'textflow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
