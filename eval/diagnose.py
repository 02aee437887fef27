"""Diagnose: every measure of a trained run or of an oracle world, as rows to print, to keep and to draw."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import torch

from textflow.diagnostics.ablation import Ablated
from textflow.diagnostics.base import Look, look, spoken
from textflow.diagnostics.blunt import blunt
from textflow.diagnostics.bootstrap import Ratio, joined
from textflow.diagnostics.dabi import FACTORS, Response, respond, summary
from textflow.diagnostics.facets import facets
from textflow.diagnostics.margins import margins
from textflow.diagnostics.meter import Meter
from textflow.diagnostics.residual import Terminal, channel_blur, seeds_of
from textflow.diagnostics.rollin import Flips, cumulative, depth, rollin
from textflow.diagnostics.rowspace import row_fraction, seen_directions
from textflow.diagnostics.tube import positions, tube
from textflow.diagnostics.watch_samples import chosen, stiffness_of
from textflow.escapes import Commit, Escape, Soft
from textflow.generator import Generator
from textflow.metrics import mean_entropy
from textflow.noise import Noise, sample_seeds
from textflow.samplers import Euler
from textflow.types import Batch

Row = dict[str, Any]
DEPTHS = (2, 4, 8, 16)


class Case(NamedTuple):
    """What is diagnosed.

    Args:
        model: trained, or of an oracle world.
        batches: real text.
        seed: of the noise.
    """

    model: Generator
    batches: list[Batch]
    seed: int = 0

    def looks(self) -> Iterator[tuple[Look, Noise]]:
        """Each batch as the model sees it, with its own streams."""
        done = 0
        for batch in self.batches:
            yield look(self.model, batch), Noise(sample_seeds(self.seed, done, len(batch.ids)))
            done += len(batch.ids)

    def terminals(self, steps: int) -> Iterator[tuple[Look, Terminal, Noise]]:
        """Real text at the last interior time of a grid."""
        for seen, noise in self.looks():
            yield seen, seen.terminal(steps, noise), noise


def of_dabi(case: Case) -> list[Row]:
    """DABI at the last time before the text, for several grids; then its response to longer and shorter residuals."""
    rows = [dabi_row(case, steps, 1.0) for steps in DEPTHS[1:]]
    return rows + [dabi_row(case, 8, f, draws=4) for f in FACTORS if f != 1.0]


def dabi_row(case: Case, steps: int, f: float, draws: int = 8) -> Row:
    """One row: both ratios and what they are ratios of."""
    meter, t = Meter(Response, partial(dabi_numbers, f=f, draws=draws, seed=case.seed)), 0.0
    for seen, met, noise in case.terminals(steps):
        meter.update(respond(seen.read, seen.x, met.guess, seen.mask, noise, f, draws))
        t = met.t
    return {"K": steps, "t": t, "f": f} | meter.compute()


def dabi_numbers(seen: Response, f: float, draws: int, seed: int) -> Row:
    """Both ratios of all batches, what they are ratios of, and what they rest on."""
    found = summary(seen, f, draws, seed=seed)
    rates = {"flips": found.flip.numerator, "random_flips": found.flip.denominator}
    nats = {"nats": found.loss.numerator, "random_nats": found.loss.denominator}
    size = {"n": found.size.positions, "sequences": found.size.sequences, "draws": draws}
    return interval("ce", found.loss) | interval("flip", found.flip) | rates | nats | size


def interval(name: str, ratio: Ratio) -> Row:
    """A ratio with its 95 % interval; where only a bound is known the value is None."""
    value = ratio.value if ratio.measured else None
    return {name: value, f"{name}_low": ratio.low, f"{name}_high": ratio.high if ratio.high < float("inf") else None}


def of_tube(case: Case) -> list[Row]:
    """The tube law beside what is observed, at the last time of several grids; boundaries of the codec's readout."""
    return [tube_row(case, steps) for steps in DEPTHS]


def tube_row(case: Case, steps: int) -> Row:
    """One row: blurs in latent standard deviations, flips predicted and observed."""
    parts, s_ch, t = [], 0.0, 0.0
    for seen, met, noise in case.terminals(steps):
        facet = facets(seen.spell, seen.x, met.residual)
        parts.append(positions(seen.spell, met, seen.path, facet, noise))
        s_ch, t = channel_blur(seen.path, met.t), met.t
    found = tube(joined(parts), t, s_ch, sum(len(batch.ids) for batch in case.batches))
    unit = max(found.scale, 1e-12)
    return {
        "K": steps,
        "t": t,
        "s_channel": s_ch / unit,
        "s": found.s_post / unit,
        "s_normal": found.s_n / unit,
        "density": found.density.value * unit,
        "separated": found.density.separated,
        "predicted": found.linear,
        "any_law": found.free,
        "surrogate": found.surrogate,
        "observed": found.observed,
        "ratio": None if found.linear == 0 else found.ratio,
        "valid": found.valid,
        "n": found.size.positions,
    }


def of_rollin(case: Case) -> list[Row]:
    """Flips of one step from noised real text (the last: terminal), and of the sampler's own states from the first."""
    return [row for steps in DEPTHS for row in rollin_rows(case, steps)]


def rollin_rows(case: Case, steps: int) -> list[Row]:
    """A row for each interior time, and one for the end."""
    alone: list[list[Flips]] = []
    driven: list[list[Flips]] = []
    times = case.model.grid.grid(steps)
    for seen, noise in case.looks():
        seeds, tokens = seeds_of(noise), spoken(case.model)
        real = (seen.read, seen.path, seen.x, seen.mask, times)
        alone.append(rollin(seen.denoise, *real, Noise(seeds), tokens))
        driven.append(cumulative(seen.denoise, Euler(), *real, Noise(seeds), tokens))
    rolls, own = ([joined(parts) for parts in zip(*batches, strict=True)] for batches in (alone, driven))
    found = depth(rolls, own, times)
    rows = [
        {
            "K": steps,
            "t": roll.t,
            "s_channel": channel_blur(case.model.path, roll.t),
            "flips": roll.flip,
            "floor": roll.floor,
            "wrong": roll.wrong,
            "excess": roll.excess_flip,
            "cumulative": along.flip,
            "n": roll.size.positions,
        }
        for roll, along in zip(found.rolls, found.cumulative, strict=True)
    ]
    return [*rows, {"K": steps, "t": 1.0, "cumulative": found.final.flip, "n": found.final.size.positions}]


def of_cci(case: Case, steps: int = 8) -> list[Row]:
    """CCI of samples under escapes, and what their feedback is worth: the same samples with the soft mean fed."""
    escapes: dict[str, Escape] = {"none": Soft(), "mode commit": Commit()}
    if not isinstance(case.model.escape, Soft):
        escapes = {"the run's own": case.model.escape} | escapes
    seeds = sample_seeds(case.seed, 0, sum(len(batch.ids) for batch in case.batches))
    return [cci_row(case.model, name, escape, seeds, steps) for name, escape in escapes.items()]


def cci_row(model: Generator, name: str, escape: Escape, seeds: list[int], steps: int) -> Row:
    """One row: CCI, entropy, and the share of tokens that change when nothing is fed."""
    made = model.sample(seeds, steps, escape=escape)
    soft = model.sample(seeds, steps, escape=Ablated(escape))
    law = torch.bincount(made.ids.flatten()).double() / made.ids.numel()
    chance = 1 - float((law**2).sum())
    return {
        "escape": name,
        "K": steps,
        "cci": chosen(model, made, Noise(seeds)),
        "entropy": mean_entropy([row.tolist() for row in made.ids]),
        "soft_entropy": mean_entropy([row.tolist() for row in soft.ids]),
        "changed": float((made.ids != soft.ids).double().mean()),
        "chance": chance,
        "n": made.ids.numel(),
    }


def of_stiffness(case: Case, rows: int = 4) -> list[Row]:
    """Stiffness of each step, its peak, and that of the whole map."""
    found = []
    for steps in DEPTHS[:3]:
        seen = stiffness_of(case.model, sample_seeds(case.seed, 0, rows), steps, case.batches[0].ids.shape[1])
        means = {name: value.tolist() for name, value in seen.summary().items()}
        found.append({"K": steps, **means, "rows": rows, "starts": seen.starts, "iterations": seen.iterations})
    return found


def of_margins(case: Case, steps: int = 8, rows: int = 64) -> list[Row]:
    """The readout's lead at each call of the run's own sampling, and the share of tokens that have settled."""
    model = case.model
    made = model.sample(sample_seeds(case.seed, 0, rows), steps)
    found = margins(made.trace, model.logits, made.ids).summary()
    moved = [None, *found["moved"].tolist()]
    columns = {name: found[name].tolist() for name in ("lead", "lead_low", "agrees", "settled")}
    return [
        {"call": k, "t": t, **{name: column[k] for name, column in columns.items()}, "moved": moved[k], "rows": rows}
        for k, t in enumerate(made.trace.times)
    ]


def of_blunt(case: Case) -> list[Row]:
    """Temperature and shrinking of the decoder: no flip moves, the loss does (first batch, K = 8)."""
    seen, met, noise = next(case.terminals(8))
    return [
        {"change": b.change, "amount": b.amount, "ce": asdict(b.dabi.loss)["value"], "flips": b.dabi.flip.numerator}
        | {"nats": b.dabi.loss.numerator, "n": b.dabi.size.positions}
        for b in blunt(seen.read, seen.x, met.guess, seen.mask, noise)
    ]


def of_rowspace(case: Case) -> list[Row]:
    """Share of the residual that the codec's readout sees (first batch, K = 8)."""
    seen, met, noise = next(case.terminals(8))
    basis = seen_directions(seen.spell, seen.x[:8], seen.mask[:8], noise_of(noise, 8))
    share = row_fraction(seen.x, met.guess, seen.mask, basis)
    return [{"rank": len(basis), "width": seen.x.shape[-1], "share": share, "isotropic": len(basis) / seen.x.shape[-1]}]


def noise_of(noise: Noise, rows: int) -> Noise:
    """The streams of the first rows, begun anew."""
    return Noise(seeds_of(noise)[:rows])


MEASURES: dict[str, Callable[[Case], list[Row]]] = {
    "dabi": of_dabi,
    "tube": of_tube,
    "rollin": of_rollin,
    "cci": of_cci,
    "margins": of_margins,
    "stiffness": of_stiffness,
    "blunt": of_blunt,
    "rowspace": of_rowspace,
}
