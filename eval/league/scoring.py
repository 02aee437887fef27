"""Scores of a trained system: its samples by the truth of the stories, and diagnostics of its sampling map."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from textflow.data.stories import GRAMMARS
from textflow.diagnostics.sample_callbacks import generator_stiffness
from textflow.escapes import Escape
from textflow.models.base import Trainable
from textflow.models.generator import Generator
from textflow.noise import sample_seeds
from textflow.run_folder import load
from textflow.runtime.atomic import atomic_write_json
from textflow.samplers import Sampler

from ..diagnose import dabi_row
from ..diagnostic_case import DiagnosticCase
from ..distillation.measure import standard_samplers
from ..grammar_scorer import SHARES
from ..measure import eval_point, sample_folder, step_counts
from ..parallel import OnProgress
from ..protocol import run_facts, validation_batch
from ..record import Record, replace_nonfinite
from ..samples import code_hash, draw_samples, split_at_eos
from ..systems import BATCH_SIZE, DIAGNOSTIC_STEPS, system_cci, take_rows
from .plan import Entrant
from .truth import real_text, score_texts, training_texts, truth

SAMPLING_BATCH = 64  # texts sampled at a time
DABI_ROWS, CCI_ROWS, STIFFNESS_ROWS = 64, 32, 2  # most rows of the diagnostics
OWN = "own sampler"  # of a model without latents


def score_system(
    entrant: Entrant,
    facts: Record,
    steps: Sequence[int],
    n: int,
    seed: int,
    on_progress: OnProgress = lambda *done: None,
) -> Record:
    """Record of a system, written to its folder; one that was made with the same settings and code is read.

    Args:
        entrant: system, with its folder and grammar.
        facts: facts of its fits.
        steps: numbers of sampling steps.
        n: number of texts of each sampler at each number of steps.
        seed: random seed of the samples, >= 0.
        on_progress: callback (stage, done, total).
    """
    run, path = Path(facts["run"]), entrant.folder / "record.json"
    common = run_facts(run)
    key: Record = {"checkpoint_hash": common["checkpoint_hash"], "steps": list(steps), "n": n, "seed": seed}
    key |= {
        "grammar": entrant.grammar,
        "grammar_hash": GRAMMARS[entrant.grammar].digest,
        "measures": [*SHARES, "in_training"],
        "code": code_hash(),
        "textflow": version("textflow"),
    }
    known: Record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if known.get("protocol") == key:
        return known
    model, data = load(run), common["recipe"]["data"]
    training = training_texts(data)
    cells = [
        {"sampler": name, **cell}
        for name in sampling_methods(model)
        for cell in score_samples(model, name, run, common, key, training, on_progress)
    ]
    on_progress("diagnosing", 0, 1)
    diagnostics, refusals = diagnose(model, data, n, seed)
    record: Record = {"name": entrant.name, "protocol": key, "fit": facts, "truth": truth(entrant.grammar)}
    record |= {"model": describe(model), "real": real_text(data, n, entrant.grammar, training)}
    record |= {"cells": cells, "diagnostics": diagnostics, "refusals": refusals}
    record |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    record = replace_nonfinite(record)
    atomic_write_json(path, record)
    return record


def sampling_methods(model: Trainable) -> Mapping[str, tuple[Escape, Sampler] | None]:
    """Escape and sampler by name: the ODE, ELF's re-injection of noise and mode commit; without latents its own."""
    if not isinstance(model, Generator):
        return {OWN: None}
    return standard_samplers(model)


def set_method(model: Any, name: str) -> None:
    """Set the escape and the sampler of a model by name."""
    if (method := sampling_methods(model)[name]) is not None:
        model.escape, model.sampler = method


def score_samples(
    model: Any,
    method: str,
    run: Path,
    facts: Record,
    protocol: Record,
    training: Collection[str],
    on_progress: OnProgress,
) -> Iterator[Record]:
    """Numbers of the samples at each number of steps; saved samples are read."""
    set_method(model, method)
    n, seed = protocol["n"], protocol["seed"]
    for count in step_counts(model, protocol["steps"]):
        point = eval_point(model, count, seed)
        folder = sample_folder(run, facts, model, point)

        def tick(done: int, count: int = count) -> None:
            on_progress(f"{run.parent.name}, {method}, {count} steps", done, n)

        lines = draw_samples(model, count, n, seed, None, SAMPLING_BATCH, folder, on_progress=tick)
        ids = [split_at_eos(line.ids, model.tokenizer.eos)[0] for line in lines]
        texts = model.tokenizer.decode([line.ids for line in lines])
        cost = {name: sum(getattr(line, name) for line in lines) / n for name in ("nfe", "seconds")}
        cost["readout_calls"] = point.get("readout_calls", 0)
        samples = {"samples": str(folder.relative_to(run)), "first_text": texts[0]}
        yield {"steps": count, **cost, **score_texts(texts, ids, protocol["grammar"], training), **samples}


def diagnose(model: Any, data: Record, n: int, seed: int) -> tuple[Record, dict[str, str]]:
    """DABI at the last time before the readout, CCI and stiffness of each sampling method, and the reasons for those
    that do not apply."""
    found: Record = {"steps": DIAGNOSTIC_STEPS, "cci": {}, "stiffness": {}}
    refusals, seeds = dict[str, str](), sample_seeds(seed, 0, min(n, CCI_ROWS))

    def attempt(name: str, measure: Callable[[], Any]) -> Any:
        try:
            return measure()
        except ValueError as error:  # a part of the system that the measure does not fit
            refusals[name] = str(error)
            return None

    for method in sampling_methods(model):
        set_method(model, method)
        found["cci"][method] = attempt(f"CCI of {method}", lambda: system_cci(model, seeds))
        if isinstance(model, Generator):
            found["stiffness"][method] = attempt(f"stiffness of {method}", lambda: stiffness(model, seeds))
    if isinstance(model, Generator):
        found["dabi"] = attempt("DABI", lambda: dabi(model, data, n, seed))
    else:
        refusals["DABI and stiffness"] = f"a {type(model).__name__} has no latents"
    return found, refusals


def dabi(model: Generator, data: Record, n: int, seed: int) -> Record:
    """DABI of held-out text, with numerators, denominators and intervals."""
    rows = validation_batch(data, min(n, DABI_ROWS))
    batches = [take_rows(rows, start, model.device) for start in range(0, len(rows.ids), BATCH_SIZE)]
    return dabi_row(DiagnosticCase(model, batches, seed), DIAGNOSTIC_STEPS, 1.0)


def stiffness(model: Generator, seeds: list[int]) -> Record:
    """Largest stiffness of a step and that of the whole map, means over a few samples."""
    result = generator_stiffness(model, seeds[:STIFFNESS_ROWS], DIAGNOSTIC_STEPS, num_starts=1, num_iterations=4)
    return {
        "peak": float(result.peak.mean()),
        "total": float(result.total_norm.mean()),
        "rows": len(seeds[:STIFFNESS_ROWS]),
    }


def describe(model: Any) -> Record:
    """Class of the model or of its objective, and its number of parameters."""
    name = type(getattr(model, "objective", model)).__name__.removesuffix("Objective")
    return {"class": name, "parameters": count_parameters(model)}


def count_parameters(model: Any) -> int:
    """Number of parameters of a model with its codec, its moving average left out."""
    average = {id(p) for p in model.ema_net.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in average)
