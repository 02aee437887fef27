"""Files of a folder without hidden ones, which file browsers, notebooks and version control leave there."""

from pathlib import Path


def visible_files(folder: Path, pattern: str = "**/*") -> list[Path]:
    """Files of a folder that a pattern matches, sorted by path, without hidden ones."""
    return [path for path in sorted(folder.glob(pattern)) if path.is_file() and not is_hidden(path, folder)]


def is_hidden(path: Path, folder: Path) -> bool:
    """True if the name of a file, or of a folder above it and below `folder`, begins with a dot."""
    return any(name.startswith(".") for name in path.relative_to(folder).parts)
