"""Sections and keys of a recipe, and the parser that checks them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from jsonargparse import ArgumentParser

from textflow.config.model import import_models
from textflow.config.parser import RecipeParser
from textflow.data import DataModule
from textflow.models.base import Trainable
from textflow.runtime.lazy import import_names
from textflow.training import Trainer


@dataclass
class RunConfig:
    """Run folder, checkpoint and sampling intervals, and Weights & Biases settings.

    Args:
        folder: run folder; checkpoints/<recipe name> by default.
        save_every: optimizer steps between checkpoints, at least 1.
        keep_checkpoints: number of newest training states to keep, at least 1.
        sample_every: optimizer steps between sample texts, at least 1.
        num_samples: number of sample texts, at each interval and printed at the end; at least 1.
        wandb: log to Weights & Biases; logs are offline unless an API key is configured.
        wandb_project: Weights & Biases project.
        wandb_group: Weights & Biases group; by default `textflow distill` groups its rounds and `fit` sets none.
    """

    folder: str | None = None
    save_every: int = 500
    keep_checkpoints: int = 2
    sample_every: int = 500
    num_samples: int = 8
    wandb: bool = True
    wandb_project: str = "textflow"
    wandb_group: str | None = None


import_models()  # a recipe may name each class that is imported by its short name
for package in ("data", "diagnostics", "training"):
    import_names(f"textflow.{package}")
SECTIONS = {"run": RunConfig, "data": DataModule, "trainer": Trainer}  # section: the class that takes its keys


@cache
def recipe_parser() -> ArgumentParser:
    """The recipe parser: files by --config, keys by --key value. Cached, since building it is slow."""
    parser = RecipeParser(prog="textflow fit", exit_on_error=False, default_env=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="recipe or overlay; later ones win")
    parser.add_argument("--seed", type=int, default=0, help="random seed for initial weights, data order and noise")
    parser.add_argument("--codec", type=str | None, help="codec recipe, fitted first, or run folder of a trained codec")
    parser.add_argument("--teacher", type=str | None, help="run folder of the teacher")
    rounds_help = "student steps and teacher substeps, one pair per round"
    parser.add_argument("--rounds", type=list[tuple[int, int]] | None, help=rounds_help)
    steps_help = "numbers of sampling steps to evaluate students at; default: their own"
    parser.add_argument("--eval_steps", type=list[int] | None, help=steps_help)
    parser.add_class_arguments(RunConfig, "run")
    parser.add_class_arguments(DataModule, "data", skip={"seed"})
    parser.add_argument("--model", type=Callable[[int], Trainable], required=True, help="model to train")
    parser.add_class_arguments(Trainer, "trainer")
    return parser
