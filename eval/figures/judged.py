"""Judged: what re-injection and commitment are worth on a trained run, under the local scorer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textflow.diagnostics import Ablated
from textflow.escapes import Commit, Escape, Fair, Schedule, Soft
from textflow.metrics import Scorer
from textflow.samplers import Euler, Reinject, Renoise, Sampler

from ..measure import evaluate
from .source import Source
from .style import MARKS, figure, legend

Found = dict[str, Any]
DEPTHS = (4, 8)
WAYS: dict[str, tuple[Sampler, Escape]] = {
    "ODE": (Euler(), Soft()),
    "re-injection .5": (Reinject(0.5), Soft()),
    "re-injection 1.5": (Reinject(1.5), Soft()),
    "mode commit": (Renoise(), Commit()),
    "mode commit, means fed": (Renoise(), Ablated(Commit())),
    "mode commit, fair .2": (Renoise(), Fair(Commit())),
    "mode commit, fair .3": (Renoise(), Fair(Commit(), 0.3)),
    "sampled commit": (Renoise(), Commit("sample")),
    "commit by a schedule": (Renoise(), Commit(gate=Schedule())),
}
CAPTION = (
    "Samples of a trained run at 4 and 8 steps under the local scorer, perplexity beside entropy: the lower right is"
    " better, and a perplexity bought with entropy is not. Means fed: the same sampler with the mean in place of each"
    " choice [ours]. Bars: 95 % intervals over samples. A local scorer tells text from word salad; it does not rank"
    " good texts. The paper's numbers are of another model and scorer and do not compare."
)


def numbers(n: int, seed: int, runs: Sequence[Source], scorer: Scorer) -> Found:
    """A row for each way to sample and number of steps.

    Args:
        n: samples of each.
        seed: of the samples.
        runs: trained generators.
        scorer: the language model that judges.
    """
    return {"rows": [row(source, name, k, n, seed, scorer) for source in runs for name in WAYS for k in DEPTHS]}


def row(source: Source, name: str, steps: int, n: int, seed: int, scorer: Scorer) -> Found:
    """The record of one way; the run's own way is put back."""
    model = source.model
    own = model.sampler, model.escape
    try:
        model.sampler, model.escape = WAYS[name]
        (record,) = evaluate(model, scorer, [steps], n, seed)
    finally:
        model.sampler, model.escape = own
    return record | {"source": source.name, "method": name, "K": steps}


def draw(found: Found, path: Path, caption: str = CAPTION) -> None:
    """Perplexity against entropy, a panel for each number of steps."""
    with figure(path, caption, len(DEPTHS), 4.6, 3.9) as axes:
        for axis, steps in zip(axes, DEPTHS, strict=True):
            for i, name in enumerate(WAYS):
                rows = [r for r in found["rows"] if (r["method"], r["K"]) == (name, steps)]
                x, y = [r["entropy"] for r in rows], [r["perplexity"] for r in rows]
                spans = [r["intervals"]["perplexity"] for r in rows]
                sides = [[v - low for v, (low, _) in zip(y, spans, strict=True)]]
                sides.append([high - v for v, (_, high) in zip(y, spans, strict=True)])
                axis.errorbar(x, y, yerr=sides, fmt=MARKS[i % len(MARKS)], color=f"C{i}", capsize=2, label=name)
            axis.set(xlabel="entropy (nats, scorer's tokens)", ylabel="perplexity", title=f"K = {steps}", yscale="log")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("{x:g}")
        legend(*axes, side="outside upper left", columns=4)
