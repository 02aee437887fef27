"""The training states of a run folder: RUN/state/step-00000500/{state.pt, sha256.json}, whole or not there at all."""

import json
import os
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning_utilities.core.rank_zero import rank_zero_warn

from textflow.runtime.atomic import content, settle

FILE, SUMS = "state.pt", "sha256.json"


class StateIO(TorchCheckpointIO):
    """Writes a state straight to disk and waits for the disk; reads back plain data only, never code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes one file; a full disk is an OSError."""
        with open(path, "wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch hides the OSError behind its own
                raise _hidden(error) from error
            file.flush()
            os.fsync(file.fileno())

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Reads one file, whoever wrote it, with weights_only=True; a state that holds code is refused."""
        try:
            return torch.load(path, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{path} holds more than tensors and plain data, so it is not opened; it was not written by textflow:"
                " remove its folder to go on from the state before it"
            ) from error


def folder_of(run: Path, step: int) -> Path:
    """Where the state of a step stands."""
    return run / "state" / f"step-{step:08d}"


def states(run: Path) -> list[Path]:
    """The folders named as states, oldest first, whole or not."""
    return sorted(p for p in (run / "state").glob("step-*") if re.fullmatch(r"step-\d+", p.name))


def step_of(state: Path) -> int:
    """The number of optimizer steps in a state folder's name."""
    return int(state.name.removeprefix("step-"))


def latest(run: Path) -> Path | None:
    """The newest whole state.pt of a run, or None; torn or damaged states are named in a warning and passed over.

    Args:
        run: the run folder.
    """
    for torn in sorted((run / "state").glob(".step-*.tmp")):
        rank_zero_warn(f"{torn} was cut off while it was written; ignored")
    there = states(run)
    for state in reversed(there):
        if (fault := damage(state)) is None:
            return state / FILE
        older = there[: there.index(state)]
        way = f"the one before it, {older[-1].name}, is tried" if older else "there is no other to go on from"
        rank_zero_warn(f"{state} is damaged ({fault}); ignored: {way}")
    return None


def damage(state: Path) -> str | None:
    """What is wrong with a state folder, or None if it is as it was written."""
    try:
        sums = json.loads((state / SUMS).read_text())
        if not any(name.split("/")[0] == FILE for name in sums):  # sharded strategies write a folder
            return f"{SUMS} does not name {FILE}"
        for name, expected in sums.items():
            if content(state / name) != expected:
                return f"{name} does not have the checksum in {SUMS}"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return str(error)
    return None


def unfinished(run: Path, step: int) -> Path:
    """Where the state of a step is written before it is renamed into place."""
    return run / "state" / f".step-{step:08d}.tmp"


def begin(run: Path, step: int) -> None:
    """Makes an empty folder to write the state of a step into."""
    discard(run, step)
    unfinished(run, step).mkdir(parents=True)


def discard(run: Path, step: int) -> None:
    """Removes what was written of a state that could not be finished."""
    shutil.rmtree(unfinished(run, step), ignore_errors=True)


def finish(run: Path, step: int) -> Path:
    """Checksums, waits for the disk, renames the folder into place, reads it again."""
    tmp, final = unfinished(run, step), folder_of(run, step)
    _readable(tmp)
    files = [path for path in sorted(tmp.rglob("*")) if path.is_file()]
    (tmp / SUMS).write_text(json.dumps({path.relative_to(tmp).as_posix(): content(path) for path in files}, indent=1))
    for path in (*files, tmp / SUMS, tmp):
        settle(path)
    if final.exists():
        shutil.rmtree(final)  # the same step, damaged or from a run that was set back
    os.rename(tmp, final)
    settle(final.parent)
    if (fault := damage(final)) is not None:
        raise OSError(f"{final} does not read back as it was written ({fault}); check the disk")
    return final


def prune(run: Path, step: int, keep: int) -> None:
    """Removes all states but the newest `keep` whole ones up to a step: what a run set back left, too.

    Args:
        run: the run folder.
        step: whose state was just read back whole.
        keep: states kept, at least 1; a damaged one takes no one's place.
    """
    kept = [folder_of(run, step)]
    for state in reversed([state for state in states(run) if step_of(state) < step]):
        if len(kept) < keep and damage(state) is None:
            kept.append(state)
    for state in states(run):
        if state not in kept:
            remove(state)
    for torn in (run / "state").glob(".step-*.tmp"):
        remove(torn)


def remove(folder: Path) -> None:
    """Removes a folder; one that another reads, on a shared disk, is left for the next time."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        rank_zero_warn(f"{folder} is no longer needed and cannot be removed yet: {error}")


def _readable(tmp: Path) -> None:
    """Fails now rather than at the resume if a part of the state is more than plain data."""
    if (tmp / FILE).is_file():  # sharded strategies write a folder of their own
        try:
            torch.load(tmp / FILE, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(
                "the training state holds more than tensors and plain data, so it could not be read back safely;"
                f" give the callback or data module at fault a state_dict of plain data ({reason})"
            ) from error


def _hidden(error: BaseException) -> BaseException:
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, OSError):
        seen = seen.__context__
    return seen or error
