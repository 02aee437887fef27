"""Paths of a run's data, which hold wherever the run is evaluated from."""

import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from textflow.config.trust import join_key

# Keys, without init_args, of the paths that a run reads again after its training.
DATA_PATHS = re.compile(
    r"data\.(files|cache)|data\.tokenizer\.(name|model_file)"
    r"|data\.source(\.sources\.[^.]+)*\.(paths|val_paths|test_paths|folder|wheel|name)"
)
FILES: ContextVar[str | list[str] | None] = ContextVar("text files that replace a run's own text", default=None)


@contextmanager
def replace_files(files: str | list[str] | None) -> Iterator[None]:
    """Read these text files in place of a run's own text; None for its own."""
    token = FILES.set(files)
    try:
        yield
    finally:
        FILES.reset(token)


def make_absolute(tree: Any, key: str = "") -> None:
    """Make the relative data paths of a recipe absolute, in place; names that are no path here are unchanged.

    Args:
        tree: a recipe or a part of one, after parsing.
        key: dotted key of the part, without init_args.

    Raises:
        ValueError: if a path is not UTF-8, so that the recipe could not be read again.
    """
    for name, value in list(vars(tree).items() if isinstance(tree, Namespace) else tree.items()):
        inner = join_key(key, str(name))
        if isinstance(value, (Namespace, dict)):
            make_absolute(value, inner)
        elif DATA_PATHS.fullmatch(inner) and value:
            paths = [absolute(path, inner) for path in ([value] if isinstance(value, str) else value)]
            tree[name] = paths[0] if isinstance(value, str) else paths


def absolute(path: str, key: str) -> str:
    """Absolute form of a path or pattern that exists, and of the cache; other names, as of the Hub, are unchanged."""
    if path.startswith("~") or not (key == "data.cache" or os.path.exists(path) or glob.has_magic(path)):
        return path
    full = os.path.abspath(path)
    try:
        full.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{key}: {os.fsencode(full)!r} is not UTF-8, as a recipe must be; rename the folder, or work in another one"
        ) from None
    return full


def is_same_place(key: str, old: Any, new: Any) -> bool:
    """True if two values of a key name the same data: one path in two forms, or a file that was moved.

    A moved file keeps its name and is missing in its old place; the training state checks its rows.
    """
    old, new = ([value] if isinstance(value, str) else value for value in (old, new))
    if not DATA_PATHS.fullmatch(key) or not isinstance(old, list) or not isinstance(new, list) or len(old) != len(new):
        return False
    pairs = [
        (os.path.abspath(str(before)), os.path.abspath(str(after))) for before, after in zip(old, new, strict=True)
    ]
    return all(a == b or (Path(a).name == Path(b).name and not os.path.exists(a)) for a, b in pairs)
