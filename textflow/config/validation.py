"""Recipe checks beyond the parser: missing values, values rejected by a constructor, paths outside the run folder."""

import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from traceback import walk_tb
from typing import Any

from jsonargparse import Namespace

# Keys of callbacks, loggers and plugins that hold an output path, and the key endings that hold part of a path.
# `data.cache` is not among them: runs share it, and only rows/KEY and tokenizers/KEY are written there.
PATH_KEYS = re.compile(r"(?!class_path$)(\w*_)?(\w*dir|\w*path|file|filename|folder|root|run|out|output|name|version)")
PATH_PART_KEYS = ("name", "version", "sub_dir")
# Names of the types that exclude null.
TYPE_NAMES: dict[Any, str] = {int: "int", float: "float", bool: "bool", str: "str", Callable: "a class"}


def validate_recipe(config: Namespace, owners: Mapping[str, type]) -> None:
    """Reject missing values, output paths outside the run folder and unsupported Lightning strategies.

    Args:
        config: parsed recipe.
        owners: classes that take the keys of a section as arguments, by section.
    """
    from textflow.training.engines.compatibility import refuse_strategy

    refuse_strategy(config.trainer.strategy)
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"seed is {config.seed}, needs a whole number from 0 to {2**32 - 1}")
    tree = config.as_dict()
    errors = [line for key in [*owners, "model"] for line in missing_values(tree.get(key), owners.get(key), key)]
    folder = tree["run"]["folder"]
    if folder is not None and (not folder.strip() or folder.startswith("~")):
        raise ValueError(f"run.folder is {folder!r}; give a full path without ~, such as checkpoints/mine")
    if folder:
        errors += outside_paths(tree["trainer"], Path(folder))
    if errors:
        raise ValueError(errors[0])


def missing_values(tree: Any, cls: Any = None, where: str = "") -> Iterator[str]:
    """Error lines for keys of a tree that are null although its class needs a value; the parser accepts any null."""
    if isinstance(tree, list):
        for number, part in enumerate(tree):
            yield from missing_values(part, None, f"{where}.{number}")
    elif isinstance(tree, dict) and isinstance(name := tree.get("class_path"), str):
        yield from missing_values(tree.get("init_args") or {}, import_class(name), where)
    elif isinstance(tree, dict):
        needed = required_arguments(cls) if cls else {}
        for key, value in tree.items():
            if value is None and key in needed:
                yield f"{where}.{key} is null, needs {needed[key]}"
            yield from missing_values(value, None, f"{where}.{key}")


def import_class(path: str) -> Any:
    """The class of a dotted path."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name, None)


@cache
def required_arguments(cls: Any) -> dict[str, str]:
    """Arguments of a class that must not be None, with the names of their types."""
    needed = {}
    for kind in reversed(cls.__mro__ if isinstance(cls, type) else ()):
        for name, parameter in inspect.signature(vars(kind).get("__init__", object.__init__)).parameters.items():
            annotation = parameter.annotation
            is_union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
            options = typing.get_args(annotation) if is_union else (annotation,)
            names = [TYPE_NAMES.get(typing.get_origin(option) or option, "") for option in options]
            if parameter.default is not None and all(names):
                needed[name] = " or ".join(names)
            else:
                needed.pop(name, None)
    return needed


@contextmanager
def part_errors() -> Iterator[None]:
    """Turn an unexpected constructor exception into a ValueError that names the class and its arguments."""
    try:
        yield
    except (ValueError, OSError, ImportError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{failing_part(error)}: {type(error).__name__}: {reason}") from error


def failing_part(error: BaseException) -> str:
    """The innermost textflow class under construction when an error was raised, with its plain arguments."""
    frames = [f for f, _ in walk_tb(error.__traceback__) if f.f_code.co_name in ("__init__", "__post_init__")]
    frames = [frame for frame in frames if frame.f_globals.get("__name__", "").startswith("textflow.")]
    if not frames:
        return "the recipe cannot be built"
    code, values = frames[-1].f_code, frames[-1].f_locals
    names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    plain = [f"{name}={values[name]!r}" for name in names if isinstance(values.get(name), (int, float, str, bool))]
    return f"{type(values['self']).__name__}({', '.join(plain)}) cannot be made"


def outside_paths(tree: Any, folder: Path, where: str = "trainer", key: str = "") -> Iterator[str]:
    """Error lines for output paths outside the run folder in a tree, whose dotted name and last key are given."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from outside_paths(value, folder, where if name == "init_args" else f"{where}.{name}", str(name))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from outside_paths(value, folder, f"{where}.{number}", key)
    elif isinstance(tree, (str, os.PathLike)) and escapes_folder(key, str(tree), folder):
        yield f"{where} is {str(tree)!r}, outside the run's folder {folder}; name a place in it, or leave it out"


def escapes_folder(key: str, location: str, folder: Path) -> bool:
    """True if a key holds an output path outside a folder; a remote URL (s3://...) counts as outside."""
    if not PATH_KEYS.fullmatch(key):
        return False
    path = Path(folder if key.endswith(PATH_PART_KEYS) else "", os.path.expanduser(location))
    return "://" in location or not path.resolve().is_relative_to(folder.resolve())
