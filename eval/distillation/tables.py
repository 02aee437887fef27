"""Tables of students against their teacher, between samplers, and across distillations."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..record import Record

PUBLISHED = "15-38% (2606.30705: how much lower the perplexity of re-injection is than that of the ODE)"
COMPARED_KEYS = ("scorer_hash", "scorer_dtype", "token_weighting", "n", "seed")


def is_distillation(place: Path) -> bool:
    """True if a folder holds distillation rounds."""
    return (place / "rounds.json").is_file()


def load_scored_rounds(folder: Path) -> list[Record]:
    """Records of a distillation's students and teacher.

    Args:
        folder: folder of the rounds.
    """
    if not (path := folder / "rounds_scored.json").is_file():
        raise ValueError(f"the rounds of {folder} are not scored: repeat its textflow distill, with a scorer beside it")
    records: list[Record] = json.loads(path.read_text(encoding="utf-8"))
    return records


def student_matrix(folders: Sequence[Path]) -> list[dict[str, str]]:
    """Rows (role, sampled by), a column for each number of steps: perplexity / entropy (NFE); a star marks the
    lowest nll - entropy of its column.

    Args:
        folders: distillations with one teacher and the same scoring protocol.
    """
    parts = {folder.name: load_scored_rounds(folder) for folder in folders}
    check_comparable([record for part in parts.values() for record in part])
    cells: dict[tuple[str, str], dict[int, Record]] = {}
    for name, part in parts.items():
        for record in part:
            who = "teacher" if record["role"] == "teacher" else name
            cells.setdefault((who, record["sampler_name"]), {})[record["steps"]] = record
    columns = sorted({steps for row in cells.values() for steps in row}, reverse=True)
    least = {
        k: min((row[k]["nll_minus_entropy"] for row in cells.values() if has_text(row, k)), default=None)
        for k in columns
    }
    rows = sorted(cells.items(), key=lambda cell: cell[0][0] != "teacher")
    return [
        {"role": who, "sampled by": way}
        | {
            f"K = {k}": format_cell(row[k], row[k]["nll_minus_entropy"] == least[k]) if k in row else ""
            for k in columns
        }
        for (who, way), row in rows
    ]


def has_text(row: dict[int, Record], steps: int) -> bool:
    """True if a row has a text at a number of steps."""
    return steps in row and row[steps]["nll_minus_entropy"] is not None


def format_cell(record: Record, is_best: bool) -> str:
    """Perplexity / entropy (NFE)."""
    if record["perplexity"] is None:
        return "no text"
    return f"{record['perplexity']:.4g} / {record['entropy']:.2f} ({record['nfe']:g})" + " *" * is_best


def check_comparable(records: Sequence[Record]) -> None:
    """Raise an error if teachers or scoring protocols differ."""
    teachers = {str(record.get("checkpoint_hash")) for record in records if record["role"] == "teacher"}
    for key, values in [
        ("teacher", teachers),
        *((key, {str(record.get(key)) for record in records}) for key in COMPARED_KEYS),
    ]:
        if len(values) > 1:
            raise ValueError(f"{key} differs between these rounds ({', '.join(sorted(values))}): compare those of one")


def protocol_line(folder: Path) -> str:
    """One-line summary of the scoring protocol."""
    first = load_scored_rounds(folder)[0]
    return f"n = {first['n']}, seed {first['seed']}, scorer {first['scorer_hash']} {first['scorer_dtype']}"


def sampler_gaps(records: list[Record]) -> list[dict[str, Any]]:
    """Relative perplexity reduction of the other samplers against the ODE, and their entropy change."""
    cells = {(r["steps"], r["run"], r["sampler_name"]): r for r in records if r["perplexity"]}
    pairs = [(record, cells.get((steps, run, "ODE"))) for (steps, run, name), record in cells.items() if name != "ODE"]
    return [
        {"K": record["steps"], "run": record["run"], "ODE to": record["sampler_name"]} | relative_change(record, base)
        for record, base in pairs
        if base
    ]


def student_teacher_gaps(records: list[Record]) -> list[dict[str, Any]]:
    """Relative perplexity reduction of a student against its teacher at the same steps and sampler."""
    teachers = {(r["steps"], r["sampler_name"]): r for r in records if r["role"] == "teacher" and r["perplexity"]}
    pairs = [
        (r, teachers.get((r["steps"], r["sampler_name"])))
        for r in records
        if r["role"] == "student" and r["perplexity"]
    ]
    return [
        {"K": record["steps"], "run": record["run"], "sampler_name": record["sampler_name"]}
        | relative_change(record, base)
        for record, base in pairs
        if base
    ]


def relative_change(record: Record, base: Record) -> dict[str, float]:
    """Relative perplexity reduction and entropy change in nats, to be read together."""
    return {
        "perplexity": record["perplexity"],
        "teacher or base": base["perplexity"],
        "lower by": 1 - record["perplexity"] / base["perplexity"],
        "entropy": record["entropy"] - base["entropy"],
    }
