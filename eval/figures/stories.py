"""Stories of a trained run against the number of sampling steps: few-step failure, and what escapes repair."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from textflow.escapes import Commit, Escape, NoEscape
from textflow.metrics import TextScorer
from textflow.models.generation import sampled_by
from textflow.samplers import Ancestral, Euler, Reinject, Sampler

from .source import FigureInput
from .style import MARKERS, Record, figure, shared_legend

DEPTHS = (1, 2, 4, 8, 16, 32)
SAMPLING_METHODS: dict[str, tuple[Sampler, Escape]] = {
    "ODE": (Euler(), NoEscape()),
    "re-injection 1.5": (Reinject(1.5, "marginal_preserving"), NoEscape()),
    "ancestral noise": (Ancestral(), NoEscape()),
    "mode commit": (Ancestral(), Commit()),
    "sampled commit": (Ancestral(), Commit("sample")),
}
MEASURES = {"stories/valid": "texts without a mistake", "stories/bound": "agreements that hold"}
CAPTION = (
    "Stories of a trained run by the number of sampling steps K. Left: texts of the language, without a mistake. Right:"
    " agreements that hold (a name, thing or place meant again, a pronoun) in texts that fit an order of the grammar."
    " Bars: 95 % intervals over texts (Wilson)."
)


def compute(num_samples: int, seed: int, inputs: Sequence[FigureInput], scorer: TextScorer) -> Record:
    """Rows for each sampler and number of steps; the scorer is that of the protocol stories."""
    points = product(inputs, SAMPLING_METHODS, DEPTHS)
    return {"rows": [evaluate_method(*point, num_samples, seed, scorer) for point in points]}


def evaluate_method(source: FigureInput, name: str, steps: int, n: int, seed: int, scorer: TextScorer) -> Record:
    """Record of one sampler; the run's own sampler is restored afterwards."""
    with sampled_by(source.model, *SAMPLING_METHODS[name]):
        texts = source.model.generate(n, num_steps=steps, seed=seed)
    values = {
        measure: list(interval) for measure, interval in scorer.text_metrics(texts).items() if measure in MEASURES
    }
    return {"source": source.name, "method": name, "K": steps, "n": n, "text": texts[0]} | values


def draw(results: Record, path: Path, caption: str = CAPTION) -> None:
    """Shares against the number of steps, a panel for each measure."""
    with figure(path, caption, len(MEASURES), 4.4, 3.4) as axes:
        for axis, (measure, title) in zip(axes, MEASURES.items(), strict=True):
            for i, name in enumerate(SAMPLING_METHODS):
                rows = [r for r in results["rows"] if r["method"] == name and measure in r]
                parts = [[100 * part for part in r[measure]] for r in rows]
                bars = [[y - low for y, low, _ in parts], [high - y for y, _, high in parts]]
                steps, shares = [r["K"] for r in rows], [y for y, _, _ in parts]
                axis.errorbar(steps, shares, bars, marker=MARKERS[i], color=f"C{i}", capsize=2, label=name)
            axis.set(xlabel="sampling steps K", ylabel="percent", title=title, xscale="log", ylim=(0, 100))
            axis.set_xticks(DEPTHS, [str(k) for k in DEPTHS])
            axis.set_xticks([], minor=True)
        shared_legend(*axes, location="outside upper left", columns=3)
