"""Runs and scorers of the figures of `textflow reproduce`."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from .diagnose import load_run

if TYPE_CHECKING:
    from textflow.eval.figures.source import FigureInput
    from textflow.metrics import Scorer, TextScorer

RUN_FIGURES = ("samplers", "noise_to_text", "stories")  # only for a trained run


def drawable(name: str, run: Path | None) -> bool:
    """True if `all` draws a figure: stories only of a run of stories, and samplers of the others."""
    if name not in RUN_FIGURES:
        return True
    if run is None or name == "noise_to_text":
        return run is not None
    from textflow.eval.protocol import is_of_stories, run_recipe

    return (name == "stories") == is_of_stories(run_recipe(run)["data"])


def exact_scorer(run: Path | None) -> "TextScorer":
    """The exact law of a run's stories."""
    if run is None:
        raise ValueError("stories draws a trained run: textflow reproduce stories --run checkpoints/quickstart")
    from textflow.eval.grammar_scorer import GrammarScorer, find_grammar
    from textflow.eval.protocol import load_protocol

    return GrammarScorer(find_grammar(run, None), load_protocol("stories"))


def load_scorer(run: Path | None) -> "Scorer":
    """Load the scorer in the parent folder of a run."""
    if run is None:
        advice = "give it with --run, and fit a run `scorer` in the same folder"
        raise ValueError(f"samplers scores samples of a trained run: {advice}")
    folder = run.parent / "scorer"
    if not (folder / "model.safetensors").is_file():
        raise ValueError(
            f"no scorer at {folder}: fit one: textflow fit recipes/scorer.yaml --run.folder {quote(str(folder))}"
        )
    from textflow.models.causal_lm import load_scorer

    return load_scorer(str(folder))


def load_figure_input(run: Path, n: int, seed: int, device: str) -> "FigureInput":
    """Load a run and its held-out text."""
    from textflow.eval.figures.source import BATCH_SIZE, FigureInput

    model, batches, _ = load_run(run, [], n, BATCH_SIZE, device)
    return FigureInput(f"run {run.name}", model, batches, seed)
