"""Distillations of one teacher side by side: which of them helps at how many steps."""

import json
from collections.abc import Sequence
from pathlib import Path

from .record import Record

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
    alike(folders, [record for part in parts.values() for record in part])
    cells: dict[tuple[str, str], dict[int, Record]] = {}
    for name, part in parts.items():
        for record in part:
            who = "teacher" if record["who"] == "teacher" else name
            cells.setdefault((who, record["sampling"]), {})[record["steps"]] = record
    columns = sorted({steps for row in cells.values() for steps in row}, reverse=True)
    best = {k: min(r[k]["excess"] for r in cells.values() if k in r and r[k]["excess"] is not None) for k in columns}
    rows = sorted(cells.items(), key=lambda cell: cell[0][0] != "teacher")
    return [
        {"who": who, "sampled by": way}
        | {f"K = {k}": said(row[k], row[k]["excess"] == best[k]) if k in row else "" for k in columns}
        for (who, way), row in rows
    ]


def said(record: Record, best: bool) -> str:
    """Perplexity / entropy (passes)."""
    if record["perplexity"] is None:
        return "no text"
    return f"{record['perplexity']:.4g} / {record['entropy']:.2f} ({record['nfe']:g})" + " *" * best


def alike(folders: Sequence[Path], records: Sequence[Record]) -> None:
    """Refuse what has different teachers or was not scored alike."""
    teachers = {json.loads((folder / "rounds.json").read_text(encoding="utf-8"))["teacher"] for folder in folders}
    for key, found in [("teacher", teachers), *((key, {str(record.get(key)) for record in records}) for key in ALIKE)]:
        if len(found) > 1:
            raise ValueError(f"{key} differs between these rounds ({', '.join(sorted(found))}): compare those of one")


def protocol(folder: Path) -> str:
    """How they were scored, in a line."""
    first = scored(folder)[0]
    return f"n = {first['n']}, seed {first['seed']}, scorer {first['scorer_hash']} {first['scorer_dtype']}"
