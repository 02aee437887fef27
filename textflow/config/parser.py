"""The parser of recipes: jsonargparse's, with two of its rules changed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace, _typehints


class RecipeParser(ArgumentParser):
    """The parser of recipes, which reads files as UTF-8 in every locale. Where a recipe, an overlay or an option names
    another class than the part below it, that part's arguments are dropped."""

    def parse_args(self, *args: Any, **options: Any) -> Namespace:  # type: ignore[override]
        """Parse command-line arguments."""
        with without_arguments_of_replaced_parts():
            return super().parse_args(*args, **options)

    def parse_object(self, *args: Any, **options: Any) -> Namespace:
        """Parse a tree."""
        with without_arguments_of_replaced_parts():
            return super().parse_object(*args, **options)

    def parse_string(self, *args: Any, **options: Any) -> Namespace:
        """Parse a recipe as YAML text."""
        with without_arguments_of_replaced_parts():
            return super().parse_string(*args, **options)

    def parse_path(self, path: str | os.PathLike[str], **options: Any) -> Namespace:
        """Parse a recipe file."""
        return self.parse_string(Path(path).read_text(encoding="utf-8"), path, **options)


@contextmanager
def without_arguments_of_replaced_parts() -> Iterator[None]:
    """Drop all arguments of a part that one of another class replaces; jsonargparse keeps those that both can take,
    and has no setting for it."""
    keep_common = _typehints.discard_init_args_on_class_path_change
    _typehints.discard_init_args_on_class_path_change = drop_arguments
    try:
        yield
    finally:
        _typehints.discard_init_args_on_class_path_change = keep_common


def drop_arguments(parser: Any, before: Any, after: Any) -> None:
    """Remove the arguments of the part `before` if the part `after` in its place is of another class."""
    if before and "init_args" in before and before["class_path"] != after["class_path"]:
        before.pop("init_args")
