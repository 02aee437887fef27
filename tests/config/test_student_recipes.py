"""Every recipe of students can be built over its teacher's; their overlays change only the keys that they name."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import Namespace

from tests.helpers.recipe_files import FOLDERS, STUDENT_OVERLAYS, STUDENTS, TREES, build, changed_keys, dump, flatten
from textflow.config import distillation, overlays, recipe

pytestmark = pytest.mark.usefixtures("repository_root")


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
