"""The callbacks that watch samples: a diagnostic each, over its pure functions."""

from collections.abc import Mapping
from typing import Any

import torch

from textflow.diagnostics.base import Diagnostic, given
from textflow.diagnostics.cci import cci, evidence, fed_of
from textflow.diagnostics.margins import margins
from textflow.diagnostics.residual import seeds_of
from textflow.diagnostics.stiffness import Stiffness as Measured
from textflow.diagnostics.stiffness import stiffness
from textflow.models.autoencoder import Autoencoder
from textflow.noise import Noise
from textflow.samplers.prompt import Prompt
from textflow.types import Batch, Ids, Mask


class Watched(Diagnostic):
    """Looks at samples, in the run's own way; those of a run of pairs answer its held-out sources.

    Args:
        every_n_steps: optimizer steps between two measurements.
        rows: samples.
        seed: of the noise.
        steps: of the samples.
    """

    def __init__(self, every_n_steps: int = 500, rows: int = 16, seed: int = 0, steps: int = 8) -> None:
        super().__init__(every_n_steps, rows, seed)
        self.steps = steps

    def samples(self, model: Any, batch: Batch, noise: Noise) -> tuple[Any, Prompt | None]:
        """Samples, and what they begin with."""
        refuse_codec(self, model)
        prompt = given(model, batch)
        return model.sample(seeds_of(noise), self.steps, length=batch.ids.shape[1], prompt=prompt), prompt


class CCI(Watched):
    """cci of samples: the share of pairs of tokens where one was chosen in sight of the other [ours]."""

    def measure(self, model: Any, batch: Batch, noise: Noise) -> Mapping[str, float]:
        made, prompt = self.samples(model, batch, noise)
        return {"cci": chosen(model, made, noise, prompt)}


class Margins(Watched):
    """margins/lead, margins/settled: how sure samples are half way, and where their tokens enter their basin [ours]."""

    def measure(self, model: Any, batch: Batch, noise: Noise) -> Mapping[str, float]:
        made, prompt = self.samples(model, batch, noise)
        found = margins(made.trace, model.reader(prompt), made.ids, mask := written(made.ids, prompt))
        seen, half = found.summary(), self.steps // 2
        return {
            "margins/lead": float(seen["lead"][half]),
            "margins/lead_low": float(seen["lead_low"][half]),
            "margins/agrees": float(seen["agrees"][half]),
            "margins/settled": float(found.settled[mask].double().mean()) / self.steps,
        }


class Stiffness(Diagnostic):
    """stiffness/peak and stiffness/total of the sampling map, by power iteration [ours].

    Args:
        every_n_steps: optimizer steps between two measurements.
        rows: samples; each costs some 6 passes a step and iteration.
        seed: of the noise.
        steps: of the samples.
        iterations: of the power iteration, from one start: a lower bound.
    """

    def __init__(
        self, every_n_steps: int = 500, rows: int = 1, seed: int = 0, steps: int = 4, iterations: int = 4
    ) -> None:
        super().__init__(every_n_steps, rows, seed)
        self.steps, self.iterations = steps, iterations

    def measure(self, model: Any, batch: Batch, noise: Noise) -> Mapping[str, float]:
        length, prompt = batch.ids.shape[1], given(model, batch)
        found = stiffness_of(model, seeds_of(noise), self.steps, length, 1, self.iterations, prompt)
        return {"stiffness/peak": float(found.peak.mean()), "stiffness/total": float(found.total.mean())}


def stiffness_of(
    model: Any, seeds: list[int], steps: int, length: int | None = None, starts: int = 3, iterations: int = 8,
    prompt: Prompt | None = None,
) -> Measured:  # fmt: skip
    """Stiffness of a generator's own sampling map, with its sampler, its grid and its escape.

    Args:
        model: the generator.
        seeds: one a sample.
        steps: of the grid.
        length: latents; default: the length of training.
        starts: of the power iteration.
        iterations: of each start.
        prompt: what the samples begin with, where nothing moves.
    """
    z, noise = model.start(seeds, length)
    return stiffness(
        lambda streams: model.denoiser(escape=model.escape, noise=streams, prompt=prompt, start=z),
        model.sampler,
        model.path,
        model.grid.grid(steps),
        z,
        noise,
        probes=Noise([seed + 1 for seed in seeds]),
        clean=None if prompt is None else prompt.clean,
        fixed=None if prompt is None else prompt.fixed,
        last=model.denoiser(prompt=prompt, start=z),
        starts=starts,
        iterations=iterations,
        rows=8 if prompt is None else len(z),
    )


def chosen(model: Any, made: Any, noise: Noise, prompt: Prompt | None = None) -> float:
    """CCI of samples of a generator, over what was not given.

    Args:
        model: the generator.
        made: of `model.sample`.
        noise: one stream a sample.
        prompt: what the samples begin with.
    """
    fed, mask = fed_of(made.trace), written(made.ids, prompt)
    if not any(bool((ids >= 0)[mask].any()) for ids in fed):
        return 0.0
    codes, seeds = model.embed(made.ids, prompt), seeds_of(noise)
    read = model.codec.readout if model.codec.reads else model.reader(prompt)
    times = made.trace.times
    weights = [evidence(read, codes, mask, model.path, t, Noise(seeds)) for t in times]
    return cci(fed, made.ids, weights, mask).value


def written(ids: Ids, prompt: Prompt | None) -> Mask:
    """True on the tokens of samples that were not given."""
    return torch.ones_like(ids, dtype=torch.bool) if prompt is None else ~prompt.fixed


def refuse_codec(diagnostic: Diagnostic, model: Any) -> None:
    """Samples come from a generator."""
    if isinstance(model, Autoencoder):
        name = type(diagnostic).__name__
        raise ValueError(f"{name} watches samples, and an autoencoder makes none: leave {name} out of this recipe")
