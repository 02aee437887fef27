"""Plan of a league: its text, its systems and what each may use."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from textflow.config import recipe as recipes
from textflow.config.errors import suggestion
from textflow.config.shipped import find_recipe
from textflow.config.strict_yaml import load_yaml
from textflow.data.stories import GRAMMARS, GrammarName
from textflow.eval.protocol import is_of_stories
from textflow.runtime.atomic import atomic_write_json

from .adapt import Tree, count_padding, drop_curriculum, fit_row_length

SYSTEMS = {
    "quickstart": "recipes/quickstart.yaml",
    "langflow": "recipes/small/langflow.yaml",
    "fastdiss": "recipes/small/fastdiss.yaml",
    "flm": "recipes/small/flm.yaml",
    "elf": "recipes/small/elf.yaml",
    "cosmos": "recipes/small/cosmos.yaml",
    "codar": "recipes/small/codar.yaml",
    "diladiff": "recipes/small/diladiff.yaml",
    "cola": "recipes/small/cola.yaml",
    "mdlm": "recipes/small/mdlm.yaml",
    "loopholing": "recipes/small/loopholing.yaml",
    "duo": "recipes/small/duo.yaml",
    "ar": "recipes/small/ar.yaml",
}
LEARNING_RATES = (0.25, 0.5, 1.0)  # tried, in units of the recipe's
SPLIT = {"files": "null", "val_fraction": "0.02", "scorer_holdout": "0"}
SEARCH_SHARE = 0.2  # part of the final fit that a fit of the search runs, from its first step
SEARCH = (
    f"the first {SEARCH_SHARE:.0%} of the fit at {', '.join(f'{factor:g}' for factor in LEARNING_RATES)} times the "
    "recipe's learning rate"
)
CODEC_SHARE = 0.3  # share of a codec that is fitted first in the minutes of its system


@dataclass(frozen=True)
class LeagueConfig:
    """Settings that a league keeps while it is resumed.

    Args:
        data: overlay of the text, by name below recipes/data or by path.
        minutes: processor minutes of one thread for each system's final fit with its codec, above 0.
        seed: random seed of the fits and the samples, >= 0.
    """

    data: str
    minutes: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 < self.minutes < math.inf or self.seed < 0:
            raise ValueError(f"--minutes {self.minutes:g}, --seed {self.seed}: need minutes above 0 and a seed >= 0")

    @property
    def overlay(self) -> str:
        """Path of the overlay."""
        is_file = self.data.endswith((".yaml", ".yml"))
        return str(find_recipe(self.data if is_file else f"recipes/data/{self.data}.yaml"))

    @property
    def split_options(self) -> list[str]:
        """Options that give every recipe one text and split, where the overlay leaves them open."""
        own = load_yaml(Path(self.overlay)).get("data") or {}
        return [word for key, value in SPLIT.items() if key not in own for word in (f"--data.{key}", value)]

    def bind(self, folder: Path) -> None:
        """Write the settings to FOLDER/league.json; raise a ValueError if the folder has others."""
        path, own = folder / "league.json", asdict(self)
        known = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else own
        if changed := [f"{key} {known.get(key)} -> {own[key]}" for key in own if known.get(key) != own[key]]:
            problem = f"{folder} holds a league of other settings: {', '.join(changed)}"
            raise ValueError(f"{problem}; restore them to resume it, or choose another folder with --out")
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, own)


@dataclass(frozen=True)
class Entrant:
    """System of a league.

    Args:
        name: name of the system and of its folder.
        recipe: path of its recipe.
        tree: resolved recipe on the league's text.
        codec_tree: resolved recipe of the codec that is fitted first; None without one.
        folder: folder of its fits.
    """

    name: str
    recipe: str
    tree: Tree
    codec_tree: Tree | None
    folder: Path

    @property
    def grammar(self) -> GrammarName:
        """Grammar of the stories."""
        return self.tree["data"]["source"].get("init_args", {}).get("grammar", "stories")

    @property
    def recipe_hash(self) -> str:
        """Hash (16 hex digits) of the resolved recipes and of the grammar's words."""
        text = json.dumps([self.tree, self.codec_tree, GRAMMARS[self.grammar].digest], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def learning_rate(self) -> float:
        """Learning rate of the recipe."""
        return self.tree["model"]["init_args"]["optimizer"]["init_args"]["lr"]

    @property
    def learning_rates(self) -> list[float]:
        """Learning rates of the search."""
        return [self.learning_rate * factor for factor in LEARNING_RATES]

    @property
    def criterion(self) -> str:
        """Logged value that the search minimises."""
        return "likelihood/nll" if bound_callbacks(self.tree) else "val/loss"

    def minutes(self, total: float) -> float:
        """Processor minutes of the final fit, without the codec."""
        return total * (1 - CODEC_SHARE) if self.codec_tree else total


def find_systems(names: str | None) -> dict[str, str]:
    """Recipes by system.

    Args:
        names: names of systems or paths of recipes, separated by commas; None: all of SYSTEMS.
    """
    if names is None:
        return dict(SYSTEMS)
    found = dict[str, str]()
    for word in filter(None, (word.strip() for word in names.split(","))):
        is_file, name = word.endswith((".yaml", ".yml")), Path(word).stem
        if not is_file and word not in SYSTEMS:
            hint = suggestion(word, SYSTEMS) or f"; known are {', '.join(SYSTEMS)}"
            raise ValueError(f"no system {word!r}{hint}, or give the path of a recipe, such as recipes/small/ar.yaml")
        if name in found:
            raise ValueError(f"two systems have the name {name}; leave one out, or rename its recipe")
        found[name] = word if is_file else SYSTEMS[word]
    if not found:
        raise ValueError(f"no system: give some of {', '.join(SYSTEMS)} with --systems")
    return found


def read_entrant(name: str, recipe: str, config: LeagueConfig, out: Path) -> Entrant:
    """Read a system's recipe with the league's text; raise a ValueError where a league cannot train or score it."""
    folder = out / name
    try:
        options = ["--seed", str(config.seed), "--run.folder", str(folder / "fit"), *config.split_options]
        parsed = recipes.load_recipe([recipe, config.overlay, *options])
        before = recipes.load_recipe([recipe]).data.seq_length
        own = None
        if parsed.codec and parsed.codec.endswith((".yaml", ".yml")):
            own = to_tree(recipes.codec_recipe(parsed, folder / "codec"))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    tree = to_tree(parsed)
    require_stories(tree, config.data)
    count_padding(tree["model"])
    drop_curriculum(tree["model"])
    for each in filter(None, (tree, own)):
        fit_row_length(each, before)
    if "lr" not in tree["model"]["init_args"].get("optimizer", {}).get("init_args", {}):
        raise ValueError(f"{name}: {recipe} has no model.optimizer.lr, which a league searches; set it there")
    return Entrant(name, recipe, tree, own, folder)


def to_tree(config: Any) -> Tree:
    """Resolved recipe as plain data."""
    return dict(yaml.safe_load(recipes.dump(config)))


def require_stories(tree: Tree, data: str) -> None:
    """Raise a ValueError for a text without a known law."""
    if not is_of_stories(tree["data"]) or tree["data"].get("files"):
        raise ValueError(
            f"--data {data} is not text of the source Stories, whose truth a league knows; compare systems on other "
            "text by textflow reproduce systems RUN [RUN ...]"
        )


def bound_callbacks(tree: Tree) -> list[Tree]:
    """Callbacks of a recipe that log a bound of the likelihood."""
    callbacks: list[Tree] = tree["trainer"].get("callbacks") or []
    return [callback for callback in callbacks if callback["class_path"].endswith("TextLikelihood")]
