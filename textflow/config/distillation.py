"""Rounds: the recipes of students, each laid over its teacher's."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from jsonargparse import Namespace

from textflow.config.recipe import SECTIONS, find, parsed, tree_of
from textflow.config.validation import named, refuse
from textflow.objectives.elf import ELFObjective


def student(words: Sequence[str]) -> Namespace:
    """The checked recipe of students: their teacher's recipe with theirs laid over it.

    Args:
        words: e.g. ["recipes/quickstart_pd.yaml", "--teacher", "checkpoints/quickstart"].
    """
    count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    files, rest = [str(find(word)) for word in words[:count]], list(words[count:])
    apart = [part for word in rest for part in (word.split("=", 1) if word.startswith("--teacher=") else [word])]
    runs = [then for word, then in pairwise(apart) if word == "--teacher" and then][::-1]  # the last wins
    trees = [tree_of(Path(file)) for file in files]
    runs += [tree["teacher"] for tree in reversed(trees) if tree.get("teacher")]
    if not files or not runs:
        raise ValueError("distill needs a recipe and a teacher: textflow distill RECIPE --teacher RUN")
    base = Path(runs[0]) / "recipe.yaml"
    if not base.is_file():
        raise ValueError(
            f"{runs[0]} holds no trained run to learn from ({base.name} is missing): fit the teacher first"
        )
    teacher, config = parsed([str(base)]), parsed([str(base), *files], rest)
    if not config.rounds:
        raise ValueError(f"{files[0]} names no rounds: give rounds: [[8, 4], [4, 8]], student's steps and substeps")
    if config.run.folder == teacher.run.folder:
        if any(word.partition("=")[0] == "--run.folder" for word in rest):
            raise ValueError(f"--run.folder {config.run.folder} is the teacher's own; name another for the students")
        config.run.folder = f"checkpoints/{Path(files[0]).stem}"
    config.codec, objective = None, config.model.init_args.objective
    if "like" in objective.init_args and objective.init_args.like is None:
        objective.init_args.like = likened(teacher.model, runs[0])
    return config


def likened(model: Namespace, run: str) -> Namespace:
    """The objective of a teacher, or the one that it was like, if it is a student.

    Args:
        model: of the teacher's recipe.
        run: of the teacher, for an error.
    """
    taught = model.init_args.get("objective")
    taught = (taught and taught.init_args.get("like")) or taught
    if not taught or not issubclass(named(taught.class_path), ELFObjective):
        kind = (taught or model).class_path.rpartition(".")[2]
        raise ValueError(f"students need a teacher that ELFObjective trained, but {run} learned by {kind}")
    return taught


def each(config: Namespace) -> Iterator[tuple[int, int, Namespace]]:
    """Student's steps, teacher's substeps and the recipe of every round; a student of any number of steps has one.

    Args:
        config: of all rounds.
    """
    rounds, folder = config.rounds, Path(config.run.folder)
    if len({steps for steps, _ in rounds}) < len(rounds):
        raise ValueError(f"rounds {rounds}: each needs its own number of steps, which names its folder")
    if "steps" not in config.model.init_args.objective.init_args and len(rounds) > 1:
        kind = config.model.init_args.objective.class_path.split(".")[-1]
        raise ValueError(f"a student of {kind} takes steps of any length: it needs one round, but has {rounds}")
    for steps, substeps in rounds:
        own = config.clone()
        objective = own.model.init_args.objective.init_args
        if "steps" in objective:
            objective.steps = steps
        if "target" in objective and "substeps" in objective.target.get("init_args", {}):
            objective.target.init_args.substeps = substeps
        for callback in own.trainer.callbacks or []:
            if "steps" in callback.get("init_args", {}):  # looks at the student as it is used; 1 step has no last time
                callback.init_args.steps = max(steps, 2)
        own.run.group = config.run.group or folder.name
        own.run.folder = str(folder / (f"steps-{steps}" if "steps" in objective else "all-steps"))
        refuse(own, SECTIONS)
        yield steps, substeps, own
