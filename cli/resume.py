"""A run's folder: one job writes into it, and goes on only with what it has begun with."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any


@contextmanager
def alone(run: Path) -> Iterator[None]:
    """Holds a run folder: two fits do not write into one. The other ranks of a fit come in behind the first."""
    from filelock import FileLock, Timeout

    if not leads():
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(f"another `textflow fit` is writing into {run}; name another --run.folder") from error
    try:
        yield
    finally:
        lock.release()


def leads() -> bool:
    """Whether this process is the first of its job, on all machines, by what Lightning, torchrun or srun say."""
    job = ["RANK"] if os.environ.get("RANK") else ["NODE_RANK", "GROUP_RANK", "SLURM_PROCID"]
    return not any(int(os.environ.get(rank) or 0) for rank in ("LOCAL_RANK", *job))


def resume_point(run: Path, text: str) -> Path | None:
    """The state to continue from; a run of another recipe is refused."""
    from textflow.training import latest

    state = latest(run) if run.is_dir() else None
    saved = run / "recipe.yaml"
    if state and saved.is_file() and (changed := changes(saved, text)):
        more = f" and {len(changed) - 8} more keys" if len(changed) > 8 else ""
        raise ValueError(
            f"{run} holds a run of another recipe: {'; '.join(changed[:8])}{more}. Name another folder with "
            "--run.folder, or take these keys back to continue it"
        )
    if not state and (run / "model.safetensors").is_file():
        raise ValueError(
            f"{run} holds trained weights but no whole training state to go on from, and is not overwritten: "
            "name another folder with --run.folder, or remove it"
        )
    return state


def changes(saved: Path, text: str) -> list[str]:
    """In what the recipe of a run differs from another; a damaged one is an error."""
    from textflow.config import recipe
    from textflow.config.overlays import differences
    from textflow.config.trust import Untrusted

    try:
        if not recipe.tree_of(saved):
            raise ValueError("it is empty")
        return differences(saved.read_text(encoding="utf-8"), text)
    except Untrusted:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{saved} is damaged ({error}); remove it to go on with the recipe given") from error


def refuse_another_tokenizer(run: Path, tokenizer: Any) -> None:
    """A run goes on with the tokens that it has learned."""
    from textflow.data import Tokenizer

    try:
        known = Tokenizer.load(run / "tokenizer")
    except ValueError:  # missing or damaged: it is written anew
        return
    ids = [[i] for i in range(tokenizer.vocab) if i not in (tokenizer.eos, tokenizer.pad)]
    if known.vocab != tokenizer.vocab or known.words(ids) != tokenizer.words(ids):
        raise ValueError(
            f"the tokenizer of this recipe is not the one that {run} was trained with (its text has changed): give the"
            " text back to go on, or name another folder with --run.folder"
        )


def refuse_another_start(run: Path, origin: dict[str, Path]) -> None:
    """A round goes on with the teacher and from the start that it has begun with, which RUN/origin.json tells.

    Args:
        run: of the round; its folder is held.
        origin: runs whose averaged weights it takes.
    """
    from textflow.eval.report.trajectory_files import of_weights
    from textflow.runtime.atomic import replace_json
    from textflow.training.checkpoint_io import states

    held = {folder: of_weights(folder) for folder in {*origin.values()}}  # large files, which may be one
    if missing := next((folder for folder, hashed in held.items() if hashed is None), None):
        raise ValueError(f"{missing} holds no trained run: model.safetensors is missing; fit it first")
    now, place = {name: held[folder] for name, folder in origin.items()}, run / "origin.json"
    if not states(run) or not place.is_file():
        if leads():
            run.mkdir(parents=True, exist_ok=True)
            replace_json(place, now)
        return
    try:
        known = json.loads(place.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        known = None
    if not isinstance(known, dict) or known.keys() != now.keys():
        raise ValueError(f"{place} is damaged; remove it to go on with the runs as they are now")
    if other := next((name for name in now if known[name] != now[name]), None):
        raise ValueError(
            f"{run} has begun with other weights of its {other} than {origin[other]} holds now: remove {run} to teach"
            " this round anew, or name another --run.folder"
        )


def refuse_more_steps(rounds: Sequence[tuple[Path, int]]) -> None:
    """A round that another has begun from is not trained further.

    Args:
        rounds: run and number of steps of each, one after another.
    """
    from textflow.training.checkpoint_io import states, step_of

    for (run, steps), (after, _) in pairwise(rounds):
        done = max(map(step_of, states(run)), default=0)
        if states(after) and done < steps:
            raise ValueError(
                f"{after} has begun from {run} at step {done}, which is to be trained to step {steps}: remove {after}"
                " to teach it anew, or name another --run.folder"
            )
