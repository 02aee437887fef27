"""Order: which latents are denoised together, all at once or block after block."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import NamedTuple

from textflow.nets import Denoiser
from textflow.noise import Noise
from textflow.readouts import Readout
from textflow.samplers.base import Sampler, Trace, sample
from textflow.samplers.denoise_fn import DenoiseFn
from textflow.types import Ids, Latents, PositionMask


class Sample(NamedTuple):
    """Token ids [B, L], and the trace of the sampling run."""

    ids: Ids
    trace: Trace


class Order(ABC):
    """Noise -> latents -> tokens, in some order of the latents."""

    reads_prompts: bool = False  # whether a prompt stands clean before what follows, so that none is replaced
    feeds_tokens: bool = False  # whether tokens that were read out stand clean in the input of later calls

    def block_size(self, net: Denoiser) -> int | None:
        """Number of latents that are denoised together; None is all."""
        return None

    def after_text(self, denoise: DenoiseFn, x: Latents) -> DenoiseFn:
        """The denoiser of a text's noised latents, in the context that they have in sampling: by default the row.

        Args:
            denoise: network with conditioning and prompt.
            x: clean latents of the text [B, S, d].
        """
        return denoise

    @abstractmethod
    def sample(
        self, denoise: DenoiseFn, readout: Readout, sampler: Sampler, times: list[float], z: Latents, noise: Noise
    ) -> Sample:
        """Tokens and trace, from noise.

        Args:
            denoise: network with conditioning, prompt and escape.
            readout: rule that turns the last belief into tokens.
            sampler: rule for one step.
            times: increasing grid, from the path's noisy end to its clean end.
            z: noise at times[0] [B, S, d].
            noise: random streams, one a sample.
        """


@dataclass(frozen=True)
class AllAtOnce(Order):
    """All latents are denoised together."""

    def sample(
        self, denoise: DenoiseFn, readout: Readout, sampler: Sampler, times: list[float], z: Latents, noise: Noise
    ) -> Sample:
        cond = denoise.conditioning(z)
        return denoise_and_read(denoise, readout, sampler, times, z, noise, cond.prompt, cond.prompt_mask)


def denoise_and_read(
    denoise: DenoiseFn,
    readout: Readout,
    sampler: Sampler,
    times: list[float],
    z: Latents,
    noise: Noise,
    prompt: Latents | None = None,
    prompt_mask: PositionMask | None = None,
    before: Ids | None = None,
) -> Sample:
    """Denoise latents together, without an escape in the last step, and read them out; the arguments are those of
    `Order.sample`, `sample` and `View`."""
    last = replace(denoise, escape=None)
    trace = sample(denoise, sampler, denoise.path, times, z, noise, prompt, prompt_mask, last, keep_logits=False)
    final = trace.beliefs[-1]._replace(mean=trace.z)
    return Sample(readout.decode(denoise.view(trace.states[-1], trace.times[-1], final, before), noise), trace)
