"""Re-injection and commitment on a trained run, under the local scorer."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from textflow.diagnostics import SoftFeedback
from textflow.escapes import Commit, ConfidenceSchedule, Escape, LogitAdjustment, NoEscape
from textflow.metrics import Scorer
from textflow.models.generation import sampled_by
from textflow.samplers import Ancestral, Euler, Reinject, Sampler

from ..measure import evaluate
from .source import FigureInput
from .style import MARKERS, Record, figure, shared_legend

DEPTHS = (4, 8)
SAMPLING_METHODS: dict[str, tuple[Sampler, Escape]] = {
    "ODE": (Euler(), NoEscape()),
    "re-injection .5": (Reinject(0.5), NoEscape()),
    "re-injection 1.5": (Reinject(1.5), NoEscape()),
    "mode commit": (Ancestral(), Commit()),
    "mode commit, means fed": (Ancestral(), SoftFeedback(Commit())),
    "mode commit, logit-adjusted .2": (Ancestral(), LogitAdjustment(Commit())),
    "mode commit, logit-adjusted .3": (Ancestral(), LogitAdjustment(Commit(), 0.3)),
    "sampled commit": (Ancestral(), Commit("sample")),
    "commit by a schedule": (Ancestral(), Commit(gate=ConfidenceSchedule())),
}
CAPTION = (
    "Samples of a trained run at 4 and 8 steps under the local scorer, perplexity against entropy: the lower right is"
    " better; a lower perplexity at lower entropy is not. Means fed: the same sampler with the mean in place of each"
    " choice [ours]. Bars: 95 % intervals over samples. A local scorer separates text from word salad; it does not rank"
    " good texts. The paper's numbers come from another model and scorer and are not comparable."
)


def compute(num_samples: int, seed: int, inputs: Sequence[FigureInput], scorer: Scorer) -> Record:
    """Rows for each sampler and number of steps."""
    points = product(inputs, SAMPLING_METHODS, DEPTHS)
    return {"rows": [evaluate_method(*point, num_samples, seed, scorer) for point in points]}


def evaluate_method(source: FigureInput, name: str, steps: int, n: int, seed: int, scorer: Scorer) -> Record:
    """Record of one sampler; the run's own sampler is restored afterwards."""
    with sampled_by(source.model, *SAMPLING_METHODS[name]):
        (record,) = evaluate(source.model, scorer, [steps], n, seed)
    return record | {"source": source.name, "method": name, "K": steps}


def draw(results: Record, path: Path, caption: str = CAPTION) -> None:
    """Perplexity against entropy, a panel for each number of steps."""
    with figure(path, caption, len(DEPTHS), 4.6, 3.9) as axes:
        for axis, steps in zip(axes, DEPTHS, strict=True):
            for i, name in enumerate(SAMPLING_METHODS):
                rows = [r for r in results["rows"] if (r["method"], r["K"]) == (name, steps)]
                x, y = [r["entropy"] for r in rows], [r["perplexity"] for r in rows]
                intervals = [r["intervals"]["perplexity"] for r in rows]
                below = [v - low for v, (low, _) in zip(y, intervals, strict=True)]
                above = [high - v for v, (_, high) in zip(y, intervals, strict=True)]
                axis.errorbar(x, y, yerr=[below, above], fmt=MARKERS[i], color=f"C{i}", capsize=2, label=name)
            axis.set(xlabel="entropy (nats, scorer's tokens)", ylabel="perplexity", title=f"K = {steps}", yscale="log")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("{x:g}")
        shared_legend(*axes, location="outside upper left", columns=4)
