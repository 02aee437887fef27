"""Trust boundary for the classes that a recipe imports and calls: recipes may come from untrusted sources.
textflow, torch's optimizers and Lightning are trusted; other packages are trusted only by name."""

import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml

KNOWN_PACKAGES = ("textflow", "torch.optim", "lightning")
TRUST_ENV = "TEXTFLOW_TRUST"  # packages and Hugging Face repositories, separated by commas
DOTTED_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
# Keys, without init_args, of text: the parser takes no class there, so imports nothing. The last are names of sources.
TEXT_KEYS = re.compile(
    r"codec|teacher|config|run\.\w+|trainer\.default_root_dir|data\.(files|cache)|data\.source(\..+)?\.sources"
)
# Modules whose classes, with those of textflow, decide which arguments are text.
ROOMS = ("callbacks", "loggers", "plugins", "profilers", "strategies")
PART_MODULES = ("torch.optim", "torch.optim.lr_scheduler", *(f"lightning.pytorch.{room}" for room in ROOMS))
TEXT_TYPES = (str, Path, int, float, bool, type(None))


class UntrustedCodeError(ValueError):
    """A recipe refers to code that is not trusted."""


def refuse_code(tree: Any, origin: str, key: str = "") -> None:
    """Reject names of untrusted packages before their import, and names that are not classes: the parser calls them.

    Args:
        tree: a recipe, or a part of one, before parsing.
        origin: source of the recipe, for error messages.
        key: dotted key of the part, without init_args; empty for a whole recipe.
    """
    trusted = trusted_names()
    for name, found_key in dotted_names(tree, key):
        if in_packages(name, trusted):
            continue
        if not in_packages(name, KNOWN_PACKAGES):
            first = name.split(".")[0]
            if (first in sys.modules or find_spec(first) is not None) and not is_text_key(found_key):  # without import
                raise UntrustedCodeError(
                    f"{origin} names {name}, code from outside textflow that would be run; if you trust it, set"
                    f" {TRUST_ENV}={first} in the environment; a file of this name is ./{name}"
                )
        elif (value := resolve_name(name)) is not None and not (
            (isinstance(value, type) and in_packages(value.__module__, KNOWN_PACKAGES)) or is_text_key(found_key)
        ):
            raise UntrustedCodeError(
                f"{origin} names {name}, which is not a class of {', '.join(KNOWN_PACKAGES)}; name a part by its class"
            )


def trusted_names() -> list[str]:
    """Packages and repositories that the environment trusts."""
    return [name.strip() for name in os.environ.get(TRUST_ENV, "").split(",") if name.strip()]


def is_trusted(repository: str) -> bool:
    """True if the code of a Hugging Face repository, by Hub name or folder, may be run: TEXTFLOW_TRUST=owner/name."""
    return repository in trusted_names()


def is_text_key(key: str) -> bool:
    """True if the values of a key, without init_args, are text, never names of code."""
    return TEXT_KEYS.fullmatch(key) is not None or key.rpartition(".")[2] in text_arguments()


@cache
def text_arguments() -> frozenset[str]:
    """Names of arguments that are text in every class that has them, textflow's and those of PART_MODULES."""
    import textflow.config.schema  # noqa: F401  the models, which are known parts
    from textflow.config.errors import known_parts

    texts, others = set[str](), {"class_path"}
    modules = [vars(import_module(name)).values() for name in PART_MODULES]
    for part in {*known_parts(), *(value for values in modules for value in values if isinstance(value, type))}:
        with suppress(ValueError):  # of a class of C
            for name, parameter in inspect.signature(part).parameters.items():
                (texts if is_text_type(parameter.annotation) else others).add(name)
    return frozenset(texts - others)


def is_text_type(annotation: Any) -> bool:
    """True for text, numbers, paths, choices of them, and lists and dictionaries of them: nothing is imported there."""
    if get_origin(annotation) is Literal or annotation in (*TEXT_TYPES, ...):
        return True
    parts = get_args(annotation)
    return get_origin(annotation) in (Union, UnionType, list, tuple, dict) and all(map(is_text_type, parts))


def dotted_names(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All dotted names in a tree below a key, also in strings that parse as YAML, each with its own key."""
    if isinstance(tree, dict):
        for name, part in tree.items():
            yield from dotted_names(name, key) if key else ()  # the first level names sections
            yield from dotted_names(part, join_key(key, str(name)))
    elif isinstance(tree, (list, tuple)):
        for part in tree:
            yield from dotted_names(part, key)
    elif isinstance(tree, str) and DOTTED_NAME.fullmatch(tree.strip()):
        yield tree.strip(), key
    elif isinstance(tree, str) and ("." in tree or "\\" in tree):  # YAML may write a dot as an escape
        with suppress(yaml.YAMLError, RecursionError):
            inner = yaml.safe_load(tree)
            yield from dotted_names(inner if inner != tree else None, key)


def join_key(key: str, name: str) -> str:
    """Dotted key of a part, without init_args."""
    return ".".join(part for part in (*key.split("."), *name.split(".")) if part not in ("", "init_args"))


def in_packages(name: str, packages: Iterable[str]) -> bool:
    """True if a dotted name belongs to one of the packages."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def resolve_name(name: str) -> Any:
    """The object of a dotted name, in a module or in a class of a module; None if it does not exist."""
    module, _, last = name.rpartition(".")
    with suppress(ImportError):
        return getattr(import_module(module), last, None)
    module, _, middle = module.rpartition(".")
    with suppress(ImportError, ValueError):
        return getattr(getattr(import_module(module), middle, None), last, None)
    return None
