"""Sections and keys of a recipe, and the parser that checks them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace, _typehints

import textflow.diagnostics  # noqa: F401  what a recipe may name by its short name, as the following
import textflow.models.autoencoder  # noqa: F401
import textflow.models.causal_lm  # noqa: F401
import textflow.models.discrete_diffusion  # noqa: F401
import textflow.models.feature_autoencoder  # noqa: F401
import textflow.models.masked_autoencoder  # noqa: F401
from textflow.data import DataModule
from textflow.models.base import Trainable
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


SECTIONS = {"run": RunConfig, "data": DataModule, "trainer": Trainer}  # section: the class that takes its keys


class RecipeParser(ArgumentParser):
    """The parser of recipes, which reads files as UTF-8 in every locale. Where a recipe, an overlay or an option names
    another class than the part below it, that part's arguments are dropped."""

    def parse_args(self, *args: Any, **options: Any) -> Namespace:  # type: ignore[override]
        """Parse command-line arguments."""
        with without_arguments_of_replaced_parts():
            return super().parse_args(*args, **options)

    def parse_object(self, *args: Any, **options: Any) -> Namespace:
        """Parse a tree."""
        with without_arguments_of_replaced_parts():
            return super().parse_object(*args, **options)

    def parse_string(self, *args: Any, **options: Any) -> Namespace:
        """Parse a recipe as YAML text."""
        with without_arguments_of_replaced_parts():
            return super().parse_string(*args, **options)

    def parse_path(self, path: str | os.PathLike[str], **options: Any) -> Namespace:
        """Parse a recipe file."""
        return self.parse_string(Path(path).read_text(encoding="utf-8"), path, **options)


@contextmanager
def without_arguments_of_replaced_parts() -> Iterator[None]:
    """Drop all arguments of a part that one of another class replaces; jsonargparse keeps those that both can take,
    and has no setting for it."""
    keep_common = _typehints.discard_init_args_on_class_path_change
    _typehints.discard_init_args_on_class_path_change = drop_arguments
    try:
        yield
    finally:
        _typehints.discard_init_args_on_class_path_change = keep_common


def drop_arguments(parser: Any, before: Any, after: Any) -> None:
    """Remove the arguments of the part `before` if the part `after` in its place is of another class."""
    if before and "init_args" in before and before["class_path"] != after["class_path"]:
        before.pop("init_args")


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
