"""The ranking: samplers and escapes on worlds whose truth is known, at equal numbers of network calls [ours]."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch

from textflow.noise import Noise, sample_seeds
from textflow.oracle import WORLDS, Imperfect, World, Yardstick
from textflow.schedules import Flip, LogitNormal
from textflow.types import Batch, Ids

from .methods import CALLS, FLIPS, METHODS, NAMED, RIVALS, ROBUST, SPOILT, TUNED, Method, fresh

Record = dict[str, Any]
ROWS = 256  # texts at a time


class Cell(NamedTuple):
    """One number to be measured.

    Args:
        spoilt: what is wrong with the denoiser; empty: it is exact.
        grid: tuned, flip, elf or none.
        calls: of the network, K.
    """

    world: str
    seed: int
    spoilt: str
    grid: str
    method: str
    calls: int


class Bench:
    """A world with what its samples are measured by.

    Args:
        world: its denoiser is asked.
        n: texts of every sample.
        seed: of the samples.
    """

    def __init__(self, world: World, n: int, seed: int) -> None:
        self.world, self.n, self.seed = world, n, seed
        self.yard = Yardstick(world.prior, world.truths(n, 6, seed + 1))
        self.clocks: dict[str, Flip] = {}

    def spoilt(self, how: str) -> World:
        """The world with this denoiser."""
        return replace(self.world, denoiser=Imperfect(self.world.exact, **SPOILT[how])) if how else self.world

    def clock(self, how: str) -> Flip:
        """The flip clock of this denoiser, measured once on true texts."""
        if how not in self.clocks:
            world, noise = self.spoilt(how), Noise(sample_seeds(self.seed + 2, 0, ROWS))
            ids = world.draw(noise)
            batch, x = Batch(ids, torch.ones_like(ids, dtype=torch.bool)), world.codec.latents(ids, noise)
            self.clocks[how] = Flip()
            with torch.random.fork_rng():
                torch.manual_seed(0)
                self.clocks[how].measure(world.codec.readout, world.path, x, batch, world.generator().denoiser())
        return self.clocks[how]

    def times(self, cell: Cell, method: Method) -> list[float]:
        """The grid of a cell; one with a free step has an interior time more."""
        steps = cell.calls + method.free
        if cell.grid == "flip":
            rates = torch.linspace(*FLIPS[method.kind], max(steps - 1, 2), dtype=torch.float64)
            return [0.0, *self.clock(cell.spoilt).when(rates[1:] if steps == 2 else rates).tolist(), 1.0]
        if cell.grid == "tuned":
            return LogitNormal(*TUNED[method.kind][cell.calls]).grid(steps)
        return LogitNormal().grid(steps)

    @torch.no_grad()
    def texts(self, cell: Cell) -> Ids:
        """Samples of a cell."""
        method, world = NAMED[cell.method], self.spoilt(cell.spoilt)
        times, seeds = self.times(cell, method), sample_seeds(self.seed, 0, self.n)
        return torch.cat([method.write(world, times, seeds[i : i + ROWS]) for i in range(0, self.n, ROWS)])

    def record(self, cell: Cell, draws: int) -> Record:
        """The score of a cell; differences from the truth are means over true samples of the same n."""
        score = self.yard.score(self.texts(cell), Noise([self.seed]) if draws else None, max(draws, 1))
        nll, h1 = (float(mean) for mean in self.yard.mean[:2])
        said = {key: value for key, value in asdict(score).items() if key != "spread"}
        spread = score.spread | {"dnll": score.spread["nll"], "dh1": score.spread["h1"]} if draws else {}
        found = {"dnll": score.nll - nll, "dh1": score.h1 - h1, "true_nll": nll, "true_h1": h1}
        return cell._asdict() | said | found | {"collapsed": score.collapsed, "spread": spread}


def plan(names: Sequence[str], seeds: Sequence[int], calls: Sequence[int] = CALLS, spoilt: bool = True) -> list[Cell]:
    """Everything to be measured: exact worlds on all grids, then imperfect ones at 4 and 8 calls.

    Args:
        names: of worlds.
        seeds: of worlds, each of every name.
        calls: numbers of network calls.
        spoilt: with the imperfect worlds.
    """
    if unknown := sorted(set(calls) - set(CALLS)):
        raise ValueError(f"grids are frozen for {CALLS} calls, not for {unknown}; leave those out of --calls")
    where = [(name, seed) for name in names for seed in seeds]
    ways = [(m, grid, k) for m in METHODS for grid in m.grids for k in calls if k in m.calls]
    cells = [Cell(*place, "", grid, m.name, k) for place in where for m, grid, k in ways]
    rest = [(how, name, k) for how in SPOILT for name in ROBUST for k in calls if k in (4, 8)] if spoilt else []
    return cells + [Cell(*place, how, "flip", name, k) for place in where for how, name, k in rest]


class Contest(NamedTuple):
    """What is ranked.

    Args:
        kinds: of worlds.
        worlds: of each kind in the tables.
        proof: of each kind behind the verdict at 4 calls; 0: those of the tables.
        calls: of the network.
        n: texts a sample.
        seed: of worlds and samples.
        draws: resamplings behind the intervals of the tables; 0 for none.
        jobs: processes.
        spoilt: with the imperfect worlds.
    """

    kinds: Sequence[str] = tuple(WORLDS)
    worlds: int = 1
    proof: int = 5
    calls: Sequence[int] = CALLS
    n: int = 1024
    seed: int = 0
    draws: int = 40
    jobs: int = 1
    spoilt: bool = True

    def seeds(self, count: int) -> list[int]:
        """Of the first worlds of a kind."""
        return [fresh(self.seed) + i for i in range(count)]

    def tabled(self) -> list[Cell]:
        """What the tables hold."""
        return plan(self.kinds, self.seeds(self.worlds), self.calls, self.spoilt)

    def judged(self) -> list[Cell]:
        """What the verdict is about: commitment and its rivals at 4 calls on all grids."""
        cells = plan(self.kinds, self.seeds(self.proof), [4], spoilt=False) if 4 in self.calls else []
        return [cell for cell in cells if cell.method in RIVALS]


@lru_cache(maxsize=1)
def bench_of(world: str, world_seed: int, n: int, seed: int) -> Bench:
    """The bench of one world; the last one is kept."""
    return Bench(WORLDS[world](world_seed), n, seed)


def measured(cell: Cell, n: int, seed: int, draws: int) -> Record:
    """The record of a cell."""
    return bench_of(cell.world, cell.seed, n, seed).record(cell, draws)


def ranking(cells: Sequence[Cell], n: int, seed: int = 0, draws: int = 40, jobs: int = 1) -> Iterator[Record]:
    """A record a cell in the order of the cells, as soon as it is measured.

    Args:
        cells: of `plan`.
        n: texts a sample.
        seed: of the samples.
        draws: resamplings behind an interval; 0 for none.
        jobs: processes of one thread each; they change no number.
    """
    ask = partial(measured, n=n, seed=seed, draws=draws)
    if jobs == 1:
        yield from map(ask, cells)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        yield from pool.map(ask, cells, chunksize=4)
