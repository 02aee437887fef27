"""The recipes and overlays of the tree, loaded with a small tokenizer and built without memory."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace

from textflow.config import overlays, recipe
from textflow.config.model import load_model
from textflow.data import DataModule
from textflow.models.base import Trainable

ROOT = Path(__file__).parents[2]
TREES = {str(p.relative_to(ROOT)): yaml.safe_load(p.read_text()) for p in sorted((ROOT / "recipes").rglob("*.yaml"))}
CODECS = {str(Path(name).parent / tree["codec"]) for name, tree in TREES.items() if "codec" in tree}
STUDENTS = [name for name, tree in TREES.items() if "teacher" in tree]  # overlays of a teacher's recipe
SECOND_STAGES = ["recipes/student/fmlm_stage2.yaml"]  # overlays of a student's recipe
STUDENT_OVERLAYS = [
    name for name in TREES if Path(name).parent == Path("recipes/student") and name not in {*STUDENTS, *SECOND_STAGES}
]
SPECIAL = {*CODECS, *STUDENTS, *SECOND_STAGES, *STUDENT_OVERLAYS}
FOLDERS = (Path("recipes"), Path("recipes/small"))  # of whole recipes
BASES = [name for name in TREES if Path(name).parent in FOLDERS and name not in SPECIAL]
OVERLAYS = [name for name in TREES if name not in {*BASES, *SPECIAL}]
OPTIONS = ("--data.tokenizer", "SentencePiece", "--data.tokenizer.vocab_size", "320", "--seed", "7")


def places(tree: Mapping[str, Any], words: int = 2) -> set[str]:
    """The first words of the keys of an overlay, such as model.net."""
    return {".".join(key.split(".")[:words]) for key, _ in overlays.flatten(tree)}


def together(names: list[str], words: int = 2) -> list[tuple[str, ...]]:
    """Overlays in groups that have no common place, since parsing each is slow.

    Args:
        names: overlays by their path.
        words: how many words of a key are its place.
    """
    groups: list[tuple[list[str], set[str]]] = [([], set()) for _ in names]
    for name in names:
        own = places(TREES[name], words)
        members, taken = next(group for group in groups if not group[1] & own)
        members.append(name)
        taken |= own
    return [tuple(members) for members, _ in groups if members]


@cache
def load(*files: str, options: tuple[str, ...] = OPTIONS) -> Namespace:
    """A recipe with a small tokenizer; parsing is slow, so that each is parsed once."""
    return recipe.load_recipe([*files, *options])


@cache
def dump(*files: str) -> str:
    return recipe.dump(load(*files))


@cache
def data_parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(DataModule, "data", skip={"seed"})
    return parser


def build(config: Namespace) -> tuple[DataModule, Trainable]:
    """Data and model, without text and without memory; the saved recipe is read back equal."""
    data, text = data_parser().instantiate(Namespace(data=config.data)).data, recipe.dump(config)
    with torch.device("meta"):
        model = load_model(text, data.vocab_size)
    assert recipe.dump(recipe.recipe_parser().parse_string(text)) == text
    return data, model


def flatten(config: Namespace) -> dict[str, Any]:
    return dict(overlays.flatten(yaml.load(recipe.dump(config), getattr(yaml, "CSafeLoader", yaml.SafeLoader))))


def changed_keys(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {key for key in {*before, *after} if before.get(key) != after.get(key)}
