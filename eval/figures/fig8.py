"""Fig. 8: how much of a text is decided in sight of its other tokens, and what that sight is worth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from textflow.diagnostics.ablation import Ablated, ablation
from textflow.diagnostics.cci import cci
from textflow.diagnostics.sample_callbacks import chosen
from textflow.escapes import Commit, Escape, Soft, Tube
from textflow.metrics import mean_entropy
from textflow.models.generator import Generator
from textflow.noise import Noise, sample_seeds
from textflow.oracle import WORLDS, World, autoregressive, masked
from textflow.samplers import Euler, Relook, Renoise, Sampler
from textflow.schedules import Clock, LogitNormal

from ..oracle.methods import fresh
from .source import TUNED, Source
from .style import MARKS, PAPER, figure, legend

Found = dict[str, Any]
DEPTHS = (2, 4, 8, 16)
WAYS: dict[str, tuple[Sampler, Escape, Clock]] = {
    "ODE": (Euler(), Soft(), TUNED),
    "sampled commit": (Renoise(), Commit("sample"), TUNED),
    "mode commit": (Renoise(), Commit(), TUNED),
    "tube commit": (Renoise(1.0, 0.0), Commit(gate=Tube(0.8)), TUNED),
    "relook": (Relook(0.5), Commit(), LogitNormal(-0.1, 0.1)),
}
PUBLISHED = {"autoregression without its choices": "collapses"}
CAPTION = (
    "Left: CCI [ours], the share of pairs of tokens of which one was chosen in sight of the other, weighted by what"
    " the noise leaves of it; masked readers have (1 - 1/K) L / (L - 1). Right: commit ablation [ours], nats a token"
    " under the true prior with each choice fed, and with its soft expectation fed in its place (same seeds). The"
    " abstract says that removing commitment from autoregressive decoders collapses generation; the measures are not"
    " public, and these are the project's reconstruction. World `chain`, times by LogitNormal(-.2, .4), of relook by"
    " LogitNormal(-.1, .1)."
)


def numbers(n: int, seed: int, runs: Sequence[Source] = ()) -> Found:
    """CCI by depth, and what is lost when choices are fed softly.

    Args:
        n: texts of each.
        seed: of world and samples.
        runs: trained generators: their own escape, and mode commit.
    """
    world, seeds = WORLDS["chain"](fresh(seed)), sample_seeds(seed, 0, n)
    with torch.no_grad():
        rows = [walked(world, name, k, seeds) for name in WAYS for k in DEPTHS]
        rows += [read(world, order, k, seeds) for order in ("masked, random", "masked, dilated") for k in DEPTHS]
        rows.append(read(world, "autoregressive", world.length, seeds))
        found = [of_run(source, k, seeds[:64]) for source in runs for k in (4, 8)]
    truth = world.draw(Noise(sample_seeds(seed + 1, 0, n)))
    return {"rows": rows, "true_nll": float(world.prior.nll(truth).mean()), "runs": found}


def walked(world: World, name: str, steps: int, seeds: list[int]) -> Found:
    """A sampler with its escape, and the same with its choices fed softly."""
    sampler, escape, grid = WAYS[name]
    model = world.generator(sampler=sampler, escape=escape, grid=grid)
    made, soft = (model.sample(seeds, steps, escape=e) for e in (escape, Ablated(escape)))
    return lost(world, made.ids, soft.ids) | {"method": name, "K": steps, "cci": chosen(model, made, Noise(seeds))}


def read(world: World, name: str, calls: int, seeds: list[int]) -> Found:
    """A reader with a categorical trace, and the same with expectations fed."""
    if name == "autoregressive":
        made, soft = (autoregressive(world, Noise(seeds), soft) for soft in (False, True))
    else:
        order: Any = name.split(", ")[1]
        made, soft = (masked(world, calls, Noise(seeds), order, soft) for soft in (False, True))
    share = cci(made.fed, made.ids, [1.0] * len(made.fed), torch.ones_like(made.ids, dtype=torch.bool)).value
    return lost(world, made.ids, soft.ids) | {"method": name, "K": calls, "cci": share}


def lost(world: World, hard: torch.Tensor, soft: torch.Tensor) -> Found:
    """Nats and entropy with and without the choices."""
    mask = torch.ones_like(hard, dtype=torch.bool)
    found = ablation(hard, soft, lambda ids: world.prior.nll(ids).sum(1), mask)
    changed = {"changed": found.relative_change, "h1": found.entropy, "soft_h1": found.soft_entropy}
    return {"nll": found.nll, "soft_nll": found.soft_nll} | changed


def of_run(source: Source, steps: int, seeds: list[int]) -> Found:
    """CCI and entropy of a run with mode commit, and the share of tokens that its choices decide."""
    model: Generator = source.model
    made, soft = (model.sample(seeds, steps, Renoise(), escape=e) for e in (Commit(), Ablated(Commit())))
    h1, soft_h1 = (mean_entropy([row.tolist() for row in part.ids]) for part in (made, soft))
    differ = float((made.ids != soft.ids).double().mean())
    said: Found = {"method": f"{source.name}: mode commit", "K": steps, "changed": differ, "h1": h1, "soft_h1": soft_h1}
    return said | {"cci": chosen(model, made, Noise(seeds))}


def draw(found: Found, path: Path, caption: str = CAPTION) -> None:
    """CCI by depth; nats with and without the choices."""
    with figure(path, caption, 2, 5.4, 4.4) as (share, nats):
        rows, names = found["rows"], list(dict.fromkeys(row["method"] for row in found["rows"] + found["runs"]))
        for i, name in enumerate(names):
            own = [row for row in [*rows, *found["runs"]] if row["method"] == name]
            k, style = [row["K"] for row in own], {"color": f"C{i % 7}", "marker": MARKS[i]}
            size: Found = {"ms": 11, "mfc": "w"} if name == "masked, random" else {"ms": 5}  # both orders coincide
            share.plot(k, [row["cci"] for row in own], "-" if i < 7 else ":", label=name, **style, **size)
        share.set(xlabel="network calls K", ylabel="CCI (share of pairs)", ylim=(-0.03, 1.05))
        share.set_xscale("log", base=2)
        share.set_xticks([2, 4, 8, 16, 32], ["2", "4", "8", "16", "32"])
        at = [row for row in rows if row["K"] in (4, 32)]
        for y, row in enumerate(at):
            colour = f"C{names.index(row['method']) % 7}"
            nats.plot([row["nll"], row["soft_nll"]], [y, y], "-", color=colour)
            nats.plot(row["nll"], y, marker=MARKS[names.index(row["method"])], color=colour)
            nats.plot(row["soft_nll"], y, marker=MARKS[names.index(row["method"])], color=colour, mfc="w")
        nats.axvline(found["true_nll"], **PAPER | {"color": "k"})
        nats.text(found["true_nll"], -0.75, " true text", fontsize=7)
        nats.set_yticks(range(len(at)), [f"{row['method']}, K = {row['K']}" for row in at], fontsize=7.5)
        nats.set(xlabel="NLL, nats a token (filled: choices fed; open: expectations fed)", ylim=(len(at) - 0.4, -1))
        legend(share, side="outside upper left", columns=5)
