"""Distillation rounds: student recipes, each an overlay on the teacher's recipe."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from jsonargparse import Namespace

from textflow.config.recipe import parse, split_arguments
from textflow.config.schema import SECTIONS
from textflow.config.shipped import find_recipe, find_run
from textflow.config.strict_yaml import load_yaml
from textflow.config.validation import validate_recipe


def student_recipe(arguments: Sequence[str]) -> Namespace:
    """The distillation recipe: the teacher's recipe overlaid with the student's.

    Args:
        arguments: command-line arguments, e.g. ["recipes/small/elf_pd.yaml", "--teacher", "checkpoints/elf"].
    """
    names, rest = split_arguments(arguments)
    files = [str(find_recipe(name)) for name in names]
    options = [part for word in rest for part in (word.split("=", 1) if word.startswith("--teacher=") else [word])]
    runs = [value for word, value in pairwise(options) if word == "--teacher" and value][::-1]  # the last wins
    runs += [run for file in reversed(files) if (run := load_yaml(Path(file)).get("teacher"))]
    if not files or not runs:
        raise ValueError("distill needs a recipe and a teacher: textflow distill RECIPE --teacher RUN")
    folder = find_run(runs[0])
    base = folder / "recipe.yaml"
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
    config.teacher = str(folder)
    config.codec, objective_args = None, config.model.init_args.objective.init_args
    if "teacher_objective" in objective_args and objective_args.teacher_objective is None:
        objective_args.teacher_objective = teacher_objective(teacher.model)
    complete_residual(config.model.init_args, teacher.model.init_args)
    return config


def complete_residual(student: Namespace, teacher: Namespace) -> None:
    """Give a student ResidualFlowMap the net and path of its teacher; a student of one that names no other net gets its
    inner net.

    Args:
        student: arguments of the student's model, which are changed.
        teacher: arguments of the teacher's model.
    """
    own, theirs = student.get("net"), teacher.get("net")
    if own is None or own.class_path.rpartition(".")[2] != "ResidualFlowMap":
        return
    if own == theirs:
        student.net = own.init_args.net.clone()
        student.net.init_args.loss_weighting = False
        return
    if "loss_weighting" not in theirs.init_args:
        raise ValueError(f"a ResidualFlowMap needs a teacher whose net is DiT; this one has {theirs.class_path}")
    own.init_args.teacher, own.init_args.net, own.init_args.path = theirs.clone(), theirs.clone(), teacher.path
    options = own.init_args.net.init_args
    options.two_time = options.loss_weighting = True


def teacher_objective(model: Namespace) -> Namespace:
    """The objective of a teacher's `model` section; if the teacher is itself a student, that of its own teacher."""
    objective = model.init_args.objective
    return objective.init_args.get("teacher_objective") or objective


def round_recipes(config: Namespace) -> Iterator[tuple[int, int, Namespace]]:
    """Student steps, teacher substeps and recipe of each round; a student for any number of steps has one round."""
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
        if (target := objective.get("target")) and "substeps" in target.get("init_args", {}):
            target.init_args.substeps = substeps
        for callback in own.trainer.callbacks or []:
            if "num_steps" in callback.get("init_args", {}):  # diagnose at the student's steps; at least 2 are needed
                callback.init_args.num_steps = max(steps, 2)
        own.run.wandb_group = config.run.wandb_group or folder.name
        own.run.folder = str(folder / (f"steps-{steps}" if "steps" in objective else "all-steps"))
        validate_recipe(own, SECTIONS)
        yield steps, substeps, own
