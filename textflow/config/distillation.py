"""Distillation rounds: student recipes, each an overlay on the teacher's recipe."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from jsonargparse import Namespace

from textflow.config.recipe import SECTIONS, find_recipe, load_yaml, parse
from textflow.config.validation import import_class, validate_recipe
from textflow.objectives.elf import ELFObjective


def student_recipe(arguments: Sequence[str]) -> Namespace:
    """The distillation recipe: the teacher's recipe overlaid with the student's.

    Args:
        arguments: command-line arguments, e.g. ["recipes/quickstart_pd.yaml", "--teacher", "checkpoints/quickstart"].
    """
    count = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    files, rest = [str(find_recipe(word)) for word in arguments[:count]], list(arguments[count:])
    options = [part for word in rest for part in (word.split("=", 1) if word.startswith("--teacher=") else [word])]
    runs = [value for word, value in pairwise(options) if word == "--teacher" and value][::-1]  # the last wins
    trees = [load_yaml(Path(file)) for file in files]
    runs += [tree["teacher"] for tree in reversed(trees) if tree.get("teacher")]
    if not files or not runs:
        raise ValueError("distill needs a recipe and a teacher: textflow distill RECIPE --teacher RUN")
    base = Path(runs[0]) / "recipe.yaml"
    if not base.is_file():
        raise ValueError(
            f"{runs[0]} holds no trained run to learn from ({base.name} is missing): fit the teacher first"
        )
    teacher, config = parse([str(base)]), parse([str(base), *files], rest)
    if not config.rounds:
        raise ValueError(f"{files[0]} has no rounds: set rounds: [[8, 4], [4, 8]], student steps and teacher substeps")
    if config.run.folder == teacher.run.folder:
        if any(word.partition("=")[0] == "--run.folder" for word in rest):
            raise ValueError(
                f"--run.folder {config.run.folder} is the teacher's run folder; choose another for the students"
            )
        config.run.folder = f"checkpoints/{Path(files[0]).stem}"
    config.codec, objective = None, config.model.init_args.objective
    if "teacher_objective" in objective.init_args and objective.init_args.teacher_objective is None:
        objective.init_args.teacher_objective = teacher_objective(teacher.model, runs[0])
    return config


def teacher_objective(model: Namespace, run_folder: str) -> Namespace:
    """The objective of a teacher; if the teacher is itself a student, the objective of its own teacher.

    Args:
        model: `model` section of the teacher's recipe.
        run_folder: run folder of the teacher, for error messages.
    """
    taught = model.init_args.get("objective")
    taught = (taught and taught.init_args.get("teacher_objective")) or taught
    if not taught or not issubclass(import_class(taught.class_path), ELFObjective):
        kind = (taught or model).class_path.rpartition(".")[2]
        raise ValueError(f"students need a teacher that ELFObjective trained, but {run_folder} learned by {kind}")
    return taught


def round_recipes(config: Namespace) -> Iterator[tuple[int, int, Namespace]]:
    """Student steps, teacher substeps and recipe of each round; a student for any number of steps has a single round.

    Args:
        config: distillation recipe with all rounds.
    """
    rounds, folder = config.rounds, Path(config.run.folder)
    if len({steps for steps, _ in rounds}) < len(rounds):
        raise ValueError(f"rounds {rounds}: each needs its own number of steps, which names its folder")
    if "steps" not in config.model.init_args.objective.init_args and len(rounds) > 1:
        kind = config.model.init_args.objective.class_path.split(".")[-1]
        raise ValueError(f"{kind} trains one student for steps of any length and needs one round, but has {rounds}")
    for steps, substeps in rounds:
        own = config.clone()
        objective = own.model.init_args.objective.init_args
        if "steps" in objective:
            objective.steps = steps
        if "target" in objective and "substeps" in objective.target.get("init_args", {}):
            objective.target.init_args.substeps = substeps
        for callback in own.trainer.callbacks or []:
            if "num_steps" in callback.get(
                "init_args", {}
            ):  # diagnose at the student's own step count; at least 2 are needed
                callback.init_args.num_steps = max(steps, 2)
        own.run.wandb_group = config.run.wandb_group or folder.name
        own.run.folder = str(folder / (f"steps-{steps}" if "steps" in objective else "all-steps"))
        validate_recipe(own, SECTIONS)
        yield steps, substeps, own
