"""Paths of a run's data, which hold wherever the run is evaluated from."""

import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from jsonargparse import Namespace

from textflow.config.shipped import find_run
from textflow.config.trust import join_key

if TYPE_CHECKING:
    from textflow.data import DataModule

# Keys, without init_args, of the paths that a run reads again after its training. Names of sources may hold dots.
DATA_PATHS = re.compile(
    r"data\.(files|cache)|data\.tokenizer\.(name|model_file)"
    r"|data\.source(\.sources\..+)?\.(paths|val_paths|test_paths|folder|wheel|package|name)"
)
MODEL_FOLDERS = re.compile(r"model\.(\w+\.)*codec\.(\w+\.)*name|model\.objective\.mdlm")  # of an encoder, of a run
Files: TypeAlias = str | list[str]
FILES: ContextVar[Files | None] = ContextVar("text files that replace a run's own text", default=None)
TOKENIZER: ContextVar[Path] = ContextVar("folder of the tokenizer of that run")


@contextmanager
def replace_files(files: Files | None, run: Path) -> Iterator[None]:
    """Read these text files in place of a run's own text, by the run's tokenizer; None for its own."""
    tokens = FILES.set(files), TOKENIZER.set(run / "tokenizer")
    try:
        yield
    finally:
        FILES.reset(tokens[0])
        TOKENIZER.reset(tokens[1])


def replace_text(data: "DataModule") -> "DataModule":
    """The data module, with the files and the trained tokenizer of `replace_files` where there are some."""
    if files := FILES.get():
        from textflow.data import PairSource, Tokenizer
        from textflow.data.sources.files import source_from_files
        from textflow.data.sources.pairs import pairs_from_files

        folder, is_pairs = TOKENIZER.get(), isinstance(data.source, PairSource)
        data.source = pairs_from_files(data.source, files) if is_pairs else source_from_files(files)
        data.tokenizer = Tokenizer.load(folder) if folder.is_dir() else data.tokenizer
    return data


def make_absolute(tree: Any, key: str = "") -> None:
    """Make the relative paths of a recipe's data, encoders and MDLM absolute, in place; other names are unchanged.

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
        elif MODEL_FOLDERS.fullmatch(inner) and isinstance(value, str):
            folder = str(find_run(value)) if inner == "model.objective.mdlm" else value
            tree[name] = absolute(folder, inner) if os.path.isdir(folder) else value
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
