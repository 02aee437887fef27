"""Rounds: every student beside its teacher at the same number of steps, under three samplers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textflow.diagnostics.base import look
from textflow.diagnostics.dabi import dabi
from textflow.diagnostics.residual import terminal
from textflow.diagnostics.watch import ratio
from textflow.diagnostics.watch_samples import chosen, stiffness_of
from textflow.escapes import Commit, Escape, Soft
from textflow.generator import Generator
from textflow.metrics import Scorer
from textflow.noise import Noise, sample_seeds
from textflow.samplers import Euler, Reinject, Renoise, Sampler
from textflow.types import Batch

from .run import Record, evaluate

SAMPLERS: dict[str, tuple[Escape, Sampler]] = {
    "ODE": (Soft(), Euler()),
    "re-injection": (Soft(), Reinject()),
    "mode commit": (Commit(), Renoise()),
}
PUBLISHED = "15-38% (2606.30705: how much lower the perplexity of re-injection is than that of the ODE)"


def rounds(folder: Path, scorer: Scorer, batch: Batch, n: int = 128, seed: int = 0) -> Iterator[Record]:
    """A record for every round, student or teacher, and sampler.

    Args:
        folder: of a distillation.
        scorer: the language model that judges.
        batch: held-out text, for DABI.
        n: samples of each record.
        seed: of the samples.
    """
    from textflow.checkpoint import load

    said = json.loads((folder / "rounds.json").read_text())
    teacher = load(said["teacher"])
    for made in said["rounds"]:
        for who, model in (("teacher", teacher), ("student", load(folder / made["run"]))):
            if not isinstance(model, Generator):
                raise ValueError(f"{folder} has a round whose {who} is a {type(model).__name__}, not a Generator")
            yield from rows(who, model, made["steps"], scorer, batch, n, seed)


def rows(who: str, model: Generator, steps: int, scorer: Scorer, batch: Batch, n: int, seed: int) -> Iterator[Record]:
    """The samplers of one model at one number of steps; DABI is the net's own, the others are the sampler's."""
    own = structured(model, steps, batch, seed)
    for name, (model.escape, model.sampler) in SAMPLERS.items():
        (record,) = evaluate(model, scorer, [steps], n, seed)
        seeds = sample_seeds(seed, 0, 32)
        cci = chosen(model, model.sample(seeds, steps), Noise(seeds))
        stiff = float(stiffness_of(model, seeds[:2], steps).peak.mean())
        yield record | {"who": who, "sampling": name, "cci": cci, "stiffness": stiff} | own


def structured(model: Generator, steps: int, batch: Batch, seed: int) -> dict[str, float]:
    """DABI at the last time before the text; a single step has none."""
    if steps < 2:
        return {}
    seen, noise = look(model, batch), Noise(sample_seeds(seed, 0, len(batch.ids)))
    met = terminal(seen.denoise, seen.path, seen.x, seen.mask, seen.times(steps)[-2], noise)
    found = dabi(seen.read, seen.x, met.guess, seen.mask, noise, draws=4)
    return ratio("dabi_ce", found.loss) | ratio("dabi_flip", found.flip)


def gaps(records: list[Record]) -> list[dict[str, Any]]:
    """By how much re-injection and commitment lower the ODE's perplexity, and the entropy that they lose."""
    cells = {(r["steps"], r["who"], r["sampling"]): r for r in records if r["perplexity"]}
    found = []
    for (steps, who, name), record in cells.items():
        base = cells.get((steps, who, "ODE"))
        if name != "ODE" and base:
            gap = 1 - record["perplexity"] / base["perplexity"]
            found.append({"K": steps, "who": who, "ODE to": name, "gap": gap} | lost(record, base))
    return found


def lost(record: Record, base: Record) -> dict[str, float]:
    """Change of entropy, nats."""
    return {"entropy": record["entropy"] - base["entropy"]}
