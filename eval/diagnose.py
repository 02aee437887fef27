"""Diagnose: every measure of a trained run or of an oracle world, as rows to print, to keep and to draw."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import torch

from textflow.diagnostics.ablation import Ablated
from textflow.diagnostics.base import Look, given, look
from textflow.diagnostics.bootstrap import Ratio, joined
from textflow.diagnostics.dabi import FACTORS, Response, respond, summary
from textflow.diagnostics.decoder_temperature import blunt
from textflow.diagnostics.facets import facets
from textflow.diagnostics.margins import margins
from textflow.diagnostics.metric import Meter
from textflow.diagnostics.residual import Terminal, channel_blur, seeds_of
from textflow.diagnostics.rollin import Flips, cumulative, depth, rollin
from textflow.diagnostics.rowspace import row_fraction, seen_directions
from textflow.diagnostics.sample_callbacks import chosen, stiffness_of, written
from textflow.diagnostics.tube import positions, tube
from textflow.escapes import Commit, Escape, Soft
from textflow.metrics import mean_entropy
from textflow.models.generator import Generator
from textflow.noise import Noise, sample_seeds
from textflow.samplers import Euler
from textflow.samplers.prompt import Prompt
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

    def first(self, n: int | None = None) -> tuple[list[int], Prompt | None]:
        """The seeds of as many samples as there are rows, of the first n, and what those begin with."""
        ids, mask = torch.cat([batch.ids for batch in self.batches]), torch.cat([batch.mask for batch in self.batches])
        fixed = [batch.fixed for batch in self.batches if batch.fixed is not None]
        whole = Batch(ids, mask, torch.cat(fixed) if fixed else None).each(lambda part: part[:n])
        return sample_seeds(self.seed, 0, len(whole.ids)), given(self.model, whole)

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
        seeds, tokens = seeds_of(noise), seen.tokens
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
    begun = case.first()
    return [cci_row(case.model, name, escape, *begun, steps) for name, escape in escapes.items()]


def cci_row(model: Generator, name: str, escape: Escape, seeds: list[int], prompt: Prompt | None, steps: int) -> Row:
    """One row: CCI, entropy, and the share of tokens that change when nothing is fed."""
    made = model.sample(seeds, steps, escape=escape, prompt=prompt)
    soft = model.sample(seeds, steps, escape=Ablated(escape), prompt=prompt)
    here = written(made.ids, prompt)
    tokens, others = made.ids[here], soft.ids[here]
    law = torch.bincount(tokens).double() / len(tokens)
    chance = 1 - float((law**2).sum())
    return {
        "escape": name,
        "K": steps,
        "cci": chosen(model, made, Noise(seeds), prompt),
        "entropy": mean_entropy([row[kept].tolist() for row, kept in zip(made.ids, here, strict=True)]),
        "soft_entropy": mean_entropy([row[kept].tolist() for row, kept in zip(soft.ids, here, strict=True)]),
        "changed": float((tokens != others).double().mean()),
        "chance": chance,
        "n": len(tokens),
    }


def of_stiffness(case: Case, rows: int = 4) -> list[Row]:
    """Stiffness of each step, its peak, and that of the whole map."""
    found, length, (seeds, prompt) = [], case.batches[0].ids.shape[1], case.first(rows)
    for steps in DEPTHS[:3]:
        seen = stiffness_of(case.model, seeds, steps, length, prompt=prompt)
        means = {name: value.tolist() for name, value in seen.summary().items()}
        found.append({"K": steps, **means, "rows": len(seeds), "starts": seen.starts, "iterations": seen.iterations})
    return found


def of_margins(case: Case, steps: int = 8, rows: int = 64) -> list[Row]:
    """The readout's lead at each call of the run's own sampling, and the share of tokens that have settled."""
    model, (seeds, prompt) = case.model, case.first(rows)
    made = model.sample(seeds, steps, prompt=prompt)
    found = margins(made.trace, model.reader(prompt), made.ids, written(made.ids, prompt)).summary()
    columns = {name: found[name].tolist() for name in ("lead", "lead_low", "agrees", "settled")}
    columns |= {"moved": [None, *found["moved"].tolist()], "rows": [len(seeds)] * len(made.trace.times)}
    return [
        {"call": k, "t": t} | {name: column[k] for name, column in columns.items()}
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
    _, met, noise = next(case.terminals(8))
    few, width = look(case.model, case.batches[0].each(lambda part: part[:8])), met.x.shape[-1]
    basis = seen_directions(few.spell, few.x, few.mask, Noise(seeds_of(noise)[:8]))
    share = row_fraction(met.x, met.guess, met.mask, basis)
    return [{"rank": len(basis), "width": width, "share": share, "isotropic": len(basis) / width}]


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
