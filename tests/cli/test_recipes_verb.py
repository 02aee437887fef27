"""`textflow recipes` and recipes by name: those that ship with textflow are found from any folder."""

import re
from pathlib import Path

import pytest
import yaml

import textflow
from tests.helpers.user_errors import Fails, refused
from textflow.cli.app import main
from textflow.config import recipe
from textflow.config.shipped import find_recipe, find_run

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_recipe_is_listed_by_name_with_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    names = {path.relative_to(RECIPES).with_suffix("").as_posix(): path for path in RECIPES.rglob("*.yaml")}
    assert lines.keys() == names.keys()
    assert [name for name, title in lines.items() if not names[name].read_text().startswith(f"# {title}\n")] == []


def test_a_folder_is_listed_by_its_paths(empty_folder: Path, capsys: pytest.CaptureFixture[str], fails: Fails) -> None:
    (empty_folder / "mine.yaml").write_text("# mine\n")
    assert main(["recipes", "--folder", str(empty_folder)]) == 0
    assert capsys.readouterr().out == f"{empty_folder / 'mine.yaml'}  mine\n"
    fails(["recipes", "--folder", "none"], "no recipes in none")


def test_a_recipe_that_is_not_utf8_is_listed_and_named(
    empty_folder: Path, capsys: pytest.CaptureFixture[str], fails: Fails
) -> None:
    (empty_folder / "mine.yaml").write_bytes(b"# caf\xe9\nseed: 1\n")
    assert main(["recipes", "--folder", "."]) == 0 and capsys.readouterr().out == "mine.yaml  caf\\xe9\n"
    fails(["recipes", "--copy", "mine.yaml", "other.yaml"], "mine.yaml is not YAML: it is not UTF-8", "at byte 6")


@pytest.mark.integration
def test_a_recipe_and_an_overlay_are_found_by_name_in_an_empty_folder() -> None:
    for name in ("small/langflow", "small/langflow.yaml", "recipes/small/langflow.yaml"):
        assert find_recipe(name) == RECIPES / "small" / "langflow.yaml"
    config = recipe.load_recipe(["small/cola", "hardware/cpu", "--seed", "3"])
    assert (config.trainer.accelerator, config.run.folder) == ("cpu", "checkpoints/cola")
    assert Path(config.codec) == RECIPES / "small" / "cola_vae.yaml"


def test_a_file_wins_over_a_shipped_recipe_of_its_name(empty_folder: Path) -> None:
    (empty_folder / "quickstart").write_text("seed: 1\n")
    assert find_recipe("quickstart") == Path("quickstart")


def test_an_unknown_name_is_answered_with_the_nearest_in_the_same_form() -> None:
    refused("no recipe quickstrt; did you mean quickstart[?]", find_recipe, "quickstrt")
    refused("did you mean recipes/hardware/gpus8.yaml[?]", find_recipe, "recipes/hardware/gpus9.yaml")
    refused("`textflow recipes` lists those that ship", find_recipe, "zzzzzz")


@pytest.mark.integration
def test_a_copied_recipe_finds_its_codec_and_overwrites_nothing(empty_folder: Path, fails: Fails) -> None:
    for name, codec in (("small/elf", "small/elf_codec.yaml"), ("small/cola", "small/cola_vae.yaml")):
        copied = empty_folder / f"my_{Path(name).name}.yaml"
        assert main(["recipes", "--copy", name, copied.name]) == 0
        assert yaml.safe_load(copied.read_text()) == yaml.safe_load((RECIPES / f"{name}.yaml").read_text()) | {
            "codec": codec
        }
        assert recipe.load_recipe([str(copied)]).codec == str(RECIPES / codec)
        fails(["recipes", "--copy", name, copied.name], f"{copied.name} exists already")
    assert main(["recipes", "--copy", "escape/commit"]) == 0 and (empty_folder / "commit.yaml").is_file()


def test_the_wheel_takes_every_recipe() -> None:
    text = (RECIPES.parent / "pyproject.toml").read_text()
    globs = re.search(r'^"textflow.recipes" = \[(.*?)\]', text, re.MULTILINE)
    assert globs and re.search(r'^"textflow.recipes" = "recipes"$', text, re.MULTILINE)
    taken = {path for pattern in re.findall(r'"(.*?)"', globs[1]) for path in RECIPES.glob(pattern)}
    assert taken == set(RECIPES.rglob("*.yaml"))


def test_the_run_that_ships_is_found_by_name_and_a_folder_of_its_name_wins(empty_folder: Path) -> None:
    assert find_run("demo") == find_run("checkpoints/demo") == RECIPES.parent / "checkpoints" / "demo"
    assert find_run("demos") == Path("demos")
    with pytest.raises(ValueError, match=r"demos holds no trained run: .*; did you mean demo\?"):
        textflow.load("demos")
    (empty_folder / "demo").mkdir()
    assert find_run("demo") == Path("demo")
