"""Recipes and runs by path or by name: those that ship with textflow are found from any folder, and runs on the Hub."""

from difflib import get_close_matches
from pathlib import Path

import textflow
from textflow.config.hub import PREFIX, fetch_run
from textflow.runtime.visible import visible_files


def shipped_folder() -> Path:
    """Folder of the recipes that ship with textflow: inside an installed package, beside the package in a checkout."""
    package = Path(textflow.__path__[0])
    return package / "recipes" if (package / "recipes").is_dir() else package.parent / "recipes"


def shipped_recipes() -> dict[str, Path]:
    """Files of the recipes and overlays that ship with textflow by name, such as quickstart or escape/commit."""
    folder = shipped_folder()
    files = sorted(visible_files(folder, "**/*.yaml"), key=lambda path: (len(path.parts), path))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def find_recipe(file: str) -> Path:
    """Path of a recipe: an existing file, or else one that ships with textflow; the error suggests the closest name.

    Args:
        file: path, or name with or without `recipes/` and `.yaml`, such as quickstart or recipes/escape/commit.yaml.
    """
    path = Path(file)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    name = path.as_posix().removeprefix("recipes/").removesuffix(".yaml")
    if name in shipped:
        return shipped[name]
    form = "recipes/{}.yaml" if file.endswith(".yaml") else "{}"
    known = {name: form.format(name) for name in shipped} | {p.stem: str(p) for p in path.parent.glob("*.yaml")}
    near = get_close_matches(name, known, 1, 0.6) or get_close_matches(path.stem, known, 1, 0.6)
    hint = f"; did you mean {known[near[0]]}?" if near else "; `textflow recipes` lists those that ship with textflow"
    raise ValueError(f"no recipe {file}{hint}")


def shipped_runs() -> list[str]:
    """Names of the runs that ship with textflow: demo and those whose names begin with demo_."""
    return sorted(path.parent.name for path in shipped_folder().parent.glob("checkpoints/demo*/recipe.yaml"))


def find_run(run: str | Path) -> Path:
    """Path of a run: an existing folder or file, a run on the Hub, or one that ships with textflow (`demo`); otherwise
    the path.

    Args:
        run: path; hf:OWNER/NAME or hf:OWNER/NAME@REVISION; or name with or without `checkpoints/`, such as demo.
    """
    path = Path(run)
    if str(run).startswith(PREFIX) and not path.exists():
        return fetch_run(str(run))
    shipped = shipped_folder().parent / "checkpoints" / path.as_posix().removeprefix("checkpoints/")
    return shipped if not path.exists() and (shipped / "recipe.yaml").is_file() else path
