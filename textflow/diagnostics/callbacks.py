"""The callbacks that watch held-out text: a diagnostic each, over its pure functions."""

from collections.abc import Mapping
from typing import Any

from textflow.diagnostics.base import Diagnostic, look
from textflow.diagnostics.bootstrap import Ratio
from textflow.diagnostics.dabi import adversarial, dabi
from textflow.diagnostics.decoder_temperature import blunt
from textflow.diagnostics.facets import facets
from textflow.diagnostics.residual import channel_blur, seeds_of
from textflow.diagnostics.rollin import cumulative, depth, rollin
from textflow.diagnostics.rowspace import row_fraction, seen_directions
from textflow.diagnostics.tube import positions, tube
from textflow.models.autoencoder import Autoencoder
from textflow.noise import Noise
from textflow.samplers import Euler
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
        met = seen.terminal(self.steps, noise)
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
        met = seen.terminal(self.steps, noise)
        facet = facets(seen.spell, seen.x, met.residual, self.candidates)
        found = tube(
            positions(seen.spell, met, seen.path, facet, noise, draws=2),
            met.t,
            channel_blur(seen.path, met.t),
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


class RollIn(Diagnostic):
    """rollin/terminal and rollin/final: flips of one last step from noised real text, and of a whole walk from it.

    rollin/floor is the share that no reader could avoid at the first time of the walk; most of rollin/final is that.

    Args:
        every_n_steps: optimizer steps between two measurements.
        rows: of held-out text.
        seed: of the noise.
        steps: of the grid, at least 2.
    """

    def __init__(self, every_n_steps: int = 500, rows: int = 32, seed: int = 0, steps: int = 8) -> None:
        super().__init__(every_n_steps, rows, seed)
        self.steps = interior(self, steps)

    def measure(self, model: Any, batch: Batch, noise: Noise) -> Mapping[str, float]:
        seen, seeds = look(model, batch), seeds_of(noise)
        times, tokens = seen.times(self.steps), seen.tokens
        real = (seen.read, seen.path, seen.x, seen.mask, times)
        alone = rollin(seen.denoise, *real, Noise(seeds), tokens)
        driven = cumulative(seen.denoise, Euler(), *real, Noise(seeds), tokens)
        found = depth(alone, driven, times)
        rates = {"rollin/terminal": found.rolls[-1].flip, "rollin/final": found.final.flip}
        if tokens is not None:
            rates |= {"rollin/floor": found.rolls[0].floor, "rollin/excess": found.rolls[-1].excess_flip}
        return rates


class RowSpace(Diagnostic):
    """rowspace/share: share of the last residual that the readout sees; rowspace/isotropic: of a random one [ours].

    Args:
        every_n_steps: optimizer steps between two measurements.
        rows: of held-out text.
        seed: of the noise.
        steps: of the grid whose last interior time is looked at, at least 2.
    """

    def __init__(self, every_n_steps: int = 500, rows: int = 16, seed: int = 0, steps: int = 8) -> None:
        super().__init__(every_n_steps, rows, seed)
        self.steps = interior(self, steps)

    def measure(self, model: Any, batch: Batch, noise: Noise) -> Mapping[str, float]:
        met, few = look(model, batch).terminal(self.steps, noise), look(model, batch.each(lambda part: part[:8]))
        basis = seen_directions(few.spell, few.x, few.mask, Noise(seeds_of(noise)[:8]))
        share = row_fraction(met.x, met.guess, met.mask, basis)
        return {"rowspace/share": share, "rowspace/isotropic": len(basis) / met.x.shape[-1]}


class Blunt(Diagnostic):
    """blunt/*: dabi/ce as a decoder 4 times hotter, or half shrunk to uniform, would have it; no flip moves [ours].

    What the temperature alone can make of a DABI of losses, beside the DABI of flips that it cannot touch.

    Args:
        every_n_steps: optimizer steps between two measurements.
        rows: of held-out text.
        seed: of the noise.
        steps: of the grid whose last interior time is looked at, at least 2.
        draws: random directions a position.
    """

    def __init__(self, every_n_steps: int = 500, rows: int = 16, seed: int = 0, steps: int = 8, draws: int = 4) -> None:
        super().__init__(every_n_steps, rows, seed)
        self.steps, self.draws = interior(self, steps), draws

    def measure(self, model: Any, batch: Batch, noise: Noise) -> Mapping[str, float]:
        seen = look(model, batch)
        met = seen.terminal(self.steps, noise)
        probes = blunt(seen.read, seen.x, met.guess, seen.mask, noise, (1.0, 4.0), (0.5,), draws=self.draws)
        names = ("as_it_is", "hot", "shrunk")
        found = {f"blunt/flips_{name}": probe.dabi.flip.numerator for name, probe in zip(names, probes, strict=True)}
        for name, probe in zip(names, probes, strict=True):
            found |= ratio(f"blunt/ce_{name}", probe.dabi.loss)
        return found


def ratio(name: str, found: Ratio) -> dict[str, float]:
    """The ratio under its name, or its lower bound under another."""
    return {name: found.value} if found.measured else {f"{name}_at_least": found.low}


def interior(diagnostic: Diagnostic, steps: int) -> int:
    """A number of steps whose grid has a time between noise and text."""
    if steps < 2:
        raise ValueError(f"{type(diagnostic).__name__} got steps={steps}; a grid needs at least 2 for a last time")
    return steps
