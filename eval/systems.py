"""Trained systems, evaluated and diagnosed for one table (`systems_table.py`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import torch

from textflow.config.shipped import shipped_recipes
from textflow.diagnostics.bootstrap import at_floor
from textflow.diagnostics.sample_callbacks import generator_cci
from textflow.models.causal_lm import CausalLM
from textflow.models.discrete_diffusion import DiscreteDiffusion
from textflow.models.generator import Generator
from textflow.noise import Noise, sample_seeds
from textflow.run_folder import load
from textflow.training.weights import read_weights
from textflow.types import Batch

from .conditional import is_conditional
from .diagnose import dabi_row, measure_rollin, measure_tube
from .diagnostic_case import DiagnosticCase
from .discrete_cci import discrete_cci
from .parallel import OnProgress, SamplingConfig, SamplingJob
from .protocol import SPLIT_KEYS, require_text_model, run_recipe, validation_batch
from .record import Record
from .results import Cell
from .scoring import ScorerConfig, evaluate_run
from .table import sampling_label

DIAGNOSTIC_STEPS = 8  # sampling steps of the diagnostics
BATCH_SIZE = 16  # rows of real text at a time; one-hot latents are as wide as the vocabulary
CCI_SAMPLES = 32  # most samples for CCI


@dataclass(frozen=True)
class System:
    """Measured system.

    Args:
        name: name of its run.
        records: evaluation records of real text, of shuffled text, and of each number of steps.
        facts: cells on the run by column: recipe, model, parameters, training steps, sampler.
        cells: cells of the diagnostics by column; one that does not apply is missing.
        refusals: why a diagnostic does not apply, by column.
    """

    name: str
    records: list[Record]
    facts: dict[str, Cell]
    cells: dict[str, Cell]
    refusals: dict[str, str]


def require_trained(runs: Sequence[Path]) -> None:
    """Raise for a run that is not trained or writes no text, and for two runs of one name."""
    for run in runs:
        if not all((run / name).is_file() for name in ("recipe.yaml", "model.safetensors")):
            recipe = recipe_of(run) or "RECIPE"
            raise ValueError(f"no trained run at {run}: textflow fit {recipe} --run.folder {quote(str(run))}")
        require_text_model(run)
    if len({run.name for run in runs}) < len(runs):
        raise ValueError(f"two of the runs {', '.join(map(str, runs))} have one name; rename a folder")


def check_runs(runs: Sequence[Path]) -> None:
    """Raise for a run that is not trained, and for runs that one table cannot compare."""
    require_trained(runs)
    if source := next(filter(is_conditional, runs), None):
        raise ValueError(f"{source} answers sources, and a table of systems scores free text; leave it out")
    data = {run: run_recipe(run)["data"] for run in runs}
    for key in (*SPLIT_KEYS, "seq_length"):
        if other := next((run for run in runs if data[run].get(key) != data[runs[0]].get(key)), None):
            raise ValueError(f"{runs[0]} and {other} differ in data.{key}; one table needs one text and length")


def recipe_of(run: Path) -> str | None:
    """The shipped recipe of a run's name, as recipes/NAME.yaml, if there is one."""
    names = (name for name in (f"small/{run.name}", run.name) if name in shipped_recipes())
    return next((f"recipes/{name}.yaml" for name in names), None)


def measure_system(
    run: Path,
    scoring: ScorerConfig,
    steps: Sequence[int],
    n: int,
    seed: int = 0,
    on_progress: OnProgress = lambda *done: None,
) -> System:
    """Evaluate a run with its own sampler, as `textflow eval` does, and diagnose it.

    Args:
        run: run folder.
        scoring: protocol and scorer.
        steps: numbers of sampling steps.
        n: number of texts, and of rows of real text.
        seed: random seed of sampling and of the diagnostics, >= 0.
        on_progress: callback (stage, done, total).
    """
    job = SamplingJob(run, steps, n, [SamplingConfig(lambda model: None)], seed)
    records = list(evaluate_run(job, scoring, on_progress=on_progress))
    on_progress("diagnosing", 0, 1)
    model = load(run, scoring.device)
    objective = getattr(model, "objective", model)
    facts: dict[str, Cell] = {
        "recipe": recipe_of(run) or "",
        "model": type(objective).__name__.removesuffix("Objective"),
        "parameters": f"{sum(p.numel() for p in model.net.parameters()):,}",
        "steps": str(read_weights(run / "model.safetensors")[1].get("step", "")),
        "sampler": " ".join(sampling_label(records[-1])),
    }
    return System(run.name, records, facts, *diagnose_system(model, run_recipe(run)["data"], n, seed))


def diagnose_system(model: Any, data: Record, n: int, seed: int) -> tuple[dict[str, Cell], dict[str, str]]:
    """Cells by column, and the reasons for those that do not apply; of a model without latents only CCI."""
    cells: dict[str, Cell] = {"cci": f"{system_cci(model, sample_seeds(seed, 0, min(n, CCI_SAMPLES))):.2f}"}
    refusals = dict[str, str]()
    if not isinstance(model, Generator):
        return cells, {"dabi": f"a {type(model).__name__} has no latents"}
    rows = validation_batch(data, n)
    batches = [take_rows(rows, start, model.device) for start in range(0, len(rows.ids), BATCH_SIZE)]
    for name, measure in LATENT_CELLS.items():
        try:
            cells[name] = measure(DiagnosticCase(model, batches, seed))
        except ValueError as error:  # a part of the system that the measure does not fit
            refusals[name] = str(error)
    return cells, refusals


def take_rows(batch: Batch, start: int, device: torch.device) -> Batch:
    """Rows of a batch from a first one, at most BATCH_SIZE, on a device."""
    return batch.map(lambda part: part[start : start + BATCH_SIZE].to(device))


def dabi_cell(case: DiagnosticCase) -> Cell:
    """DABI of flips: at the floor if random noise flips too few tokens, a dash if the residual flips none."""
    row = dabi_row(case, DIAGNOSTIC_STEPS, 1.0)
    if row["flips"] == 0:
        return "-"
    return at_floor(f"{row['flip_low']:.2f}") if row["flip"] is None else f"{row['flip']:.2f}"


def tube_cell(case: DiagnosticCase) -> Cell:
    """Percentage of positions inside the tube."""
    return percent(measure_tube(case, (DIAGNOSTIC_STEPS,))[0]["inside"])


def rollin_cell(case: DiagnosticCase) -> Cell:
    """Percentages of flipped tokens: of the last step alone from noised real text, and after all steps."""
    *_, last, final = measure_rollin(case, (DIAGNOSTIC_STEPS,))
    return [percent(last["flips"]), percent(final["cumulative"])]


LATENT_CELLS: dict[str, Callable[[DiagnosticCase], Cell]] = {
    "dabi": dabi_cell,
    "tube": tube_cell,
    "rollin": rollin_cell,
}


@torch.no_grad()
def system_cci(model: Any, seeds: list[int]) -> float:
    """CCI [ours] of samples by the model's own sampler; 1 for an autoregressive model, by definition."""
    if isinstance(model, CausalLM):
        return 1.0
    if isinstance(model, DiscreteDiffusion):
        return discrete_cci(model, seeds, DIAGNOSTIC_STEPS)[0]
    return generator_cci(model, model.sample(seeds, DIAGNOSTIC_STEPS), Noise(seeds))


def percent(share: float) -> str:
    """A share in per cent."""
    return f"{100 * share:.1f}"
