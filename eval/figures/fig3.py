"""Fig. 3: flips of one step from noised text, flips of the sampler's own states, and the Bayes error."""

from collections.abc import Sequence
from pathlib import Path

import torch

from textflow.diagnostics.bootstrap import concat_batches
from textflow.diagnostics.residual import stream_seeds
from textflow.diagnostics.rollin import cumulative_flips, rollin_flips, rollin_rates
from textflow.noise import Noise, sample_seeds
from textflow.oracle import ORACLE_TASKS
from textflow.oracle.excess_kl import sample_statistics
from textflow.samplers import Euler

from ..oracle.methods import fresh_seed
from .source import FigureInput, fresh_oracle_input
from .style import MARKERS, PUBLISHED_STYLE, Record, figure, shared_legend

DEPTHS = (2, 4, 8, 16)
PUBLISHED = {"flips of the sampler's own states, about": 0.9}
CAPTION = (
    "Left: one prediction from real text noised to t, 16 steps of ELF's grid (for a run its own). Middle: real text"
    " noised to the first interior time of K steps, then sampled by the ODE (cumulative flips), beside the Bayes floor"
    " 1 - mean max p(token | z) at that time: nearly all of these tokens were lost in the noise before any step. The"
    " floor of a run uses its own p(token | z), which need not be calibrated. Right: coherence, as the share of"
    " transitions of the ODE's own samples that occur in the oracle task only by smoothing. The paper reports about"
    " 90 % for the middle panel; its figure is not public, and number and layout are the project's reconstruction"
    " [rebuilt]."
)


def compute(num_texts: int, seed: int, inputs: Sequence[FigureInput] = ()) -> Record:
    """Flips by time and by depth for the oracle task `text` and for runs, and the task's own samples."""
    sources = [fresh_oracle_input("text", num_texts, seed), *inputs]
    times = {source.name: flips_by_time(source, 16) for source in sources}
    depths = {source.name: [flips_by_steps(source, k) for k in DEPTHS] for source in sources}
    return {"times": times, "depths": depths, "coherence": measure_coherence(sources[0], num_texts, seed)}


def flips_by_time(source: FigureInput, steps: int) -> list[Record]:
    """Flips, errors of argmax gamma and the Bayes error at the interior times of a grid."""
    grid, batches = source.model.sampling_schedule.grid(steps), []
    for inputs, noise in source.diagnostic_inputs():
        real = (inputs.denoise, inputs.decode, inputs.path, inputs.x, inputs.mask, grid)
        batches.append(rollin_flips(*real, noise, inputs.token_logits))
    by_time = zip(zip(*batches, strict=True), grid[1:-1], strict=True)
    rates = [rollin_rates(concat_batches(flips), t) for flips, t in by_time]
    errors = [{"flip": r.flip_rate, "token_error": r.token_error, "bayes_error": r.bayes_error} for r in rates]
    return [{"t": r.t} | e | {"positions": r.size.num_positions} for r, e in zip(rates, errors, strict=True)]


def flips_by_steps(source: FigureInput, steps: int) -> Record:
    """Cumulative ODE flips from the first interior time, the Bayes error there, and one-step flips at the last time."""
    grid, one_step, own_states = source.model.sampling_schedule.grid(steps), [], []
    ends = [grid[1], grid[-2]]
    for inputs, noise in source.diagnostic_inputs():
        seeds, real = stream_seeds(noise), (inputs.decode, inputs.path, inputs.x, inputs.mask)
        around = [grid[0], *ends, grid[-1]]
        one_step.append(rollin_flips(inputs.denoise, *real, around, Noise(seeds), inputs.token_logits))
        flips = cumulative_flips(inputs.denoise, Euler(), *real, grid, Noise(seeds), inputs.token_logits)
        own_states.append(flips[-1])
    by_time = zip(zip(*one_step, strict=True), ends, strict=True)
    first, last = (rollin_rates(concat_batches(flips), t) for flips, t in by_time)
    cumulative = rollin_rates(concat_batches(own_states), 1.0).flip_rate
    rollin = {"bayes_error": first.bayes_error, "one_step": first.flip_rate, "cumulative": cumulative}
    return {"K": steps, "t": grid[1], "last": grid[-2], "terminal": last.flip_rate} | rollin


def measure_coherence(source: FigureInput, n: int, seed: int) -> list[Record]:
    """NLL, entropy and illegal transitions of ODE samples, and of true samples at depth 0."""
    task = ORACLE_TASKS["text"](fresh_seed(seed))
    samples = [(0, torch.cat([batch.ids for batch in source.batches]))]
    samples += [(k, source.model.sample(sample_seeds(seed, 0, n), k).ids) for k in (1, *DEPTHS, 32)]
    weights = torch.ones(n, 1, dtype=torch.float64)
    rows = [(k, sample_statistics(task.prior, ids, weights)[:, 0].tolist()) for k, ids in samples]
    return [{"K": k, "nll": r[0], "h1": r[1], "illegal": r[4]} for k, r in rows]


def draw(results: Record, path: Path, caption: str = CAPTION) -> None:
    """Flips by time, flips by steps, and illegal transitions."""
    with figure(path, caption, 3, 4.0, 3.7) as (time, depth, illegal):
        for i, (name, rows) in enumerate(results["times"].items()):
            t, colour = [r["t"] for r in rows], f"C{i}"
            time.plot(t, [r["flip"] for r in rows], "-", marker=MARKERS[i], ms=4, color=colour, label=f"{name}: flips")
            time.plot(t, [r["bayes_error"] for r in rows], ":", color=colour, label=f"{name}: Bayes floor")
            rows = results["depths"][name]
            k = [r["K"] for r in rows]
            depth.plot(k, [r["cumulative"] for r in rows], "-", marker=MARKERS[i], color=colour, label=f"{name}: flips")
            depth.plot(k, [r["bayes_error"] for r in rows], ":", color=colour, label=f"{name}: Bayes floor")
        depth.axhline(0.9, **PUBLISHED_STYLE, label="published: about 90 %")
        time.set(xlabel="t (0 noise, 1 text)", ylabel="share of tokens flipped", title="one step", ylim=(0, 1))
        depth.set(xlabel="steps K", ylabel="share of tokens flipped", title="the ODE's own states", ylim=(0, 1))
        own = [r for r in results["coherence"] if r["K"]]
        k = [r["K"] for r in own]
        for repeats, fill, label in ((False, "C0", "samples of the ODE"), (True, "w", "samples of one token (H1 = 0)")):
            group = [r for r in own if (r["h1"] < 0.1) == repeats]
            shares = [r["illegal"] for r in group]
            illegal.plot([r["K"] for r in group], shares, "-v", color="C0", mfc=fill, label=label, clip_on=False)
        illegal.axhline(results["coherence"][0]["illegal"], color="C2", linestyle="-.", label="true texts")
        illegal.set(xlabel="steps K", ylabel="share of transitions", title="illegal transitions of samples")
        illegal.set_ylim(bottom=0)
        for axis, ticks in ((depth, DEPTHS), (illegal, k)):
            axis.set_xscale("log", base=2)
            axis.set_xticks(ticks, [str(x) for x in ticks])
        shared_legend(time, depth, illegal, location="outside upper left", columns=6)
