"""Recipes: read, check and write the YAML files that configure a run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from textflow.config.errors import explain_parser_error, suggestion
from textflow.config.parser import RecipeParser
from textflow.config.paths import replace_text
from textflow.config.schema import SECTIONS, recipe_parser
from textflow.config.shipped import find_recipe
from textflow.config.strict_yaml import load_yaml, refuse_duplicates
from textflow.config.trust import join_key, refuse_code
from textflow.config.validation import part_errors, validate_recipe
from textflow.data import DataModule
from textflow.models.base import Trainable
from textflow.models.text_format import TextFormat
from textflow.training import Trainer

DEVICE_KEYS = ("accelerator", "devices", "num_nodes", "strategy")  # a codec trains on the devices of its model


def load_recipe(arguments: Sequence[str]) -> Namespace:
    """A validated recipe from command-line arguments: files first, then --key value.

    Args:
        arguments: e.g. ["recipes/small/elf.yaml", "recipes/hardware/cpu.yaml", "--seed", "1"].
    """
    files, rest = split_arguments(arguments)
    if not files:
        raise ValueError("no recipe: name one, such as recipes/small/elf.yaml (`textflow recipes` lists them)")
    if students := [file for file in files if {"rounds", "teacher"} & set(load_yaml(find_recipe(file)))]:
        raise ValueError(
            f"{students[0]} is a distillation recipe; use textflow distill {quote(students[0])} --teacher RUN"
        )
    config = parse(files, rest)
    if config.run.folder is None:
        config.run.folder = f"checkpoints/{Path(files[0]).stem}"
    validate_recipe(config, SECTIONS)
    if config.codec and config.codec.endswith((".yaml", ".yml")) and not Path(config.codec).is_file():
        sibling = find_recipe(files[0]).parent / config.codec
        config.codec = str(sibling if sibling.is_file() else find_recipe(config.codec))
    return config


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files at the beginning of command-line arguments, and the options after them."""
    count = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    return list(arguments[:count]), list(arguments[count:])


def parse(files: Sequence[str], overrides: Sequence[str] = ()) -> Namespace:
    """Parse a recipe with overlays and overrides; later ones win.

    Args:
        files: paths or names of the recipe and its overlays, in order.
        overrides: command-line overrides, --key value.
    """
    checker = recipe_parser()
    for key, value in split_overrides(overrides):
        refuse_code(value, "the command line", key)
        refuse_duplicates(value, f"--{key}")
        if key == "config":
            refuse_unknown_sections(find_recipe(value), checker)
    for file in files:
        refuse_unknown_sections(find_recipe(file), checker)
    arguments = [part for file in files for part in ("--config", str(find_recipe(file)))]
    try:
        return checker.parse_args([*arguments, *overrides])
    except ArgumentError as error:
        raise ValueError(explain_parser_error(str(error), checker)) from error


def split_overrides(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Keys, without init_args, and values of options --key value and --key=value."""
    key = ""
    for word in overrides:
        if word.startswith("--"):
            name, equals, word = word[2:].partition("=")
            key = join_key("", name.removesuffix("+"))
            if not equals:
                continue
        yield key, word


def refuse_unknown_sections(file: Path, checker: ArgumentParser) -> None:
    """Reject unknown top-level keys of a recipe, also those with an empty value."""
    tree = load_yaml(file)
    if not tree:
        raise ValueError(f"{file} is empty; a recipe needs keys, and `textflow recipes --copy quickstart` copies one")
    known = sorted({action.dest.split(".")[0] for action in checker._actions} - {"help", "config", "print_config"})
    for key in tree:
        if str(key).split(".")[0] not in known:
            hint = suggestion(str(key), known, 0.4) or f"; the sections are {', '.join(known)}"
            raise ValueError(f"{file}: unknown key {key!r}{hint}")
        if key in SECTIONS and tree[key] is None:
            raise ValueError(f"{file}: {key} is empty; give its keys, each with a value, or leave it out")
        if key in SECTIONS and not isinstance(tree[key], dict):
            raise ValueError(f"{file}: {key} holds {str(tree[key])[:40]!r}; its keys are needed, each with a value")


def instantiate(config: Namespace) -> tuple[DataModule, Trainable, Trainer]:
    """Data module, model and trainer of a validated recipe, with data prepared and weights newly initialised."""
    config = config.clone()
    sampler = (config.as_dict()["model"].get("init_args") or {}).get("sampler")
    if isinstance(sampler, dict) and str(sampler.get("class_path")).endswith(".ACE"):
        raise ValueError(
            "the sampler ACE steers a trained run: fit without it, then lay recipes/sampler/ace.yaml over it"
        )
    for extra in ("progress_bar", "checkpointing", "model_summary"):
        config.trainer[f"enable_{extra}"] = False  # textflow's callbacks replace Lightning's
    config.trainer.default_root_dir = config.run.folder
    with part_errors():
        made = recipe_parser().instantiate(config)
    data = made.data
    data.seed = config.seed
    data.prepare_data()
    with part_errors():
        model = made.model(data.vocab_size)
    model.text_format = TextFormat(
        data.tokenizer, config.data.seq_length, config.data.max_source_length, config.data.pack
    )
    return data, model, made.trainer


def make_data(data: Namespace | Mapping[str, Any]) -> DataModule:
    """The data module of a `data` section. A missing cache folder is ignored: the run may be of another machine."""
    refuse_code(data.as_dict() if isinstance(data, Namespace) else data, "the recipe's data", "data")
    small = RecipeParser(exit_on_error=False)
    small.add_class_arguments(DataModule, "data")
    part = small.parse_object({"data": data})
    if part.data.cache and not (Path(part.data.cache).expanduser() / "rows").is_dir():
        part.data.cache = None
    return replace_text(small.instantiate_classes(part).data)


def open_data(data: Namespace | Mapping[str, Any], stage: str = "validate") -> DataModule:
    """Make the data module of a `data` section, prepare its data and open its rows for a stage (fit, validate)."""
    module = make_data(data)
    module.prepare_data()
    module.setup(stage)
    return module


def dump(config: Namespace) -> str:
    """The resolved recipe as YAML, not validated again."""
    return recipe_parser().dump(config, skip_none=True, skip_validation=True)


def codec_recipe(config: Namespace, folder: Path) -> Namespace:
    """The recipe that trains a codec: its own model and trainer, with the seed, data and devices of the outer recipe.

    Args:
        config: outer recipe, whose key `codec` names the codec's recipe.
        folder: run folder of the codec.
    """
    outer, tree = yaml.safe_load(dump(config)), load_yaml(find_recipe(config.codec))
    run = outer["run"] | tree.get("run", {}) | {"folder": str(folder)}
    tree |= {"seed": outer["seed"], "data": outer["data"], "run": run}
    devices = {key: outer["trainer"][key] for key in DEVICE_KEYS if key in outer["trainer"]}
    tree["trainer"] = devices | tree.get("trainer", {})
    tree["model"].setdefault("init_args", {})["codec"] = outer["model"]["init_args"]["codec"]
    checker = recipe_parser()
    try:
        inner = checker.parse_object(tree)
    except ArgumentError as error:
        raise ValueError(f"{config.codec}: {explain_parser_error(str(error), checker)}") from error
    validate_recipe(inner, SECTIONS)
    return inner
