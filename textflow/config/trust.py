"""Code that a recipe names: parts of textflow, torch's optimizers and Lightning's classes may be; others are trusted by
name. A recipe is data: it may come from elsewhere, and a name in it is imported and called."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import yaml

KNOWN = ("textflow", "torch.optim", "lightning")
TRUST = "TEXTFLOW_TRUST"  # packages, separated by commas
DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


class Untrusted(ValueError):
    """Code that is named and neither known nor trusted."""


def refuse_code(tree: Any, where: str) -> None:
    """What Python would import and is not known or trusted is an error before it is imported, and so is what is no
    class: a parser calls any function that it is given the name of.

    Args:
        tree: a recipe, or a part of one, before it is parsed.
        where: it comes from, for the error.
    """
    trusted = [name.strip() for name in os.environ.get(TRUST, "").split(",") if name.strip()]
    for name in names(tree):
        if within(name, trusted):
            continue
        if not within(name, KNOWN):
            if importable(name):
                raise Untrusted(
                    f"{where} names {name}, code from outside textflow that would be run; if you trust it, set"
                    f" {TRUST}={name.split('.')[0]} in the environment; a file of this name is ./{name}"
                )
        elif (found := named(name)) is not None and not (isinstance(found, type) and within(found.__module__, KNOWN)):
            raise Untrusted(f"{where} names {name}, which is no class of {', '.join(KNOWN)}; name a part by its class")


def names(tree: Any) -> Iterator[str]:
    """All dotted names in a tree, and in strings that are trees themselves, as a parser reads them."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from names(key)
            yield from names(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from names(value)
    elif isinstance(tree, str) and DOTTED.fullmatch(tree.strip()):
        yield tree.strip()
    elif isinstance(tree, str):
        with suppress(yaml.YAMLError, RecursionError):
            inner = yaml.safe_load(tree)
            yield from names(inner if inner != tree else None)


def within(name: str, packages: Any) -> bool:
    """Whether a dotted name lies in one of the packages."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def importable(name: str) -> bool:
    """Whether Python would find the first part of a name; nothing is imported."""
    first = name.split(".")[0]
    return first in sys.modules or find_spec(first) is not None


def named(name: str) -> Any:
    """What a dotted name stands for, in a module or in a class of one; None where there is nothing."""
    module, _, last = name.rpartition(".")
    with suppress(ImportError):
        return getattr(import_module(module), last, None)
    module, _, middle = module.rpartition(".")
    with suppress(ImportError, ValueError):
        return getattr(getattr(import_module(module), middle, None), last, None)
    return None
