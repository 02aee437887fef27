"""What a figure is drawn from: a generator with real text, be it an oracle world or a trained run."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from textflow.diagnostics.base import Look, look
from textflow.diagnostics.residual import Terminal, terminal
from textflow.models.generator import Generator
from textflow.noise import Noise, sample_seeds
from textflow.oracle import WORLDS, Atoms, Chain, Exact, World
from textflow.paths import Linear
from textflow.schedules import Clock, LogitNormal
from textflow.types import Batch, Latents

from ..oracle.methods import fresh

TUNED = LogitNormal(-0.2, 0.4)  # where the tokens of the worlds are decided
ROWS = 64  # texts at a time


@dataclass(frozen=True, eq=False)
class Source:
    """A generator and real text.

    Args:
        name: as the legend says it.
        model: a world's, or trained.
        batches: real text.
        seed: of the noise.
    """

    name: str
    model: Generator
    batches: list[Batch]
    seed: int = 0

    def looks(self) -> Iterator[tuple[Look, Noise]]:
        """Each batch as the model sees it, with its own streams; latents of a world lie in their tokens' clouds."""
        done = 0
        for batch in self.batches:
            noise, codec = Noise(sample_seeds(self.seed, done, len(batch.ids))), self.model.codec
            seen, done = look(self.model, batch), done + len(batch.ids)
            yield seen._replace(x=codec.latents(batch.ids, noise)) if isinstance(codec, Atoms) else seen, noise

    def terminals(self, t: float) -> Iterator[tuple[Look, Terminal, Noise]]:
        """Real text noised to t, and the belief about it."""
        for seen, noise in self.looks():
            yield seen, terminal(seen.denoise, seen.path, seen.x, seen.mask, t, noise), noise


def of_world(world: World, n: int, seed: int = 0, grid: Clock = LogitNormal()) -> Source:
    """A world as a source of true texts.

    Args:
        world: exact or spoilt.
        n: texts.
        seed: of texts and noise.
        grid: of sampling times; default: ELF's.
    """
    ids = world.draw(Noise(sample_seeds(seed + 1, 0, n)))
    batches = [Batch(part, torch.ones_like(part, dtype=torch.bool)) for part in torch.split(ids, ROWS)]
    return Source(f"world {world.name}", world.generator(grid=grid), batches, seed)


def named(name: str, n: int, seed: int = 0, grid: Clock = LogitNormal()) -> Source:
    """One of the three worlds, of a seed that nothing was tuned on."""
    return of_world(WORLDS[name](fresh(seed)), n, seed, grid)


def independent(name: str, codes: Latents, tau: float, scale: float = 1.0) -> World:
    """A world without context: uniform tokens, each on its own, as clouds of size tau.

    Args:
        name: of the world.
        codes: E, [1, V, d].
        tau: standard deviation of a cloud.
        scale: of the noise at t = 0.
    """
    vocab, path = codes.shape[1], Linear(scale=scale, floor=1e-9)
    law = torch.full((vocab,), 1 / vocab, dtype=torch.float64)
    prior, codec = Chain(law, law.expand(vocab, -1).clone()), Atoms(codes[0].double(), tau)
    return World(name, prior, codec, Exact(prior, codec, path), path)
