"""Names of parameters, published and of textflow, by one table that both directions read."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class NameMap(NamedTuple):
    """Published names <-> textflow names: the first prefix that a name has is replaced, else every inner part.

    Args:
        prefixes: published prefix -> prefix in textflow, first match first.
        inner: published part -> part in textflow.
    """

    prefixes: Mapping[str, str]
    inner: Mapping[str, str] = {}

    def to_textflow(self, official: str) -> str:
        """The textflow name of a published parameter."""
        return rename(official, self.prefixes.items(), self.inner.items())

    def to_official(self, name: str) -> str:
        """The published name of a parameter."""
        prefixes, inner = ([(new, old) for old, new in table.items()] for table in (self.prefixes, self.inner))
        return rename(name, prefixes, inner)


def rename(name: str, prefixes: Iterable[tuple[str, str]], inner: Iterable[tuple[str, str]]) -> str:
    """A name with the first prefix that it has replaced; without one, with every inner part replaced."""
    for old, new in prefixes:
        if name.startswith(old):
            return new + name[len(old) :]
    for old, new in inner:
        name = name.replace(old, new)
    return name


def count_blocks(names: Iterable[str], prefix: str = "blocks.") -> int:
    """Number of transformer blocks among names, which must be numbered without gaps."""
    pattern = re.compile(rf"{re.escape(prefix)}(\d+)\.")
    blocks = {int(match[1]) for name in names if (match := pattern.match(name))}
    if missing := next((i for i in range(len(blocks)) if i not in blocks), None):
        raise ValueError(f"there is a block {max(blocks)}, but no block {missing}")
    if 0 not in blocks:
        raise ValueError(f"there is no block {prefix}0")
    return len(blocks)
