"""Trajectory record files: listed, read and validated without a model."""

import json
from pathlib import Path
from typing import Any

from textflow.runtime.atomic import sha256
from textflow.runtime.visible import visible_files

Record = dict[str, Any]
FORMAT = "textflow trajectory 1"
REQUIRED_KEYS = (
    *("model_class", "checkpoint", "checkpoint_hash", "method", "methods", "sampling", "times", "steps", "seed"),
    *("index", "sample_seed", "device", "length", "text", "ids", "calls", "token_texts"),
)


def read_trajectory(path: Path) -> Record:
    """Read a record; raise ValueError if the file is invalid."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is not a trajectory record: {error}") from error
    format_name = record.get("format") if isinstance(record, dict) else type(record).__name__
    if format_name != FORMAT:
        raise ValueError(f"{path} is not a trajectory record: found {format_name!r}, it needs the format {FORMAT!r}")
    if missing := [name for name in REQUIRED_KEYS if name not in record]:
        raise ValueError(f"{path} is incomplete: {', '.join(missing)} missing; delete it and rerun textflow report")
    if not is_valid(record):
        raise ValueError(f"{path} has incomplete calls; delete it and rerun textflow report")
    return record


def is_valid(record: Record) -> bool:
    """True if every call has a token, a margin and a commitment per position, and every token text is a string."""
    types: dict[str, type] = {"ids": list, "calls": list, "methods": list, "token_texts": dict, "sampling": dict}
    types |= dict.fromkeys(("model_class", "method", "text", "checkpoint", "checkpoint_hash"), str)
    types |= dict.fromkeys(("seed", "index", "steps", "sample_seed"), int)
    if not all(isinstance(record[name], kind) for name, kind in types.items()):
        return False
    n, calls, prompt_ids = len(record["ids"]), record["calls"], record.get("prompt_ids")
    rows = [call.get(name) for call in calls if isinstance(call, dict) for name in ("ids", "committed", "margin")]
    return (
        len(rows) == 3 * len(calls) > 0
        and (prompt_ids is None or (is_row(prompt_ids, n) and all(isinstance(i, int) for i in prompt_ids)))
        and all(isinstance(text, str) for text in record["token_texts"].values())
        and all(isinstance(call.get("t"), int | float) for call in calls)
        and all(is_row(row, n) for row in rows)
        and all(isinstance(part, dict | float | int | None) for part in record["sampling"].values())
    )


def is_row(row: Any, n: int) -> bool:
    """True for a list of n numbers."""
    return isinstance(row, list) and len(row) == n and all(isinstance(value, int | float) for value in row)


def read_trajectories(run: Path) -> tuple[list[Record], list[str]]:
    """Readable records of a run folder, and the errors of the others."""
    records, errors = [], []
    for path in visible_files(run / "trajectories", "*.json"):
        try:
            records.append(read_trajectory(path) | {"file": str(path)})
        except ValueError as error:
            errors.append(str(error))
    return records, errors


def weights_hash(run: Path) -> str | None:
    """Hash (16 hex digits) of a run's weights; None if there are none."""
    path = run / "model.safetensors"
    return sha256(path)[:16] if path.is_file() else None


def is_complete(run: Path, num_samples: int, steps: int, seed: int) -> bool:
    """True if each of the first n samples is recorded under all its methods with the run's current weights.

    Args:
        run: run folder.
        num_samples: number of samples.
        steps: number of sampling steps.
        seed: random seed for sampling.
    """
    if num_samples == 0:
        return True
    key = weights_hash(run), steps, seed
    records, _ = read_trajectories(run)
    records = [each for each in records if (each["checkpoint_hash"], each["steps"], each["seed"]) == key]
    recorded = {(record["method"], record["index"]) for record in records}
    needed = {(method, i) for record in records for method in record["methods"] for i in range(num_samples)}
    return bool(needed) and needed <= recorded
