"""Fig. 8: share of token pairs decided sequentially (CCI), the benefit of feeding choices back, and DABI by CCI."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

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
from .fig7 import FAMILIES, in_order, main_row
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
    "Left: CCI [ours], the share of token pairs of which one was chosen with the other as input, weighted by the "
    "information that the noise leaves; masked decoders have (1 - 1/K) L / (L - 1). Second panel: commit ablation "
    "[ours], nats per token under the true prior with each choice fed back, and with its soft expectation fed back "
    "instead (same seeds). The abstract says that removing commitment from autoregressive decoders collapses "
    "generation; the measures are not public, and these are the project's reconstruction. Oracle task `chain`, "
    "times by LogitNormal(-.2, .4), for low-noise by LogitNormal(-.1, .1)."
)
MAP_CAPTION = (
    " Third panel: decoders of packages and trained runs, DABI against errors with the latents' own covariance [ours]"
    " with 95 % intervals (a triangle is a lower bound), by the CCI of their own decoding. Numbers as in fig7."
)
LABEL_GAP = 0.055  # least distance of two labels, in heights of the axis
NAME_WIDTH = 0.25  # room of a name, in CCI


def compute(num_texts: int, seed: int, inputs: Sequence[FigureInput] = (), decoders: Sequence[Record] = ()) -> Record:
    """CCI by depth, the loss when expectations are fed instead of choices, and the records of the decoders."""
    task, seeds = ORACLE_TASKS["chain"](fresh_seed(seed)), sample_seeds(seed, 0, num_texts)
    with torch.no_grad():
        rows = [measure_method(task, name, k, seeds) for name in SAMPLING_METHODS for k in DEPTHS]
        rows += [measure_discrete(task, name, k, seeds) for name in MASKED_DECODERS for k in DEPTHS]
        rows.append(measure_discrete(task, "autoregressive", task.length, seeds))
        runs = [measure_run(source, k, seeds[:64]) for source in inputs for k in (4, 8)]
    truth = task.sample(Noise(sample_seeds(seed + 1, 0, num_texts)))
    return {"rows": rows, "true_nll": float(task.prior.nll(truth).mean()), "runs": runs} | {"decoders": list(decoders)}


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
    """CCI by depth; nats with and without the choices; DABI by CCI where decoders were measured."""
    decoders = results.get("decoders", [])
    caption += MAP_CAPTION if decoders else ""
    with figure(path, caption, 3 if decoders else 2, 5.4, 4.4) as (share, nats, *maps):
        names = list(dict.fromkeys(row["method"] for row in results["rows"] + results["runs"]))
        draw_shares(share, results, names)
        draw_ablation(nats, results, names)
        for axis in maps:
            draw_map(axis, decoders)
        shared_legend(share, location="outside upper left", columns=5)


def draw_shares(axis: Any, results: Record, names: Sequence[str]) -> None:
    """CCI by the number of network calls."""
    for i, name in enumerate(names):
        own = [row for row in results["rows"] + results["runs"] if row["method"] == name]
        k, style = [row["K"] for row in own], "-" if i < 7 else ":"
        size: Record = {"ms": 11, "mfc": "w"} if name == "masked, random" else {"ms": 5}  # both orders coincide
        cci_values = [row["cci"] for row in own]
        axis.plot(k, cci_values, style, label=name, color=f"C{i % 7}", marker=MARKERS[i], **size)
    axis.set(xlabel="network calls K", ylabel="CCI (share of pairs)", ylim=(-0.03, 1.05))
    axis.set_xscale("log", base=2)
    axis.set_xticks([2, 4, 8, 16, 32], ["2", "4", "8", "16", "32"])


def draw_ablation(axis: Any, results: Record, names: Sequence[str]) -> None:
    """Nats a token with each choice fed back, and with its expectation."""
    at = [row for row in results["rows"] if row["K"] in (4, 32)]
    for y, row in enumerate(at):
        i = names.index(row["method"])
        axis.plot([row["nll"], row["ablated_nll"]], [y, y], "-", color=f"C{i % 7}")
        axis.plot(row["nll"], y, marker=MARKERS[i], color=f"C{i % 7}")
        axis.plot(row["ablated_nll"], y, marker=MARKERS[i], color=f"C{i % 7}", mfc="w")
    axis.axvline(results["true_nll"], **PUBLISHED_STYLE | {"color": "k"})
    axis.text(results["true_nll"], -0.75, " true text", fontsize=7)
    axis.set_yticks(range(len(at)), [f"{row['method']}, K = {row['K']}" for row in at], fontsize=7.5)
    axis.set(xlabel="NLL, nats per token (filled: choices fed; open: expectations fed)", ylim=(len(at) - 0.4, -1))


def draw_map(axis: Any, decoders: Sequence[Record]) -> None:
    """DABI of decoders by the CCI of their decoding."""
    from matplotlib.ticker import LogLocator

    axis.axhline(1, **PUBLISHED_STYLE)
    axis.set(xlabel="CCI (share of pairs)", ylabel="DABI, covariance control", yscale="log", xlim=(-0.06, 1.3))
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1])
    points = list[tuple[float, float, Record]]()
    for decoder in in_order(decoders):
        row, colour = main_row(decoder), FAMILIES[decoder["family"]]
        value, low, high = (row[f"DABI_covariance{end}"] for end in ("", "_low", "_high"))
        if low <= 0:
            continue  # the error changes nothing, and a logarithm has no place for it
        middle = low if value is None else value
        ends = [[middle - low], [max((high or middle) - middle, 0)]]
        marker = "^" if value is None else "o"
        axis.errorbar([decoder["cci"]], [middle], yerr=ends, fmt=marker, color=colour, ms=5, capsize=2)
        points.append((decoder["cci"], middle, decoder))
    axis.set_ylim(*axis.get_ylim())
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")
    for family in dict.fromkeys(decoder["family"] for *_, decoder in points):
        axis.plot([], [], "o", color=FAMILIES[family], ms=5, label=family)
    axis.legend(fontsize=7, loc="upper right")
    after, room = math.inf, NAME_WIDTH  # the next place on the right, and the room that names between the two need
    for place in sorted({round(x, 1) for x, *_ in points}, reverse=True):
        on_left = place > NAME_WIDTH and after - place < room
        label_points(axis, sorted((p for p in points if round(p[0], 1) == place), key=lambda p: p[1]), on_left)
        after, room = place, NAME_WIDTH * (1 + on_left)


def label_points(axis: Any, points: Sequence[tuple[float, float, Record]], on_left: bool) -> None:
    """Names beside points of one CCI, from below to above, at a distance that keeps them apart."""
    to_axis, last = axis.transScale + axis.transLimits, -1.0
    place: Record = {"xycoords": "axes fraction", "textcoords": "axes fraction", "fontsize": 7, "va": "center"}
    line = {"arrowstyle": "-", "color": "#999999", "lw": 0.5}
    for x, y, decoder in points:
        across, height = to_axis.transform((x, y))
        last = max(height, last + LABEL_GAP)
        colour = FAMILIES[decoder["family"]]
        beside: Record = {"xytext": (across + (-0.04 if on_left else 0.04), last), "ha": "right" if on_left else "left"}
        axis.annotate(decoder["name"], (across, height), **beside, color=colour, arrowprops=line, **place)
