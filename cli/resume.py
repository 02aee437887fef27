"""Run folders: locking, and checks that a resumed run has the recipe, tokenizer and weights it started with."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any


@contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Lock a run folder against other fits; only the first process of a job takes the lock."""
    from filelock import Timeout

    from textflow.runtime.lock import hold_lock

    if not is_global_zero():
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    try:
        with hold_lock(run / ".lock", seconds=0):
            yield
    except Timeout as error:
        raise ValueError(f"another `textflow fit` is writing into {run}; choose another --run.folder") from error


def is_global_zero() -> bool:
    """True if this is the first process of a job on all machines, by the variables of Lightning, torchrun or srun."""
    job = ["RANK"] if os.environ.get("RANK") else ["NODE_RANK", "GROUP_RANK", "SLURM_PROCID"]
    return not any(int(os.environ.get(rank) or 0) for rank in ("LOCAL_RANK", *job))


def resume_point(run: Path, recipe_text: str) -> Path | None:
    """Find the training state to resume from; raise a ValueError for a run of another recipe."""
    from textflow.training import latest_state

    state = latest_state(run) if run.is_dir() else None
    saved = run / "recipe.yaml"
    if foreign := sorted(run.glob("hpc_ckpt_*.ckpt")):  # Lightning would load it in place of a state of textflow
        raise ValueError(
            f"{foreign[-1]} is a state that Lightning wrote when SLURM ended a job, and textflow continues from "
            f"{run}/state only: remove it, or choose another --run.folder"
        )
    if state and saved.is_file() and (changed := recipe_changes(saved, recipe_text)):
        more = f" and {len(changed) - 8} more keys" if len(changed) > 8 else ""
        raise ValueError(
            f"{run} holds a run of another recipe: {'; '.join(changed[:8])}{more}. Choose another folder with "
            "--run.folder, or restore these keys to resume the run"
        )
    if not state and (run / "model.safetensors").is_file():
        raise ValueError(
            f"{run} holds trained weights but no complete training state to resume from, and is not overwritten: "
            "choose another folder with --run.folder, or remove it"
        )
    return state


def check_max_steps(run: Path, state: Path, max_steps: int) -> None:
    """Raise a ValueError for a run that is trained beyond max_steps; print that a run is finished."""
    from textflow.training.checkpoint_io import step_of

    step = step_of(state.parent)
    if step > max_steps:
        raise ValueError(
            f"{run} is trained to step {step} already, and trainer.max_steps is {max_steps}: give at least {step}, or "
            "choose another --run.folder"
        )
    if step == max_steps and is_global_zero():
        print(f"{run} is finished at step {step}; a larger --trainer.max_steps extends it")


def recipe_changes(saved: Path, recipe_text: str) -> list[str]:
    """List the differences between a run's saved recipe and another; raise a ValueError if the saved one is damaged."""
    from textflow.config.overlays import differences
    from textflow.config.strict_yaml import load_yaml
    from textflow.config.trust import UntrustedCodeError

    try:
        if not load_yaml(saved):
            raise ValueError("it is empty")
        return differences(saved.read_text(encoding="utf-8"), recipe_text)
    except UntrustedCodeError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{saved} is damaged ({error}); remove it to resume with the given recipe") from error


def check_same_tokenizer(run: Path, tokenizer: Any) -> None:
    """Raise a ValueError unless a run's saved tokenizer maps ids to the same tokens."""
    from textflow.data import Tokenizer

    try:
        known = Tokenizer.load(run / "tokenizer")
    except ValueError:  # missing or damaged: it will be rewritten
        return
    ids = [[i] for i in range(tokenizer.vocab_size) if i not in (tokenizer.eos, tokenizer.pad)]
    if known.vocab_size != tokenizer.vocab_size or known.decode_ids(ids) != tokenizer.decode_ids(ids):
        raise ValueError(
            f"the tokenizer of this recipe is not the one that {run} was trained with (its text has changed): restore"
            " the text to resume, or choose another folder with --run.folder"
        )


def check_same_start(run: Path, sources: dict[str, Path]) -> None:
    """Check that a resumed round, already locked, has the teacher and initial weights of its RUN/origin.json."""
    from textflow.eval.report.trajectory_files import weights_hash
    from textflow.runtime.atomic import atomic_write_json
    from textflow.training.checkpoint_io import list_states

    hashes = {folder: weights_hash(folder) for folder in {*sources.values()}}  # read each large file once
    if missing := next((folder for folder, hashed in hashes.items() if hashed is None), None):
        raise ValueError(f"{missing} holds no trained run: model.safetensors is missing; fit it first")
    current, origin = {name: hashes[folder] for name, folder in sources.items()}, run / "origin.json"
    if not list_states(run) or not origin.is_file():
        if is_global_zero():
            run.mkdir(parents=True, exist_ok=True)
            atomic_write_json(origin, current)
        return
    try:
        known = json.loads(origin.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        known = None
    if not isinstance(known, dict) or known.keys() != current.keys():
        raise ValueError(f"{origin} is damaged; remove it to resume with the current runs")
    if other := next((name for name in current if known[name] != current[name]), None):
        raise ValueError(
            f"{run} started with other weights of its {other} than {sources[other]} has now: remove {run} to train"
            " this round again, or choose another --run.folder"
        )


def check_round_lengths(rounds: Sequence[tuple[Path, int]]) -> None:
    """Raise a ValueError for a round to be trained further after the next round has started from it."""
    from textflow.training.checkpoint_io import list_states, step_of

    for (run, steps), (after, _) in pairwise(rounds):
        done = max(map(step_of, list_states(run)), default=0)
        if list_states(after) and done < steps:
            raise ValueError(
                f"{after} started from {run} at step {done}, which is to be trained to step {steps}: remove {after}"
                " to train it again, or choose another --run.folder"
            )
