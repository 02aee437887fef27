"""The training states of a run folder: RUN/state/step-00000500/{state.pt, sha256.json}, whole or not there at all."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning_utilities.core.rank_zero import rank_zero_warn
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

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
        """Reads one file, whoever wrote it, with weights_only=True."""
        return torch.load(path, map_location=map_location, weights_only=True)


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
    for state in reversed(states(run)):
        if (fault := damage(state)) is None:
            return state / FILE
        rank_zero_warn(f"{state} is damaged ({fault}); ignored")
    return None


def damage(state: Path) -> str | None:
    """What is wrong with a state folder, or None if it is as it was written."""
    try:
        sums = json.loads((state / SUMS).read_text())
        if FILE not in sums:
            return f"{SUMS} does not name {FILE}"
        for name, expected in sums.items():
            if _digest(state / name) != expected:
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
    sums = {str(p.relative_to(tmp)): _digest(p) for p in sorted(tmp.rglob("*")) if p.is_file()}
    with open(tmp / SUMS, "w") as file:
        json.dump(sums, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    _sync(tmp)
    if final.exists():
        shutil.rmtree(final)  # the same step, damaged or from a run that was set back
    os.rename(tmp, final)
    _sync(final.parent)
    if (fault := damage(final)) is not None:
        raise OSError(f"{final} does not read back as it was written ({fault}); check the disk")
    return final


def prune(run: Path, step: int, keep: int) -> None:
    """Removes all states but the newest `keep` up to a step: older ones, later ones of a run set back, torn ones."""
    past = [state for state in states(run) if step_of(state) <= step]
    for state in states(run):
        if state not in past[-keep:]:
            shutil.rmtree(state)
    for torn in (run / "state").glob(".step-*.tmp"):
        shutil.rmtree(torn)


def write_weights(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, str]) -> None:
    """A safetensors file that replaces the one before only when it is whole on the disk.

    Args:
        path: of the file.
        tensors: its contents.
        note: its metadata.
    """

    def write(tmp: Path) -> None:
        try:
            save_file(dict(tensors), tmp, metadata={"format": "pt", **note})
        except SafetensorError as error:
            raise OSError(errno.EIO, str(error), str(tmp)) from error

    replace(path, write)


def replace(path: Path, write: Callable[[Path], None]) -> None:
    """Writes beside a file, waits for the disk, renames over it.

    Args:
        path: of the file.
        write: called with the path to write to.
    """
    tmp = path.with_name(f".{path.name}.tmp")
    write(tmp)
    with open(tmp, "rb") as file:
        os.fsync(file.fileno())
    os.replace(tmp, path)
    _sync(path.parent)


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


def _digest(path: Path) -> str:
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
