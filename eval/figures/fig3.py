"""Fig. 3: flips of one step from noised text, flips of the sampler's own states, and what no reader could avoid."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from textflow.diagnostics.bootstrap import joined
from textflow.diagnostics.residual import seeds_of
from textflow.diagnostics.rollin import cumulative, rates, rollin
from textflow.noise import Noise, sample_seeds
from textflow.oracle import WORLDS
from textflow.oracle.excess_kl import measure
from textflow.samplers import Euler

from ..oracle.methods import fresh
from .source import Source, named
from .style import MARKS, PAPER, figure, legend

Found = dict[str, Any]
DEPTHS = (2, 4, 8, 16)
PUBLISHED = {"flips of the sampler's own states, about": 0.9}
CAPTION = (
    "Left: one belief about real text noised to t, 16 steps of ELF's grid (of a run's own). Middle: real text noised"
    " to the first interior time of K steps and carried on by the ODE (cumulative flips), beside the Bayes floor 1 -"
    " mean max p(token | z) at that time: nearly all of these tokens were lost in the noise before any step. The floor"
    " of a run is that of its own p(token | z), which need not be calibrated. Right: what fails is coherence, the"
    " share of transitions of the ODE's own samples that the world has only by smoothing. The paper says about 90 %"
    " for the middle panel; which figure it stands in is not public, and number and layout are the project's"
    " reconstruction [rebuilt]."
)


def numbers(n: int, seed: int, runs: Sequence[Source] = ()) -> Found:
    """Flips by time and by depth of the world `text` and of runs, and the world's own samples.

    Args:
        n: texts.
        seed: of world, texts and noise.
        runs: trained generators with their own text.
    """
    sources = [named("text", n, seed), *runs]
    times = {source.name: along(source, 16) for source in sources}
    depths = {source.name: [at_depth(source, k) for k in DEPTHS] for source in sources}
    return {"times": times, "depths": depths, "coherence": coherence(sources[0], n, seed)}


def along(source: Source, steps: int) -> list[Found]:
    """Flips, errors of argmax gamma and their floor at the interior times of a grid."""
    grid, parts = source.model.grid.grid(steps), []
    for seen, noise in source.looks():
        real = (seen.denoise, seen.read, seen.path, seen.x, seen.mask, grid)
        parts.append(rollin(*real, noise, seen.tokens))
    inner = grid[1:-1]
    found = [rates(joined(batches), t) for batches, t in zip(zip(*parts, strict=True), inner, strict=True)]
    return [
        {"t": r.t, "flip": r.flip, "wrong": r.wrong, "floor": r.floor, "positions": r.size.positions} for r in found
    ]


def at_depth(source: Source, steps: int) -> Found:
    """Where the ODE ends from real text at the first interior time, the floor there, and one step at the last time."""
    grid, alone, own = source.model.grid.grid(steps), [], []
    for seen, noise in source.looks():
        seeds, real = seeds_of(noise), (seen.read, seen.path, seen.x, seen.mask)
        ends = [grid[1], grid[-2]]
        alone.append(rollin(seen.denoise, *real, ends, Noise(seeds), seen.tokens))
        own.append(cumulative(seen.denoise, Euler(), *real, grid, Noise(seeds), seen.tokens)[-1])
    first, last = (
        rates(joined(parts), t) for parts, t in zip(zip(*alone, strict=True), (grid[1], grid[-2]), strict=True)
    )
    whole = {"floor": first.floor, "one_step": first.flip, "cumulative": rates(joined(own), 1.0).flip}
    return {"K": steps, "t": grid[1], "last": grid[-2], "terminal": last.flip} | whole


def coherence(source: Source, n: int, seed: int) -> list[Found]:
    """NLL, entropy and illegal transitions of the ODE's samples, and of true ones at depth 0."""
    world = WORLDS["text"](fresh(seed))
    samples = [(0, torch.cat([batch.ids for batch in source.batches]))]
    samples += [(k, source.model.sample(sample_seeds(seed, 0, n), k).ids) for k in (1, *DEPTHS, 32)]
    one = torch.ones(n, 1, dtype=torch.float64)
    rows = [(k, measure(world.prior, ids, one)[:, 0].tolist()) for k, ids in samples]
    return [{"K": k, "nll": r[0], "h1": r[1], "illegal": r[4]} for k, r in rows]


def draw(found: Found, path: Path, caption: str = CAPTION) -> None:
    """Three panels."""
    with figure(path, caption, 3, 4.0, 3.7) as (time, depth, whole):
        for i, (name, rows) in enumerate(found["times"].items()):
            t, colour = [r["t"] for r in rows], f"C{i}"
            time.plot(t, [r["flip"] for r in rows], "-", marker=MARKS[i], ms=4, color=colour, label=f"{name}: flips")
            time.plot(t, [r["floor"] for r in rows], ":", color=colour, label=f"{name}: Bayes floor")
            rows = found["depths"][name]
            k = [r["K"] for r in rows]
            depth.plot(k, [r["cumulative"] for r in rows], "-", marker=MARKS[i], color=colour, label=f"{name}: flips")
            depth.plot(k, [r["floor"] for r in rows], ":", color=colour, label=f"{name}: Bayes floor")
        depth.axhline(0.9, **PAPER, label="published: about 90 %")
        time.set(xlabel="t (0 noise, 1 text)", ylabel="share of tokens flipped", title="one step", ylim=(0, 1))
        depth.set(xlabel="steps K", ylabel="share of tokens flipped", title="the ODE's own states", ylim=(0, 1))
        own = [r for r in found["coherence"] if r["K"]]
        k = [r["K"] for r in own]
        for repeats, fill, word in ((False, "C0", "samples of the ODE"), (True, "w", "samples of one token (H1 = 0)")):
            part = [r for r in own if (r["h1"] < 0.1) == repeats]
            shares = [r["illegal"] for r in part]
            whole.plot([r["K"] for r in part], shares, "-v", color="C0", mfc=fill, label=word, clip_on=False)
        whole.axhline(found["coherence"][0]["illegal"], color="C2", linestyle="-.", label="true texts")
        whole.set(xlabel="steps K", ylabel="share of transitions", title="illegal transitions of samples")
        whole.set_ylim(bottom=0)
        for axis in (depth, whole):
            axis.set_xscale("log", base=2)
            axis.set_xticks(k if axis is whole else DEPTHS, [str(x) for x in (k if axis is whole else DEPTHS)])
        legend(time, depth, whole, side="outside upper left", columns=6)
