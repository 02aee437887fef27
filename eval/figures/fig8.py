"""Fig. 8: share of token pairs decided sequentially (CCI), and the benefit of feeding choices back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from textflow.diagnostics.ablation import SoftFeedback, ablation
from textflow.diagnostics.cci import cci
from textflow.diagnostics.sample_callbacks import generator_cci
from textflow.escapes import Commit, Escape, LowConfidence, NoEscape
from textflow.metrics import mean_entropy
from textflow.noise import Noise, sample_seeds
from textflow.oracle import ORACLE_TASKS, OracleTask, decode_autoregressive, decode_masked
from textflow.samplers import Ancestral, Euler, LowNoiseResample, Sampler
from textflow.schedules import LogitNormal, TimeSchedule

from ..oracle.methods import fresh_seed
from .source import TUNED_GRID, FigureInput
from .style import MARKERS, PUBLISHED_STYLE, Record, figure, shared_legend

DEPTHS = (2, 4, 8, 16)
SAMPLING_METHODS: dict[str, tuple[Sampler, Escape, TimeSchedule]] = {
    "ODE": (Euler(), NoEscape(), TUNED_GRID),
    "sampled commit": (Ancestral(), Commit("sample"), TUNED_GRID),
    "mode commit": (Ancestral(), Commit(), TUNED_GRID),
    "tube commit": (Ancestral(1.0, 0.0), Commit(gate=LowConfidence(0.8)), TUNED_GRID),
    "low-noise": (LowNoiseResample(0.5), Commit(), LogitNormal(-0.1, 0.1)),
}
MASKED_DECODERS: dict[str, Literal["random", "dilated"]] = {"masked, random": "random", "masked, dilated": "dilated"}
PUBLISHED = {"autoregression without its choices": "collapses"}
CAPTION = (
    "Left: CCI [ours], the share of token pairs of which one was chosen with the other as input, weighted by the"
    " information that the noise leaves; masked decoders have (1 - 1/K) L / (L - 1). Right: commit ablation [ours],"
    " nats a token under the true prior with each choice fed back, and with its soft expectation fed back instead (same"
    " seeds). The abstract says that removing commitment from autoregressive decoders collapses generation; the"
    " measures are not public, and these are the project's reconstruction. Oracle task `chain`, times by"
    " LogitNormal(-.2, .4), for low-noise by LogitNormal(-.1, .1)."
)


def compute(num_texts: int, seed: int, inputs: Sequence[FigureInput] = ()) -> Record:
    """CCI by depth, and the loss when expectations are fed instead of choices."""
    task, seeds = ORACLE_TASKS["chain"](fresh_seed(seed)), sample_seeds(seed, 0, num_texts)
    with torch.no_grad():
        rows = [measure_method(task, name, k, seeds) for name in SAMPLING_METHODS for k in DEPTHS]
        rows += [measure_discrete(task, name, k, seeds) for name in MASKED_DECODERS for k in DEPTHS]
        rows.append(measure_discrete(task, "autoregressive", task.length, seeds))
        runs = [measure_run(source, k, seeds[:64]) for source in inputs for k in (4, 8)]
    truth = task.sample(Noise(sample_seeds(seed + 1, 0, num_texts)))
    return {"rows": rows, "true_nll": float(task.prior.nll(truth).mean()), "runs": runs}


def measure_method(task: OracleTask, name: str, steps: int, seeds: list[int]) -> Record:
    """Sampler with its escape, and the same sampler with expectations fed."""
    sampler, escape, grid = SAMPLING_METHODS[name]
    model = task.make_generator(sampler=sampler, escape=escape, sampling_schedule=grid)
    hard, soft = (model.sample(seeds, steps, escape=e) for e in (escape, SoftFeedback(escape)))
    record = measure_ablation(task, hard.ids, soft.ids)
    return record | {"method": name, "K": steps, "cci": generator_cci(model, hard, Noise(seeds))}


def measure_discrete(task: OracleTask, name: str, calls: int, seeds: list[int]) -> Record:
    """Discrete decoder with a categorical trace, and the same decoder with expectations fed."""
    if name == "autoregressive":
        hard, soft = (decode_autoregressive(task, Noise(seeds), soft) for soft in (False, True))
    else:
        hard, soft = (decode_masked(task, calls, Noise(seeds), MASKED_DECODERS[name], soft) for soft in (False, True))
    share = cci(hard.fed_ids, hard.ids, [1.0] * len(hard.fed_ids), torch.ones_like(hard.ids, dtype=torch.bool)).value
    return measure_ablation(task, hard.ids, soft.ids) | {"method": name, "K": calls, "cci": share}


def measure_ablation(task: OracleTask, hard: torch.Tensor, soft: torch.Tensor) -> Record:
    """Nats and entropy with and without the choices."""
    mask = torch.ones_like(hard, dtype=torch.bool)
    result = ablation(hard, soft, lambda ids: task.prior.nll(ids).sum(1), mask)
    changed = {"changed": result.relative_change, "h1": result.entropy, "ablated_h1": result.soft_entropy}
    return {"nll": result.nll, "ablated_nll": result.soft_nll} | changed


def measure_run(source: FigureInput, steps: int, seeds: list[int]) -> Record:
    """CCI and entropy of a run with mode commit, and the share of tokens that its choices decide."""
    model = source.model
    hard, soft = (model.sample(seeds, steps, Ancestral(), escape=e) for e in (Commit(), SoftFeedback(Commit())))
    h1, soft_h1 = (mean_entropy([row.tolist() for row in samples.ids]) for samples in (hard, soft))
    changed = float((hard.ids != soft.ids).double().mean())
    record = {"method": f"{source.name}: mode commit", "K": steps, "changed": changed, "h1": h1, "ablated_h1": soft_h1}
    return record | {"cci": generator_cci(model, hard, Noise(seeds))}


def draw(results: Record, path: Path, caption: str = CAPTION) -> None:
    """CCI by depth; nats with and without the choices."""
    with figure(path, caption, 2, 5.4, 4.4) as (share, nats):
        rows, names = results["rows"], list(dict.fromkeys(row["method"] for row in results["rows"] + results["runs"]))
        for i, name in enumerate(names):
            own = [row for row in [*rows, *results["runs"]] if row["method"] == name]
            k, style = [row["K"] for row in own], "-" if i < 7 else ":"
            size: Record = {"ms": 11, "mfc": "w"} if name == "masked, random" else {"ms": 5}  # both orders coincide
            cci_values = [row["cci"] for row in own]
            share.plot(k, cci_values, style, label=name, color=f"C{i % 7}", marker=MARKERS[i], **size)
        share.set(xlabel="network calls K", ylabel="CCI (share of pairs)", ylim=(-0.03, 1.05))
        share.set_xscale("log", base=2)
        share.set_xticks([2, 4, 8, 16, 32], ["2", "4", "8", "16", "32"])
        at = [row for row in rows if row["K"] in (4, 32)]
        for y, row in enumerate(at):
            i = names.index(row["method"])
            nats.plot([row["nll"], row["ablated_nll"]], [y, y], "-", color=f"C{i % 7}")
            nats.plot(row["nll"], y, marker=MARKERS[i], color=f"C{i % 7}")
            nats.plot(row["ablated_nll"], y, marker=MARKERS[i], color=f"C{i % 7}", mfc="w")
        nats.axvline(results["true_nll"], **PUBLISHED_STYLE | {"color": "k"})
        nats.text(results["true_nll"], -0.75, " true text", fontsize=7)
        nats.set_yticks(range(len(at)), [f"{row['method']}, K = {row['K']}" for row in at], fontsize=7.5)
        nats.set(xlabel="NLL, nats a token (filled: choices fed; open: expectations fed)", ylim=(len(at) - 0.4, -1))
        shared_legend(share, location="outside upper left", columns=5)
