"""Contents of a run folder for the report; missing, damaged or unexpected files are reported, never fatal."""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from textflow.runtime.visible import visible_files

from . import trajectory_files
from .numbers import finite_number, record_problems

Record = dict[str, Any]
Curves = dict[str, list[tuple[float, float]]]
MODEL_KINDS = {
    "Generator": "continuous",
    "DiscreteDiffusion": "masked",
    "CausalLM": "autoregressive",
    "Autoencoder": "codec",
}


@dataclass
class RunReport:
    """Readable contents of a run.

    Args:
        folder: run folder.
        name: short name, unique on the page.
        recipe: resolved recipe; empty if there is none.
        weights_hash: hash of the weights; None if there are none.
        records: records of textflow eval.
        curves: (step, value) by name, logged during training.
        diagnostics: rows of textflow diagnose by measure.
        trajectories: trajectory records.
        rounds: distillation {teacher, rounds}.
        scored_rounds: scored rows of the distillation.
        errors: sentences on unreadable files.
    """

    folder: Path
    name: str
    recipe: Record = field(default_factory=dict)
    weights_hash: str | None = None
    records: list[Record] = field(default_factory=list)
    curves: Curves = field(default_factory=dict)
    diagnostics: Record = field(default_factory=dict)
    trajectories: list[Record] = field(default_factory=list)
    rounds: Record = field(default_factory=dict)
    scored_rounds: list[Record] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Kind of run: continuous, masked, autoregressive, codec, rounds or unknown."""
        if self.rounds and not self.recipe:
            return "rounds"
        model = self.recipe.get("model") or {}
        name = str(model.get("class_path", "") if isinstance(model, dict) else model).rsplit(".", 1)[-1]
        return MODEL_KINDS.get(name, "unknown")

    @property
    def own_trajectories(self) -> list[Record]:
        """Trajectories sampled with the run's current weights."""
        return [record for record in self.trajectories if record["checkpoint_hash"] == self.weights_hash]


def run_names(folders: Sequence[Path]) -> list[str]:
    """Short names of folders, with more of the path where two would collide."""
    parts = [folder.absolute().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def load_runs(folders: Sequence[Path]) -> list[RunReport]:
    """Load all runs of a page from their existing folders."""
    return [load_run(folder, name) for folder, name in zip(folders, run_names(folders), strict=True)]


def load_run(folder: Path, name: str) -> RunReport:
    """Load the contents of a run folder."""
    report = RunReport(folder, name, weights_hash=trajectory_files.weights_hash(folder))
    report.recipe = load_recipe(folder / "recipe.yaml", report.errors)
    report.curves = load_curves(folder / "metrics.csv", report.errors)
    measures = load_json(folder / "diagnostics" / "diagnose.json", dict, report.errors)
    report.diagnostics = {key: value if key == "run" else dict_rows(value) for key, value in measures.items()}
    for path in visible_files(folder / "eval", "*.json"):
        content = load_json(path, dict, report.errors)
        if content and (problems := record_problems(content)):
            report.errors.append(f"{path} is not a complete record of textflow eval: {problems}")
        elif content:
            report.records.append(content | {"run": name})
    report.trajectories, errors = trajectory_files.read_trajectories(folder)
    report.errors += errors
    report.rounds = load_json(folder / "rounds.json", dict, report.errors)
    report.scored_rounds = dict_rows(load_json(folder / "rounds_scored.json", list, report.errors))
    return report


def dict_rows(value: Any) -> list[Record]:
    """Entries of a list that are rows."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def load_json(path: Path, kind: type, errors: list[str]) -> Any:
    """JSON content of a file; an empty `kind` if missing or damaged, with damage added to `errors`."""
    if not path.is_file():
        return kind()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        errors.append(f"{path} is damaged or truncated: {error}")
        return kind()
    if isinstance(content, kind):
        return content
    errors.append(f"{path} holds {type(content).__name__} where {kind.__name__} is needed")
    return kind()


def load_recipe(path: Path, errors: list[str]) -> Record:
    """Recipe of a run; empty if missing or damaged."""
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        errors.append(f"{path} is not YAML: {' '.join(str(error).split())}")
        return {}
    if isinstance(content, dict):
        return content
    errors.append(f"{path} is not a recipe: it holds {type(content).__name__}")
    return {}


def load_curves(path: Path, errors: list[str]) -> Curves:
    """Curves (step, value) by name from metrics.csv; truncated or non-numeric rows are skipped and counted."""
    curves: Curves = defaultdict(list)
    if not path.is_file():
        return curves
    bad: list[int] = []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for number, row in enumerate(csv_rows(file), 1):
            if number == 1 and row == ["step", "name", "value"]:
                continue
            step, value = (finite_number(row[0]), finite_number(row[2])) if len(row) == 3 else (None, None)
            if step is None or value is None:
                bad.append(number)
            else:
                curves[row[1]].append((step, value))
    if bad:
        errors.append(f"{path}: {len(bad)} of {number} lines hold no number and are left out, the first is {bad[0]}")
    return dict(curves)


def csv_rows(lines: Iterable[str]) -> Iterator[list[str]]:
    """Rows of a CSV file; an invalid row, such as one with an overlong field, is empty."""
    rows = csv.reader(line.replace("\0", "") for line in lines)
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield []
