"""The model of a resolved recipe. Neither its trainer nor its data are read, so neither is imported."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

import yaml
from jsonargparse import ArgumentError, Namespace

from textflow.config.errors import explain_parser_error
from textflow.config.parser import RecipeParser
from textflow.config.strict_yaml import parse_yaml, read_mapping
from textflow.config.trust import refuse_code
from textflow.config.validation import part_errors
from textflow.models.base import Trainable

MODELS = ("autoencoder", "causal_lm", "discrete_diffusion", "generator")


def load_model(recipe_yaml: str, vocab_size: int, origin: str = "the recipe") -> Trainable:
    """The model of a resolved recipe, with newly initialised weights.

    Args:
        recipe_yaml: resolved recipe as YAML text.
        vocab_size: number of token ids.
        origin: source of the recipe, for error messages.
    """
    return build_model(read_mapping(recipe_yaml, origin), vocab_size, origin)


def build_model(tree: Mapping[str, Any], vocab_size: int, origin: str) -> Trainable:
    """The model of a resolved recipe that is read already, as `load_model`."""
    config = parse_models([tree], origin)
    with part_errors():
        return model_parser().instantiate(config).model(vocab_size)


def parse_models(trees: Sequence[Mapping[str, Any]], origin: str) -> Namespace:
    """The parsed model of a recipe with overlays; later ones win.

    Args:
        trees: the recipe and its overlays, of which only keys of the model are read.
        origin: source of the recipes, for error messages.
    """
    parts = [{key: value for key, value in tree.items() if is_of_model(key)} for tree in trees]
    for part in parts:
        refuse_code(part, origin)
    if "." not in class_path(parts[0].get("model")):
        import_models()  # a recipe that is not resolved may name a model by its short name
    try:
        return parse_texts(tuple(yaml.safe_dump(part, sort_keys=False) for part in parts)).clone()
    except ArgumentError as error:
        raise ValueError(f"{origin}: {explain_parser_error(str(error), model_parser())}") from error


def class_path(model: object) -> str:
    """The class that a section `model` names, or an empty string."""
    name = model.get("class_path") if isinstance(model, dict) else model
    return name if isinstance(name, str) else ""


def import_models() -> None:
    """Import all models of textflow, so that a recipe may name each by its short name."""
    for name in MODELS:
        import_module(f"textflow.models.{name}")


def is_of_model(key: object) -> bool:
    """True for the section `model`, or a key below it that is written with dots."""
    return str(key).split(".")[0] == "model"


def dump_model(config: Namespace) -> dict[str, Any]:
    """The resolved section `model` of a parsed model, not validated again."""
    text = model_parser().dump(config, skip_none=True, skip_validation=True)
    section: dict[str, Any] = parse_yaml(text)["model"]
    return section


@lru_cache(maxsize=16)
def parse_texts(texts: tuple[str, ...]) -> Namespace:
    """Parse model sections. Cached, since parsing is slow and a command may load the same run several times."""
    return model_parser().parse_args([word for text in texts for word in ("--config", text)])


@cache
def model_parser() -> RecipeParser:
    """The parser of the section `model`."""
    parser = RecipeParser(prog="textflow", exit_on_error=False, default_env=False, allow_abbrev=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--model", type=Callable[[int], Trainable], required=True)
    return parser
