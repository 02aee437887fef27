"""Recipes: YAML files that name every part of a run; read, checked and written here."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

import textflow.diagnostics
import textflow.models.autoencoder
import textflow.models.causal_lm
import textflow.models.discrete_diffusion  # noqa: F401  what a recipe may name by its short name
from textflow.config.errors import explain, nearest
from textflow.config.trust import refuse_code
from textflow.config.validation import making, refuse
from textflow.data import DataModule
from textflow.models.base import Trainable
from textflow.training import Trainer


@dataclass
class Run:
    """Where a run lives and what it leaves behind.

    Args:
        folder: of the run; default: checkpoints/<name of the recipe>.
        save_every: optimizer steps between checkpoints.
        keep: training states kept.
        samples_every: optimizer steps between sample texts.
        samples: texts each time, and printed at the end.
        wandb: log to Weights & Biases (offline where no key is configured).
        project: its project there.
        group: of runs there; `textflow distill` groups its rounds.
    """

    folder: str | None = None
    save_every: int = 500
    keep: int = 2
    samples_every: int = 500
    samples: int = 8
    wandb: bool = True
    project: str = "textflow"
    group: str | None = None


SECTIONS = {"run": Run, "data": DataModule, "trainer": Trainer}  # and the classes that take their keys


PLACE = ("accelerator", "devices", "num_nodes", "strategy")  # where a codec is trained, as what is built on it


@cache
def parser() -> ArgumentParser:
    """The parser of recipes: files by --config, keys by --key value. Made once: it takes longer than a small recipe."""
    parser = ArgumentParser(prog="textflow fit", exit_on_error=False, default_env=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="recipe or overlay; later ones win")
    parser.add_argument("--seed", type=int, default=0, help="of order, noise and weights")
    parser.add_argument(
        "--codec", type=str | None, help="recipe of the codec, fitted first, or the run of a trained one"
    )
    parser.add_argument("--teacher", type=str | None, help="run of the teacher that students learn from")
    parser.add_argument(
        "--rounds", type=list[tuple[int, int]] | None, help="student's steps and teacher's substeps of each round"
    )
    parser.add_argument(
        "--passes", type=list[int] | None, help="numbers of steps that students are judged at; default: their own"
    )
    parser.add_class_arguments(Run, "run")
    parser.add_class_arguments(DataModule, "data", skip={"seed"})
    parser.add_argument("--model", type=Callable[[int], Trainable], required=True, help="what is trained")
    parser.add_class_arguments(Trainer, "trainer")
    return parser


def read(words: Sequence[str]) -> Namespace:
    """A checked recipe from the words of a command line: files first, then --key value.

    Args:
        words: e.g. ["recipes/quickstart.yaml", "recipes/on/cpu.yaml", "--seed", "1"].
    """
    count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    files, rest = list(words[:count]), list(words[count:])
    if not files:
        raise ValueError("no recipe: name one, such as recipes/quickstart.yaml (`textflow recipes` lists them)")
    if taught := [file for file in files if {"rounds", "teacher"} & set(tree_of(find(file)))]:
        raise ValueError(f"{taught[0]} teaches students: textflow distill {taught[0]} --teacher RUN")
    config = parsed(files, rest)
    if config.run.folder is None:
        config.run.folder = f"checkpoints/{Path(files[0]).stem}"
    refuse(config, SECTIONS)
    if config.codec and config.codec.endswith((".yaml", ".yml")) and not Path(config.codec).is_file():
        config.codec = str(find(str(Path(files[0]).parent / config.codec)))
    return config


def parsed(files: Sequence[str], rest: Sequence[str] = ()) -> Namespace:
    """What recipes and overlays say together; later ones win.

    Args:
        files: recipe, overlays.
        rest: --key value.
    """
    checker = parser()
    refuse_code([word.partition("=")[2] or word for word in rest], "the command line")
    for file in files:
        refuse_unknown_sections(find(file), checker)
    arguments = [part for file in files for part in ("--config", str(find(file)))]
    try:
        return checker.parse_args([*arguments, *rest])
    except ArgumentError as error:
        raise ValueError(explain(str(error), checker)) from error


def tree_of(file: Path) -> dict[str, Any]:
    """A recipe's file as it stands."""
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{file} holds {type(tree).__name__}, a recipe is a mapping: data, model, trainer ...")
    refuse_code(tree, str(file))
    return tree


def refuse_unknown_sections(file: Path, checker: ArgumentParser) -> None:
    """An unknown key at the top of a recipe is an error, even where there is nothing below it."""
    tree = tree_of(file)
    known = sorted({action.dest.split(".")[0] for action in checker._actions} - {"help", "config", "print_config"})
    for key in tree:
        if str(key).split(".")[0] not in known:
            hint = nearest(str(key), known, 0.4) or f"; the sections are {', '.join(known)}"
            raise ValueError(f"{file}: unknown key {key!r}{hint}")
        if key in SECTIONS and tree[key] is None:
            raise ValueError(f"{file}: {key} is empty; give its keys, each with a value, or leave it out")
        if key in SECTIONS and not isinstance(tree[key], dict):
            raise ValueError(f"{file}: {key} holds {str(tree[key])[:40]!r}; its keys are needed, each with a value")


def find(file: str) -> Path:
    """The recipe of this name; the error names the nearest."""
    path = Path(file)
    if path.is_file():
        return path
    known = {p.name: p for p in (*Path("recipes").rglob("*.yaml"), *path.parent.glob("*.yaml"))}
    near = difflib.get_close_matches(path.name, known, 1, 0.5)
    hint = f"; did you mean {known[near[0]]}?" if near else "; `textflow recipes` lists those in recipes"
    raise ValueError(f"no recipe {file}{hint}")


def build(config: Namespace) -> tuple[DataModule, Trainable, Trainer]:
    """The parts of a checked recipe; the data is prepared, the weights are fresh."""
    quiet = config.clone()
    for extra in ("progress_bar", "checkpointing", "model_summary"):
        quiet.trainer[f"enable_{extra}"] = False  # ours replace Lightning's
    quiet.trainer.default_root_dir = config.run.folder
    with making():
        made = parser().instantiate(quiet)
    made.data.seed = config.seed
    made.data.prepare_data()
    with making():
        model = made.model(made.data.vocab)
    model.tokenizer, model.length, model.given = made.data.tokenizer, config.data.length, config.data.given
    return made.data, model, made.trainer


def data_of(data: Any) -> DataModule:
    """The data module that the part `data` of a recipe describes; a cache that is not there is not made: a run may come
    from elsewhere.

    Args:
        data: a mapping or a namespace.
    """
    refuse_code(data.as_dict() if isinstance(data, Namespace) else data, "the recipe's data")
    small = ArgumentParser(exit_on_error=False)
    small.add_class_arguments(DataModule, "data")
    part = small.parse_object({"data": data})
    if part.data.cache and not (Path(part.data.cache).expanduser() / "rows").is_dir():
        part.data.cache = None
    return small.instantiate_classes(part).data


def opened(data: Any, stage: str = "validate") -> DataModule:
    """`data_of`, prepared, its rows open.

    Args:
        data: a mapping or a namespace.
        stage: of `DataModule.setup`.
    """
    module = data_of(data)
    module.prepare_data()
    module.setup(stage)
    return module


def write(config: Namespace) -> str:
    """The resolved recipe as YAML; it was checked when it was read."""
    return parser().dump(config, skip_none=True, skip_validation=True)


def load_model(text: str, vocab: int, where: str = "the recipe") -> tuple[Trainable, Namespace]:
    """The model of a resolved recipe, with fresh weights, and the recipe.

    Args:
        text: YAML.
        vocab: of its tokenizer.
        where: it stands, for an error.
    """
    checker = parser()
    refuse_code(text, where)
    try:
        config = checker.parse_string(text)
    except ArgumentError as error:
        raise ValueError(f"{where}: {explain(str(error), checker)}") from error
    only = Namespace(model=config.model)  # type: ignore[no-untyped-call]
    small = ArgumentParser(exit_on_error=False)
    small.add_argument("--model", type=Callable[[int], Trainable])
    with making():
        return small.instantiate(only).model(vocab), config


def codec_of(config: Namespace, folder: Path) -> Namespace:
    """The recipe of another's codec: its own model and trainer, the other's seed, data, codec and devices.

    Args:
        config: with a recipe under the key `codec`.
        folder: of the codec's run.
    """
    outer, tree = yaml.safe_load(write(config)), tree_of(find(config.codec))
    tree |= {
        "seed": outer["seed"],
        "data": outer["data"],
        "run": outer["run"] | tree.get("run", {}) | {"folder": str(folder)},
    }
    there = {key: outer["trainer"][key] for key in PLACE if key in outer["trainer"]}
    tree["trainer"] = there | tree.get("trainer", {})
    tree["model"].setdefault("init_args", {})["codec"] = outer["model"]["init_args"]["codec"]
    checker = parser()
    try:
        inner = checker.parse_object(tree)
    except ArgumentError as error:
        raise ValueError(f"{config.codec}: {explain(str(error), checker)}") from error
    refuse(inner, SECTIONS)
    return inner
