"""Rounds: the recipes of students, each laid over its teacher's."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from textflow.recipe import find, parsed, tree_of


def student(words: Sequence[str]) -> Namespace:
    """The checked recipe of students: their teacher's recipe with theirs laid over it.

    Args:
        words: e.g. ["recipes/quickstart_pd.yaml", "--teacher", "checkpoints/quickstart"].
    """
    count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    files, rest = [str(find(word)) for word in words[:count]], list(words[count:])
    named = [rest[i + 1] for i, word in enumerate(rest[:-1]) if word == "--teacher"]
    trees = [tree_of(Path(file)) for file in files]
    named += [tree["teacher"] for tree in reversed(trees) if tree.get("teacher")]
    if not files or not named:
        raise ValueError("distill needs a recipe and a teacher: textflow distill RECIPE --teacher RUN")
    base = Path(named[0]) / "recipe.yaml"
    if not base.is_file():
        raise ValueError(
            f"{named[0]} holds no trained run to learn from ({base.name} is missing): fit the teacher first"
        )
    teacher, config = parsed([str(base)]), parsed([str(base), *files], rest)
    if not config.rounds:
        raise ValueError(f"{files[0]} names no rounds: give rounds: [[8, 4], [4, 8]], student's steps and substeps")
    if config.run.folder == teacher.run.folder:
        config.run.folder = f"checkpoints/{Path(files[0]).stem}"
    config.codec, objective = None, config.model.init_args.objective
    if "like" in objective.init_args and objective.init_args.like is None:
        objective.init_args.like = teacher.model.init_args.objective
    return config


def round_of(config: Namespace, steps: int, substeps: int) -> Namespace:
    """The recipe of one round.

    Args:
        config: of all rounds.
        steps: of the student.
        substeps: of the teacher in one of them; for targets that take some.
    """
    own = config.clone()
    objective = own.model.init_args.objective.init_args
    objective.steps = steps
    if "substeps" in objective.target.init_args:
        objective.target.init_args.substeps = substeps
    own.run.folder = str(Path(config.run.folder) / f"steps-{steps}")
    return own
