"""Fig. 8: share of token pairs decided sequentially (CCI), and the benefit of feeding choices back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from textflow.diagnostics.ablation import SoftFeedback, ablation
from textflow.diagnostics.cci import cci
from textflow.diagnostics.sample_callbacks import generator_cci
from textflow.escapes import Commit, Escape, LowConfidence, NoEscape
from textflow.metrics import mean_entropy
from textflow.models.generator import Generator
from textflow.noise import Noise, sample_seeds
from textflow.oracle import ORACLE_TASKS, OracleTask, decode_autoregressive, decode_masked
from textflow.samplers import Ancestral, Euler, LowNoiseResample, Sampler
from textflow.schedules import LogitNormal, TimeSchedule

from ..oracle.methods import fresh_seed
from .source import TUNED_GRID, FigureInput
from .style import MARKERS, PUBLISHED_STYLE, figure, shared_legend

Found = dict[str, Any]
DEPTHS = (2, 4, 8, 16)
SAMPLING_METHODS: dict[str, tuple[Sampler, Escape, TimeSchedule]] = {
    "ODE": (Euler(), NoEscape(), TUNED_GRID),
    "sampled commit": (Ancestral(), Commit("sample"), TUNED_GRID),
    "mode commit": (Ancestral(), Commit(), TUNED_GRID),
    "tube commit": (Ancestral(1.0, 0.0), Commit(gate=LowConfidence(0.8)), TUNED_GRID),
    "low-noise": (LowNoiseResample(0.5), Commit(), LogitNormal(-0.1, 0.1)),
}
PUBLISHED = {"autoregression without its choices": "collapses"}
CAPTION = (
    "Left: CCI [ours], the share of pairs of tokens of which one was chosen in sight of the other, weighted by what"
    " the noise leaves of it; masked readers have (1 - 1/K) L / (L - 1). Right: commit ablation [ours], nats a token"
    " under the true prior with each choice fed, and with its soft expectation fed in its place (same seeds). The"
    " abstract says that removing commitment from autoregressive decoders collapses generation; the measures are not"
    " public, and these are the project's reconstruction. World `chain`, times by LogitNormal(-.2, .4), of low-noise by"
    " LogitNormal(-.1, .1)."
)


def compute(num_texts: int, seed: int, inputs: Sequence[FigureInput] = ()) -> Found:
    """CCI by depth, and the loss when expectations are fed instead of choices.

    Args:
        num_texts: number of texts per setting.
        seed: random seed for the oracle task and samples.
        inputs: trained generators, sampled with their own escape and with mode commit.
    """
    world, seeds = ORACLE_TASKS["chain"](fresh_seed(seed)), sample_seeds(seed, 0, num_texts)
    with torch.no_grad():
        rows = [measure_method(world, name, k, seeds) for name in SAMPLING_METHODS for k in DEPTHS]
        rows += [
            measure_discrete(world, order, k, seeds) for order in ("masked, random", "masked, dilated") for k in DEPTHS
        ]
        rows.append(measure_discrete(world, "autoregressive", world.length, seeds))
        result = [measure_run(source, k, seeds[:64]) for source in inputs for k in (4, 8)]
    truth = world.sample(Noise(sample_seeds(seed + 1, 0, num_texts)))
    return {"rows": rows, "true_nll": float(world.prior.nll(truth).mean()), "runs": result}


def measure_method(task: OracleTask, name: str, steps: int, seeds: list[int]) -> Found:
    """Sampler with its escape, and the same sampler with expectations fed."""
    sampler, escape, grid = SAMPLING_METHODS[name]
    model = task.make_generator(sampler=sampler, escape=escape, sampling_schedule=grid)
    made, soft = (model.sample(seeds, steps, escape=e) for e in (escape, SoftFeedback(escape)))
    return measure_ablation(task, made.ids, soft.ids) | {
        "method": name,
        "K": steps,
        "cci": generator_cci(model, made, Noise(seeds)),
    }


def measure_discrete(task: OracleTask, name: str, calls: int, seeds: list[int]) -> Found:
    """Discrete decoder with a categorical trace, and the same decoder with expectations fed."""
    if name == "autoregressive":
        made, soft = (decode_autoregressive(task, Noise(seeds), soft) for soft in (False, True))
    else:
        order: Any = name.split(", ")[1]
        made, soft = (decode_masked(task, calls, Noise(seeds), order, soft) for soft in (False, True))
    share = cci(made.fed_ids, made.ids, [1.0] * len(made.fed_ids), torch.ones_like(made.ids, dtype=torch.bool)).value
    return measure_ablation(task, made.ids, soft.ids) | {"method": name, "K": calls, "cci": share}


def measure_ablation(task: OracleTask, hard: torch.Tensor, soft: torch.Tensor) -> Found:
    """Nats and entropy with and without the choices."""
    mask = torch.ones_like(hard, dtype=torch.bool)
    result = ablation(hard, soft, lambda ids: task.prior.nll(ids).sum(1), mask)
    changed = {"changed": result.relative_change, "h1": result.entropy, "ablated_h1": result.soft_entropy}
    return {"nll": result.nll, "ablated_nll": result.soft_nll} | changed


def measure_run(source: FigureInput, steps: int, seeds: list[int]) -> Found:
    """CCI and entropy of a run with mode commit, and the share of tokens that its choices decide."""
    model: Generator = source.model
    made, soft = (model.sample(seeds, steps, Ancestral(), escape=e) for e in (Commit(), SoftFeedback(Commit())))
    h1, soft_h1 = (mean_entropy([row.tolist() for row in part.ids]) for part in (made, soft))
    differ = float((made.ids != soft.ids).double().mean())
    record: Found = {
        "method": f"{source.name}: mode commit",
        "K": steps,
        "changed": differ,
        "h1": h1,
        "ablated_h1": soft_h1,
    }
    return record | {"cci": generator_cci(model, made, Noise(seeds))}


def draw(results: Found, path: Path, caption: str = CAPTION) -> None:
    """CCI by depth; nats with and without the choices."""
    with figure(path, caption, 2, 5.4, 4.4) as (share, nats):
        rows, names = results["rows"], list(dict.fromkeys(row["method"] for row in results["rows"] + results["runs"]))
        for i, name in enumerate(names):
            own = [row for row in [*rows, *results["runs"]] if row["method"] == name]
            k, style = [row["K"] for row in own], {"color": f"C{i % 7}", "marker": MARKERS[i]}
            size: Found = {"ms": 11, "mfc": "w"} if name == "masked, random" else {"ms": 5}  # both orders coincide
            share.plot(k, [row["cci"] for row in own], "-" if i < 7 else ":", label=name, **style, **size)
        share.set(xlabel="network calls K", ylabel="CCI (share of pairs)", ylim=(-0.03, 1.05))
        share.set_xscale("log", base=2)
        share.set_xticks([2, 4, 8, 16, 32], ["2", "4", "8", "16", "32"])
        at = [row for row in rows if row["K"] in (4, 32)]
        for y, row in enumerate(at):
            colour = f"C{names.index(row['method']) % 7}"
            nats.plot([row["nll"], row["ablated_nll"]], [y, y], "-", color=colour)
            nats.plot(row["nll"], y, marker=MARKERS[names.index(row["method"])], color=colour)
            nats.plot(row["ablated_nll"], y, marker=MARKERS[names.index(row["method"])], color=colour, mfc="w")
        nats.axvline(results["true_nll"], **PUBLISHED_STYLE | {"color": "k"})
        nats.text(results["true_nll"], -0.75, " true text", fontsize=7)
        nats.set_yticks(range(len(at)), [f"{row['method']}, K = {row['K']}" for row in at], fontsize=7.5)
        nats.set(xlabel="NLL, nats a token (filled: choices fed; open: expectations fed)", ylim=(len(at) - 0.4, -1))
        shared_legend(share, location="outside upper left", columns=5)
