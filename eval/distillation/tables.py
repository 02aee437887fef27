"""What the records of students say: against their teacher, between ways to sample, and of several distillations."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..record import Record

PUBLISHED = "15-38% (2606.30705: how much lower the perplexity of re-injection is than that of the ODE)"
ALIKE = ("scorer_hash", "scorer_dtype", "counting", "n", "seed")


def are_rounds(place: Path) -> bool:
    """Whether a folder holds rounds of distillation."""
    return (place / "rounds.json").is_file()


def scored(folder: Path) -> list[Record]:
    """The records of a distillation's students and teacher.

    Args:
        folder: of the rounds.
    """
    if not (path := folder / "rounds_scored.json").is_file():
        raise ValueError(f"the rounds of {folder} are not scored: repeat its textflow distill, with a scorer beside it")
    found: list[Record] = json.loads(path.read_text(encoding="utf-8"))
    return found


def matrix(folders: Sequence[Path]) -> list[dict[str, str]]:
    """Rows (who, sampled by), a column for each number of steps: perplexity / entropy (passes); a star stands at the
    least nll - entropy of its column.

    Args:
        folders: of distillations by one teacher, scored alike.
    """
    parts = {folder.name: scored(folder) for folder in folders}
    alike([record for part in parts.values() for record in part])
    cells: dict[tuple[str, str], dict[int, Record]] = {}
    for name, part in parts.items():
        for record in part:
            who = "teacher" if record["who"] == "teacher" else name
            cells.setdefault((who, record["sampling"]), {})[record["steps"]] = record
    columns = sorted({steps for row in cells.values() for steps in row}, reverse=True)
    least = {k: min((row[k]["excess"] for row in cells.values() if wrote(row, k)), default=None) for k in columns}
    rows = sorted(cells.items(), key=lambda cell: cell[0][0] != "teacher")
    return [
        {"who": who, "sampled by": way}
        | {f"K = {k}": said(row[k], row[k]["excess"] == least[k]) if k in row else "" for k in columns}
        for (who, way), row in rows
    ]


def wrote(row: dict[int, Record], steps: int) -> bool:
    """Whether a row has a text at a number of steps."""
    return steps in row and row[steps]["excess"] is not None


def said(record: Record, best: bool) -> str:
    """Perplexity / entropy (passes)."""
    if record["perplexity"] is None:
        return "no text"
    return f"{record['perplexity']:.4g} / {record['entropy']:.2f} ({record['nfe']:g})" + " *" * best


def alike(records: Sequence[Record]) -> None:
    """Refuse what has different teachers or was not scored alike."""
    teachers = {str(record.get("checkpoint_hash")) for record in records if record["who"] == "teacher"}
    for key, found in [("teacher", teachers), *((key, {str(record.get(key)) for record in records}) for key in ALIKE)]:
        if len(found) > 1:
            raise ValueError(f"{key} differs between these rounds ({', '.join(sorted(found))}): compare those of one")


def protocol(folder: Path) -> str:
    """How they were scored, in a line."""
    first = scored(folder)[0]
    return f"n = {first['n']}, seed {first['seed']}, scorer {first['scorer_hash']} {first['scorer_dtype']}"


def gaps(records: list[Record]) -> list[dict[str, Any]]:
    """By how much the other ways lower the ODE's perplexity, and the entropy that they lose."""
    cells = {(r["steps"], r["run"], r["sampling"]): r for r in records if r["perplexity"]}
    pairs = [(record, cells.get((steps, run, "ODE"))) for (steps, run, name), record in cells.items() if name != "ODE"]
    return [
        {"K": record["steps"], "run": record["run"], "ODE to": record["sampling"]} | lower(record, base)
        for record, base in pairs
        if base
    ]


def beside(records: list[Record]) -> list[dict[str, Any]]:
    """By how much a student's perplexity is lower than its teacher's at the same steps and the same way to sample."""
    teachers = {(r["steps"], r["sampling"]): r for r in records if r["who"] == "teacher" and r["perplexity"]}
    pairs = [
        (r, teachers.get((r["steps"], r["sampling"]))) for r in records if r["who"] == "student" and r["perplexity"]
    ]
    return [
        {"K": record["steps"], "run": record["run"], "sampling": record["sampling"]} | lower(record, base)
        for record, base in pairs
        if base
    ]


def lower(record: Record, base: Record) -> dict[str, float]:
    """Share by which a perplexity lies below another, and the change of entropy in nats: read them together."""
    return {
        "perplexity": record["perplexity"],
        "instead of": base["perplexity"],
        "lower by": 1 - record["perplexity"] / base["perplexity"],
        "entropy": record["entropy"] - base["entropy"],
    }
