"""Stories of a trained run against the number of network evaluations: few-step failure, and what repairs it."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from textflow.diagnostics.grouping import GroupCost, fit_groups
from textflow.diagnostics.story_examples import MAJORITY_COMMIT
from textflow.escapes import Commit, Escape, NoEscape
from textflow.metrics import TextScorer
from textflow.models.generation import drawn_in_groups, sampled_by
from textflow.samplers import Ancestral, Euler, Reinject, Sampler

from .source import FigureInput
from .style import MARKERS, Record, figure, shared_legend

DEPTHS = (1, 2, 4, 8, 16, 32)
SAMPLING_METHODS: dict[str, tuple[Sampler, Escape]] = {
    "ODE": (Euler(), NoEscape()),
    "re-injection": (Ancestral(0.2), NoEscape()),
    "re-injection of ELF": (Reinject(1.5), NoEscape()),
    "ancestral noise": (Ancestral(), NoEscape()),
    "mode commit": (Ancestral(), Commit()),
    "sampled commit": (Ancestral(), Commit("sample")),
    "majority commit": MAJORITY_COMMIT,
}
GROUPS = "fitted groups"  # as many as evaluations, each of one step, given the tokens of those before
NUM_FITTED = 64  # texts that groups are fitted on
MEASURES = {"stories/valid": "texts without a mistake", "stories/bound": "agreements that hold"}
CAPTION = (
    "Stories of a trained run by the number of sampling steps K. Left: texts of the language, without a mistake. Right:"
    " agreements that hold (a name, thing or place meant again, a pronoun) in texts that fit an order of the grammar."
    " Re-injection: old and new noise correlate by 0.2; of ELF: strength 1.5 by its released rule."
    " Fitted groups: K groups of positions, drawn one after another by one step each [ours]."
    " Majority commit: tokens of probability .5 or more are chosen, and their noise is renewed [ours]."
    " Bars: 95 % intervals over texts (Wilson)."
)


def compute(num_samples: int, seed: int, inputs: Sequence[FigureInput], scorer: TextScorer) -> Record:
    """Rows for each sampler and number of steps; the scorer is that of the protocol stories."""
    points = product(inputs, SAMPLING_METHODS, DEPTHS)
    rows = [evaluate_method(*point, num_samples, seed, scorer) for point in points]
    depths = [
        (source, steps) for source, steps in product(inputs, DEPTHS) if steps <= source.model.text_format.seq_length
    ]
    return {"rows": rows + [evaluate_groups(*point, num_samples, seed, scorer) for point in depths]}


def evaluate_method(source: FigureInput, name: str, steps: int, n: int, seed: int, scorer: TextScorer) -> Record:
    """Record of one sampler; the run's own sampler is restored afterwards."""
    with sampled_by(source.model, *SAMPLING_METHODS[name]):
        texts = source.model.generate(n, num_steps=steps, seed=seed)
    return score_texts(source, name, steps, texts, scorer)


def evaluate_groups(source: FigureInput, steps: int, n: int, seed: int, scorer: TextScorer) -> Record:
    """Record of as many fitted groups, with their -log p in nats per text; without texts where the network takes one
    time per row."""
    try:
        cost = GroupCost(source.model, source.batches[0].ids[:NUM_FITTED], seed)
        groups = fit_groups(cost, steps, seed, restarts=3 if steps <= 4 else 1)
    except ValueError as error:
        return {"source": source.name, "method": GROUPS, "K": steps, "refused": str(error)}
    with drawn_in_groups(source.model, groups):
        texts = source.model.generate(n, num_steps=1, seed=seed)
    return score_texts(source, GROUPS, steps, texts, scorer) | {"groups": groups, "nats": cost(groups)}


def score_texts(source: FigureInput, name: str, steps: int, texts: list[str], scorer: TextScorer) -> Record:
    """Record of the texts of one sampler."""
    values = {
        measure: list(interval) for measure, interval in scorer.text_metrics(texts).items() if measure in MEASURES
    }
    return {"source": source.name, "method": name, "K": steps, "n": len(texts), "text": texts[0]} | values


def draw(results: Record, path: Path, caption: str = CAPTION) -> None:
    """Shares against the number of steps, a panel for each measure."""
    with figure(path, caption, len(MEASURES), 4.4, 3.4) as axes:
        for axis, (measure, title) in zip(axes, MEASURES.items(), strict=True):
            for i, name in enumerate([*SAMPLING_METHODS, GROUPS]):
                if not (rows := [r for r in results["rows"] if r["method"] == name and measure in r]):
                    continue
                parts = [[100 * part for part in r[measure]] for r in rows]
                bars = [[y - low for y, low, _ in parts], [high - y for y, _, high in parts]]
                steps, shares = [r["K"] for r in rows], [y for y, _, _ in parts]
                line = {"marker": MARKERS[i], "color": f"C{i}", "linestyle": "--" if name == GROUPS else "-"}
                axis.errorbar(steps, shares, bars, capsize=2, label=name, **line)
            axis.set(xlabel="network evaluations K", ylabel="percent", title=title, xscale="log", ylim=(0, 100))
            axis.set_xticks(DEPTHS, [str(k) for k in DEPTHS])
            axis.set_xticks([], minor=True)
        shared_legend(*axes, location="outside upper left", columns=3)
