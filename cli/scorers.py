"""The judge of a run, fitted where it is missing, and how records are shown."""

import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import yaml


def judge_of(
    run: Path, protocol: str, scorer: str | None, dtype: str | None, memory: bool | None, mauve: bool, device: str
) -> Any:
    """Who judges a run or a file of texts.

    Args:
        run: folder, or file.
        protocol: name or file of it.
        scorer: Hub name or folder of another judge; `local` is the one beside the run.
        dtype: of the judge; default: the protocol's.
        memory: whether 4-grams are looked up in the training text; default: as the protocol says.
        mauve: whether MAUVE is measured.
        device: of the judge.
    """
    from textflow.eval import protocol as protocols
    from textflow.eval.scoring import Judge
    from textflow.metrics.divergence import package

    said = protocols.protocol(protocol)
    if mauve:
        package()
    if not run.exists():
        raise ValueError(f"there is no {run}; eval needs the folder of a run, or a .jsonl or .txt file of texts")
    if not run.is_file():
        protocols.facts(run)  # what is no run is said before a scorer is fitted
        protocols.refuse_codec(run)
    elif mauve or memory:
        raise ValueError(f"{run} is a file: MAUVE and memorisation need the run's own text; give the run's folder")
    asked = scorer or said.scorer
    folder = str(local_scorer(run)) if asked == "local" else asked
    return Judge(said, folder, asked, dtype, memory, mauve, device)


def local_scorer(run: Path) -> Path:
    """The scorer beside a run that was trained on other documents of the same text; fitted where there is none.

    Args:
        run: folder, or a file of texts, whose judge is checkpoints/scorer.
    """
    from textflow.eval.protocol import recipe, same_documents
    from textflow.run_folder import load

    own = recipe(run) if run.is_dir() else {}
    first = run.parent / "scorer" if own else Path("checkpoints/scorer")
    other = first.with_name(f"scorer-{split_hash(own)}")
    for folder in (first, other):
        found = recipe(folder)
        if written(folder) and (not own or not found or same_documents(own, found)):
            return folder
    place = other if written(first) or (recipe(first) and own and not same_documents(own, recipe(first))) else first
    if own:
        load(run)  # what is wrong with it is said before a scorer is fitted
    fit_scorer(place, own.get("data", {}))
    return place


def written(folder: Path) -> bool:
    """Whether a folder holds a language model: of a finished fit, or of Hugging Face."""
    return (folder / "hf" / "config.json").is_file() or (folder / "config.json").is_file()


def split_hash(own: dict[str, Any]) -> str:
    """6 hex digits of which documents a run was trained on."""
    from textflow.eval.protocol import SPLIT

    said = {key: own.get("data", {}).get(key) for key in SPLIT}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:6]


def fit_scorer(folder: Path, data: dict[str, Any]) -> None:
    """Fit the judge, or go on with it: some minutes on one core; what the fit prints goes to stderr.

    Args:
        folder: of its run.
        data: the part of the recipe of the run that it is to judge: same text, cut in the same way.
    """
    from textflow.config import recipe
    from textflow.eval.protocol import FOLDER, SPLIT

    from .fit import fit_config, quiet

    kept = {key: data[key] for key in (*SPLIT, "cache", "processes") if data.get(key) is not None}
    kept["part"] = "held_apart" if not data or data.get("held_apart") else "train"
    print(f"no scorer at {folder}: fitting it once, in some minutes (2 to 4 on one core)", file=sys.stderr)
    with tempfile.TemporaryDirectory() as place, redirect_stdout(sys.stderr):
        overlay = Path(place) / "data.yaml"
        overlay.write_text(yaml.safe_dump({"data": kept, "run": {"folder": str(folder), "wandb": False}}))
        quiet()
        config = recipe.read([str(FOLDER.parent / "scorer.yaml"), str(overlay)])
        if fit_config(config, "local judge"):
            raise KeyboardInterrupt


def show(records: Sequence[dict[str, Any]], format: str) -> None:
    """Print records.

    Args:
        records: at least one.
        format: table, csv, markdown or latex.
    """
    from rich.console import Console

    from textflow.eval.export import FORMATS
    from textflow.eval.table import table

    if format != "table":
        sys.stdout.write(FORMATS[format](records))
        return
    console = Console(width=max(150, Console().width), highlight=False)  # narrow terminals wrap, but lose no number
    console.print(table(records))
