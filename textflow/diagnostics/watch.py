"""The callbacks: a diagnostic each, over its pure functions."""

from collections.abc import Mapping
from typing import Any

import torch

from textflow.autoencoder import Autoencoder
from textflow.diagnostics.base import Diagnostic, look
from textflow.diagnostics.bootstrap import Ratio
from textflow.diagnostics.cci import cci, evidence, fed_of
from textflow.diagnostics.dabi import adversarial, dabi
from textflow.diagnostics.facets import facets
from textflow.diagnostics.residual import channel_blur, seeds_of, terminal
from textflow.diagnostics.stiffness import Stiffness as Measured
from textflow.diagnostics.stiffness import stiffness
from textflow.diagnostics.tube import positions, tube
from textflow.noise import Noise
from textflow.types import Batch


class DABI(Diagnostic):
    """dabi/ce and dabi/flip at the last time before the text, with the rates that they are ratios of [ours].

    A generator is hurt by its own residual; a codec alone, whose channel has no direction of its own, by one as long
    along the normal of the nearest boundary.

    Args:
        every_n_steps: optimizer steps between two measurements.
        rows: of held-out text.
        seed: of the noise.
        steps: of the grid whose last interior time is looked at, at least 2.
        draws: random directions a position.
    """

    def __init__(self, every_n_steps: int = 500, rows: int = 32, seed: int = 0, steps: int = 8, draws: int = 4) -> None:
        super().__init__(every_n_steps, rows, seed)
        self.steps, self.draws = interior(self, steps), draws

    def measure(self, model: Any, batch: Batch, noise: Noise) -> Mapping[str, float]:
        seen = look(model, batch)
        t = seen.times(self.steps)[-2]
        met = terminal(seen.denoise, seen.path, seen.x, seen.mask, t, noise)
        guess = met.guess
        if isinstance(model, Autoencoder):
            guess = adversarial(seen.x, guess, seen.mask, facets(seen.spell, seen.x, met.residual, candidates=8))[0]
        found = dabi(seen.read, seen.x, guess, seen.mask, noise, draws=self.draws)
        return (
            ratio("dabi/ce", found.loss)
            | ratio("dabi/flip", found.flip)
            | {
                "dabi/structured": found.flip.numerator,
                "dabi/isotropic": found.flip.denominator,
                "dabi/structured_ce": found.loss.numerator,
                "dabi/isotropic_ce": found.loss.denominator,
            }
        )


class Tube(Diagnostic):
    """tube/observed beside tube/predicted: flips of the last guess before the text, and what the tube law says of them.

    The boundaries are the codec's own, which reads position by position.

    Args:
        every_n_steps: optimizer steps between two measurements.
        rows: of held-out text.
        seed: of the noise.
        steps: of the grid whose last interior time is looked at, at least 2.
        candidates: tokens beyond a boundary.
    """

    def __init__(
        self, every_n_steps: int = 500, rows: int = 64, seed: int = 0, steps: int = 8, candidates: int = 8
    ) -> None:
        super().__init__(every_n_steps, rows, seed)
        self.steps, self.candidates = interior(self, steps), candidates

    def measure(self, model: Any, batch: Batch, noise: Noise) -> Mapping[str, float]:
        seen = look(model, batch)
        t = seen.times(self.steps)[-2]
        met = terminal(seen.denoise, seen.path, seen.x, seen.mask, t, noise)
        facet = facets(seen.spell, seen.x, met.residual, self.candidates)
        found = tube(
            positions(seen.spell, met, seen.path, facet, noise, draws=2),
            t,
            channel_blur(seen.path, t),
            len(batch.ids),
            draws=2,
        )
        return {
            "tube/observed": found.observed,
            "tube/predicted": found.linear,
            "tube/surrogate": found.surrogate,
            "tube/s": found.s_post / max(found.scale, 1e-12),
            "tube/density": found.density.value * found.scale,
        }


class CCI(Diagnostic):
    """cci of samples: the share of pairs of tokens where one was chosen in sight of the other [ours].

    Args:
        every_n_steps: optimizer steps between two measurements.
        rows: samples.
        seed: of the noise.
        steps: of the samples.
    """

    def __init__(self, every_n_steps: int = 500, rows: int = 16, seed: int = 0, steps: int = 8) -> None:
        super().__init__(every_n_steps, rows, seed)
        self.steps = steps

    def measure(self, model: Any, batch: Batch, noise: Noise) -> Mapping[str, float]:
        if isinstance(model, Autoencoder):
            raise ValueError("CCI watches a generator; an autoencoder chooses nothing: leave it out of this recipe")
        made = model.sample(seeds_of(noise), self.steps, length=batch.ids.shape[1])
        return {"cci": chosen(model, made, noise)}


def chosen(model: Any, made: Any, noise: Noise) -> float:
    """CCI of samples of a generator.

    Args:
        model: the generator.
        made: of `model.sample`.
        noise: one stream a sample.
    """
    fed, mask = fed_of(made.trace), torch.ones_like(made.ids, dtype=torch.bool)
    if not any(bool((ids >= 0).any()) for ids in fed):
        return 0.0
    codes, seeds = model.embed(made.ids), seeds_of(noise)
    read = model.codec.readout if model.codec.reads else model.logits
    times = made.trace.times
    weights = [evidence(read, codes, mask, model.path, t, Noise(seeds)) for t in times]
    return cci(fed, made.ids, weights, mask).value


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
        found = stiffness_of(model, seeds_of(noise), self.steps, batch.ids.shape[1], 1, self.iterations)
        return {"stiffness/peak": float(found.peak.mean()), "stiffness/total": float(found.total.mean())}


def stiffness_of(
    model: Any, seeds: list[int], steps: int, length: int | None = None, starts: int = 3, iterations: int = 8
) -> Measured:
    """Stiffness of a generator's own sampling map, with its sampler, its grid and its escape.

    Args:
        model: the generator.
        seeds: one a sample.
        steps: of the grid.
        length: latents; default: the length of training.
        starts: of the power iteration.
        iterations: of each start.
    """
    z, noise = model.start(seeds, length)
    return stiffness(
        lambda streams: model.denoiser(escape=model.escape, noise=streams),
        model.sampler,
        model.path,
        model.grid.grid(steps),
        z,
        noise,
        probes=Noise([seed + 1 for seed in seeds]),
        last=model.denoiser(),
        starts=starts,
        iterations=iterations,
    )


def ratio(name: str, found: Ratio) -> dict[str, float]:
    """The ratio under its name, or its lower bound under another."""
    return {name: found.value} if found.measured else {f"{name}_at_least": found.low}


def interior(diagnostic: Diagnostic, steps: int) -> int:
    """A number of steps whose grid has a time between noise and text."""
    if steps < 2:
        raise ValueError(f"{type(diagnostic).__name__} got steps={steps}; a grid needs at least 2 for a last time")
    return steps
