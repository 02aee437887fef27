"""The scorer of a run, fitted if it is missing, and the output of evaluation records."""

import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from textflow.eval.scoring import ScorerConfig


def resolve_scorer(
    run: Path, protocol: str, scorer: str | None, dtype: str | None, memorization: bool | None, mauve: bool, device: str
) -> "ScorerConfig":
    """Resolve the scorer for a run or a file of texts; `local` is the one in the parent folder of the run."""
    from textflow.eval import protocol as protocols
    from textflow.eval.grammar_scorer import find_grammar
    from textflow.eval.scoring import ScorerConfig
    from textflow.metrics.divergence import import_mauve

    config = protocols.load_protocol(protocol)
    if mauve:
        import_mauve()
    if not run.exists():
        raise ValueError(
            f"there is no {run}; eval needs the folder of a run, or a file of texts, such as .txt or .jsonl"
        )
    if not run.is_file():
        protocols.run_facts(run)  # report an invalid run before fitting a scorer
        protocols.require_text_model(run)
    elif mauve or memorization:
        raise ValueError(f"{run} is a file: MAUVE and memorisation need the run's own text; give the run's folder")
    if config.scorer == "grammar":
        if mauve or dtype:
            raise ValueError(f"protocol {protocol} has a grammar for a scorer: leave --mauve and --dtype out")
        return ScorerConfig(config, find_grammar(run, scorer), "grammar", memorization=memorization, device=device)
    name = scorer or config.scorer
    if config.download and name == config.scorer and not Path(name).is_dir():
        raise ValueError(f"no scorer of protocol {protocol} at {name}; fetch it: {config.download}")
    folder = str(local_scorer(run)) if name == "local" else name
    return ScorerConfig(config, folder, name, dtype, memorization, mauve, device)


def default_protocol(run: Path) -> str:
    """`stories` for a run on text whose law is known, a text a row; otherwise `local`."""
    from textflow.eval.protocol import is_of_stories, run_recipe

    data = run_recipe(run).get("data", {}) if run.is_dir() else {}
    return "stories" if is_of_stories(data) and not data.get("pack", True) else "local"


def local_scorer(run: Path) -> Path:
    """Find the local scorer of a run, trained on held-out documents of the same text; fit it if it is missing.

    A file of texts has the scorer checkpoints/scorer.
    """
    from textflow.eval.protocol import run_recipe, same_documents
    from textflow.run_folder import load

    recipe = run_recipe(run) if run.is_dir() else {}
    first = run.parent / "scorer" if recipe else Path("checkpoints/scorer")
    other = first.with_name(f"scorer-{split_hash(recipe)}")
    for folder in (first, other):
        other_recipe = run_recipe(folder)
        if is_trained(folder) and (not recipe or not other_recipe or same_documents(recipe, other_recipe)):
            return folder
    differs = run_recipe(first) and recipe and not same_documents(recipe, run_recipe(first))
    folder = other if is_trained(first) or differs else first
    if recipe:
        load(run)  # report a damaged run before fitting a scorer
    fit_scorer(folder, recipe.get("data", {}))
    return folder


def is_trained(folder: Path) -> bool:
    """True if a folder holds a language model, from a finished fit or from Hugging Face."""
    return (folder / "hf" / "config.json").is_file() or (folder / "config.json").is_file()


def split_hash(own: dict[str, Any]) -> str:
    """Hash of the documents that a run was trained on, 6 hex digits."""
    from textflow.eval.protocol import SPLIT_KEYS

    data = own.get("data", {})
    split = {key: data.get(key) for key in SPLIT_KEYS if key != "skip" or data.get(key)}  # older recipes have no skip
    return hashlib.sha256(json.dumps(split, sort_keys=True).encode()).hexdigest()[:6]


def fit_scorer(folder: Path, data: dict[str, Any]) -> None:
    """Fit the scorer on the text and split of a run, or resume it: minutes on one core; its output goes to stderr."""
    from textflow.config import recipe
    from textflow.config.paths import FILES
    from textflow.eval.protocol import PROTOCOL_FOLDER, SPLIT_KEYS

    from .fit import fit_config, silence_warnings

    section = {key: data[key] for key in (*SPLIT_KEYS, "cache", "num_proc") if data.get(key) is not None}
    if FILES.get():
        section = {key: value for key, value in section.items() if key != "source"} | {"files": FILES.get()}
    section["split"] = "scorer_holdout" if not data or data.get("scorer_holdout") else "train"
    print(f"no scorer at {folder}: fitting it once, which takes 2 to 4 minutes on one core", file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary, redirect_stdout(sys.stderr):
        overlay = Path(temporary) / "data.yaml"
        overlay.write_text(
            yaml.safe_dump({"data": section, "run": {"folder": str(folder), "wandb": False}}), encoding="utf-8"
        )
        silence_warnings()
        config = recipe.load_recipe([str(PROTOCOL_FOLDER.parent / "scorer.yaml"), str(overlay)])
        if fit_config(config, "local scorer"):
            raise KeyboardInterrupt


def print_records(records: Sequence[dict[str, Any]], output_format: str) -> None:
    """Print evaluation records as table, csv, markdown or latex."""
    from rich.console import Console

    from textflow.eval.export import FORMATS
    from textflow.eval.table import make_table

    if output_format != "table":
        sys.stdout.write(FORMATS[output_format](records))
        return
    width = max(180, Console().width)  # narrow terminals wrap lines instead of cutting numbers
    Console(width=width, highlight=False).print(make_table(records))
