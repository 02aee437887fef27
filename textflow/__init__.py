"""textflow trains, diagnoses and distils continuous-latent diffusion language models."""

from typing import TYPE_CHECKING

from textflow.runtime.lazy import lazy_names

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
    "DecodingDenoiser": "textflow.nets",
    "Objective": "textflow.objectives",
    "CodecObjective": "textflow.objectives",
    "SelfConditioning": "textflow.objectives",
    "Sampler": "textflow.samplers",
    "Order": "textflow.samplers",
    "State": "textflow.samplers",
    "DenoiseFn": "textflow.samplers",
    "Escape": "textflow.escapes",
    "Gate": "textflow.escapes",
    "Readout": "textflow.readouts",
    "Target": "textflow.distill.targets",
    "Process": "textflow.discrete",
    "DiscreteObjective": "textflow.discrete",
    "DiscreteSampler": "textflow.discrete",
    "Source": "textflow.data",
    "Tokenizer": "textflow.data",
    "Diagnostic": "textflow.diagnostics",
    "Noise": "textflow.noise",
}
__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604

if TYPE_CHECKING:  # the same names, for type checkers and editors
    from textflow.codecs import Codec as Codec
    from textflow.data import Source as Source, Tokenizer as Tokenizer
    from textflow.diagnostics import Diagnostic as Diagnostic
    from textflow.discrete import DiscreteObjective as DiscreteObjective, DiscreteSampler as DiscreteSampler
    from textflow.discrete import Process as Process
    from textflow.distill.targets import Target as Target
    from textflow.escapes import Escape as Escape, Gate as Gate
    from textflow.models.autoencoder import Autoencoder as Autoencoder
    from textflow.models.causal_lm import CausalLM as CausalLM
    from textflow.models.discrete_diffusion import DiscreteDiffusion as DiscreteDiffusion
    from textflow.models.generator import Generator as Generator
    from textflow.nets import DecodingDenoiser as DecodingDenoiser, Denoiser as Denoiser
    from textflow.noise import Noise as Noise
    from textflow.objectives import CodecObjective as CodecObjective, Objective as Objective
    from textflow.objectives import SelfConditioning as SelfConditioning
    from textflow.paths import ProbPath as ProbPath
    from textflow.readouts import Readout as Readout
    from textflow.run_folder import load as load
    from textflow.samplers import DenoiseFn as DenoiseFn, Order as Order, Sampler as Sampler, State as State
    from textflow.schedules import TimeSchedule as TimeSchedule
    from textflow.types import Batch as Batch, Conditioning as Conditioning, Posterior as Posterior
else:
    __getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
