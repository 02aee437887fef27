"""What a run's folder holds for the report; what is missing, torn or of another kind is named, never fatal."""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from . import trajectory_files as walks
from .numbers import lacks, number_of

Record = dict[str, Any]
Curves = dict[str, list[tuple[float, float]]]
KINDS = {
    "Generator": "continuous",
    "Masked": "masked",
    "CausalLM": "autoregressive",
    "Autoencoder": "codec",
}


@dataclass
class Run:
    """A run, as far as it can be read.

    Args:
        folder: of the run.
        name: short, and its own among the runs of a page.
        recipe: resolved; empty where there is none.
        weights: hash; None where there are none.
        records: of textflow eval.
        curves: (step, value) by name, logged while it trained.
        diagnosed: rows by measure, of textflow diagnose.
        ways: records of trajectories.
        rounds: of a distillation: {teacher, rounds}, and the scored rows.
        broken: what could not be read, a sentence each.
    """

    folder: Path
    name: str
    recipe: Record = field(default_factory=dict)
    weights: str | None = None
    records: list[Record] = field(default_factory=list)
    curves: Curves = field(default_factory=dict)
    diagnosed: Record = field(default_factory=dict)
    ways: list[Record] = field(default_factory=list)
    rounds: Record = field(default_factory=dict)
    scored: list[Record] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """continuous, masked, autoregressive, codec, rounds or unknown."""
        if self.rounds and not self.recipe:
            return "rounds"
        model = self.recipe.get("model") or {}
        name = str(model.get("class_path", "") if isinstance(model, dict) else model).rsplit(".", 1)[-1]
        return KINDS.get(name, "unknown")


def names(folders: Sequence[Path]) -> list[str]:
    """A short name for each folder; more of the path where two would be alike."""
    parts = [folder.absolute().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        found = ["/".join(each[-length:]) for each in parts]
        if len(set(found)) == len(found):
            return found
    return [str(folder) for folder in folders]


def runs(folders: Sequence[Path]) -> list[Run]:
    """All runs of a page.

    Args:
        folders: that exist.
    """
    return [run(folder, name) for folder, name in zip(folders, names(folders), strict=True)]


def run(folder: Path, name: str) -> Run:
    """What a folder holds."""
    found = Run(folder, name, weights=walks.of_weights(folder))
    found.recipe = tree(folder / "recipe.yaml", found.broken)
    found.curves = curves(folder / "metrics.csv", found.broken)
    diagnosed = loaded(folder / "diagnostics" / "diagnose.json", dict, found.broken) or {}
    found.diagnosed = {key: rows_of(value) if key != "facts" else value for key, value in diagnosed.items()}
    for path in sorted((folder / "eval").glob("*.json")):
        said = loaded(path, dict, found.broken) or {}
        if said and (lack := lacks(said)):
            found.broken.append(f"{path} is no whole record of textflow eval: {lack}")
        elif said:
            found.records.append(said | {"run": name})
    found.ways, broken = walks.stored(folder)
    found.broken += broken
    found.rounds = loaded(folder / "rounds.json", dict, found.broken) or {}
    found.scored = rows_of(loaded(folder / "rounds_scored.json", list, found.broken) or [])
    return found


def rows_of(value: Any) -> list[Record]:
    """Those of a list that are rows."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def loaded(path: Path, kind: type, broken: list[str]) -> Any:
    """The JSON of a file, or None where it is missing or damaged; damage is named."""
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        broken.append(f"{path} is damaged or cut off: {error}")
        return None
    if not isinstance(said, kind):
        broken.append(f"{path} holds {type(said).__name__} where {kind.__name__} is needed")
        return None
    return said


def tree(path: Path, broken: list[str]) -> Record:
    """A recipe; empty where it is missing or damaged."""
    if not path.is_file():
        return {}
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        broken.append(f"{path} is not YAML: {' '.join(str(error).split())}")
        return {}
    if not isinstance(said, dict):
        broken.append(f"{path} is no recipe: it holds {type(said).__name__}")
        return {}
    return said


def curves(path: Path, broken: list[str]) -> Curves:
    """(step, value) by name from metrics.csv; rows that are torn or hold no number are left out and counted."""
    found: Curves = defaultdict(list)
    if not path.is_file():
        return found
    bad: list[int] = []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for number, row in enumerate(rows_in(file), 1):
            if number == 1 and row == ["step", "name", "value"]:
                continue
            step, value = (number_of(row[0]), number_of(row[2])) if len(row) == 3 else (None, None)
            if step is None or value is None:
                bad.append(number)
            else:
                found[row[1]].append((step, value))
    if bad:
        broken.append(f"{path}: {len(bad)} of {number} lines hold no number and are left out, the first is {bad[0]}")
    return dict(found)


def rows_in(lines: Iterable[str]) -> Iterator[list[str]]:
    """The rows of a CSV file; one that is none, such as one with a field too long, is empty."""
    rows = csv.reader(line.replace("\0", "") for line in lines)
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield []


def points(rows: Iterable[Record], x: str, y: str) -> list[tuple[float, float]]:
    """(x, y) of the rows that have both as numbers, in the order of x."""
    pairs = [(number_of(row.get(x)), number_of(row.get(y))) for row in rows]
    return sorted((a, b) for a, b in pairs if a is not None and b is not None)
