"""A part takes only its own arguments where a recipe, an overlay or an option replaces one of another class by it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import _typehints

from tests.helpers.tiny_recipe import write_recipe
from textflow.config import recipe
from textflow.config.parser import without_arguments_of_replaced_parts

pytestmark = pytest.mark.integration  # parses several recipes

REINJECT = {"sampler": {"class_path": "Reinject", "init_args": {"gamma": 0.25}}}
NARROW = {"path": {"class_path": "LinearPath", "init_args": {"t_min": 0.1, "t_max": 0.9}}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with arguments of a sampler and a path."""
    path = write_recipe(tmp_path_factory.mktemp("base"))
    tree = yaml.safe_load(path.read_text())
    tree["model"]["init_args"] |= REINJECT | NARROW
    path.write_text("# base\n" + yaml.safe_dump(tree))
    return path


def parsed(base: Path, parts: dict[str, Any], *options: str) -> Any:
    """Arguments of the model of the base with an overlay."""
    overlay = base.with_name("overlay.yaml")
    overlay.write_text(yaml.safe_dump({"model": {"init_args": parts}}))
    return recipe.load_recipe([str(base), str(overlay), *options]).model.init_args


def test_an_overlay_replaces_a_part_with_its_arguments(base: Path) -> None:
    parts = parsed(base, {"sampler": "FlowMapChurn", "path": {"class_path": "VariancePreserving"}})
    assert parts.sampler.init_args.gamma == 0.5
    assert (parts.path.init_args.t_min, parts.path.init_args.t_max) == (-14.5, 14.5)


def test_an_overlay_of_the_same_class_changes_what_it_names_only(base: Path) -> None:
    for name in ("LinearPath", "textflow.paths.LinearPath"):
        own = parsed(base, {"path": {"class_path": name, "init_args": {"t_max": 0.8}}}).path.init_args
        assert (own.t_min, own.t_max) == (0.1, 0.8)


def test_an_option_replaces_a_part_with_its_arguments(base: Path) -> None:
    parts = parsed(base, {"cfg_scale": 1.0}, "--model.sampler", "FlowMapChurn", "--model.path=VariancePreserving")
    assert (parts.sampler.init_args.gamma, parts.path.init_args.t_min) == (0.5, -14.5)


def test_a_recipe_takes_nothing_from_a_default_of_another_class(base: Path) -> None:
    for tokenizer in ("WordLevel", {"class_path": "WordLevel"}):  # the default is a SentencePiece of 4,096 ids
        tree = yaml.safe_load(base.read_text(encoding="utf-8"))
        tree["data"]["tokenizer"] = tokenizer
        assert recipe.recipe_parser().parse_object(tree).data.tokenizer.init_args.vocab_size == 256


def test_other_parsers_are_left_as_they_are() -> None:
    before = _typehints.discard_init_args_on_class_path_change
    with without_arguments_of_replaced_parts():
        assert _typehints.discard_init_args_on_class_path_change is not before
    assert _typehints.discard_init_args_on_class_path_change is before
