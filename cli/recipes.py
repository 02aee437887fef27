"""textflow recipes"""

import re
from pathlib import Path
from shlex import quote


def recipes(folder: Path | None = None, copy: str | None = None, to: Path | None = None) -> None:
    """List the recipes and overlays that ship with textflow, one per line, or copy one to change it.

    A name of the list, such as quickstart or escape/commit, is accepted wherever a recipe or an overlay is.

    Args:
        folder: folder whose recipes are listed instead, by their paths.
        copy: recipe to copy, by name or path; write --copy quickstart my.yaml.
        to: file to write the copy to; default: the recipe's file name, in the working directory.
    """
    from textflow.config.shipped import find_recipe, shipped_recipes
    from textflow.runtime.visible import visible_files

    if copy is not None:
        return copy_recipe(find_recipe(copy), to or Path(find_recipe(copy).name))
    if to is not None:
        raise ValueError(f"--to {to} names no recipe to copy: textflow recipes --copy quickstart {quote(str(to))}")
    files = shipped_recipes() if folder is None else {str(path): path for path in visible_files(folder, "**/*.yaml")}
    if not files:
        raise ValueError(f"no recipes in {folder}; leave --folder out to list those that ship with textflow")
    width = max(map(len, files))
    for name, path in files.items():
        print(f"{name:<{width}}  {read_title(path)}")


def copy_recipe(source: Path, target: Path) -> None:
    """Copy a recipe; a codec's recipe beside it is named so that the copy finds it."""
    from textflow.config.strict_yaml import read_yaml_text

    if target.exists():
        raise ValueError(f"{target} exists already and is not overwritten; choose another name")
    text, codec = read_yaml_text(source), re.compile(r"^codec: (\S+\.ya?ml)", re.MULTILINE)
    if (match := codec.search(text)) and (sibling := source.parent / match[1]).is_file():
        text = codec.sub(f"codec: {name_of(sibling)}", text)
    target.write_text(text, encoding="utf-8")
    print(f"Written: {target}")


def name_of(path: Path) -> str:
    """Name with suffix of a recipe that ships with textflow, which every folder finds; the full path of another."""
    from textflow.config.shipped import shipped_recipes

    names = (f"{name}.yaml" for name, shipped in shipped_recipes().items() if shipped.resolve() == path.resolve())
    return next(names, str(path.resolve()))


def read_title(path: Path) -> str:
    """Read the title of a recipe, its first comment line."""
    first = path.read_text(encoding="utf-8", errors="backslashreplace").splitlines()[:1]
    return first[0].removeprefix("#").strip() if first and first[0].startswith("#") else ""
