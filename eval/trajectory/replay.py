"""Replay of recorded trajectories, and comparison with the record."""

import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml

from textflow.models.generator import Generator
from textflow.run_folder import load

from ..oracle.methods import FixedGrid
from ..report.trajectory_files import read_trajectory, weights_hash
from .record import ENVIRONMENT_KEYS, Record, environment, prompt_tensor, trajectory_fields
from .trace import trace_sample


def replay(path: Path, run: Path | None = None, device: Any = None) -> tuple[Record, Record]:
    """Record, and the same sample regenerated from the record alone.

    Args:
        path: RUN/trajectories/*.json.
        run: folder of the weights; default: the folder of the file, else the one named in the record.
        device: cpu, cuda or mps; default: the record's.
    """
    record = read_trajectory(path)
    folders = (path.absolute().parent.parent, Path(record["checkpoint"]))
    folder = run or next(filter(weights_hash, folders), None)
    held = None if folder is None else weights_hash(folder)
    if folder is None or held is None:
        origin = record["checkpoint"]
        raise ValueError(f"{path} was made by {origin}, whose weights were not found; name a RUN that has them")
    if held != record["checkpoint_hash"]:
        raise ValueError(
            f"{path} was made with weights {record['checkpoint_hash']}, but {folder} holds {held}: it was trained on or"
            " is another run; name the RUN that made it"
        )
    with tempfile.TemporaryDirectory() as scratch:
        overlay = Path(scratch) / "parts.yaml"
        overlay.write_text(yaml.safe_dump({"model": {"init_args": record["sampling"]}}), encoding="utf-8")
        model: Any = load(folder, device or recorded_device(record, path), [str(overlay)])
    log_snr = isinstance(model, Generator) and model.path.log_snr
    grid = None if record["times"] is None else FixedGrid(record["times"], log_snr)
    prompt_ids, seed, steps = record.get("prompt_ids"), record["sample_seed"], record["steps"]
    trajectory = trace_sample(model, seed, steps, grid, record["length"], prompt_tensor(prompt_ids))
    return record, {**environment(model), **trajectory_fields(model, trajectory, prompt_ids)}


def recorded_device(record: Record, path: Path) -> str:
    """Device of a record; raise an error if it is not available."""
    if str(record["device"]).startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"{path} was made on {record['device']}, which is not available; try --device cpu, its rounding differs"
        )
    return str(record["device"])


def differences(record: Record, replayed: Record) -> list[str]:
    """Differences between a replayed trajectory and its record; empty if they are identical."""
    results = []
    if len(record["calls"]) != len(replayed["calls"]):
        results.append(f"{len(record['calls'])} calls were recorded, now there are {len(replayed['calls'])}")
    for name in ("t", "ids", "committed", "margin"):
        pairs = [(a[name], b[name]) for a, b in zip(record["calls"], replayed["calls"], strict=False)]
        if different := next(((k, a, b) for k, (a, b) in enumerate(pairs, 1) if a != b), None):
            results.append(f"{name} first at call {different[0]}{first_difference(*different[1:])}")
    results += [name for name in ("ids", "text") if record[name] != replayed[name]]
    changed = [key for key in ENVIRONMENT_KEYS if record.get(key) != replayed[key]]
    if results and changed:
        changes = (f"{key} {record.get(key)} -> {replayed[key]}" for key in changed)
        results.append("made elsewhere: " + ", ".join(changes))
    return results


def first_difference(was: Any, now: Any) -> str:
    """First position at which two rows differ, with both values."""
    if not isinstance(was, list) or len(was) != len(now):
        return f" ({was} -> {now})"
    i = next(i for i, (a, b) in enumerate(zip(was, now, strict=True)) if a != b)
    return f", position {i + 1} ({was[i]} -> {now[i]})"


def replay_text(path: Path, run: Path | None = None, device: Any = None) -> str:
    """Regenerate the text of a record; raise ValueError with the differences if it is not reproduced."""
    record, now = replay(path, run, device)
    if results := differences(record, now):
        raise ValueError(f"{path} is not reproduced here: {'; '.join(results)}")
    return str(now["text"])
