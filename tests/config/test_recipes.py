"""Every recipe parses and can be built; overlays change only the keys that they name."""

import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser, Namespace

from textflow.cli.recipes import read_title
from textflow.config import distillation, overlays, recipe
from textflow.config.validation import import_class
from textflow.data import DataModule
from textflow.models.base import Trainable

ROOT = Path(__file__).parents[2]
TREES = {str(p.relative_to(ROOT)): yaml.safe_load(p.read_text()) for p in sorted((ROOT / "recipes").rglob("*.yaml"))}
CODECS = {str(Path(name).parent / tree["codec"]) for name, tree in TREES.items() if "codec" in tree}
STUDENTS = [name for name, tree in TREES.items() if "teacher" in tree]  # overlays of a teacher's recipe
STUDENT_OVERLAYS = [name for name in TREES if Path(name).parent == Path("recipes/student")]
SPECIAL = {*CODECS, *STUDENTS, *STUDENT_OVERLAYS}
FOLDERS = (Path("recipes"), Path("recipes/small"))  # of whole recipes
BASES = [name for name in TREES if Path(name).parent in FOLDERS and name not in SPECIAL]
OVERLAYS = [name for name in TREES if name not in {*BASES, *SPECIAL}]
OPTIONS = ("--data.tokenizer", "SentencePiece", "--data.tokenizer.vocab_size", "320", "--seed", "7")


@pytest.fixture(autouse=True, scope="module")
def repository_root() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield


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
        model, reread = recipe.load_model(text, data.vocab_size)
    assert recipe.dump(reread) == text
    return data, model


def flatten(config: Namespace) -> dict[str, Any]:
    return dict(overlays.flatten(yaml.load(recipe.dump(config), getattr(yaml, "CSafeLoader", yaml.SafeLoader))))


def together() -> list[tuple[str, ...]]:
    """The overlays in groups that name no common part, since parsing one at a time is slow."""
    groups: list[tuple[list[str], set[str]]] = [([], set()) for _ in OVERLAYS]
    for name in OVERLAYS:
        parts = {".".join(key.split(".")[:2]) for key, _ in overlays.flatten(TREES[name])}
        names, taken = next(group for group in groups if not group[1] & parts)
        names.append(name)
        taken |= parts
    return [tuple(names) for names, _ in groups if names]


@cache
def elf_values() -> dict[str, Any]:
    return flatten(load("recipes/small/elf.yaml", options=()))


def changed_keys(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {key for key in {*before, *after} if before.get(key) != after.get(key)}


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
@pytest.mark.parametrize("names", together(), ids=" ".join)
def test_overlays_change_only_the_keys_that_they_name(names: tuple[str, ...]) -> None:
    before, after = elf_values(), flatten(load("recipes/small/elf.yaml", *names, options=()))
    values = {key: value for name in names for key, value in overlays.flatten(TREES[name])}
    assert [key for key, value in values.items() if not str(after[key]).endswith(str(value))] == []
    # a new source or tokenizer brings its own arguments
    parts = {part for part in ("data.source", "data.tokenizer") if any(key.startswith(part) for key in values)}
    named = {*values, *parts}
    assert all(any(key == one or key.startswith(f"{one}.") for one in named) for key in changed_keys(before, after))


def test_cuda_graphs_get_fixed_shapes() -> None:
    model = load("recipes/elf_b.yaml", "recipes/speed/cuda_graphs.yaml").model.init_args
    assert (model.net.init_args.compile_blocks, model.objective.init_args.row_assignment) == ("graphs", "stratified")


@pytest.fixture(scope="module")
def teacher_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders with the recipes of untrained teachers."""
    names = {Path(TREES[student]["teacher"]).name for student in STUDENTS}
    folders = {name: tmp_path_factory.mktemp(name) for name in names}
    for name, folder in folders.items():
        recipes = (str(parent / f"{name}.yaml") for parent in FOLDERS)
        (folder / "recipe.yaml").write_text(dump(next(file for file in recipes if file in TREES)))
    return folders


@pytest.fixture(scope="module")
def student(teacher_folders: dict[str, Path]) -> Iterator[Any]:
    """The rounds of a student's recipe over the recipe of its teacher, which is parsed once."""

    def rounds(*files: str) -> list[Namespace]:
        folder = teacher_folders[Path(TREES[files[0]]["teacher"]).name]
        config = distillation.student_recipe([*files, "--teacher", str(folder)])
        return [own for *_, own in distillation.round_recipes(config)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distillation, "parse", lambda files, rest=(): parse(tuple(files), tuple(rest)).clone())
        yield rounds


@pytest.fixture(scope="module")
def student_values(student: Any) -> dict[str, Any]:
    return flatten(student("recipes/small/elf_pd.yaml")[-1])


@cache
def parse(files: tuple[str, ...], rest: tuple[str, ...]) -> Namespace:
    return recipe.parse(files, rest)


@pytest.mark.integration
@pytest.mark.parametrize("name", STUDENTS)
def test_a_students_recipe_can_be_built_over_its_teachers(name: str, student: Any) -> None:
    for own, (steps, substeps) in zip(student(name), TREES[name]["rounds"], strict=True):
        objective = own.model.init_args.objective.init_args
        assert objective.get("steps", steps) == steps
        assert objective.get("target", {}).get("init_args", {}).get("substeps", substeps) == substeps
        assert own.run.folder.startswith(TREES[name]["run"]["folder"])
        assert own.run.wandb_group == Path(own.run.folder).parent.name
    model: Any = build(own)[1]  # the rounds differ in steps and substeps alone
    assert getattr(model.objective, "steps", steps) == steps
    assert getattr(getattr(model.objective, "target", None), "substeps", substeps) == substeps


@pytest.mark.integration
@pytest.mark.parametrize("name", STUDENT_OVERLAYS)
def test_an_overlay_of_students_changes_only_the_keys_that_it_names(
    name: str, student: Any, student_values: dict[str, Any]
) -> None:
    changed = student("recipes/small/elf_pd.yaml", name)[-1]
    before, after, values = student_values, flatten(changed), dict(overlays.flatten(TREES[name]))
    for key, value in values.items():
        assert key == "rounds" or str(after.get(key)).endswith(str(value)), key  # null is not written
    named = {".".join(key.split(".")[:2]) for key in values} | {"model.objective", "rounds"}
    differing = {".".join(key.split(".")[:2]) for key in changed_keys(before, after)}
    assert differing and differing <= named
    assert build(changed)
