"""Public names of a package that are imported when they are first used."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package.

    Args:
        package: full name of the package.
        homes: full name of the module of each public name.
    """

    def get(name: str) -> Any:
        if name in homes:
            return getattr(import_module(homes[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get


def import_names(package: str) -> dict[str, Any]:
    """All names of a package, with those that are imported when they are first used."""
    module = import_module(package)
    return {name: getattr(module, name) for name in dir(module)}
