"""Read the mapping of a YAML file; duplicate keys, of which a parser silently takes the last, are errors."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from textflow.config.trust import refuse_code

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # of the C library where it is installed, 10 times faster


def read_yaml_text(file: Path) -> str:
    """The text of a recipe file."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not YAML: it is not UTF-8 ({error.reason} at byte {error.start + 1})") from None


def load_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a recipe file, without defaults or overlays."""
    text = read_yaml_text(file)
    try:
        tree = parse_yaml(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{file} holds {type(tree).__name__}, a recipe is a mapping: data, model, trainer ...")
    refuse_code(tree, str(file))
    refuse_duplicates(text, str(file))
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
    for key, first, second in duplicates(root, set()):
        lines = f"lines {first} and {second}" if first != second else f"line {first}, twice"
        raise ValueError(f"{origin} gives {key} in {lines}: the second would replace the first; join them")


def duplicates(node: yaml.Node | None, seen: set[int]) -> Iterator[tuple[str, int, int]]:
    """Duplicate keys below a node, each with its two lines counted from 1; `seen` holds the nodes visited."""
    if node is None or id(node) in seen or not isinstance(node, (yaml.MappingNode, yaml.SequenceNode)):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for part in node.value:
            yield from duplicates(part, seen)
        return
    lines: dict[tuple[str, str], int] = {}
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
            line, known = key.start_mark.line + 1, (key.tag, key.value)
            if known in lines:
                yield key.value, lines[known], line
            lines[known] = line
        yield from duplicates(value, seen)
