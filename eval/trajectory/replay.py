"""Replaying: a recorded trajectory is walked again, and compared with what the record says."""

import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml

from textflow.run_folder import load

from ..oracle.methods import Times
from ..report.trajectory_files import of_weights, read
from .record import PLACE, Record, place, row_of, told
from .trace import walk


def again(file: Path, run: Path | None = None, device: Any = None) -> tuple[Record, Record]:
    """A record, and the same sample walked again from what the record says alone.

    Args:
        file: RUN/trajectories/*.json.
        run: folder of the weights; default: that which the file lies in, else the one that the record names.
        device: cpu, cuda or mps; default: the record's.
    """
    said = read(file)
    folder = run or next((p for p in (file.absolute().parent.parent, Path(said["checkpoint"])) if of_weights(p)), None)
    held = None if folder is None else of_weights(folder)
    if folder is None or held is None:
        raise ValueError(
            f"{file} was made by {said['checkpoint']}, which has no weights here; name a RUN that has them"
        )
    if held != said["checkpoint_hash"]:
        raise ValueError(
            f"{file} was made with weights {said['checkpoint_hash']}, but {folder} holds {held}: it was trained on or"
            " is another run; name the RUN that made it"
        )
    with tempfile.TemporaryDirectory() as beside:
        overlay = Path(beside) / "parts.yaml"
        overlay.write_text(yaml.safe_dump({"model": {"init_args": said["parts"]}}), encoding="utf-8")
        model: Any = load(folder, device or here(said, file), [str(overlay)])
    grid = None if said["times"] is None else Times(said["times"])
    given = said.get("given")
    made = walk(model, said["stream"], said["asked"], grid, said["length"], row_of(given))
    return said, {**place(model), **told(model, made, given)}


def here(said: Record, file: Path) -> str:
    """The device of a record, if there is one of its kind."""
    if str(said["device"]).startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"{file} was made on {said['device']}, which is not here; try --device cpu, its last bits differ"
        )
    return str(said["device"])


def differences(said: Record, now: Record) -> list[str]:
    """Where a way walked again leaves the recorded one; empty if it is the same to the last digit.

    Args:
        said: the record.
        now: of `again`.
    """
    found = []
    if len(said["calls"]) != len(now["calls"]):
        found.append(f"{len(said['calls'])} calls were recorded, now there are {len(now['calls'])}")
    for name in ("t", "ids", "chosen", "lead"):
        pairs = [(a[name], b[name]) for a, b in zip(said["calls"], now["calls"], strict=False)]
        if away := next(((k, a, b) for k, (a, b) in enumerate(pairs) if a != b), None):
            found.append(f"{name} first at call {away[0] + 1}{where(*away[1:])}")
    found += [name for name in ("ids", "text") if said[name] != now[name]]
    if found and (
        moved := [f"{name} {said.get(name)} -> {now[name]}" for name in PLACE if said.get(name) != now[name]]
    ):
        found.append("made elsewhere: " + ", ".join(moved))
    return found


def where(was: Any, now: Any) -> str:
    """The first position in which two rows differ, and how."""
    if not isinstance(was, list) or len(was) != len(now):
        return f" ({was} -> {now})"
    at = next(i for i, (a, b) in enumerate(zip(was, now, strict=True)) if a != b)
    return f", position {at + 1} ({was[at]} -> {now[at]})"


def replayed(file: Path, run: Path | None = None, device: Any = None) -> str:
    """The text of a record, made again; a ValueError names where it differs.

    Args:
        file: RUN/trajectories/*.json.
        run: folder of the weights; default: that which the file lies in, else the one that the record names.
        device: cpu, cuda or mps; default: the record's.
    """
    said, now = again(file, run, device)
    if found := differences(said, now):
        raise ValueError(f"{file} is not reproduced here: {'; '.join(found)}")
    return str(now["text"])
