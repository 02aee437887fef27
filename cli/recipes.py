"""textflow recipes"""

from pathlib import Path


def recipes(folder: Path = Path("recipes")) -> None:
    """List the recipes and overlays, a line each.

    Args:
        folder: where they are.
    """
    files = sorted(folder.rglob("*.yaml"), key=lambda path: (len(path.parts), path))
    if not files:
        raise ValueError(f"no recipes in {folder}: go to the folder that holds recipes/, or name theirs")
    width = max(len(str(path)) for path in files)
    for path in files:
        print(f"{path!s:<{width}}  {title(path)}")


def title(path: Path) -> str:
    """The first comment line of a recipe."""
    first = path.read_text().splitlines()[:1]
    return first[0].removeprefix("#").strip() if first and first[0].startswith("#") else ""
