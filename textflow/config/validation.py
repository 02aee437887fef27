"""What a parser lets pass in a recipe and textflow refuses: nulls, values that no part can take, places elsewhere."""

import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from traceback import walk_tb
from typing import Any

from textflow.training.engines import refuse_strategy

# Keys under which callbacks, loggers and plugins name what they write, and the ends of those that mean part of a path.
# `data.cache` is none: runs share it, and nothing is written there but rows/KEY and tokenizers/KEY.
PLACES = re.compile(r"(?!class_path$)(\w*_)?(\w*dir|\w*path|file|filename|folder|root|run|out|output|name|version)")
PARTS = ("name", "version", "sub_dir")
# Types that no null is of, in words.
WORDS: dict[Any, str] = {int: "int", float: "float", bool: "bool", str: "str", Callable: "a class"}


def refuse(config: Any, owners: Mapping[str, type]) -> None:
    """A null where a part needs a value is an error, and so are a place to write to outside the run's folder and a
    strategy that ours mend.

    Args:
        config: a parsed recipe.
        owners: the classes that take its sections as arguments.
    """
    refuse_strategy(config.trainer.strategy)
    tree = config.as_dict()
    found = [line for key in [*owners, "model"] for line in nulls(tree.get(key), owners.get(key), key)]
    folder = tree["run"]["folder"]
    if folder is not None and (not folder.strip() or folder.startswith("~")):
        raise ValueError(f"run.folder is {folder!r}; name a folder, its path written out, such as checkpoints/mine")
    if folder:
        found += outside(tree["trainer"], Path(folder))
    if found:
        raise ValueError(found[0])


def nulls(tree: Any, owner: Any = None, where: str = "") -> Iterator[str]:
    """The keys that are null where their part needs a value; the parser lets every null pass.

    Args:
        tree: a recipe as nested dictionaries, or a part of one.
        owner: the class that takes the keys of the tree as arguments.
        where: dotted name of the tree.
    """
    if isinstance(tree, list):
        for number, part in enumerate(tree):
            yield from nulls(part, None, f"{where}.{number}")
    elif isinstance(tree, dict) and isinstance(name := tree.get("class_path"), str):
        yield from nulls(tree.get("init_args") or {}, named(name), where)
    elif isinstance(tree, dict):
        needed = arguments(owner) if owner else {}
        for key, value in tree.items():
            if value is None and key in needed:
                yield f"{where}.{key} is null, needs {needed[key]}"
            yield from nulls(value, None, f"{where}.{key}")


def named(path: str) -> Any:
    """The class of a dotted path."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name, None)


def arguments(owner: Any) -> dict[str, str]:
    """The arguments of a class that must not be None, with the names of their types."""
    needed = {}
    for kind in reversed(owner.__mro__ if isinstance(owner, type) else ()):
        for name, found in inspect.signature(vars(kind).get("__init__", object.__init__)).parameters.items():
            wanted = found.annotation
            either = typing.get_origin(wanted) in (types.UnionType, typing.Union)
            options = typing.get_args(wanted) if either else (wanted,)
            names = [WORDS.get(typing.get_origin(option) or option, "") for option in options]
            if found.default is not None and all(names):
                needed[name] = " or ".join(names)
            else:
                needed.pop(name, None)
    return needed


@contextmanager
def making() -> Iterator[None]:
    """Names the part whose constructor stumbles over a value that the parser let pass."""
    try:
        yield
    except (ValueError, OSError, ImportError):
        raise
    except Exception as error:
        raise ValueError(f"{blamed(error)}: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from error


def blamed(error: BaseException) -> str:
    """The innermost part of textflow that was being made when an error was raised, with its plain arguments."""
    frames = [
        frame for frame, _ in walk_tb(error.__traceback__) if frame.f_code.co_name in ("__init__", "__post_init__")
    ]
    frames = [frame for frame in frames if frame.f_globals.get("__name__", "").startswith("textflow.")]
    if not frames:
        return "the recipe cannot be built"
    code, values = frames[-1].f_code, frames[-1].f_locals
    names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    plain = [f"{name}={values[name]!r}" for name in names if isinstance(values.get(name), (int, float, str, bool))]
    return f"{type(values['self']).__name__}({', '.join(plain)}) cannot be made"


def outside(tree: Any, folder: Path, where: str = "trainer", key: str = "") -> Iterator[str]:
    """The places to write to that a recipe names outside its run's folder.

    Args:
        tree: the part `trainer` of a recipe, or a part of that.
        folder: of the run.
        where: dotted name of the tree.
        key: that it stands under, be it in a list.
    """
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from outside(value, folder, where if name == "init_args" else f"{where}.{name}", str(name))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from outside(value, folder, f"{where}.{number}", key)
    elif isinstance(tree, (str, os.PathLike)) and leaves(key, str(tree), folder):
        found = f"{where} is {str(tree)!r}, outside the run's folder {folder}"
        yield f"{found}; name a place in it, or leave it out"


def leaves(key: str, place: str, folder: Path) -> bool:
    """Whether a key names a place to write to that lies outside a folder; one on another machine (s3://...) does.

    Args:
        key: of a recipe.
        place: its value.
        folder: of the run.
    """
    if not PLACES.fullmatch(key):
        return False
    path = Path(folder if key.endswith(PARTS) else "", os.path.expanduser(place))
    return "://" in place or not path.resolve().is_relative_to(folder.resolve())
