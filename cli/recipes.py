"""textflow recipes"""

from pathlib import Path


def recipes(folder: Path = Path("recipes")) -> None:
    """List the recipes and overlays, one per line with their titles.

    Args:
        folder: folder to search for recipes.
    """
    files = sorted(folder.rglob("*.yaml"), key=lambda path: (len(path.parts), path))
    if not files:
        raise ValueError(
            f"no recipes in {folder}: change to the folder that contains recipes/, or give another with --folder"
        )
    width = max(len(str(path)) for path in files)
    for path in files:
        print(f"{path!s:<{width}}  {read_title(path)}")


def read_title(path: Path) -> str:
    """Read the title of a recipe, its first comment line."""
    first = path.read_text().splitlines()[:1]
    return first[0].removeprefix("#").strip() if first and first[0].startswith("#") else ""
