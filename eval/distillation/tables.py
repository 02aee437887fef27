"""Tables of students against their teacher, between samplers, and across distillations."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..record import Record

PUBLISHED = "15-38% (2606.30705: how much lower the perplexity of re-injection is than that of the ODE)"
COMPARED_KEYS = ("scorer_hash", "scorer_dtype", "token_weighting", "n", "seed")


def is_distillation(folder: Path) -> bool:
    """True if a folder holds distillation rounds."""
    return (folder / "rounds.json").is_file()


def load_scored_rounds(folder: Path) -> list[Record]:
    """Records of a distillation's students and teacher."""
    if not (path := folder / "rounds_scored.json").is_file():
        raise ValueError(f"the rounds of {folder} are not scored: repeat its textflow distill, with a scorer beside it")
    records: list[Record] = json.loads(path.read_text(encoding="utf-8"))
    return records


def student_matrix(folders: Sequence[Path]) -> list[dict[str, str]]:
    """Rows (role, sampled by), a column for each number of steps: perplexity / entropy (NFE); a star marks the
    lowest nll - entropy of its column."""
    named = [(folder.name, record) for folder in folders for record in load_scored_rounds(folder)]
    check_comparable([record for _, record in named])
    cells: dict[tuple[str, str], dict[int, Record]] = {}
    for name, record in named:
        role = "teacher" if record["role"] == "teacher" else name
        cells.setdefault((role, record["sampler_name"]), {})[record["steps"]] = record
    columns: dict[int, float | None] = {}  # number of steps: lowest nll - entropy
    for k in sorted({steps for row in cells.values() for steps in row}, reverse=True):
        values = (row[k]["nll_minus_entropy"] for row in cells.values() if k in row)
        columns[k] = min((value for value in values if value is not None), default=None)
    return [
        {"role": role, "sampled by": sampler}
        | {f"K = {k}": format_cell(row[k], best) if k in row else "" for k, best in columns.items()}
        for (role, sampler), row in sorted(cells.items(), key=lambda cell: cell[0][0] != "teacher")
    ]


def format_cell(record: Record, best: float | None) -> str:
    """Perplexity / entropy (NFE), with a star at the best nll - entropy."""
    if record["perplexity"] is None:
        return "no text"
    star = " *" * (record["nll_minus_entropy"] == best)
    return f"{record['perplexity']:.4g} / {record['entropy']:.2f} ({record['nfe']:g}){star}"


def check_comparable(records: Sequence[Record]) -> None:
    """Raise an error if teachers or scoring protocols differ."""
    values_by_key = {"teacher": {str(r.get("checkpoint_hash")) for r in records if r["role"] == "teacher"}}
    values_by_key |= {key: {str(record.get(key)) for record in records} for key in COMPARED_KEYS}
    for key, values in values_by_key.items():
        if len(values) > 1:
            raise ValueError(f"{key} differs between these rounds ({', '.join(sorted(values))}): compare those of one")


def protocol_line(folder: Path) -> str:
    """One-line summary of the scoring protocol."""
    first = load_scored_rounds(folder)[0]
    return f"n = {first['n']}, seed {first['seed']}, scorer {first['scorer_hash']} {first['scorer_dtype']}"


def sampler_gaps(records: list[Record]) -> list[dict[str, Any]]:
    """Relative perplexity reduction of the other samplers against the ODE, and their entropy change."""
    cells = {(r["steps"], r["run"], r["sampler_name"]): r for r in records if r["perplexity"]}
    return [
        {"K": steps, "run": run, "ODE to": name} | relative_change(record, base)
        for (steps, run, name), record in cells.items()
        if name != "ODE" and (base := cells.get((steps, run, "ODE")))
    ]


def student_teacher_gaps(records: list[Record]) -> list[dict[str, Any]]:
    """Relative perplexity reduction of a student against its teacher at the same steps and sampler."""
    teachers = {(r["steps"], r["sampler_name"]): r for r in records if r["role"] == "teacher" and r["perplexity"]}
    students = (r for r in records if r["role"] == "student" and r["perplexity"])
    return [
        {"K": r["steps"], "run": r["run"], "sampler_name": r["sampler_name"]} | relative_change(r, base)
        for r in students
        if (base := teachers.get((r["steps"], r["sampler_name"])))
    ]


def relative_change(record: Record, base: Record) -> dict[str, float]:
    """Relative perplexity reduction and entropy change in nats, to be read together."""
    return {
        "perplexity": record["perplexity"],
        "teacher or base": base["perplexity"],
        "lower by": 1 - record["perplexity"] / base["perplexity"],
        "entropy": record["entropy"] - base["entropy"],
    }
