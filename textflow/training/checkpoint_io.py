"""Training states of a run folder, written atomically: RUN/state/step-00000500/{state.pt, sha256.json}."""

import json
import os
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from textflow.runtime.atomic import atomic_write, checksums, files_under, fsync, sha256
from textflow.runtime.rank_zero import rank_zero_warn

STATE_FILE, CHECKSUM_FILE = "state.pt", "sha256.json"


class SafeCheckpointIO(TorchCheckpointIO):
    """Write a state with fsync; read plain data only, never pickled code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Path | str, storage_options: Any = None) -> None:
        """Write one file; a full disk raises OSError."""
        with open(path, "wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch hides the OSError behind its own
                raise _underlying_os_error(error) from error
            file.flush()
            os.fsync(file.fileno())

    def load_checkpoint(
        self, path: Path | str, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read one file with weights_only=True; a state with pickled code is rejected."""
        try:
            return torch.load(path, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{path} holds more than tensors and plain data, so it is not opened; it was not written by textflow:"
                " remove its folder to resume from the previous state"
            ) from error


def state_folder(run: Path, step: int) -> Path:
    """Folder of the training state of a step."""
    return run / "state" / f"step-{step:08d}"


def list_states(run: Path) -> list[Path]:
    """All state folders, oldest first, intact or damaged."""
    return sorted(p for p in (run / "state").glob("step-*") if re.fullmatch(r"step-\d+", p.name))


def step_of(state: Path) -> int:
    """The number of optimizer steps in a state folder's name."""
    return int(state.name.removeprefix("step-"))


def latest_state(run: Path) -> Path | None:
    """The newest intact state.pt of a run, or None; incomplete and damaged states are skipped with a warning."""
    for incomplete in sorted((run / "state").glob(".step-*.tmp")):
        rank_zero_warn(f"{incomplete} was cut off while it was written; ignored")
    states = list_states(run)
    while states:
        state = states.pop()
        if (damage := find_damage(state)) is None:
            return state / STATE_FILE
        older = (
            f"the previous state, {states[-1].name}, is tried" if states else "there is no other state to resume from"
        )
        rank_zero_warn(f"{state} is damaged ({damage}); ignored: {older}")
    return None


def find_damage(state: Path) -> str | None:
    """Description of the damage to a state folder, or None if it is intact."""
    try:
        checksums = json.loads((state / CHECKSUM_FILE).read_text(encoding="utf-8"))
        if not any(name.split("/")[0] == STATE_FILE for name in checksums):  # sharded strategies write a folder
            return f"{CHECKSUM_FILE} does not name {STATE_FILE}"
        for name, expected in checksums.items():
            if sha256(state / name) != expected:
                return f"{name} does not have the checksum in {CHECKSUM_FILE}"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return str(error)
    return None


def unfinished_folder(run: Path, step: int) -> Path:
    """Temporary folder of a state, renamed into place when complete."""
    return run / "state" / f".step-{step:08d}.tmp"


def begin_state(run: Path, step: int) -> None:
    """Create an empty temporary folder for the state of a step."""
    discard_state(run, step)
    unfinished_folder(run, step).mkdir(parents=True)


def discard_state(run: Path, step: int) -> None:
    """Remove the temporary folder of an incomplete state."""
    shutil.rmtree(unfinished_folder(run, step), ignore_errors=True)


def finish_state(run: Path, step: int) -> Path:
    """Write checksums, fsync, rename the folder into place and verify it."""
    tmp, final = unfinished_folder(run, step), state_folder(run, step)
    _check_readable(tmp)
    (tmp / CHECKSUM_FILE).write_text(json.dumps(checksums(tmp), indent=1), encoding="utf-8")
    for path in (*files_under(tmp), tmp):
        fsync(path)
    if final.exists():
        shutil.rmtree(final)  # the same step, damaged or from before the run was reset to an earlier step
    os.rename(tmp, final)
    fsync(final.parent)
    if (damage := find_damage(final)) is not None:
        raise OSError(f"{final} does not read back as it was written ({damage}); check the disk")
    return final


def prune_states(run: Path, step: int, keep_last_n: int) -> None:
    """Remove all states except that of a step, which was just verified, and the newest intact ones before it.

    Args:
        run: run folder.
        step: optimizer step; states of later steps are removed too.
        keep_last_n: number of intact states to keep, at least 1.
    """
    states = list_states(run)
    retained = [state_folder(run, step)]
    for state in reversed(states):
        if step_of(state) < step and len(retained) < keep_last_n and find_damage(state) is None:
            retained.append(state)
    for folder in (*states, *(run / "state").glob(".step-*.tmp")):
        if folder not in retained:
            try:
                shutil.rmtree(folder)
            except OSError as error:  # in use by another process on a shared disk
                rank_zero_warn(f"{folder} is no longer needed and cannot be removed yet: {error}")


def check_writable(run: Path) -> None:
    """Raise an OSError if no state can be written to a run folder."""
    try:
        (run / "state").mkdir(parents=True, exist_ok=True)
        atomic_write(run / "state" / "writable", lambda path: path.touch())
        (run / "state" / "writable").unlink()
    except OSError as error:
        raise save_error(run, "in the run folder", error) from error


def save_error(run: Path, what: str, error: OSError) -> OSError:
    """The error of a failed save, with the states that are left."""
    states = list_states(run) if run.is_dir() else []
    intact = [state.name for state in states if find_damage(state) is None]
    last = f"the checkpoint before it, {intact[-1]}, is untouched" if intact else "there is no checkpoint yet"
    advice = "Free some space or make the folder writable, then run the same command again"
    return OSError(error.errno, f"cannot save {what}: {error.strerror or error}; {last}. {advice}", str(run))


def _check_readable(tmp: Path) -> None:
    """Fail at save time rather than on resume if the state is not plain data."""
    if (tmp / STATE_FILE).is_file():  # sharded strategies write a folder of their own
        try:
            torch.load(tmp / STATE_FILE, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(
                "the training state holds more than tensors and plain data, so it could not be read back safely;"
                f" give the callback or data module at fault a state_dict of plain data ({reason})"
            ) from error


def _underlying_os_error(error: BaseException) -> BaseException:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    return cause or error
