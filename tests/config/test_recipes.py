"""Every recipe parses and can be built; overlays change only the keys that they name."""

import inspect
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import Namespace

from tests.helpers.recipe_files import (
    BASES,
    CODECS,
    OVERLAYS,
    TREES,
    build,
    changed_keys,
    dump,
    flatten,
    load,
    together,
)
from textflow.cli.recipes import read_title
from textflow.config import overlays, recipe
from textflow.config.validation import import_class

pytestmark = pytest.mark.usefixtures("repository_root")


@cache
def elf_values() -> dict[str, Any]:
    return flatten(load("recipes/small/elf.yaml", options=()))


def test_there_are_recipes_of_every_kind() -> None:
    assert {"recipes/small/elf.yaml", "recipes/elf_b.yaml", "recipes/scorer.yaml"} <= set(BASES)
    assert "recipes/small/elf_codec.yaml" in CODECS and "recipes/hardware/cpu.yaml" in OVERLAYS


def test_each_recipe_starts_with_its_title() -> None:
    assert [name for name in TREES if not read_title(Path(name))] == []


def inherited(given: dict[str, Any], parsed: Any) -> list[str]:
    """Arguments of the parts that a recipe names whose values are neither given nor the class's own defaults: those of
    a default part of another class."""
    wrong = []
    for part, node in given.items():
        own = node.get("init_args") or {} if isinstance(node, dict) else {}
        names_class = isinstance(node, str) or (isinstance(node, dict) and "class_path" in node)
        if not names_class or "class_path" not in (found := parsed.get(part)):
            continue
        defaults = inspect.signature(import_class(found["class_path"])).parameters
        for key, value in vars(found.get("init_args") or Namespace()).items():
            plain = isinstance(defaults[key].default, int | float | str)
            wrong += [f"{part}.{key}"] if key not in own and plain and value != defaults[key].default else []
    return wrong


@pytest.mark.integration
@pytest.mark.parametrize("name", BASES)
def test_a_recipe_and_its_codec_can_be_built(name: str) -> None:
    config = load(name)
    data, model = build(config)
    assert data.vocab_size == 320 and data.row_format.seq_length == config.data.seq_length
    assert type(model).__name__ == config.model.class_path.split(".")[-1]
    assert any({320, 321} & {*p.shape} for p in model.parameters()) and all(p.is_meta for p in model.parameters())
    assert config.run.folder == f"checkpoints/{Path(name).stem}"
    assert inherited(TREES[name]["model"].get("init_args") or {}, config.model.init_args) == []
    if "codec" in TREES[name]:
        inner = recipe.codec_recipe(config, Path("elsewhere"))
        codec = build(inner)[1].net.state_dict()
        assert {k: v.shape for k, v in codec.items()} == {k: v.shape for k, v in model.codec.state_dict().items()}
        assert inner.data == config.data and inner.run.folder == "elsewhere"


@pytest.mark.integration
def test_a_saved_recipe_reads_back_equal(tmp_path: Path) -> None:
    text, saved = dump("recipes/small/elf.yaml"), tmp_path / "recipe.yaml"
    saved.write_text(text)
    assert recipe.dump(recipe.load_recipe([str(saved)])) == text
    assert overlays.differences(text, text) == [] and yaml.safe_load(text)["seed"] == 7


@pytest.mark.integration
@pytest.mark.parametrize("names", together(OVERLAYS), ids=" ".join)
def test_overlays_change_only_the_keys_that_they_name(names: tuple[str, ...]) -> None:
    before, after = elf_values(), flatten(load("recipes/small/elf.yaml", *names, options=()))
    values = {key: value for name in names for key, value in overlays.flatten(TREES[name])}
    assert {key for key in values if key not in after} == {key for key, value in values.items() if value is None}
    assert [key for key, value in values.items() if not str(after.get(key)).endswith(str(value))] == []
    # a new source or tokenizer brings its own arguments
    parts = {part for part in ("data.source", "data.tokenizer") if any(key.startswith(part) for key in values)}
    named = {*values, *parts}
    assert all(any(key == one or key.startswith(f"{one}.") for one in named) for key in changed_keys(before, after))


def test_devices_may_change_where_the_rows_of_a_step_stay_equal() -> None:
    """Of recipes that name no number of nodes."""
    one, two, more = (f"{{trainer: {{devices: {n}}}, data: {{batch_size: {b}}}}}" for n, b in ((1, 8), (2, 4), (2, 8)))
    assert overlays.differences(one, two) == [] and overlays.differences(one, more) == []
    assert overlays.differences(two, more) == ["data.batch_size: 4 -> 8"]


@pytest.mark.integration
def test_cuda_graphs_get_fixed_shapes() -> None:
    model = load("recipes/elf_b.yaml", "recipes/speed/cuda_graphs.yaml").model.init_args
    assert (model.net.init_args.compile_blocks, model.objective.init_args.row_assignment) == ("graphs", "stratified")
