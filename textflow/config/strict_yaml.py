"""Read the mapping of a YAML file; duplicate keys, of which a parser silently takes the last, are errors, also where
one is written with dots."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from textflow.config.trust import join_key, refuse_code

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # of the C library where it is installed, 10 times faster


def read_yaml_text(file: Path) -> str:
    """The text of a recipe file."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not YAML: it is not UTF-8 ({error.reason} at byte {error.start + 1})") from None


def load_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a recipe file, without defaults or overlays; names of untrusted code are an error."""
    tree = read_mapping(read_yaml_text(file), str(file))
    refuse_code(tree, str(file))
    return tree


def read_mapping(text: str, origin: str) -> dict[str, Any]:
    """The mapping of a recipe, given as YAML text.

    Args:
        text: YAML text.
        origin: source of the text, for error messages.
    """
    try:
        tree = parse_yaml(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{origin} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{origin} holds {type(tree).__name__}, a recipe is a mapping: data, model, trainer ...")
    refuse_duplicates(text, origin)
    return tree


def parse_yaml(text: str) -> Any:
    """The value of a YAML text, as yaml.safe_load has it, by the faster loader."""
    loader = LOADER(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def refuse_duplicates(text: str, origin: str) -> None:
    """Raise a ValueError for a key that a mapping of a YAML text gives twice; other faults are left to the parser.

    Args:
        text: YAML text.
        origin: source of the text, for error messages.
    """
    try:
        root = yaml.compose(text, LOADER)
    except (yaml.YAMLError, RecursionError):
        return
    for key, first, second in duplicates(root, set(), {}):
        lines = f"lines {first} and {second}" if first != second else f"line {first}, twice"
        raise ValueError(f"{origin} gives {key} in {lines}: the second would replace the first; join them")


def duplicates(
    node: yaml.Node | None, seen: set[int], dotted: dict[str, "KeyLine"], prefix: str = ""
) -> Iterator[tuple[str, int, int]]:
    """Duplicate keys below a node, each with its two lines counted from 1.

    Args:
        node: a part of a YAML text.
        seen: ids of the nodes visited, to which those below are added.
        dotted: full names of the keys visited, with dots between levels, to which those below are added.
        prefix: full name of the node.
    """
    if node is None or id(node) in seen or not isinstance(node, (yaml.MappingNode, yaml.SequenceNode)):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, part in enumerate(node.value):
            yield from duplicates(part, seen, dotted, f"{prefix}.{number}")
        return
    lines: dict[tuple[str, str], int] = {}
    for key, value in node.value:
        name, sections = prefix, []
        if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
            line, known = key.start_mark.line + 1, (key.tag, key.value)
            if known in lines:
                yield key.value, lines[known], line
            lines[known], name = line, f"{prefix}.{key.value}"
            if key.tag.endswith(":str"):
                sections = list(other_spellings(dotted, prefix, key.value, line))
        yield from duplicates(value, seen, dotted, name)
        yield from sections


class KeyLine(NamedTuple):
    """Full name and line of a key, and whether the key itself holds a dot."""

    name: str
    line: int
    has_dot: bool


def other_spellings(known: dict[str, KeyLine], prefix: str, key: str, line: int) -> Iterator[tuple[str, int, int]]:
    """Keys that a key repeats, or drops because it is their section, where one of the two is written with a dot."""
    name, full = f"{prefix}.{key}", KeyLine(join_key("", f"{prefix}.{key}"), line, "." in key)
    for spelling in {name} if name.endswith(".init_args") else {name, f".{full.name}"}:
        if (earlier := known.get(spelling)) and (earlier.has_dot or full.has_dot):
            yield max(earlier.name, full.name, key=len), earlier.line, line
        known[spelling] = full
    for end in (i for i, letter in enumerate(name) if letter == "." and i > len(prefix)):
        known.setdefault(name[:end], full)
